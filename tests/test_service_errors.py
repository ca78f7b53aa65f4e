"""What a service's method raises comes back to its caller, and the service lives on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from greenlet import GreenletExit

import gmp

Make = Callable[..., gmp.Node]


class OutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left


class Unfit(Exception):
    def __init__(self) -> None:
        super().__init__("cannot be made of its own arguments")


class Nasty(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class OtherArgs(Exception):
    args: Any = None  # not Python's


class NoArgs(Exception):
    @property
    def args(self) -> Any:
        raise ValueError("no arguments")


class Shop:
    def sell(self, item: str) -> None:
        raise OutOfStock(item, 0)

    def fail(self, *args: Any) -> None:
        raise LookupError(*args)

    def odd(self, which: str) -> Any:
        raise {
            "nasty": Nasty(), "timeout": gevent.Timeout(1), "own exit": GreenletExit(), "object": ValueError(object(), 3),
            "surrogate": ValueError("\ud800"), "long": ValueError("x" * 10**6), "unfit": Unfit(),
            "base": BaseException("base"), "other args": OtherArgs(1), "no args": NoArgs(),
        }[which]  # fmt: skip

    def give(self, what: str) -> Any:
        circle: list[Any] = []
        circle.append(circle)
        return {"object": object(), "set": {1}, "circle": circle, "ok": "ok", "surrogate": "\ud800", "type": int}[what]


@pytest.fixture
def nodes(make_node: Make) -> tuple[gmp.Node, gmp.Node]:
    there = make_node("there")
    return there, make_node("here", seeds=there.binds)


@pytest.mark.parametrize("raised", [ValueError, gevent.Timeout, GreenletExit])
def test_an_exception_whose_text_cannot_be_made_comes_back_and_the_service_lives_on(
    nodes: tuple[gmp.Node, gmp.Node], raised: type[BaseException]
) -> None:
    there, here = nodes

    class Rude(Exception):
        def __str__(self) -> str:
            raise raised

    class Desk:
        def fail(self) -> None:
            raise Rude

        def works(self) -> bool:
            return True

    desk = gmp.remote(gmp.expose(Desk(), node=there), node=here)
    with pytest.raises(gmp.RemoteError) as caught:
        desk.fail.call(timeout=10)
    assert caught.value.text == f"<its text cannot be made: {raised.__name__}>"
    assert desk.works.call(timeout=10)


def test_an_undeclared_exception_is_a_remote_error_with_all_that_travels(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Shop(), node=there)
    shop = gmp.remote(port, node=here)
    with pytest.raises(gmp.RemoteError) as caught:
        shop.sell("tea")
    error = caught.value
    assert (error.type_name, error.text, error.arguments) == (
        f"{__name__}.OutOfStock", "('tea', 0)", ("tea", 0),
    )  # fmt: skip
    assert (error.service, error.method) == (port.id, "sell")
    assert str(error) == f"sell of {port.id}: {__name__}.OutOfStock: ('tea', 0)"
    assert "raise OutOfStock(item, 0)" in error.traceback
    assert "gmp/objects" not in error.traceback
    both = "".join(traceback.format_exception(error))
    assert "raise OutOfStock(item, 0)" in both  # there
    assert 'shop.sell("tea")' in both  # here
    with pytest.raises(gmp.RemoteError, match="LookupError: 7"):
        shop.fail(7)


def test_a_type_that_both_sides_declare_is_raised_as_itself(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Shop(), node=there, errors=[OutOfStock, LookupError, Unfit])
    shop = gmp.remote(port, node=here, errors=[OutOfStock, LookupError, Unfit])
    with pytest.raises(OutOfStock) as caught:
        shop.sell("tea")
    assert (caught.value.item, caught.value.left) == ("tea", 0)
    assert "raise OutOfStock(item, 0)" in str(caught.value.__cause__)
    with pytest.raises(LookupError, match="7"):
        shop.fail(7)
    with pytest.raises(gmp.RemoteError, match="cannot be made of its own arguments") as unmade:
        shop.odd("unfit")
    assert "Unfit could not be made of" in unmade.value.__notes__[0]
    with pytest.raises(gmp.RemoteError):
        gmp.remote(port, node=here).sell("tea")  # only the service declares it
    one_sided = gmp.remote(gmp.expose(Shop(), node=there), node=here, errors=[OutOfStock])
    with pytest.raises(gmp.RemoteError):
        one_sided.sell("tea")  # only the caller declares it


def test_a_subclass_of_a_declared_type_is_raised_as_that(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Shop(), node=there, errors=[Exception])
    with pytest.raises(Exception, match="tea") as caught:
        gmp.remote(port, node=here, errors=[Exception]).sell("tea")
    assert type(caught.value) is Exception


def test_no_type_is_found_by_what_came_over_the_network(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes

    @there.port
    def liar(port: gmp.Port) -> None:
        for message in port:
            for_caller = message[-1]
            there.send(for_caller, "raise", "builtins.SystemExit", "text", [1], "", "SystemExit")

    with pytest.raises(gmp.RemoteError, match=r"builtins\.SystemExit: text"):
        gmp.remote(liar, node=here, errors=[OutOfStock]).sell("tea")


@pytest.mark.parametrize("forged", [(), (1,), (None, None, None, None, None), ({}, [], 3, object, [])])
def test_a_forged_error_is_an_error(forged: tuple[Any, ...]) -> None:
    port = gmp.port(lambda port: [gmp.send(message[-1], "raise", *forged) for message in port])
    with pytest.raises(gmp.RemoteError):
        gmp.remote(port).anything()
    port = gmp.port(lambda port: [gmp.send(message[-1], "refused", *forged[:2]) for message in port])
    with pytest.raises(gmp.CallRefused):
        gmp.remote(port).anything()


def test_whatever_a_method_raises_the_service_lives_on(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Shop(), node=there)
    shop = gmp.remote(port, node=here)
    for which, kind in (
        ("nasty", "Nasty"), ("timeout", "Timeout"), ("own exit", "GreenletExit"), ("object", "ValueError"),
        ("surrogate", "ValueError"), ("long", "ValueError"), ("unfit", "Unfit"),
        ("other args", "OtherArgs"), ("no args", "NoArgs"), ("base", "BaseException"),
    ):  # fmt: skip
        with pytest.raises(gmp.RemoteError, match=kind) as caught:
            shop.odd(which)
        assert len(str(caught.value)) < 30_000
    assert caught.value.text == "base"
    with pytest.raises(gmp.RemoteError) as caught:
        shop.odd("object")
    assert "object" in str(caught.value.arguments[0])
    assert caught.value.arguments[1] == 3
    assert shop.give("ok") == "ok"
    assert port.alive


@pytest.mark.parametrize("what", ["object", "circle", "surrogate", "type"])
def test_a_result_that_cannot_travel_is_an_error_at_the_caller(nodes: tuple[gmp.Node, gmp.Node], what: str) -> None:
    there, here = nodes
    shop = gmp.remote(gmp.expose(Shop(), node=there), node=here)
    with pytest.raises(gmp.RemoteError, match=r"MessageError: the result of Shop.give, .*, cannot travel: ") as caught:
        shop.give(what)
    assert {"object": "builtins.object", "circle": "list", "surrogate": "str", "type": "type"}[what] in caught.value.text
    assert shop.give("ok") == "ok"


def test_an_argument_that_cannot_travel_raises_at_the_caller_and_nothing_is_sent(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    shop = gmp.remote(gmp.expose(Shop(), node=there), node=here)
    shop.give("ok")
    with pytest.raises(gmp.MessageError):
        shop.give(object())
    with pytest.raises(gmp.MessageError):
        shop.give.send(object())
    assert shop.give("ok") == "ok"


def test_what_ends_the_program_ends_it(make_node: Make) -> None:
    """As in any port: the port dies, and the main greenlet gets it."""

    class Ender:
        def end(self) -> None:
            raise SystemExit(3)

    port = gmp.expose(Ender())
    with pytest.raises(SystemExit):
        gmp.remote(port).end()
    assert not port.alive
