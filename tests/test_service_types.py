"""Types by annotations: what goes over is plain data, and each side makes of it what it declares (extra ``typed``)."""

from __future__ import annotations

import datetime
import enum
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

import gmp

from .conftest import eventually

msgspec = pytest.importorskip("msgspec")
Make = Callable[..., gmp.Node]


class Colour(enum.Enum):
    RED = "red"


class Place(NamedTuple):
    x: int
    y: int


@dataclass
class Order:
    item: str
    count: int
    colour: Colour = Colour.RED
    place: Place | None = None
    data: bytes = b""
    at: datetime.datetime | None = None


class Receipt(msgspec.Struct):  # type: ignore[name-defined, misc]
    order: Order
    price: float


class Shop:
    def __init__(self) -> None:
        self.came: list[Any] = []
        self.ended = False

    def buy(self, order: Order, price: float = 1.0, *more: Place, **named: Colour) -> Receipt:
        self.came += [order, price, *more, *named.values()]
        return Receipt(order, price)

    def receipts(self, orders: list[Order]) -> Iterator[Receipt]:
        try:
            for order in orders:
                yield Receipt(order, 2.0)
        finally:
            self.ended = True

    def total(self, counts: Iterator[int]) -> int:
        return sum(counts)

    def untyped(self, value):  # type: ignore[no-untyped-def]
        return value


@pytest.fixture
def shop(make_node: Make) -> tuple[Shop, Any, Any]:
    """The object, and it as it is seen with and without an interface."""
    there = make_node("there")
    here = make_node("here", seeds=there.binds)
    thing = Shop()
    port = gmp.expose(thing, node=there, check=True)
    return thing, gmp.remote(port, node=here, interface=Shop), gmp.remote(port, node=here)


def test_values_arrive_as_what_is_declared(shop: tuple[Shop, Any, Any]) -> None:
    thing, typed, _plain = shop
    now = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
    order = Order("tea", 2, Colour.RED, Place(1, 2), b"\xff", now)
    assert typed.buy(order, 2.5, Place(3, 4), other=Colour.RED) == Receipt(order, 2.5)
    assert thing.came == [order, 2.5, Place(3, 4), Colour.RED]
    assert list(typed.receipts([order, order])) == [Receipt(order, 2.0)] * 2
    assert typed.total(number for number in range(4)) == 6
    assert typed.untyped({"a": [1, None]}) == {"a": [1, None]}
    typed.buy.send(order)
    eventually(lambda: len(thing.came) == 6)


def test_who_declares_nothing_has_plain_data(shop: tuple[Shop, Any, Any]) -> None:
    thing, _typed, plain = shop
    told = plain.buy({"item": "tea", "count": 2, "colour": "red", "place": [1, 2]})
    assert told["order"]["item"] == "tea"
    assert thing.came[0] == Order("tea", 2, Colour.RED, Place(1, 2))
    assert next(plain.receipts([{"item": "tea", "count": 1}]))["price"] == 2.0
    eventually(lambda: thing.ended)


@pytest.mark.parametrize(
    ("args", "keywords"),
    [
        (({"item": "tea", "count": "two"},), {}),
        (({"item": "tea"},), {}),
        (({"item": "tea", "count": 1, "colour": "blue"},), {}),
        (("tea",), {}),
        (({"item": "tea", "count": 1}, "dear"), {}),
        (({"item": "tea", "count": 1}, 1.0, [1]), {}),
        (({"item": "tea", "count": 1},), {"other": "blue"}),
        ((), {}),
    ],
)
def test_what_is_of_another_type_is_refused_with_its_name(
    shop: tuple[Shop, Any, Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    thing, _typed, plain = shop
    with pytest.raises(gmp.RemoteError) as error:
        plain.buy(*args, **keywords)
    assert error.value.type_name == "TypeError"
    assert thing.came == []


def test_a_result_of_another_type_is_an_error_here(make_node: Make) -> None:
    class Liar:
        def buy(self) -> str:
            return "nothing"

    class Expected:
        def buy(self) -> int:
            raise NotImplementedError

    node = make_node("node")
    with pytest.raises(TypeError, match="result of buy"):
        gmp.remote(gmp.expose(Liar(), node=node), node=node, interface=Expected).buy()


def test_what_cannot_be_checked_is_told_at_once() -> None:
    class Unknown:
        def buy(self, order: NoSuchType) -> None:  # type: ignore[name-defined]  # noqa: F821
            raise NotImplementedError

    for make in (lambda: gmp.expose(Unknown(), check=True), lambda: gmp.remote("x", interface=Unknown)):
        with pytest.raises(gmp.ConfigError, match="the annotations of buy cannot be read"):
            make()
    with pytest.raises(gmp.ConfigError, match="expected a class with annotated methods"):
        gmp.remote("x", interface=Unknown())  # type: ignore[arg-type]


def test_what_has_no_annotations_that_can_be_read_is_told_at_once() -> None:
    class Torn:
        def buy(self, order: "int |") -> None:  # type: ignore[syntax]  # noqa: F722
            raise NotImplementedError

    class Missing:
        def buy(self, order: "datetime.nothing") -> None:  # type: ignore[name-defined]  # noqa: UP037
            raise NotImplementedError

    class Partial:
        buy = staticmethod(functools.partial(print))  # without it, it will be a method some day, as Python 3.13 warns

    # Python 3.13 can read those of clear
    for given, name in ((Torn(), "buy"), (Missing(), "buy"), (Partial(), "buy"), ({}, "(clear|pop)")):
        with pytest.raises(gmp.ConfigError, match=f"the annotations of {name} cannot be read"):
            gmp.expose(given, check=True)


def test_a_port_may_stand_for_its_id(make_node: Make) -> None:
    class Names:
        def same(self, port: str, others: list[str]) -> list[str]:
            return [port, *others]

        def own(self) -> str:
            return mine  # type: ignore[return-value]

    node = make_node("node")
    mine = node.port()
    names = gmp.remote(gmp.expose(Names(), node=node, check=True), node=node, interface=Names)
    assert names.same(mine, [mine]) == [mine.id, mine.id]
    assert names.own() == mine.id
    with pytest.raises(TypeError, match=r"builtins\.object is no plain data"):
        names.same(object(), [])


def test_methods_of_a_class_that_need_no_object_have_types_too(make_node: Make) -> None:
    class Colours:
        @classmethod
        def first(cls) -> Colour:
            return Colour.RED

        @staticmethod
        def same(colour: Colour) -> Colour:
            return colour

    node = make_node("node")
    colours = gmp.remote(gmp.expose(Colours(), node=node, check=True), node=node, interface=Colours)
    assert [colours.first(), colours.same(Colour.RED)] == [Colour.RED] * 2


def test_a_stream_that_is_refused_lets_go_of_what_it_would_have_read(make_node: Make) -> None:
    class Lines:
        """A file that is read, say."""

        closed = 0

        def __iter__(self) -> Lines:
            return self

        def __next__(self) -> str:
            return "line"

        def close(self) -> None:
            Lines.closed += 1

    class Logs:
        def lines(self) -> Iterator[str]:
            return Lines()

    node = make_node("node")
    port = gmp.expose(Logs(), node=node, check=True, max_streams=1)
    logs = gmp.remote(port, node=node)
    with logs.lines() as lines:
        assert next(lines) == "line"
        with pytest.raises(gmp.CallRefused, match="1 streams of Logs are open"):
            logs.lines()
        assert Lines.closed == 1
    eventually(lambda: Lines.closed == 2)


def test_without_msgspec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "msgspec", None)
    with pytest.raises(gmp.ConfigError, match=r"pip install 'gevent-mp\[typed\]'"):
        gmp.expose(Shop(), check=True)
