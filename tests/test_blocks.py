"""The lines "*Blocks:* never" of the docstrings are true: no such function switches greenlets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import greenlet
import pytest

import gmp
from gmp.ports.workers import Task


@contextmanager
def assert_no_switch() -> Iterator[None]:
    """The body runs without a switch to another greenlet."""
    switches: list[tuple[str, Any]] = []
    before = greenlet.settrace(lambda event, args: switches.append((event, args)))
    try:
        yield
    finally:
        greenlet.settrace(before)
    assert not switches


def test_the_tracer_sees_a_switch() -> None:
    with pytest.raises(AssertionError), assert_no_switch():
        gevent.sleep(0)


def nothing(*_: Any) -> None:
    pass


class Calculator:
    def add(self, a: int, b: int) -> int:
        return a + b


# What each function that never blocks is called with, given a node and a port of it.
CALLS: dict[str, Callable[[gmp.Node, gmp.Port], Any]] = {
    "gmp.after": lambda node, port: gmp.after(60, nothing).cancel(),
    "gmp.current_port": lambda node, port: gmp.current_port(),
    "gmp.deadline": lambda node, port: gmp.deadline(),
    "gmp.expose": lambda node, port: gmp.expose(Calculator(), "calculators").kill(),
    "gmp.family": lambda node, port: gmp.family("f"),
    "gmp.group": lambda node, port: gmp.group("g"),
    "gmp.kill": lambda node, port: gmp.kill(port, "x"),
    "gmp.link": lambda node, port: gmp.link(port, node.port()),
    "gmp.method": lambda node, port: gmp.method(nothing),
    "gmp.monitor": lambda node, port: (gmp.monitor(port, nothing), gmp.monitor(port, port), gmp.monitor(port, port, 1)),
    "gmp.node": lambda node, port: gmp.node(),
    "gmp.node_of": lambda node, port: gmp.node_of(port),
    "gmp.port": lambda node, port: (gmp.port(), gmp.port(nothing), gmp.port(max_queue=2)),
    "gmp.remote": lambda node, port: gmp.remote("calculators"),
    "gmp.spawn": lambda node, port: gmp.spawn(node.id, "a:b"),
    "gmp.spawnable": lambda node, port: gmp.spawnable(lambda port: None),
    "gmp.stream": lambda node, port: gmp.stream(nothing),
    "gmp.supervise": lambda node, port: gmp.supervise([nothing]),
    "Monitor.cancel": lambda node, port: gmp.monitor(port, nothing).cancel(),
    "Timer.cancel": lambda node, port: gmp.after(60, nothing).cancel(),
    "Port.on": lambda node, port: port.on("a", nothing),
    "Port.kill": lambda node, port: port.kill("x"),
    "Port.own": lambda node, port: port.own(node.port()),
    "Port.spawn": lambda node, port: port.spawn(nothing),
    "Port.wrap": lambda node, port: port.wrap(nothing),
    "Port.greenlets": lambda node, port: port.greenlets(),
    "Task.kill": lambda node, port: port.spawn(nothing).kill(),
    "Node.deaths": lambda node, port: node.deaths(),
    "Node.is_up": lambda node, port: node.is_up("nobody"),
    "Node.up_nodes": lambda node, port: node.up_nodes(),
    "Node.try_send": lambda node, port: node.try_send(port, 1),
    "Node.stats": lambda node, port: node.stats(),
    # what blocks only above a mark or until something comes, where it need not
    "gmp.send": lambda node, port: (gmp.send(port, 1), gmp.send(port.id, 2), gmp.send(f"{node.id}#nobody", 3)),
    "Port.receive": lambda node, port: (gmp.send(port, 1), port.receive(), gmp.send(port, 2), port.receive(2, timeout=5)),
    "Port.receive_if": lambda node, port: (gmp.send(port, 1), port.receive_if(bool, timeout=5)),
    "Port.join": lambda node, port: port.join(0) if not port.alive else None,
    "Port.run": lambda node, port: port.run(nothing),
    "Port.put": lambda node, port: port.put(("a",)),
}


@pytest.mark.parametrize("state", ["plain", "waiting", "handlers", "full", "dead"])
def test_they_do_not_switch(state: str) -> None:
    for name, call in CALLS.items():
        if name.startswith("Port.receive") and state in ("waiting", "handlers"):
            continue  # a second receiver is an error, and a handler takes the message
        try:
            check(call, state)
        except AssertionError as error:
            raise AssertionError(f"{name} switches") from error


def check(call: Callable[[gmp.Node, gmp.Port], Any], state: str) -> None:
    node = gmp.node()
    port = node.port(max_queue=2 if state == "full" else None)
    if state == "waiting":
        gevent.spawn(receive_quietly, port)
    elif state == "handlers":
        port.on(1, nothing)
        port.on("b", nothing)
    elif state == "full":
        port.put(("x",))
        port.put(("x",))
    elif state == "dead":
        port.kill("before")
    gevent.sleep(0)
    with assert_no_switch():
        try:
            call(node, port)
        except gmp.PortDied:
            assert state in ("dead", "full")
    port.kill()
    gevent.sleep(0)


def receive_quietly(port: gmp.Port) -> None:
    try:
        port.receive("never")
    except gmp.PortDied:
        pass


def public_functions() -> dict[str, Any]:
    found = {}
    for name in gmp.__all__:
        thing = getattr(gmp, name)
        if inspect.isfunction(thing):
            found[f"gmp.{name}"] = thing
    for kind in (gmp.Port, gmp.Monitor, gmp.Timer, Task, gmp.Node):
        for name, thing in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                found[f"{kind.__name__}.{name}"] = thing
    return found


def test_every_function_that_says_never_is_tested() -> None:
    never = {name for name, function in public_functions().items() if "*Blocks:* never." in (function.__doc__ or "")}
    assert {name for name in never if name.split(".")[0] != "Node"} <= set(CALLS)


def test_every_public_function_of_the_face_and_of_ports_says_whether_it_blocks() -> None:
    internal = {"Port.failed", "Port.start_body", "Port.put", "Port.put_all", "Port.put_unhandled"}
    internal |= {"Port.handler_queue_grew", "Port.add_monitor", "Port.discard_monitor"}
    internal |= {"Port.watches", "Port.watches_no_more", "Port.look_again", "Port.put_once"}
    internal |= {"Task.go_on", "Task.failed", "Task.finish", "Task.prevent", "Task.throw"}
    internal |= {"Monitor.fire", "Monitor.watch_for"}
    silent = {
        name
        for name, function in public_functions().items()
        if name.split(".")[0] in ("gmp", "Port", "Monitor", "Timer", "Task") and "*Blocks:*" not in (function.__doc__ or "")
    }
    assert silent <= internal
