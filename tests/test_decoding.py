"""The msgpack decoder makes lists or tuples of arrays, as suits what came last. Either way values are as they were sent."""

from __future__ import annotations

import datetime
import decimal
import itertools
import uuid
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gmp
from gmp.wire.batches import batch_head
from gmp.wire.dispatch import Undecodable
from gmp.wire.framing import make_encoder
from gmp.wire.msgpack_framing import DECIMAL, FROZENSET, SET, TUPLE, MsgpackDecoder
from gmp.wire.nesting import TOO_DEEP

LIMIT = 1 << 20
ROWS = 100  # of a run that is long enough for the decoder to go over to tuples
Message = tuple[Any, ...]



def pack(elements: list[Any]) -> bytes:
    return make_encoder("msgpack", LIMIT).repack("p", elements)


DEEP: Any = (1, [(2,), {"k": ((3,), [])}], {(1, (2,)): [(), {}], frozenset({(4,)}): {5}, "s": [{"t": [()]}]}, [], {}, set())


def run(*messages: Any) -> bytes:
    """A run as bytes."""
    return batch_head("p", len(messages)) + b"".join(pack(list(message)) for message in messages)


class Receiver:
    """A decoder that makes lists, or tuples, until something changes that; and what it delivers to the port ``p``."""

    def __init__(self, way: str) -> None:
        self.decoder = MsgpackDecoder(LIMIT)
        self.got: list[Any] = []
        self.put, self.put_all = self.got.append, self.got.extend
        self.feed(run(*[(1,)] * ROWS) if way == "tuples" else run(([],)))
        assert self.way == way
        self.got.clear()

    @property
    def way(self) -> str:
        return "lists" if self.decoder._unpacker is self.decoder._lists else "tuples"

    def feed(self, data: bytes) -> int:
        return self.decoder.dispatch(data, {"p": self}.get, self.got.append)


both_ways = pytest.mark.parametrize("way", ["lists", "tuples"])


def shape(value: Any) -> Any:
    """Tells apart whatever differs in a value or a type at any level."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, *map(shape, value)
    if kind in (set, frozenset):
        return kind, frozenset(map(shape, value))
    if kind is dict:
        return kind, *((shape(key), shape(item)) for key, item in value.items())
    return kind, value


# ---- as it was sent

atoms = (
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.binary(max_size=4)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=4) | st.uuids()
    | st.decimals(allow_nan=False).filter(lambda number: abs(number.adjusted()) < 50)
    | st.datetimes(datetime.datetime(1971, 1, 1), timezones=st.just(datetime.UTC))
)  # fmt: skip
keys = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    keys,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.sets(keys, max_size=3)
    | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
messages_of = st.lists(values, max_size=4).map(tuple)
#: a message alone, or a run, which may be long enough for the decoder to go over to tuples
pieces = st.tuples(messages_of, st.sampled_from([0, 0, 1, 3, ROWS]))


@both_ways
@settings(max_examples=60)
@given(sent=st.lists(pieces, max_size=4), cuts=st.lists(st.integers(0, 3000), max_size=6))
@example(sent=[((), 0), (DEEP, 0), (DEEP, 2), (("x",), ROWS), (DEEP, 0), ((1,), 0)], cuts=[5, 100, 120, 400, 700])
def test_any_value_arrives_as_it_was_sent_alone_and_in_a_run_however_it_is_cut(
    way: str, sent: list[tuple[Message, int]], cuts: list[int]
) -> None:
    data = b"".join(run(*[message] * rows) if rows else pack(["p", *message]) for message, rows in sent)
    wanted = [shape(message) for message, rows in sent for _ in range(rows or 1)]
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    receiver = Receiver(way)
    counts = [receiver.feed(data[start:end]) for start, end in itertools.pairwise(places)]
    assert [shape(message) for message in receiver.got] == wanted
    assert sum(counts) == len(wanted)


@both_ways
def test_a_value_of_each_kind_arrives_as_it_was_sent_cut_at_any_byte(way: str) -> None:
    rest = (1 << 70, decimal.Decimal("1.5"), uuid.UUID(int=7), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
    message = (*DEEP, *rest, DEEP)
    for data in (pack(["p", *message]) * 2, run(message, message)):
        for place in range(len(data)):
            receiver = Receiver(way)
            receiver.feed(data[:place])
            receiver.feed(data[place:])
            assert [shape(got) for got in receiver.got] == [shape(message)] * 2


@both_ways
def test_what_has_no_destination_is_as_it_was_sent_too(way: str) -> None:
    receiver = Receiver(way)
    receiver.feed(pack(["q", *DEEP]))
    receiver.feed(pack([None]) + pack([]) + batch_head("q", 2) + pack(list(DEEP)) + pack([[]]))
    assert [shape(got) for got in receiver.got] == [
        shape(wanted) for wanted in (["q", *DEEP], [""], [""], ["q", *DEEP], ["q", []])
    ]


@both_ways
def test_decode_gives_what_dispatch_delivers(way: str) -> None:
    receiver = Receiver(way)
    assert [shape(got) for got in receiver.decoder.decode(pack(["p", *DEEP]) + pack(["p"]))] == [
        shape(["p", *DEEP]),
        shape(["p"]),
    ]


def test_the_decoder_makes_tuples_after_a_long_run_of_plain_values_and_lists_after_anything_else() -> None:
    receiver = Receiver("lists")
    plain, nested, single = run(*[(1, "x")] * ROWS), run(*[(1, [])] * ROWS), pack(["p", 1])
    for data, way in (
        (plain, "tuples"), (single, "tuples"), (nested, "lists"), (single, "lists"), (plain + single, "tuples"),
        (pack(["p", {}]), "lists"), (run((1,)), "lists"), (plain + single * 64, "tuples"), (single, "lists"),
        (plain + pack(["p", ()]), "lists"), ((plain + nested) * 3, "lists"), ((nested + plain) * 3, "tuples"),
    ):  # fmt: skip
        receiver.feed(data)
        assert receiver.way == way


@both_ways
def test_a_thousand_changes_within_one_read(way: str) -> None:
    receiver = Receiver(way)
    assert receiver.feed((run(*[(1,)] * ROWS) + pack(["p", []])) * 1000) == (ROWS + 1) * 1000
    assert receiver.got == ([(1,)] * ROWS + [([],)]) * 1000


@both_ways
def test_after_a_stop_the_rest_is_still_there(way: str) -> None:
    receiver = Receiver(way)
    data = batch_head("q", ROWS) + pack([1]) * ROWS + pack(["q"]) + pack(["p", []]) + run(*[(2,)] * ROWS)
    stopped: list[Any] = []

    def stop(message: Any) -> bool:
        stopped.append(message)
        return len(stopped) >= ROWS

    assert receiver.decoder.dispatch(data[:-1], {"p": receiver}.get, stop) == ROWS
    assert receiver.feed(data[-1:]) == 2 + ROWS
    assert receiver.got == [["q"], ([],), *[(2,)] * ROWS]


# ---- refused


def refused(way: str, value: bytes, match: str) -> None:
    """A packed value is refused, alone and in a run, as a second element too, whole and in pieces."""
    head = batch_head("p", 3) + pack([1])
    for data in (b"\x92\xa1p" + value, b"\x93\xa1p\x01" + value, head + b"\x91" + value + pack([2])):
        for size in (len(data), 3, 1000):
            receiver = Receiver(way)
            feeding = map(receiver.feed, (data[start : start + size] for start in range(0, len(data), size)))
            with pytest.raises(gmp.ProtocolError, match=match):
                list(feeding)
            assert receiver.got == []
            with pytest.raises(gmp.ProtocolError, match=match):
                list(Receiver(way).decoder.decode(b"\x92\xa1p" + value))


def lost(way: str, value: bytes, what: str) -> None:
    """A message with a packed value is lost alone, also in a run, whole and in pieces; the next one arrives."""
    head = batch_head("p", 3) + pack([1])
    alone, second, among = b"\x92\xa1p" + value, b"\x93\xa1p\x01" + value, head + b"\x91" + value + pack([2])
    for data, rows in ((alone, []), (second, []), (among, [1, 2])):
        for size in (len(data), 3, 1000):
            receiver = Receiver(way)
            data_and_next = data + pack(["p", 3])
            for start in range(0, len(data_and_next), size):
                receiver.feed(data_and_next[start : start + size])
            assert [got for got in receiver.got if isinstance(got, Undecodable)] == [Undecodable("p", what)]
            assert [got for got in receiver.got if not isinstance(got, Undecodable)] == [(row,) for row in [*rows, 3]]
    decoded = list(Receiver(way).decoder.decode(b"\x92\xa1p" + value + pack(["p", 3])))
    assert decoded == [Undecodable("p", what), ["p", 3]]


def ext(code: int, array: bytes) -> bytes:
    data: bytes = msgpack.packb(msgpack.ExtType(code, array))
    return data


ONE = ext(TUPLE, b"\x91\x01")


@both_ways
@pytest.mark.parametrize(
    "value",
    [
        b"\x81\x90\x01", b"\x81\x91\x01\x01", b"\x81\x91\x91\x01\x01", b"\x82\x01\x02\x91\x01\x01",
        b"\x82" + ONE + b"\x01\x91\x01\x01", b"\x82\x91\x01\x01" + ONE + b"\x01",
        b"\x81\x91" + ONE + b"\x01", b"\x81" + ext(TUPLE, b"\x91\x90") + b"\x01",
        b"\x91\x81\x90\x01", b"\x81\x01\x81\x90\x01", ext(TUPLE, b"\x91\x81\x90\x01"), ext(SET, b"\x91\x90"),
        b"\x81" + ext(FROZENSET, b"\x91" + ext(TUPLE, b"\x91\x90")) + b"\x01",
    ],
)  # fmt: skip
def test_an_array_as_a_key_of_a_map_is_refused(way: str, value: bytes) -> None:
    refused(way, value, "^bad msgpack: a list cannot be a key of a map, nor in a set$")


@both_ways
@pytest.mark.parametrize("key", [b"\x80", ext(SET, b"\x90"), ext(DECIMAL, b"sNaN")])
def test_no_other_value_that_cannot_be_a_key_is_one(way: str, key: bytes) -> None:
    refused(way, b"\x81" + key + b"\x01", "^bad msgpack: a (dict|set|Decimal) cannot be a key of a map, nor in a set$")


ARRAY, MAP = b"\x91", b"\x81\x01"
WRAPS: dict[str, Callable[[bytes, int], bytes]] = {
    "arrays": lambda value, levels: ARRAY * levels + value,
    "maps": lambda value, levels: MAP * levels + value,
    "arrays and maps": lambda value, levels: (ARRAY + MAP) * (levels // 2) + ARRAY * (levels % 2) + value,
    "a tuple within": lambda value, levels: ARRAY * (levels - 21) + ext(TUPLE, ARRAY + ARRAY * 20 + value),
    "a tuple around": lambda value, levels: ext(TUPLE, ARRAY * levels + value),
}


@both_ways
@pytest.mark.parametrize("wrap", WRAPS)
def test_sixty_four_levels_pass_and_a_message_with_more_is_lost(way: str, wrap: str) -> None:
    for data in (b"\x92\xa1p" + WRAPS[wrap](b"\x05", 63), batch_head("p", 1) + b"\x91" + WRAPS[wrap](b"\x05", 63)):
        receiver = Receiver(way)
        assert receiver.feed(data) == 1
    for levels in (64, 65, 500, 1000):
        lost(way, WRAPS[wrap](b"\x05", levels), TOO_DEEP)


@both_ways
@pytest.mark.parametrize("wrap", ["arrays", "maps", "arrays and maps"])
def test_thousands_of_levels_are_refused(way: str, wrap: str) -> None:
    refused(way, WRAPS[wrap](b"\x05", 5000), "^bad msgpack: ")
    refused(way, WRAPS[wrap](b"\x05", 100_000), "^bad msgpack: ")


@both_ways
@pytest.mark.parametrize("code", [TUPLE, SET, FROZENSET])
def test_a_bomb_of_ext_types_is_refused(way: str, code: int) -> None:
    for levels in (66, 300, 2000):
        bomb = b"\x90"
        for _ in range(levels):
            bomb = b"\x91" + ext(code, bomb)
        if code == SET:
            refused(way, bomb, "a set cannot be a key")  # none can hold another one
        else:
            lost(way, bomb, TOO_DEEP)


@both_ways
@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: value, lambda value: b"\x91" + value, lambda value: b"\x81\x01" + value,
        lambda value: b"\x81" + value + b"\x01",
        lambda value: ext(TUPLE, b"\x91" + value), lambda value: ext(SET, b"\x92\x01" + value),
        lambda value: b"\x92\xd9\x80" + b"x" * 128 + value,
    ],
)  # fmt: skip
def test_a_message_with_an_ext_type_that_is_not_known_is_lost_alone(way: str, wrap: Callable[[bytes], bytes]) -> None:
    lost(way, wrap(ext(99, b"?")), "ext type 99")


@both_ways
def test_a_key_that_is_nested_deeply_is_refused(way: str) -> None:
    refused(way, b"\x81" + b"\x91" * 1000 + b"\x01\x01", "a list cannot be a key|nested deeper")


@both_ways
@pytest.mark.parametrize(
    ("message", "match"),
    [
        (msgpack.packb({0: "p", 1: 2}), "must be an array, not dict"), (msgpack.packb("p"), "must be an array, not str"),
        (ext(TUPLE, msgpack.packb(["p", 1])), "must be an array, not tuple"),
        (msgpack.packb([["p"], 1]), r"must begin with a port name, not \['p'\]$"),
        (msgpack.packb([{"p": 1}]), r"must begin with a port name, not \{'p': 1\}$"),
        (msgpack.packb([1, "p", ["x"]]), r"not \[1, 'p', \['x'\]\]$"),
        (msgpack.packb([0, "p", ["x"], "y"]), r"a batch must hold arrays: \[\['x'\], 'y'\]…$"),
        (batch_head("p", 1) + ONE, r"a batch must hold arrays: \[\(1,\)\]…$"),
        (b"\x93\x01\xa1p" + b"\x91" * 900 + b"\x01", "nested deeper than 64"),
        (b"\x93\x00\xa1p\x81\x01" + b"\x91" * 900 + b"\x01", "nested deeper than 64"),
    ],
)  # fmt: skip
def test_what_is_no_message_and_no_run_is_told_as_it_was_sent(way: str, message: bytes, match: str) -> None:
    receiver = Receiver(way)
    with pytest.raises(gmp.ProtocolError, match=match):
        receiver.feed(message)
    assert receiver.got == []
    if message[0] != 0xDD:
        with pytest.raises(gmp.ProtocolError):
            list(receiver.decoder.decode(message))
