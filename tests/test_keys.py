"""Maps and sets with keys that were made to collide are refused before they are built; no other ones are."""

from __future__ import annotations

import datetime
import decimal
import functools
import itertools
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmp
from gmp.wire import cbor_framing, keys
from gmp.wire.batches import batch_head
from gmp.wire.framing import make_decoder, make_encoder

LIMIT = 4 << 20
MANY = 3000
P = (1 << 61) - 1  # hashes of numbers are modulo this
PLACES = 8192  # of the table of so many
START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@functools.cache
def orbit() -> tuple[int, ...]:
    """Numbers that all differ, and so do their hashes, of which a third goes through a chain of places that are taken.

    Of the places of such a one the first is one of the chain, and each next five bits of the number choose one more, until
    the bits are used up: from there on the chain itself is followed, to its end.
    """
    chain, place, choose = [], 1, random.Random(1)
    for _ in range(MANY * 2 // 3):
        chain.append(place)
        place = (place * 5 + 1) % PLACES
    taken, found = set(chain), set(chain)
    while len(found) < MANY:
        number = place = choose.choice(chain)
        for shift in range(5, 30, 5):
            fitting = [bits for bits in range(32) if step(place, number | bits << shift + 8, shift) in taken]
            number |= choose.choice(fitting or [0]) << shift + 8
            place = step(place, number, shift)
        if all(step_to in taken for step_to in places(number)):
            found.add(number)
    return (*chain, *sorted(found - taken))


def step(place: int, number: int, shift: int) -> int:
    return (place * 5 + 1 + (number >> shift)) % PLACES


def places(number: int) -> Iterator[int]:
    """Where a dict looks for the place of a key with this hash, as long as the hash is not used up."""
    place, shift = number % PLACES, 0
    while number >> shift:
        yield place
        shift += 5
        place = step(place, number, shift)
    yield place


COLLIDING: dict[str, Callable[[], list[Any]]] = {
    "integers": lambda: [number * P for number in range(1, MANY)],
    "integers of different hashes": lambda: list(orbit()),
    "floats": lambda: [(n + 0.5) * 2.0 ** (61 * power) for n in range(MANY // 28) for power in range(-12, 16)],
    "tuples": lambda: list(itertools.islice(itertools.product((-1, -2), repeat=13), MANY)),
    "decimals": lambda: [decimal.Decimal(number * P) for number in range(1, MANY)],
    "sets": lambda: [frozenset((number * P,)) for number in range(1, MANY)],
}
HONEST: dict[str, Callable[[], list[Any]]] = {
    "text": lambda: [f"key {number}" for number in range(MANY)],
    "bytes": lambda: [number.to_bytes(4, "big") for number in range(MANY)],
    "small": lambda: list(range(-MANY, MANY)),
    "random": lambda: [random.getrandbits(63) for _ in range(MANY)],
    "multiples of a power": lambda: [number << 40 for number in range(MANY)],
    "nanoseconds": lambda: [1_700_000_000_000_000_000 + 1_000_000_000 * number for number in range(MANY)],
    "fractions": lambda: [number / MANY for number in range(MANY)],
    "binary fractions": lambda: [number / 65536 for number in range(MANY)],
    "coordinates": lambda: list(itertools.product(range(-15, 15), repeat=3)),
    "UUIDs": lambda: [uuid.uuid4() for _ in range(MANY)],
    "times": lambda: [START + datetime.timedelta(seconds=number) for number in range(MANY)],
    "amounts": lambda: [decimal.Decimal(number) / 100 for number in range(MANY)],
    "huge": lambda: [10**30 + number for number in range(MANY)],
    "mixed": lambda: [*range(500), *(f"{number}" for number in range(MANY)), None, 1.5, (1, "a")],
}


def message_of(kind: type[Any], values: list[Any]) -> Any:
    return dict.fromkeys(values) if kind is dict else kind(values)


def packed(kind: type[Any], values: list[Any], wrap: str) -> bytes:
    """A message as bytes, without building what it holds: that would take long here too."""
    repack = make_encoder("msgpack", LIMIT).repack
    each = [repack("p", [value])[1:] for value in values]  # without the head of the array
    if kind is dict:
        value = b"\xdf" + len(each).to_bytes(4, "big") + b"\xc0".join(each) + b"\xc0"
    else:
        value = ext(2 if kind is set else 3, b"\xdd" + len(each).to_bytes(4, "big") + b"".join(each))
    if wrap == "tuple":
        value = ext(1, b"\x91" + value)
    row = b"\x92\xa3tag" + value
    return batch_head("p", 1) + row if wrap == "run" else b"\x93\xa1p" + row[1:]


def ext(code: int, data: bytes) -> bytes:
    return b"\xc9" + len(data).to_bytes(4, "big") + bytes([code]) + data


class Receiver:
    """A port ``p``, whose decoder makes lists or tuples of arrays."""

    def __init__(self, way: str) -> None:
        self.got: list[Any] = []
        self.put, self.put_all = self.got.append, self.got.extend
        self._decoder = make_decoder("msgpack", LIMIT)
        if way == "tuples":
            self.feed(batch_head("p", 100) + b"\x91\x01" * 100)
        self.got.clear()

    def feed(self, data: bytes) -> None:
        self._decoder.dispatch(data, {"p": self}.get, self.got.append)


@pytest.mark.parametrize("way", ["lists", "tuples"])
@pytest.mark.parametrize("wrap", ["message", "run", "tuple"])
@pytest.mark.parametrize("kind", [dict, set, frozenset])
@pytest.mark.parametrize("keys", COLLIDING.values(), ids=COLLIDING)
def test_keys_that_collide_are_refused(keys: Callable[[], list[Any]], kind: type[Any], wrap: str, way: str) -> None:
    if keys in (COLLIDING["integers of different hashes"], COLLIDING["floats"]) and kind is not dict:
        pytest.skip("made for the places of a dict")  # of floats no more than 34 have the same hash
    receiver = Receiver(way)
    with pytest.raises(gmp.ProtocolError, match="collide"):
        receiver.feed(packed(kind, keys(), wrap))
    assert receiver.got == []


@pytest.mark.parametrize("way", ["lists", "tuples"])
@pytest.mark.parametrize("kind", [dict, set, frozenset])
@pytest.mark.parametrize("keys", HONEST.values(), ids=HONEST)
def test_keys_of_programs_arrive(keys: Callable[[], list[Any]], kind: type[Any], way: str) -> None:
    value = message_of(kind, keys())
    receiver = Receiver(way)
    receiver.feed(make_encoder("msgpack", LIMIT).encode("p", ("tag", value)))
    assert receiver.got == [("tag", value)]
    assert type(receiver.got[0][1]) is kind


def test_arrays_as_keys_are_refused_also_when_they_would_collide() -> None:
    receiver = Receiver("tuples")
    each = [msgpack.packb(key) for key in COLLIDING["tuples"]()]
    with pytest.raises(gmp.ProtocolError):
        receiver.feed(b"\x92\xa1p\xdf" + len(each).to_bytes(4, "big") + b"\xc0".join(each) + b"\xc0")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(1 << 62), 1 << 62) | st.floats(allow_nan=False), min_size=200, max_size=400, unique=True))
def test_what_is_built_is_what_python_builds(values: list[Any]) -> None:
    assert keys.build_map([(value, None) for value in values]) == dict.fromkeys(values)
    assert keys.build_set(set, values) == set(values)


@pytest.mark.skipif(not cbor_framing.AVAILABLE, reason="needs cbor2")
@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("split", [1 << 20, 1])
def test_a_cbor_map_whose_keys_collide_is_refused(endless: bool, split: int) -> None:
    head = b"\xbf" if endless else b"\xb9" + len(orbit()).to_bytes(2, "big")
    items = b"".join(b"\x1b" + number.to_bytes(8, "big") + b"\xf6" for number in orbit())
    data = b"\x82\x61p" + head + items + (b"\xff" if endless else b"")
    decoder = make_decoder("cbor", LIMIT)
    with pytest.raises(gmp.ProtocolError, match="collide"):
        list(itertools.chain.from_iterable(decoder.decode(data[at : at + split]) for at in range(0, len(data), split)))


@pytest.mark.skipif(not cbor_framing.AVAILABLE, reason="needs cbor2")
def test_other_cbor_maps_arrive() -> None:
    encoder, decoder = make_encoder("cbor", LIMIT), make_decoder("cbor", LIMIT)
    sent: dict[Any, Any] = {number: [number, {"o": {"k": number}}] for number in range(MANY)}
    sent.update((f"text {number}", [number, 1]) for number in range(MANY))
    assert list(decoder.decode(encoder.encode("p", (sent,)))) == [["p", sent]]
