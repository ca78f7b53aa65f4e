"""Values of every kind that a program may try to send, hostile ones among them, and what they are equal to elsewhere."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import math
import uuid
from collections import OrderedDict
from typing import Any

from hypothesis import strategies as st

import gmp

UTC = datetime.UTC


class Hostile:
    """Raises whatever it is asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # the check for nodes that were left open asks all objects
            return Hostile
        raise RuntimeError(f"asked for {name}")

    def __repr__(self) -> str:
        raise RuntimeError("asked for its repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __hash__(self) -> int:
        return 1


class Obliging:
    """Has everything that it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any) -> Any:
        return self

    def __str__(self) -> str:
        return "node#port"


class Zone(datetime.tzinfo):
    """A time zone of a program's own, which may not know its offset."""

    def __init__(self, hours: int | None) -> None:
        self.hours = hours

    def utcoffset(self, moment: Any) -> datetime.timedelta:
        if self.hours is None:
            raise RuntimeError("no offset")
        return datetime.timedelta(hours=self.hours)

    def dst(self, moment: Any) -> datetime.timedelta:
        return datetime.timedelta(0)


class Colour(enum.IntEnum):
    RED = 1


class Word(enum.StrEnum):
    YES = "yes"


class Items(list[Any]):
    """A subclass of a list, with other items than it has."""

    def __iter__(self) -> Any:
        raise RuntimeError("asked for its items")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


MAX, MIN = datetime.datetime.max, datetime.datetime.min
STRANGE: list[Any] = [
    "\ud800", "caf\udce9.txt", 1 << 64, -(1 << 64), -(1 << 63) - 1, 1 << 20_000, -(1 << 20_000), math.nan, math.inf,
    Hostile(), Obliging(), Hostile, Obliging, Colour.RED, Word.YES, Items([1]), OrderedDict(k=1), len, object(),
    bytearray(b"\0\xff"), memoryview(b"x"), fractions.Fraction(1, 3), datetime.date(2026, 1, 2), ValueError("x", Hostile()),
    MAX.replace(tzinfo=Zone(-5)), MIN.replace(tzinfo=Zone(1)), MAX.replace(tzinfo=UTC), MIN.replace(tzinfo=UTC), MAX,
    datetime.datetime(2026, 1, 2, tzinfo=Zone(None)), datetime.datetime(2026, 1, 2, tzinfo=Zone(3)), decimal.Decimal("sNaN"),
    decimal.Decimal("1E+999999"), nested(62), nested(70), nested(5000), cycle(), {1: 2, "1": 3}, {b"k": 1, "k": 2},
    {True: 1, "true": 2}, {(1, 2): 3}, {frozenset({1}): 2}, {Hostile(): 1}, "x" * 300_000, b"x" * 300_000, ..., 1j, range(3),
]  # fmt: skip


def strange(number: int) -> Any:
    return STRANGE[number]


_strange = st.integers(0, len(STRANGE) - 1).map(strange)
_keys = (
    st.none() | st.booleans() | st.integers(-(1 << 66), 1 << 66) | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
    | st.uuids() | st.decimals(allow_nan=False) | st.datetimes(timezones=st.just(UTC))
)  # fmt: skip
_atoms = _keys | st.text(max_size=200) | st.binary(max_size=200) | _strange
values: st.SearchStrategy[Any] = st.recursive(
    _atoms,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.sets(_keys, max_size=3)
    | st.frozensets(_keys, max_size=3) | st.dictionaries(_keys | st.tuples(_keys), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def alike(value: Any, framing: str) -> Any:
    """A form in which what was sent and what arrived by `framing` are equal. Raises for what can have arrived nowhere."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return kind, value
    if kind is int:
        return kind, hex(value)  # a decimal form of any length Python does not make
    if kind is uuid.UUID:
        return kind, value
    if kind in (float, decimal.Decimal):
        return kind, repr(value)  # tells apart 0.0 and -0.0, and not one NaN from another
    if kind in (bytes, bytearray, memoryview):
        return bytes, bytes(value)
    if kind is gmp.Port or kind is Word:
        return str, str(value)
    if kind is datetime.datetime:
        return kind, value.astimezone(UTC).replace(tzinfo=None, fold=0)
    if kind in (list, tuple):
        return kind if framing == "msgpack" else list, [alike(item, framing) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(map(repr, (alike(item, framing) for item in value)))
    if kind is dict:
        pairs = [(_key(key, framing), alike(item, framing)) for key, item in value.items()]
        return kind, sorted(pairs, key=repr)
    raise AssertionError(f"a value of type {kind.__qualname__} was taken")


def _key(key: Any, framing: str) -> Any:
    if framing == "cbor" and type(key) is bytes:
        key = key.decode("latin-1")
    if framing == "json" and type(key) is not str:
        key = {None: "null", True: "true", False: "false"}[key] if key is None or type(key) is bool else repr(key)
    return alike(key, framing)
