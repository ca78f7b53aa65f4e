"""What values become on each framing, any split of the bytes, limits, and bombs."""

from __future__ import annotations

import datetime
import decimal
import fractions
import itertools
import math
import signal
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterable
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmp
from gmp.wire import cbor_framing
from gmp.wire.dispatch import Undecodable
from gmp.wire.framing import NAMES, default_framings, make_decoder, make_encoder
from gmp.wire.nesting import TOO_DEEP

LIMIT = 1 << 20
FRAMINGS = NAMES
REFUSED = object()
UTC = datetime.UTC
MOMENT = datetime.datetime(2026, 11, 24, 8, 30, 0, 250000, UTC)


WEST, EAST = datetime.timezone(datetime.timedelta(hours=-5)), datetime.timezone(datetime.timedelta(hours=1))


class WithPortId:
    """What stands for a port."""

    __gmp_port_id__ = "node#name"


def refuse(*args: Any) -> Any:
    raise AssertionError("asked")


def hostile() -> tuple[Any, Any]:
    """An object, and its class, that must not be asked for anything while a message is made of them."""
    names = ("__getattr__", "__getattribute__", "__instancecheck__", "__subclasscheck__", "__hash__", "__eq__", "__repr__")
    meta = type("Meta", (type,), dict.fromkeys(names, refuse))
    more = ("__str__", "__iter__", "__index__", "__class__", "__len__")
    kind = type.__new__(meta, "Anything", (), dict.fromkeys([*names, *more], refuse))
    return object.__new__(kind), kind


class Items(list[Any]):
    """A subclass."""


class Text(str):
    """Text may have them."""

    def __str__(self) -> str:
        raise AssertionError("asked")

    encode = __repr__ = __str__  # type: ignore[assignment]


Pair = namedtuple("Pair", "one other")


# value: what it arrives as over msgpack, cbor, json; docs/protocol.md has the same as a table
VALUES: list[tuple[Any, Any, Any, Any]] = [
    (None, None, None, None),
    (True, True, True, True),
    (0, 0, 0, 0),
    (-(1 << 63), -(1 << 63), -(1 << 63), -(1 << 63)),
    ((1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1),
    (1 << 200, 1 << 200, 1 << 200, 1 << 200),
    (-(1 << 200), -(1 << 200), -(1 << 200), -(1 << 200)),
    (0.1, 0.1, 0.1, 0.1),
    (math.inf, math.inf, math.inf, REFUSED),
    ("t€xt\0", "t€xt\0", "t€xt\0", "t€xt\0"),
    ("\ud800", REFUSED, REFUSED, REFUSED),
    (b"\0\xff", b"\0\xff", b"\0\xff", REFUSED),
    (bytearray(b"x"), b"x", REFUSED, REFUSED),
    ([1, ["x"]], [1, ["x"]], [1, ["x"]], [1, ["x"]]),
    ((1, (2,)), (1, (2,)), [1, [2]], [1, [2]]),
    ({"a": {"b": 1}}, {"a": {"b": 1}}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ({1: 2}, {1: 2}, {1: 2}, {"1": 2}),
    ({b"k": 1}, {b"k": 1}, {"k": 1}, REFUSED),
    ({(1, 2): 3}, {(1, 2): 3}, REFUSED, REFUSED),
    ({1, 2}, {1, 2}, REFUSED, REFUSED),
    (frozenset({1}), frozenset({1}), REFUSED, REFUSED),
    (decimal.Decimal("1.50"), decimal.Decimal("1.50"), REFUSED, REFUSED),
    (uuid.UUID(int=7), uuid.UUID(int=7), REFUSED, REFUSED),
    (MOMENT, MOMENT, REFUSED, REFUSED),
    (MOMENT.astimezone(datetime.timezone(datetime.timedelta(hours=2))), MOMENT, REFUSED, REFUSED),
    (MOMENT.replace(tzinfo=None), REFUSED, REFUSED, REFUSED),
    (WithPortId(), "node#name", "node#name", "node#name"),
    (object(), REFUSED, REFUSED, REFUSED),
    *((value, REFUSED, REFUSED, REFUSED) for value in hostile()),
    (Text("text"), "text", "text", "text"),
    (Items([1]), REFUSED, REFUSED, REFUSED),
    (OrderedDict(k=1), REFUSED, REFUSED, REFUSED),
    (Pair(1, 2), REFUSED, REFUSED, REFUSED),
    (signal.SIGINT, REFUSED, REFUSED, REFUSED),
    (fractions.Fraction(1, 2), REFUSED, REFUSED, REFUSED),
    (memoryview(b"x"), b"x", REFUSED, REFUSED),
    (-(1 << 64), -(1 << 64), -(1 << 64), -(1 << 64)),
    (-(1 << 63) - 1, -(1 << 63) - 1, -(1 << 63) - 1, -(1 << 63) - 1),
    (1 << 20_000, 1 << 20_000, 1 << 20_000, REFUSED),
    (datetime.datetime.max.replace(tzinfo=WEST), REFUSED, REFUSED, REFUSED),
    (datetime.datetime.min.replace(tzinfo=EAST), REFUSED, REFUSED, REFUSED),
    (datetime.datetime.max.replace(tzinfo=UTC), datetime.datetime.max.replace(tzinfo=UTC), REFUSED, REFUSED),
    (datetime.datetime.min.replace(tzinfo=UTC), datetime.datetime.min.replace(tzinfo=UTC), REFUSED, REFUSED),
    ({1: 2, "1": 3}, {1: 2, "1": 3}, {1: 2, "1": 3}, REFUSED),
    ({True: 1, "true": 2}, {True: 1, "true": 2}, {True: 1, "true": 2}, REFUSED),
    ({b"k": 1, "k": 2}, {b"k": 1, "k": 2}, REFUSED, REFUSED),
    ({None: 1.5, 2.5: [True]}, {None: 1.5, 2.5: [True]}, {None: 1.5, 2.5: [True]}, {"null": 1.5, "2.5": [True]}),
    (len, REFUSED, REFUSED, REFUSED),
]


def over(framing: str, *message: Any) -> tuple[Any, ...]:
    """What a message arrives as."""
    data = make_encoder(framing, LIMIT).encode("port", message)
    ((name, *rest),) = make_decoder(framing, LIMIT).decode(data)
    assert name == "port"
    return tuple(rest)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_a_value_becomes_on_each_framing(framing: str) -> None:
    for value, *columns in VALUES:
        expected = columns[FRAMINGS.index(framing)]
        if expected is REFUSED:
            with pytest.raises(gmp.MessageError):
                over(framing, "tag", value)
            continue
        for sent, wanted in ((value, expected), ([value], [expected]), ({"k": value}, {"k": expected})):
            (tag, arrived) = over(framing, "tag", sent)
            assert (tag, arrived) == ("tag", wanted)
            assert type(arrived) is type(wanted)


def test_nan_travels_where_it_can() -> None:
    assert math.isnan(over("msgpack", math.nan)[0])
    assert math.isnan(over("cbor", "tag", math.nan)[1])
    with pytest.raises(gmp.MessageError):
        over("json", math.nan)


def test_a_port_travels_as_its_id() -> None:
    port = gmp.port()
    for framing in FRAMINGS:
        assert over(framing, "tag", port, [port]) == ("tag", port.id, [port.id])


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_error_names_what_cannot_travel_and_the_next_message_goes_through(framing: str) -> None:
    encoder = make_encoder(framing, LIMIT)
    with pytest.raises(gmp.MessageError, match=r"'port'.*builtin|'port'.*function"):
        encoder.encode("port", ("tag", [1, "x" * 100, len]))
    ((*message,),) = make_decoder(framing, LIMIT).decode(encoder.encode("port", ("good",)))
    assert message == ["port", "good"]


# ---- splits

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc€\0\"\\", max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
richer = st.recursive(
    plain | st.binary() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


def feed(framing: str, data: bytes, cuts: list[int]) -> list[Any]:
    """Decode `data` cut at `cuts`; the messages, and the error's type if there is one."""
    decoder, result = make_decoder(framing, LIMIT), []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in itertools.pairwise(places):
            result += decoder.decode(data[start:end])
    except gmp.ProtocolError as error:
        result.append(type(error))
    return result


@settings(max_examples=40)
@given(st.lists(st.lists(richer, max_size=4), max_size=4), st.lists(st.integers(0, 5000), max_size=8))
def test_msgpack_arrives_as_sent_however_it_is_cut(messages: list[list[Any]], cuts: list[int]) -> None:
    encoder = make_encoder("msgpack", LIMIT)
    data = b"".join(encoder.encode("p", tuple(message)) for message in messages)
    assert feed("msgpack", data, cuts) == [["p", *message] for message in messages]


@pytest.mark.parametrize("framing", FRAMINGS)
@given(messages=st.lists(st.lists(plain, max_size=4), max_size=4), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_plain_values_arrive_as_sent_however_they_are_cut(
    framing: str, messages: list[list[Any]], cuts: list[int]
) -> None:
    encoder = make_encoder(framing, LIMIT)
    data = b"".join(encoder.encode("p", tuple(message)) for message in messages)
    assert feed(framing, data, cuts) == [["p", *message] for message in messages]
    assert feed(framing, data, list(range(len(data)))) == [["p", *message] for message in messages]


@pytest.mark.parametrize("framing", FRAMINGS)
@given(
    message=st.lists(plain, max_size=3),
    cuts=st.lists(st.integers(0, 500), max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 255)), max_size=3),
    keep=st.integers(0, 500),
    swap=st.tuples(st.integers(0, 500), st.integers(0, 500)),
)
def test_damaged_bytes_give_messages_or_a_protocol_error_and_never_another(
    framing: str, message: list[Any], cuts: list[int], flips: list[tuple[int, int]], keep: int, swap: tuple[int, int]
) -> None:
    data = bytearray(make_encoder(framing, LIMIT).encode("p", tuple(message)) * 2)
    for place, mask in flips:
        data[place % len(data)] ^= mask
    one, other = sorted((swap[0] % len(data), swap[1] % len(data)))
    data = (data[one:other] + data[:one] + data[other:])[: keep % (len(data) + 1)]
    for item in feed(framing, bytes(data), cuts):
        assert item is gmp.ProtocolError or isinstance(item, Undecodable) or isinstance(item[0], str)


@settings(max_examples=100)
@pytest.mark.parametrize("framing", FRAMINGS)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_give_messages_or_a_protocol_error_and_never_another(
    framing: str, data: bytes, cuts: list[int]
) -> None:
    feed(framing, data, cuts)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_dispatch_delivers_what_decode_finds(framing: str) -> None:
    encoder = make_encoder(framing, LIMIT)
    data = b"".join(encoder.encode(name, ("x" * size, size)) for name in ("here", "", "gone") for size in (1, 100))
    got: list[Any] = []
    others: list[Any] = []

    class Box:
        put = staticmethod(got.append)

    count = make_decoder(framing, LIMIT).dispatch(data, {"here": Box}.get, others.append)
    assert count == 6
    assert got == [("x", 1), ("x" * 100, 100)]
    assert [(message[0], message[2]) for message in others] == [("", 1), ("", 100), ("gone", 1), ("gone", 100)]


def test_what_a_destination_raises_is_no_error_of_the_bytes() -> None:
    class Broken:
        @staticmethod
        def put(message: object) -> None:
            raise ValueError("ours")

    data = make_encoder("msgpack", LIMIT).encode("p", ())
    with pytest.raises(ValueError, match="ours"):
        make_decoder("msgpack", LIMIT).dispatch(data, {"p": Broken}.get, lambda message: None)


# ---- keepalives and heads


@pytest.mark.parametrize(
    ("framing", "data"),
    [("msgpack", b"\x90\x91\xa0\x91\xc0"), ("json", b'[] [""]\n[null]'), ("cbor", b"\x80\x81\x60\x81\xf6")],
)
def test_an_empty_array_and_null_for_a_name_are_keepalives(framing: str, data: bytes) -> None:
    assert list(make_decoder(framing, LIMIT).decode(data)) == [[""], [""], [""]]


@pytest.mark.parametrize(
    ("framing", "data"),
    [
        ("msgpack", b"\x05"), ("msgpack", b"\x91\x05"), ("msgpack", b"\x80"), ("msgpack", b"\xc1"), ("msgpack", b"\x91\x90"),
        ("json", b"5"), ("json", b"[5]"), ("json", b"{}"), ("json", b'[""}'), ("json", b"]"), ("json", b"[[]]"),
        ("json", b'["p",NaN]'), ("json", b'["\xff"]'),
        ("cbor", b"\x05"), ("cbor", b"\x81\x05"), ("cbor", b"\xa0"), ("cbor", b"\xff"), ("cbor", b"\x1c"),
        ("cbor", b"\x81\x80"),
        ("cbor", b"\x5f\x01\xff"), ("cbor", b"\x81\x61\xff"), ("cbor", b"\x82\x61p\xf8\x13"),
        ("cbor", b"\x82\x61p\xbf\x01\xff"), ("cbor", b"\x82\x61p\x7f\x41x\xff"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(framing: str, data: bytes) -> None:
    for cuts in ([], [1], [2]):
        assert gmp.ProtocolError in feed(framing, data, cuts)


# ---- limits

NESTED: dict[str, Callable[[int], bytes]] = {
    "msgpack": lambda depth: b"\x92\xa1p" + b"\x91" * (depth - 1) + b"\xc0",
    "cbor": lambda depth: b"\x82\x61p" + b"\x81" * (depth - 1) + b"\xf6",
    "json": lambda depth: b'["p",' + b"[" * (depth - 1) + b"0" + b"]" * depth,
}


def nested(depth: int, wrap: Callable[[Any], Any] = lambda value: [value]) -> Any:
    """A value of so many levels."""
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("framing", FRAMINGS)
def test_sixty_four_levels_pass_and_one_more_does_not(framing: str) -> None:
    encoder = make_encoder(framing, LIMIT)
    encoder.encode("p", (nested(63),))
    with pytest.raises(gmp.MessageError, match="nested deeper than 64"):
        encoder.encode("p", (nested(64),))
    assert len(feed(framing, NESTED[framing](64), [])[0]) == 2
    for depth in (65, 66, 200, 1000):
        data = NESTED[framing](depth) + encoder.encode("p", (1,))
        for cuts in ([], [1, 2, 70, 100], list(range(len(data)))):
            assert feed(framing, data, cuts) == [Undecodable("p", TOO_DEEP), ["p", 1]]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("depth", [2000, 100_000])
def test_a_nesting_bomb_is_refused_on_both_sides(framing: str, depth: int) -> None:
    assert feed(framing, NESTED[framing](depth), []) == [gmp.ProtocolError]
    for wrap in (lambda value: [value], lambda value: {"k": value}, lambda value: (value,)):
        with pytest.raises(gmp.MessageError):
            make_encoder(framing, LIMIT).encode("p", (nested(depth, wrap),))


def ext_bomb(depth: int, code: int) -> bytes:
    data = b"\x90"
    for _ in range(depth):
        data = b"\x91" + msgpack.packb(msgpack.ExtType(code, data))
    return b"\x92\xa1p" + data[1:]


@pytest.mark.parametrize("code", [1, 2, 3])
def test_nesting_counts_through_ext_types_and_a_bomb_of_them_is_refused(code: int) -> None:
    for depth in (70, 300, 2000):
        wanted = gmp.ProtocolError if code == 2 else Undecodable("p", TOO_DEEP)  # no set holds another one
        assert feed("msgpack", ext_bomb(depth, code), []) == [wanted]
    assert len(feed("msgpack", ext_bomb(60, 1), [])[0]) == 2
    assert feed("msgpack", ext_bomb(64, 1), []) == [Undecodable("p", TOO_DEEP)]
    assert over("msgpack", nested(60, lambda value: (value,))) == (nested(60, lambda value: (value,)),)
    with pytest.raises(gmp.MessageError, match="nested"):
        over("msgpack", nested(64, lambda value: (value,)))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_message_over_the_limit_is_refused_on_both_sides(framing: str) -> None:
    data = make_encoder(framing, 5000).encode("p", ("x" * 2000,))
    with pytest.raises(gmp.MessageError, match="over the limit of 1000"):
        make_encoder(framing, 1000).encode("p", ("x" * 2000,))
    for size in (1, 100, len(data)):
        decoder = make_decoder(framing, 1000)
        with pytest.raises(gmp.ProtocolError, match="over the limit"):
            list(itertools.chain.from_iterable(map(decoder.decode, cut(data, size))))


def read_all(framing: str, way: str, limit: int, pieces: Iterable[bytes], got: list[Any] | None = None) -> None:
    decoder = make_decoder(framing, limit)
    for piece in pieces:
        if way == "decode":
            others = list(decoder.decode(piece))
        else:
            others = []
            decoder.dispatch(piece, {}.get, others.append)
        if got is not None:
            got += others


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("way", ["decode", "dispatch"])
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_the_limits_hold_for_a_message_that_comes_in_pieces(framing: str, way: str, size: int) -> None:
    """Also for one of many small values, of which the decoder takes each as soon as it is there."""
    long = make_encoder(framing, 5000).encode("p", ("x" * 90,) * 20)
    with pytest.raises(gmp.ProtocolError, match="over the limit"):
        read_all(framing, way, 1000, cut(long, size))
    got: list[Any] = []
    read_all(framing, way, 1000, cut(NESTED[framing](100), size), got)
    assert got == [Undecodable("p", TOO_DEEP)]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("way", ["decode", "dispatch"])
def test_a_message_far_over_the_limit_is_refused_before_it_is_whole(framing: str, way: str) -> None:
    begin, more = {
        "msgpack": (b"\xdd\x00\x02\x49\xf0\xa1p", b"\xd9\x80" + b"x" * 128),
        "json": (b'["p"', b',"' + b"x" * 128 + b'"'),
        "cbor": (b"\x9a\x00\x0f\x42\x40\x61p", b"\x78\x80" + b"x" * 128),
    }[framing]
    pieces = iter([begin] + [more * 100] * 1000)
    with pytest.raises(gmp.ProtocolError, match="over the limit"):
        read_all(framing, way, 200_000, pieces)
    assert len(list(pieces)) > 900


@pytest.mark.parametrize("way", ["decode", "dispatch"])
@pytest.mark.parametrize("head", [b"\xdd", b"\xdf"], ids=["array", "map"])
@pytest.mark.parametrize("wrap", [b"", b"\x92\xa1p", b"\x92\xa1p\xc7\x06\x01"], ids=["alone", "inside", "in an ext type"])
def test_a_head_that_claims_more_than_a_message_may_hold_is_refused_at_once(way: str, head: bytes, wrap: bytes) -> None:
    """Not only when so much has come: an array is allocated in its whole length at its head."""
    with pytest.raises(gmp.ProtocolError):
        read_all("msgpack", way, 200_000, [wrap + head + (200_001).to_bytes(4, "big") + b"\x01"])


def test_a_cycle_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    for framing in FRAMINGS:
        with pytest.raises(gmp.MessageError):
            over(framing, cycle)


# ---- cbor and Perl


def test_octets_are_text_as_name_tag_and_keys_and_bytes_elsewhere() -> None:
    data = cbor2.dumps([b"p\xe9", b"tag", b"bytes", {b"key": [b"value", {b"inner": None}]}, "wide\u20ac"])
    assert list(make_decoder("cbor", LIMIT).decode(data)) == [
        ["p\xe9", "tag", b"bytes", {"key": [b"value", {"inner": None}]}, "wide\u20ac"]
    ]


def test_a_reference_to_a_scalar_is_that_scalar() -> None:
    data = b"\x82\x61p" + cbor2.dumps(cbor2.CBORTag(22098, "x"))
    assert list(make_decoder("cbor", LIMIT).decode(data)) == [["p", "x"]]


def test_without_cbor2_cbor_is_not_offered_and_asking_for_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_framings() == ("msgpack", "cbor", "json")
    monkeypatch.setattr(cbor_framing, "AVAILABLE", False)
    assert default_framings() == ("msgpack", "json")
    with pytest.raises(gmp.ConfigError, match=r"pip install 'gevent-mp\[cbor\]'"):
        gmp.Node("node", secret="geheim", framings=["cbor"])


def test_a_framing_that_does_not_exist_is_named() -> None:
    with pytest.raises(gmp.ConfigError, match=r"'storable'.*msgpack"):
        gmp.Node("node", secret="geheim", framings="json,storable")


@pytest.mark.parametrize(("ours", "theirs"), [("json", "cbor"), ("cbor", "msgpack"), ("msgpack", "json")])
def test_each_direction_has_a_framing_of_its_own(make_node: Callable[..., gmp.Node], ours: str, theirs: str) -> None:
    one = make_node("one", framings=[ours, theirs])
    other = make_node("other", framings=[theirs, ours], seeds=one.binds)
    other.wait_up("one", timeout=20)
    session = one._core.network.peers["other"].connection.session  # type: ignore[union-attr]
    assert session.encoder.name == theirs
    port = one.port(lambda port: [one.send(reply, value) for value, reply in port])
    assert other.call(port.id, ["x", {"k": 1.5}], timeout=20) == (["x", {"k": 1.5}],)
