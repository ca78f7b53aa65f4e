"""To show a value never changes what happens to it: no code of the user runs, and the text is bounded."""

from __future__ import annotations

import datetime
import decimal
import time
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.showing import describe, portable_reason, show, show_reason, show_text, show_typed
from gmp.testing import replay

from .conftest import Recorder

MakeNode = Callable[..., gmp.Node]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(), inner), st.frozensets(st.integers())
    ),
)


class Hostile:
    """Whatever is asked of it raises what nobody catches."""

    def __repr__(self) -> str:
        raise SystemExit("shown")

    __str__ = __format__ = __len__ = __iter__ = __hash__ = __eq__ = __getattr__ = __repr__  # type: ignore[assignment]


class HostileText(str):
    __repr__ = __str__ = __len__ = __getitem__ = Hostile.__repr__  # type: ignore[assignment]


class HostileList(list[Any]):
    __repr__ = __iter__ = __len__ = __getitem__ = Hostile.__repr__  # type: ignore[assignment]


class HostileDict(dict[Any, Any]):
    __repr__ = __iter__ = items = keys = __len__ = Hostile.__repr__  # type: ignore[assignment]


class HostileInteger(int):
    __repr__ = __str__ = bit_length = __index__ = Hostile.__repr__  # type: ignore[assignment]


class HostileKind(type):
    __repr__ = Hostile.__repr__

    def __getattribute__(cls, name: str) -> Any:
        raise SystemExit("shown")

    def mro(cls) -> list[type]:
        return [cls, object]


class Zone(datetime.tzinfo):
    utcoffset = dst = tzname = __repr__ = Hostile.__repr__  # type: ignore[assignment]


class Sends:
    def __init__(self, port: gmp.Port) -> None:
        self.port = port

    def __repr__(self) -> str:
        gmp.send(self.port, "shown")
        gevent.sleep(0)
        return 1  # type: ignore[return-value]


TRACE = "Traceback (most recent call last):\n  …"
nested: list[Any] = []
nested.append(nested)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]
HOSTILE = [
    Hostile(),
    HostileKind("OfHostileKind", (), {})(),
    HostileText("text"),
    HostileList([1, 2]),
    HostileDict({1: 2}),
    HostileInteger(7),
    10**5000,
    1 << 10_000_000,
    datetime.datetime(2026, 1, 1, tzinfo=Zone()),
    nested,
    DEEP,
    [0] * 10_000_000,
    "x" * 10_000_000,
    {"a": [Hostile()]},
    namedtuple("Point", "x y")(1, Hostile()),
]
ALL = range(len(HOSTILE))  # tests are told the place: pytest would look at the value


@given(PLAIN)
def test_plain_data_is_shown_as_repr_shows_it(value: Any) -> None:
    assert show(value, 10**6) == repr(value)


@given(PLAIN, st.integers(1, 60))
def test_a_long_value_is_cut(value: Any, most: int) -> None:
    whole, shown = repr(value), show(value, most)
    assert len(shown) <= most + 1
    assert shown == whole or (shown.endswith("…") and whole.startswith(shown[:-1]))


@pytest.mark.parametrize("place", ALL)
def test_what_is_odd_is_shown_in_bounded_time_without_the_users_code(place: int) -> None:
    value = HOSTILE[place]
    began = time.process_time()
    for text in (show(value), show_text(value), show_reason((value, "why")), show(("tag", value))):
        assert len(text) < 1000
    assert time.process_time() - began < 1


def test_a_subclass_of_a_plain_type_is_shown_as_the_plain_value() -> None:
    class Colour(IntEnum):
        RED = 1

    values = [Colour.RED, HostileText("t"), OrderedDict(a=1), uuid.UUID(int=1), decimal.Decimal("1.5"), object()]
    assert show(values) == f"[1, 't', {{'a': 1}}, {uuid.UUID(int=1)!r}, Decimal('1.5'), <builtins.object object>]"


def test_a_port_is_shown_with_its_id() -> None:
    port = gmp.port()
    assert show(("to", port)) == f"('to', <Port {port.id}>)"


@pytest.mark.parametrize("place", ALL)
def test_a_message_that_cannot_be_shown_holds_up_no_death(place: int) -> None:
    value = HOSTILE[place]
    ended, told = gevent.event.Event(), Recorder()

    def body(port: gmp.Port) -> None:
        try:
            for _ in port:
                pass
        finally:
            ended.set()

    port = gmp.port(body, max_history=5)
    gmp.monitor(port, told)
    gevent.sleep(0)
    gmp.send(port, "hello", value)
    port.kill("enough", value)
    assert ended.wait(20)
    assert told.wait(timeout=20)[0][0] == "enough"
    death = gmp.node().deaths()[-1]
    assert death.port == port.id
    again = replay(death.history, lambda port: port.receive("hello"))
    assert again.join(20)
    assert again.reason == ()


@pytest.mark.parametrize("place", ALL)
def test_inspection_and_followers_go_on(make_node: MakeNode, place: int) -> None:
    value = HOSTILE[place]
    node = make_node("shown", allow_follow=True)
    follower = node.port()
    port = node.port(max_history=3)
    node.send("shown", "gmp.follow", port.name, 60, follower.id)
    assert follower.receive("following", timeout=20) == ("",)
    port.run(node.send, node.port(), "sent", value)
    node.send(port, "got", value)
    assert port.receive("got", timeout=0)[0] is value
    texts = [follower.receive("message", timeout=20)[-1] for _ in range(2)]
    assert texts == [show(("sent", value), 500), show(("got", value), 500)]
    port.kill("enough", value)
    told = node.call("shown", "gmp.ports", timeout=20)
    assert told[-1]["deaths"][0]["reason"][0] == "enough"


def test_to_show_a_message_sends_nothing() -> None:
    port = gmp.port(max_history=1)
    other = gmp.port()
    gmp.send(port, Sends(other))
    port.kill("enough")
    assert len(other) == 0


class Meta(type):
    def __eq__(cls, other: object) -> bool:
        raise SystemExit("compared")

    def __hash__(cls) -> int:
        raise SystemExit("looked up")


class Masked(metaclass=Meta):
    """Raises when it, or its class, is asked what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise SystemExit("asked for its class")


class MaskedOctets(bytes):
    __class__ = Masked.__dict__["__class__"]


class MaskedSet(set[int]):
    __class__ = Masked.__dict__["__class__"]


def test_no_value_is_asked_for_its_class() -> None:
    reasons = lambda value: show_reason([value]), lambda value: portable_reason([value])
    for way in (show, show_text, show_typed, describe, *reasons):
        for value in (MaskedOctets(b"x"), MaskedSet([1])):
            assert way(value)
    assert show_typed(Masked()) == "an object of a type with a metaclass"


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (("die", "ValueError: first line\nsecond line", TRACE), "die, ValueError: first line …"),
        (("die", "\nValueError: late", TRACE), "die, ValueError: late"),
        (("why", 10**5000), "why, <int of 16610 bits>"),
        (("why", Hostile()), "why, <tests.test_showing.Hostile object>"),
        (("line\n", "", 2), "line, , 2"),
    ],
)
def test_the_text_of_a_death_has_the_first_line_of_each_part(reason: tuple[Any, ...], text: str) -> None:
    assert str(gmp.PortDied("node#port", reason)) == f"port node#port died: {text}"
