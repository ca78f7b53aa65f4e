"""Ports of one process: receiving, handlers, context, death, limits, misuse. Monitors and calls have files of their own."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import gc
import logging
import opcode
import operator
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import gevent
import gevent.event
import gevent.fileobject
import gevent.lock
import gevent.os
import pytest

import gmp
from gmp import send
from gmp.ports.workers import Workers

from .conftest import Recorder, eventually


def fill(port: gmp.Port, *messages: tuple[Any, ...]) -> None:
    for message in messages:
        send(port, *message)


def rest(port: gmp.Port) -> list[tuple[Any, ...]]:
    """What waits."""
    return [port.receive(timeout=0) for _ in range(len(port))]


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What it returns or raises, for greenlets of which gevent should not complain."""
    try:
        return function(*args)
    except gmp.GmpError as error:
        return error


def turns(count: int = 5) -> None:
    """Let the loop turn, and everything begin that waits for that: each turn has its time only, on a busy machine too."""
    for _ in range(count):
        gevent.sleep(0)
    ports = gmp.node()._core.ports
    for _ in range(1000):
        if ports.workers.jobs or ports.wakeups.pending:
            gevent.sleep(0)


# ---- receive


def test_receive_takes_by_prefix_and_leaves_the_others_in_order() -> None:
    port = gmp.port()
    fill(port, ("a", 1), ("b", 2), ("a", 1, "x"), ("c",), ("a", 2))
    assert port.receive("a", 1) == ()
    assert port.receive("a", 1) == ("x",)
    assert port.receive("c") == ()
    assert len(port) == 2
    assert rest(port) == [("b", 2), ("a", 2)]


def test_receive_without_prefix_takes_whole_messages_also_empty_ones() -> None:
    port = gmp.port()
    fill(port, (), ("a",), ([1], {"k": 2}))
    assert rest(port) == [(), ("a",), ([1], {"k": 2})]


def test_timeout_0_looks_only_and_a_number_waits_that_long() -> None:
    port = gmp.port()
    send(port, "stranger")
    for timeout in (0, 0.0, -1, 0.01):
        with pytest.raises(gmp.ReceiveTimeout) as caught:
            port.receive("wanted", timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        assert port.id in str(caught.value)
    assert port.receive("stranger", timeout=0) == ()


def test_a_waiting_receive_wakes_for_its_message_only() -> None:
    port = gmp.port()
    got = gevent.spawn(port.receive, "wanted")
    turns()
    fill(port, ("stranger", 1))
    turns()
    assert not got.ready()
    fill(port, ("stranger", 2), ("wanted", 3), ("wanted", 4))
    assert got.get(timeout=5) == (3,)
    assert rest(port) == [("stranger", 1), ("stranger", 2), ("wanted", 4)]


@pytest.mark.parametrize("prefixes", [["p", "q", "p"], ["p", "p", "q"], ["q", "p", "p"]])
def test_what_was_looked_at_before_is_not_lost_to_other_prefixes(prefixes: list[str]) -> None:
    port = gmp.port()
    fill(port, ("s", 0), ("q", 1), ("p", 2), ("s", 3), ("p", 4), ("q", 5))
    numbers = {"p": [2, 4], "q": [1, 5]}
    for prefix in prefixes:
        assert port.receive(prefix, timeout=0) == (numbers[prefix].pop(0),)
    with pytest.raises(gmp.ReceiveTimeout):
        port.receive("r", timeout=0)
    assert port.receive(timeout=0) == ("s", 0)
    fill(port, ("r", 6))
    assert port.receive("r", timeout=0) == (6,)


def test_receive_if_takes_the_first_that_the_predicate_likes_whole() -> None:
    port = gmp.port()
    fill(port, ("n", 1), ("n", 5), ("n", 9))
    assert port.receive_if(lambda tag, number: number > 3) == ("n", 5)
    with pytest.raises(gmp.ReceiveTimeout):
        port.receive_if(lambda *message: False, timeout=0)
    got = gevent.spawn(port.receive_if, lambda tag, number: tag == "m")
    turns()
    send(port, "m", 2)
    assert got.get(timeout=5) == ("m", 2)
    assert rest(port) == [("n", 1), ("n", 9)]


def test_a_predicate_that_raises_loses_nothing_and_may_itself_take_messages() -> None:
    port = gmp.port()
    fill(port, ("a",), ("b",), ("c",))
    with pytest.raises(ZeroDivisionError):
        port.receive_if(lambda tag: 1 / 0)
    assert port.receive_if(lambda tag: tag == "b" and port.receive() == ("a",)) == ("b",)
    assert rest(port) == [("c",)]
    with pytest.raises(gmp.GmpError, match="receive_if: 7 cannot be asked"):
        port.receive_if(7)  # type: ignore[arg-type]


def test_iteration_gives_messages_until_the_port_dies() -> None:
    port = gmp.port()
    got: list[Any] = []

    def read() -> None:
        for message in port:
            match message:
                case ("add", int(a), int(b)):
                    got.append(a + b)
                case (tag, *_):
                    got.append(tag)

    reader = gevent.spawn(read)
    fill(port, ("add", 1, 2), ("other", 1))
    turns()
    send(port, "add", 3, 4)
    turns()
    port.kill()
    reader.join(5)
    assert reader.successful()
    assert got == [3, "other", 7]


def test_iteration_ends_only_for_its_own_port() -> None:
    port, other = gmp.port(), gmp.port()
    other.kill("else")
    send(port, "x")
    with pytest.raises(gmp.PortDied, match=other.id):
        [other.receive() for _ in port]


def test_a_second_greenlet_in_receive_is_told_so() -> None:
    port = gmp.port()
    first = gevent.spawn(port.receive, "wanted")
    turns()
    send(port, "stranger")
    ways = (port.receive, lambda: port.receive("x", timeout=0), lambda: port.receive_if(bool), lambda: next(iter(port)))
    for receive in ways:
        with pytest.raises(gmp.GmpError, match=f"another greenlet already waits in receive at {port.id}"):
            receive()
    send(port, "wanted", 1)
    assert first.get(timeout=5) == (1,)
    assert port.receive("stranger", timeout=0) == ()


def test_a_message_that_comes_with_the_timeout_is_taken_or_stays_but_is_never_lost() -> None:
    """race: a wake-up is on its way when the wait ends otherwise."""
    for delay in [0.0, 0.001, 0.002, 0.003] * 10:
        port = gmp.port()
        gevent.spawn_later(delay, send, port, "m")
        try:
            assert port.receive("m", timeout=0.002) == ()
        except gmp.ReceiveTimeout:
            assert port.receive("m", timeout=5) == ()
        assert len(port) == 0
        port.kill()


def test_a_greenlet_killed_in_receive_takes_nothing_with_it_and_no_stale_switch_follows_it() -> None:
    port = gmp.port()
    went_on: list[Any] = []

    def wait() -> None:
        try:
            port.receive()
        finally:
            went_on.append(gevent.sleep(0.02))

    waiting = gevent.spawn(wait)
    turns()
    waiting.kill(block=False)
    send(port, "m", 1)  # its wake-up comes behind the kill
    turns()
    assert went_on == []
    waiting.join(5)
    assert rest(port) == [("m", 1)]


def test_a_gevent_timeout_in_receive_loses_nothing() -> None:
    port = gmp.port()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        port.receive("wanted")
    send(port, "wanted", 1)
    assert port.receive("wanted", timeout=0) == (1,)


@pytest.mark.parametrize("timeout", ["5", True, b""])
def test_a_timeout_that_is_no_number_is_told(timeout: Any) -> None:
    with pytest.raises(gmp.GmpError, match="expected a number of seconds"):
        gmp.port().receive(timeout=timeout)


def test_messages_from_the_hub_arrive_and_receive_there_is_refused() -> None:
    port, errors = gmp.port(), Recorder()

    def in_hub() -> None:
        send(port, "from the hub")
        for call in (lambda: gmp.port().receive("x"), lambda: gmp.call(port, "x")):
            try:
                call()
            except gmp.GmpError as error:
                errors(str(error))

    gevent.get_hub().loop.run_callback(in_hub)
    assert port.receive(timeout=5) == ("from the hub",)
    assert all("in the hub" in text for (text,) in errors.wait(2))


def test_strangers_are_looked_at_once_for_all_receives_of_one_prefix() -> None:
    port = gmp.port()
    for number in range(20_000):
        send(port, "stranger", number)
    looked = 0

    class Tag:
        def __eq__(self, other: object) -> bool:
            nonlocal looked
            looked += 1
            return other == "tag"

        __hash__ = None  # type: ignore[assignment]

    tag = Tag()
    for number in range(100):
        send(port, "tag", number)
        assert port.receive(tag, timeout=0) == (number,)
    assert looked < 25_000


# ---- handlers


def test_handlers_take_their_tags_and_receive_the_rest(recorder: Recorder) -> None:
    port = gmp.port()
    port.on("a", recorder)
    fill(port, ("a", 1), ("b", 2), (), ([], 3), ("a", 4, 5))
    assert recorder.wait(2) == [(1,), (4, 5)]
    assert rest(port) == [("b", 2), (), ([], 3)]


def test_the_default_handler_gets_whole_messages_also_odd_ones(recorder: Recorder) -> None:
    port = gmp.port()
    tagged = Recorder()
    port.on(None, recorder)
    port.on("a", tagged)
    fill(port, ("a", 1), ("b", 2), (), ({}, 3), (None, 4))
    assert recorder.wait(4) == [("b", 2), (), ({}, 3), (None, 4)]
    assert tagged.calls == [(1,)]
    port.on(None, None)
    send(port, "b")
    assert port.receive(timeout=5) == ("b",)


def test_replacing_and_removing_a_handler_is_for_messages_from_then_on() -> None:
    port, first, second = gmp.port(), Recorder(), Recorder()
    port.on("a", first)
    send(port, "a", 1)
    port.on("a", second)
    send(port, "a", 2)
    port.on("a", None)
    send(port, "a", 3)
    port.on("b", None)
    assert second.wait() == [(2,)]
    assert first.calls == [(1,)]
    assert rest(port) == [("a", 3)]


def test_the_decorator_form_returns_the_function(recorder: Recorder) -> None:
    port = gmp.port()

    @port.on("a")
    def handler(value: int) -> None:
        recorder(value)

    handler(0)
    send(port, "a", 1)
    assert recorder.wait(2) == [(0,), (1,)]


def test_handlers_may_block_and_run_one_after_another_in_order() -> None:
    port, running, log = gmp.port(), 0, []

    @port.on("work")
    def work(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        gevent.sleep(0.001 * (number % 3))
        log.append(number)
        running -= 1

    for number in range(30):
        send(port, "work", number)
    eventually(lambda: len(log) == 30)
    assert log == list(range(30))


def test_a_blocked_handler_does_not_hold_up_other_ports(recorder: Recorder) -> None:
    gate = gevent.event.Event()
    blocked = [gmp.port() for _ in range(20)]
    for port in blocked:
        port.on("go", gate.wait)
        send(port, "go")
    free = gmp.port()
    free.on("go", recorder)
    send(free, "go", 1)
    assert recorder.wait() == [(1,)]
    gate.set()


def test_a_chatter_of_handlers_leaves_time_for_timers(recorder: Recorder) -> None:
    left, right = gmp.port(), gmp.port()
    left.on("ball", lambda: send(right, "ball"))
    right.on("ball", lambda: send(left, "ball"))
    send(left, "ball")
    gmp.after(0.01, recorder, "in time")
    assert recorder.wait() == [("in time",)]
    left.kill()


def test_a_chatter_of_bodies_leaves_time_for_timers_other_ports_and_sockets(recorder: Recorder, make_node: Any) -> None:
    far = make_node("far")
    near = make_node("near", seeds=far.binds)
    near.wait_up("far", timeout=20)
    throws = 0

    def player(port: gmp.Port) -> None:
        nonlocal throws
        for _, other in port:
            throws += 1
            send(other, "ball", port)

    left, right = gmp.port(player), gmp.port(player)
    send(left, "ball", right)
    gmp.after(0.01, recorder, "in time")
    assert recorder.wait() == [("in time",)]
    for _ in range(3):
        thrown = throws
        assert near.call("far", "time", timeout=20)
        other = gmp.port(lambda port: [send(reply, "here") for (reply,) in port])
        assert gmp.call(other, timeout=20) == ("here",)
        assert throws > thrown
    left.kill()


def test_a_thousand_bodies_that_are_woken_at_once_all_go_on_in_order() -> None:
    order: list[int] = []
    begun: list[int] = []

    def body(port: gmp.Port, number: int) -> None:
        begun.append(number)
        for (pause,) in port:
            order.append(number)
            if pause:
                gevent.sleep(0)

    ports = [gmp.port(body, number) for number in range(1000)]
    eventually(lambda: len(begun) == 1000)
    for pause in (False, True):
        order.clear()
        for port in ports:
            send(port, pause)
        eventually(lambda: len(order) == 1000)
        assert order == list(range(1000))


def test_a_predicate_may_block_while_more_comes_in() -> None:
    """race: nobody is to wake who waits in a predicate for something else."""
    port, seen = gmp.port(), []

    def slow(number: int) -> bool:
        gevent.sleep(0.001)
        seen.append(number)
        return number == 39

    waiting = gevent.spawn(port.receive_if, slow, timeout=20)
    turns()
    for number in range(40):
        send(port, number)
        if number % 3 == 0:
            gevent.sleep(0.001)
    assert waiting.get(timeout=20) == (39,)
    assert seen == list(range(40))


def test_a_port_that_dies_while_a_predicate_blocks_ends_the_wait() -> None:
    """race: the waiting greenlet is in the predicate, not asleep at the port, when the port is buried."""
    for waits_first in (False, True):
        port, asked = gmp.port(), gevent.event.Event()

        def slow(*_: object, asked: gevent.event.Event = asked) -> bool:
            asked.set()
            gevent.sleep(0.01)
            return False

        waiting = None
        if waits_first:
            waiting = gevent.spawn(outcome, port.receive_if, slow)
            turns()
        send(port, "x")
        if waiting is None:
            waiting = gevent.spawn(outcome, port.receive_if, slow)
        assert asked.wait(20)
        port.kill("enough")
        assert isinstance(waiting.get(timeout=20), gmp.PortDied)
        send(port, "dropped")


def test_what_a_body_starts_after_it_has_computed_takes_its_full_time() -> None:
    """The loop's clock stands still while code runs."""
    port, took = gmp.port(), []

    def body(me: gmp.Port) -> None:
        for (way,) in me:
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass
            start = time.monotonic()
            if way == "receive":
                with pytest.raises(gmp.ReceiveTimeout):
                    me.receive("never", timeout=0.1)
            else:
                gmp.after(0.1, me, "tick")
                me.receive("tick")
            took.append(time.monotonic() - start)
            send(port, "took")

    computing, chatter = gmp.port(body), gmp.port()
    chatter.on("ball", lambda: send(chatter, "ball"))  # so that turns end by their time, too
    for way in ("receive", "after", "receive"):
        send(computing, way)
        port.receive("took", timeout=20)
        send(chatter, "ball")
    assert min(took) > 0.09
    chatter.kill()


def test_a_program_that_forks_in_a_body_wakes_nobody_else_in_the_child(recorder: Recorder) -> None:
    """race: others were about to be woken in the same turn."""
    pid, ran_in = os.getpid(), []
    reader, writer = os.pipe()

    def forks(port: gmp.Port) -> None:
        port.receive("go")
        if gevent.os.fork() == 0:
            gevent.spawn_later(0.1, tell)
            gevent.sleep(60)
        recorder("forked")

    def tell() -> None:
        try:
            os.write(writer, b"others" if ran_in else b"nobody")
        finally:
            os._exit(0)

    def other(port: gmp.Port) -> None:
        port.receive("go")
        ran_in.append(os.getpid())

    ports = [gmp.port(forks), *(gmp.port(other) for _ in range(3))]
    turns()
    for port in ports:
        send(port, "go")
    assert recorder.wait() == [("forked",)]
    os.close(writer)
    with gevent.fileobject.FileObject(reader, "rb") as child:
        assert child.read() == b"nobody"
    eventually(lambda: ran_in == [pid] * 3)


def test_a_handler_that_forks_handles_nothing_more_in_the_child() -> None:
    port, seen, pid = gmp.port(), [], os.getpid()
    reader, writer = os.pipe()

    @port.on("n")
    def handle(number: int) -> None:
        seen.append((os.getpid() == pid, number))
        if number == 0 and gevent.os.fork() == 0:
            gevent.spawn_later(0.05, tell)

    def tell() -> None:
        try:
            os.write(writer, repr(seen).encode())
        finally:
            os._exit(0)

    fill(port, *(("n", number) for number in range(3)))
    eventually(lambda: len(seen) == 3)
    os.close(writer)
    with gevent.fileobject.FileObject(reader, "rb") as child:
        assert child.read() == repr([(True, 0)]).encode()
    assert seen == [(True, 0), (True, 1), (True, 2)]


def test_what_a_destructor_sends_to_the_port_whose_handler_it_was_is_handled_too() -> None:
    """race: Python runs `__del__` wherever the last reference goes."""
    port, seen = gmp.port(), []

    class Once:
        def __call__(self, *args: Any) -> None:
            seen.append(args)
            port.on("a", None)

        def __del__(self) -> None:
            send(port, "b", "a destructor")

    class Payload:
        def __del__(self) -> None:
            send(port, "b", "a message")

    port.on("a", Once())
    port.on("b", lambda *args: seen.append(args))
    fill(port, ("a", 1), ("b", Payload()))
    eventually(lambda: len(seen) >= 3)
    seen[:] = [args for args in seen if isinstance(args[0], int | str)]
    send(port, "b", "last")
    eventually(lambda: ("last",) in seen)
    turns()
    assert sorted(map(str, seen)) == ["('a destructor',)", "('a message',)", "('last',)", "(1,)"]
    assert port.alive


def test_many_messages_for_one_port_leave_others_their_turn() -> None:
    port, other, order = gmp.port(), gmp.port(), []
    port.on("n", lambda number: order.append(number))
    other.on("n", lambda number: order.append("other"))
    for number in range(1000):
        send(port, "n", number)
    send(other, "n", 0)
    eventually(lambda: len(order) == 1001)
    assert order.index("other") < 200
    assert [each for each in order if each != "other"] == list(range(1000))


def test_many_bodies_that_are_started_at_once_leave_timers_their_turn() -> None:
    started: list[int] = []
    ports = [gmp.port(lambda port, number: [started.append(number), port.receive()], number) for number in range(20_000)]
    at_timer: list[int] = []
    timer = gevent.get_hub().loop.timer(0)
    timer.start(lambda: at_timer.append(len(started)))
    eventually(lambda: bool(at_timer))
    timer.close()
    assert at_timer[0] < len(ports)
    eventually(lambda: len(started) == len(ports), timeout=20)
    assert started == list(range(len(ports)))
    for port in ports:
        port.kill()


def test_a_handler_that_will_not_end_when_its_port_is_killed_starts_no_other_meanwhile() -> None:
    """What ports are told of a death comes before what user code does next."""
    stubborn, other, watcher, log = gmp.port(), gmp.port(), gmp.port(), []
    other.on("go", lambda: log.append(len(watcher)))

    @stubborn.on("wait")
    def wait() -> None:
        try:
            gevent.event.Event().wait()
        except gevent.GreenletExit:
            send(other, "go")

    send(stubborn, "wait")
    turns()
    gmp.monitor(stubborn, watcher, "down")
    stubborn.kill()
    eventually(lambda: bool(log))
    assert log == [1]
    assert watcher.receive() == ("down",)


def test_nothing_that_was_handled_is_kept() -> None:
    class Precious:
        pass

    port, seen, gate = gmp.port(), [], gevent.event.Event()
    references: list[weakref.ref[Precious]] = []

    def message() -> Precious:
        precious = Precious()
        references.append(weakref.ref(precious))
        return precious

    def gone() -> list[bool]:
        gc.collect()
        return [reference() is None for reference in references]

    port.on("see", lambda _precious: seen.append(len(seen)))
    port.on("wait", lambda _precious: [seen.append(len(seen)), gate.wait()])
    fill(port, ("see", message()), ("see", message()), ("wait", message()))
    eventually(lambda: len(seen) == 3)
    assert gone() == [True, True, False]  # while a later one blocks
    gate.set()
    turns()
    assert gone() == [True] * 3
    fill(port, ("see", message()), ("wait", message()), ("wait", message()))
    port.kill()
    turns()
    assert gone() == [True] * 6
    task = gmp.port().spawn(seen.append, message())
    assert task.join(5)
    seen.clear()
    assert gone() == [True] * 7


def test_a_body_and_handlers_work_side_by_side() -> None:
    def body(port: gmp.Port) -> None:
        port.on("add", lambda a, b, reply: send(reply, a + b))
        assert port.receive("stop") == ()

    port = gmp.port(body)
    turns()
    assert gmp.call(port, "add", 1, 2) == (3,)
    send(port, "stop")
    turns()
    assert port.alive  # with handlers it lives on
    assert gmp.call(port, "add", 3, 4) == (7,)


# ---- context


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="fresh")


def test_current_port_is_right_in_bodies_handlers_spawned_and_nested(recorder: Recorder) -> None:
    other = gmp.port()

    def body(port: gmp.Port) -> None:
        recorder("body", gmp.current_port() is port)
        recorder("nested", other.run(gmp.current_port) is other, gmp.current_port() is port)
        port.on("h", lambda: recorder("handler", gmp.current_port() is port))
        port.spawn(lambda: (gevent.sleep(0), recorder("spawned", gmp.current_port() is port)))
        gevent.spawn(lambda: recorder("foreign", gmp.current_port() is None))
        other.wrap(lambda: recorder("wrapped", gmp.current_port() is other))()
        gevent.sleep(0.01)
        recorder("later", gmp.current_port() is port)

    port = gmp.port(body)
    turns()
    send(port, "h")
    calls = recorder.wait(7)
    assert all(all(call[1:]) for call in calls)
    assert {call[0] for call in calls} == {"body", "nested", "handler", "spawned", "foreign", "wrapped", "later"}
    assert gmp.current_port() is None


def test_the_context_is_right_after_an_exception() -> None:
    outer, inner = gmp.port(), gmp.port()

    def nested() -> bool:
        inner.run(lambda: 1 / 0)
        return gmp.current_port() is outer

    assert outer.run(nested) is True
    assert not inner.alive
    assert outer.alive
    with pytest.raises(KeyboardInterrupt):
        outer.run(_interrupt)
    assert gmp.current_port() is None


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_each_body_handler_and_callback_starts_with_a_fresh_context(recorder: Recorder) -> None:
    def use(*_: Any) -> None:
        recorder(VARIABLE.get())
        VARIABLE.set("used")

    VARIABLE.set("the test's")
    handling = gmp.port()
    handling.on("h", use)
    for _ in range(3):
        send(handling, "h")
    for _ in range(3):
        gmp.port(use)
        gmp.after(0, use)
        handling.spawn(use)
    assert recorder.wait(12) == [("fresh",)] * 12
    VARIABLE.set("fresh")


def test_run_returns_the_value_and_wrap_passes_arguments_on() -> None:
    port = gmp.port()
    assert port.run(max, 1, 5) == 5
    wrapped = port.wrap(lambda a, *, b: (a, b, gmp.current_port()))
    assert wrapped(1, b=2) == (1, 2, port)
    port.kill()
    assert wrapped(1, b=2) is None
    with pytest.raises(gmp.PortDied):
        port.run(print)


def test_own_releases_the_last_first_when_the_port_dies(recorder: Recorder) -> None:
    class Resource:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            recorder(self.name)

    port = gmp.port()
    first = port.own(Resource("first"))
    port.own(Resource("second"))
    helper = port.own(gmp.port())
    greenlet = port.own(gevent.spawn(gevent.sleep, 60))
    timer = port.own(gmp.after(0.01, recorder, "timer"))
    port.kill()
    assert recorder.wait(2) == [("second",), ("first",)]
    assert helper.join(5)
    greenlet.join(5)
    assert greenlet.dead
    assert first.name == "first"
    gevent.sleep(0.02)
    assert len(recorder.calls) == 2
    timer.cancel()
    with pytest.raises(gmp.GmpError, match="42 cannot be owned"):
        gmp.port().own(42)


def test_a_resource_that_cannot_be_released_harms_nobody(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def close(self) -> None:
            raise OSError("stuck")

    class Slow:
        def close(self) -> None:
            gevent.sleep(0.01)
            recorder("slow")

    port = gmp.port()
    port.own(Slow())
    port.own(Broken())
    gmp.monitor(port, recorder)
    port.kill("x")
    assert recorder.wait(2) == [("x",), ("slow",)]
    assert caplog.text.count("Traceback") == 1


def test_a_resource_whose_attributes_raise_harms_nobody(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    class Turned:
        def __init__(self) -> None:
            self.opened = True

        @property
        def close(self) -> Callable[[], None]:
            if self.opened:
                return lambda: None
            raise OSError("gone")

    turned, helper, port = Turned(), gmp.port(), gmp.port()
    port.own(helper)
    port.own(turned)
    gmp.monitor(port, recorder)
    turned.opened = False
    port.kill("x")
    assert recorder.wait(1) == [("x",)]
    assert port.join(10)
    assert helper.join(10)
    assert caplog.text.count("a callback failed") == 1


@pytest.mark.parametrize("woken", [False, True])
def test_a_receiver_that_ends_in_the_loop_itself_harms_nobody(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, *, woken: bool
) -> None:
    """What escapes from a raw greenlet is raised in the loop, in whatever has switched to it: the burial of its port."""
    failed: list[type[BaseException]] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _, kind, *more: failed.append(kind))
    port, watcher = gmp.port(), gmp.port()
    gmp.monitor(port, recorder)
    gmp.monitor(port, watcher)
    gevent.spawn_raw(port.receive)
    gevent.sleep(0)
    if woken:
        gmp.send(port, "too late")
    port.kill("x")
    assert recorder.wait(1) == [("x",)]
    assert port.join(10)
    assert not watcher.alive
    assert failed == [gmp.PortDied]


# ---- death


def reason_of(port: gmp.Port) -> tuple[Any, ...]:
    assert port.join(10)
    assert port.reason is not None
    return port.reason


def test_a_port_dies_with_its_body_normally_or_by_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    def fail(port: gmp.Port, text: str) -> None:
        raise LookupError(text)

    assert reason_of(gmp.port(lambda port: None)) == ()
    port = gmp.port(fail, "lost")
    kind, text, trace = reason_of(port)
    assert (kind, text) == ("die", "LookupError: lost")
    assert "raise LookupError(text)" in trace
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert records[0].levelno == logging.ERROR
    assert port.id in records[0].getMessage()


def test_a_handler_that_raises_kills_the_port_and_the_messages_behind_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    port = gmp.port()
    port.on("div", lambda a, b: a / b)
    dropped = gmp.node().stats()["dropped"]
    fill(port, ("div", 1, 1), ("div", 1, 0), ("div", 2, 1), ("other",))
    assert reason_of(port)[:2] == ("die", "ZeroDivisionError: division by zero")
    assert gmp.node().stats()["dropped"] == dropped + 2
    assert caplog.text.count("Traceback") == 1


def test_an_exception_whose_text_cannot_be_made_still_kills_the_port() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def body(port: gmp.Port) -> None:
        raise Odd

    assert reason_of(gmp.port(body))[1].startswith("Odd: ")


def test_a_port_that_kills_itself_gets_no_further_than_its_next_switch(recorder: Recorder) -> None:
    def by_sleep(port: gmp.Port) -> None:
        port.kill("sleep")
        recorder("still here")
        gevent.sleep(0)
        recorder("never")

    def by_receive(port: gmp.Port) -> None:
        port.kill("receive")
        try:
            port.receive()
        finally:
            recorder("cleaned up")
        recorder("never")

    assert reason_of(gmp.port(by_sleep)) == ("sleep",)
    assert reason_of(gmp.port(by_receive)) == ("receive",)
    handling = gmp.port()
    handling.on("end", lambda: (handling.kill("handler"), gevent.sleep(0), recorder("never")))
    send(handling, "end")
    assert reason_of(handling) == ("handler",)
    turns()
    assert recorder.calls == [("still here",), ("cleaned up",)]


@pytest.mark.parametrize(
    "how", ["receive", "receive_timeout", "iterate", "call", "join", "lock", "sleep", "handler", "spawned"]
)
def test_killing_a_port_ends_its_greenlet_wherever_it_waits(how: str, recorder: Recorder) -> None:
    other, lock = gmp.port(), gevent.lock.Semaphore(0)
    ways: dict[str, Callable[[gmp.Port], Any]] = {
        "receive": lambda port: port.receive("x"),
        "receive_timeout": lambda port: port.receive("x", timeout=60),
        "iterate": lambda port: list(port),
        "call": lambda port: gmp.call(other, "x", timeout=60),
        "join": lambda port: other.join(),
        "lock": lambda port: lock.acquire(),
        "sleep": lambda port: gevent.sleep(60),
    }

    def wait(port: gmp.Port) -> None:
        try:
            ways.get(how, ways["sleep"])(port)
        except BaseException as error:
            recorder(type(error).__name__)
            raise

    if how == "handler":
        port = gmp.port()
        port.on("go", lambda: wait(port))
        send(port, "go")
    elif how == "spawned":
        port = gmp.port()
        port.spawn(wait, port)
    else:
        port = gmp.port(wait)
    turns()
    port.kill("enough")
    assert not port.alive
    assert port.reason == ("enough",)
    assert recorder.calls == []
    assert recorder.wait() == [("GreenletExit",)]
    send(port, "dropped")
    assert len(port) == 0


def test_somebody_elses_receive_gets_port_died() -> None:
    port = gmp.port()
    waiting = gevent.spawn(outcome, port.receive)
    turns()
    port.kill("gone", 1)
    error = waiting.get(timeout=5)
    assert isinstance(error, gmp.PortDied)
    assert (error.port, error.reason) == (port.id, ("gone", 1))
    for receive in (port.receive, lambda: port.receive("x"), lambda: port.receive_if(bool)):
        with pytest.raises(gmp.PortDied):
            receive()


def test_all_greenlets_of_a_port_end_with_it(recorder: Recorder) -> None:
    def wait(*_: Any) -> None:
        try:
            gevent.sleep(60)
        finally:
            recorder("ended")

    port = gmp.port(wait)
    tasks = [port.spawn(wait) for _ in range(3)]
    port.on("go", wait)
    send(port, "go")
    turns()
    never_started = port.spawn(recorder, "never")
    port.kill()
    assert recorder.wait(5) == [("ended",)] * 5
    assert all(task.join(5) for task in [*tasks, never_started])
    assert recorder.calls == [("ended",)] * 5


def test_a_body_that_returns_ends_what_it_has_spawned(recorder: Recorder) -> None:
    started = gevent.event.Event()

    def wait() -> None:
        try:
            started.set()
            gevent.sleep(60)
        finally:
            recorder("ended")

    def body(port: gmp.Port) -> None:
        port.spawn(wait)
        started.wait(10)

    assert reason_of(gmp.port(body)) == ()
    assert recorder.wait() == [("ended",)]


def test_what_port_spawn_returns_can_be_joined_and_killed(recorder: Recorder) -> None:
    port = gmp.port()
    task = port.spawn(gevent.sleep, 60)
    assert task.join(0.01) is False
    task.kill()
    assert task.join(5) is True
    assert task.ended
    assert port.alive
    unborn = port.spawn(recorder, "never")
    unborn.kill()
    assert not unborn.ended
    assert unborn.join(5)
    assert recorder.calls == []
    failing = port.spawn(lambda: [][0])
    assert failing.join(5)
    assert port.reason is not None
    assert port.reason[1] == "IndexError: list index out of range"


def test_a_cleanup_that_blocks_after_the_death_may_finish_and_holds_nobody_up(recorder: Recorder) -> None:
    def body(port: gmp.Port) -> None:
        try:
            port.receive()
        finally:
            gevent.sleep(0.02)
            recorder("cleaned up")

    port = gmp.port(body)
    turns()
    gmp.monitor(port, recorder)
    port.kill("x")
    assert recorder.wait(2) == [("x",), ("cleaned up",)]


def test_an_error_after_the_death_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def body(port: gmp.Port) -> None:
        try:
            port.receive()
        finally:
            raise RuntimeError("late")

    port = gmp.port(body)
    turns()
    port.kill("first")
    turns()
    assert port.reason == ("first",)
    assert [record.getMessage() for record in caplog.records] == [f"port {port.id}, already dead, raised RuntimeError"]


def test_greenlet_exit_is_a_quiet_end(caplog: pytest.LogCaptureFixture, recorder: Recorder) -> None:
    def leave(*_: Any) -> None:
        raise gevent.GreenletExit

    assert reason_of(gmp.port(leave)) == ()
    port = gmp.port()
    port.on("leave", leave)
    port.on("stay", recorder)
    fill(port, ("leave",), ("stay", 1))
    assert recorder.wait() == [(1,)]
    assert port.alive
    assert caplog.records == []


def test_the_first_reason_counts_and_killing_again_does_nothing() -> None:
    port = gmp.port()
    port.kill("first")
    port.kill("second")
    gmp.kill(port, "third")
    gmp.kill(port.id, "fourth")
    assert port.reason == ("first",)
    assert port.join(0) is True


def test_join_waits_for_the_death() -> None:
    port = gmp.port(lambda port: port.receive("end"))
    assert port.join(0.01) is False
    assert port.join(0) is False
    gevent.spawn_later(0.01, send, port, "end")
    assert port.join(10) is True


def test_messages_for_dead_and_unknown_ports_are_dropped_and_counted() -> None:
    port = gmp.port()
    port_id = port.id
    fill(port, ("waiting",), ("waiting",))
    before = gmp.node().stats()["dropped"]
    port.kill()
    for dest in (port, port_id, f"{gmp.node().id}#nobody"):
        send(dest, "x")
    assert gmp.node().stats()["dropped"] == before + 5
    assert len(port) == 0


# ---- max_queue, peaks


def test_a_port_over_max_queue_dies_and_tells_how_many_waited(recorder: Recorder) -> None:
    port = gmp.port(max_queue=3)
    gmp.monitor(port, recorder)
    fill(port, *[("n", number) for number in range(3)])
    assert port.receive() == ("n", 0)
    fill(port, ("n", 3))
    assert port.alive
    fill(port, ("n", 4))
    assert port.reason == ("queue_overflow", 4)
    assert recorder.wait() == [("queue_overflow", 4)]


def test_max_queue_counts_what_waits_for_handlers_too() -> None:
    port = gmp.port(max_queue=4)
    port.on("h", gevent.sleep)
    fill(port, ("h", 0), ("m",), ("h", 0), ("m",))
    assert port.alive
    fill(port, ("m",))
    assert port.reason == ("queue_overflow", 5)
    other = gmp.port(max_queue=1)
    other.on("h", gevent.sleep)
    fill(other, ("m",), ("h", 0))
    assert other.reason == ("queue_overflow", 2)


def test_max_queue_holds_while_a_selective_receive_waits() -> None:
    port = gmp.port(max_queue=2)
    waiting = gevent.spawn(outcome, port.receive, "wanted")
    turns()
    fill(port, ("s",), ("s",))
    turns()
    assert port.alive
    fill(port, ("s",))
    assert port.reason == ("queue_overflow", 3)
    assert isinstance(waiting.get(timeout=5), gmp.PortDied)


def test_100_000_waiting_messages_are_warned_of_once_with_the_ports_name(caplog: pytest.LogCaptureFixture) -> None:
    port = gmp.port()
    for number in range(120_000):
        send(port, number)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"port {port.id} has 100000 messages waiting"]
    assert port.peak == 120_000
    who, waited = gmp.node().stats()["peak"]
    assert who == port.id
    assert 65_536 <= waited <= 120_000
    for number in range(120_000):
        assert port.receive() == (number,)
    assert port.peak >= 60_000


# ---- identity


def test_a_port_stands_for_its_id() -> None:
    port, other = gmp.port(), gmp.port()
    assert port.id == str(port) == f"{gmp.node().id}#{port.name}"
    assert port == port.id
    assert port.id == port
    assert {port.id: 1}[port] == 1  # type: ignore[index]
    assert {port: 1}[port.id] == 1  # type: ignore[index]
    assert port != other
    assert port != 3
    assert bool(port)
    assert gmp.node_of(port) == gmp.node_of(port.id) == gmp.node().id == port.node.id
    assert "dead" not in repr(port)
    port.kill()
    assert "dead" in repr(port)


def test_names_are_never_reused() -> None:
    ids = set()
    for _ in range(1000):
        port = gmp.port()
        ids.add(port.id)
        port.kill()
    assert len(ids) == 1000


def test_port_is_a_decorator() -> None:
    @gmp.port
    def echo(port: gmp.Port) -> None:
        for text, reply in port:
            send(reply, text)

    assert gmp.call(echo, "x") == ("x",)


# ---- misuse


@pytest.mark.parametrize("bad", [5, None, ("a", "b"), [], {}, 1.5])
def test_what_is_no_port_id_is_told_at_the_callers_line(bad: Any) -> None:
    for function in (
        lambda: send(bad, "x"),
        lambda: gmp.call(bad, "x"),
        lambda: gmp.kill(bad),
        lambda: gmp.monitor(bad, print),
        lambda: gmp.node_of(bad),
        lambda: gmp.link(bad, bad),
    ):
        with pytest.raises(gmp.GmpError, match="expected"):
            function()


@pytest.mark.parametrize("bad", ["", "#name", "no;de#x", "no\nde#x"])
def test_a_port_id_without_a_usable_node_id_is_told(bad: str) -> None:
    for function in (lambda: send(bad, "x"), lambda: gmp.monitor(bad, print), lambda: gmp.after(0, bad)):
        with pytest.raises(gmp.ConfigError, match="is not a port ID"):
            function()


@pytest.mark.parametrize("bad", ["", "a#b", " ", "ü", "-x"])
def test_a_node_id_that_cannot_be_is_told(bad: str) -> None:
    if bad:
        with pytest.raises(gmp.ConfigError, match="expected 1 to 255 letters"):
            gmp.Node(bad, binds=[])
    if "#" in bad or not bad:
        with pytest.raises(gmp.GmpError, match="is not a node ID"):
            gmp.spawn(bad, "a:b")


def test_sending_elsewhere_before_configure_says_what_to_do() -> None:
    for function in (
        lambda: send("elsewhere#port", "x"),
        lambda: gmp.monitor("elsewhere#port", print),
        lambda: gmp.call("elsewhere#port", "x"),
        lambda: gmp.kill("elsewhere#port"),
    ):
        with pytest.raises(gmp.ConfigError, match=r"call gmp\.configure first"):
            function()


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda port: gmp.port(3), "3 cannot be a port's body"),
        (lambda port: gmp.port(max_queue=0), "max_queue 0: expected a whole number"),
        (lambda port: gmp.port(max_queue=True), "max_queue True"),
        (lambda port: port.on([], print), r"\[\] cannot be a tag"),
        (lambda port: port.on("a", 3), "3 cannot be a handler"),
        (lambda port: port.on("a")(3), "3 cannot be a handler"),
        (lambda port: port.spawn(3), "3 cannot be run"),
        (lambda port: gmp.kill("node"), "only ports can be killed"),
        (lambda port: gmp.monitor(port, 3), "expected a callback"),
        (lambda port: gmp.monitor(port, print, "message"), "expected a callback, or a port"),
        (lambda port: gmp.monitor(port), "there is none here"),
        (lambda port: gmp.monitor(port, gmp.node().id + "#none"), "no live port of this node"),
        (lambda port: gmp.after(-1, print), "after -1 seconds"),
        (lambda port: gmp.after("1", print), "after '1' seconds"),
        (lambda port: gmp.after(float("nan"), print), "after nan seconds"),
        (lambda port: gmp.after(1, 3), "3 is neither a callback nor a port"),
    ],
)
def test_misuse_gets_a_clear_error(misuse: Callable[[gmp.Port], Any], message: str) -> None:
    with pytest.raises(gmp.GmpError, match=message):
        misuse(gmp.port())


def test_a_dead_port_refuses_new_work() -> None:
    port = gmp.port()
    port.kill("gone")
    for function in (
        lambda: port.on("a", print),
        lambda: port.spawn(print),
        lambda: port.run(print),
        lambda: port.own(gmp.port()),
        port.receive,
    ):
        with pytest.raises(gmp.PortDied, match="gone"):
            function()


def test_another_native_thread_is_told_and_does_no_harm() -> None:
    port, errors = gmp.port(), []
    node = gmp.node()
    functions: list[Callable[[], Any]] = [
        lambda: send(port, "x"),
        lambda: send(port.id, "x"),
        lambda: node.send(port, "x"),
        lambda: node.try_send(port, "x"),
        lambda: gmp.call(port, "x"),
        lambda: gmp.kill(port),
        port.kill,
        port.receive,
        lambda: next(iter(port)),
        lambda: port.on("a", print),
        lambda: port.spawn(print),
        lambda: port.run(print),
        lambda: port.own(port),
        port.join,
        gmp.port,
        lambda: gmp.monitor(port, print),
        lambda: gmp.after(0, print),
        lambda: gmp.spawn(node.id, "a:b"),
        lambda: gmp.supervise([]),
        lambda: gmp.group("g"),
        node.close,
    ]

    def try_all() -> None:
        for function in functions:
            try:
                function()
            except gmp.GmpError as error:
                errors.append(str(error))

    gevent.get_hub().threadpool.apply(try_all)
    assert len(errors) == len(functions)
    assert all("another native thread" in text for text in errors)
    assert port.alive
    assert len(port) == 0
    assert threading.current_thread() is threading.main_thread()


# ---- after


def test_after_calls_back_with_arguments_in_a_greenlet_of_its_own(recorder: Recorder) -> None:
    def callback(*args: Any) -> None:
        gevent.sleep(0)  # it may block
        recorder(*args)

    gmp.after(0.01, callback, 1, 2)
    gmp.after(0, recorder, "first")
    assert recorder.wait(2) == [("first",), (1, 2)]


def test_after_sends_messages_also_by_id_and_to_nobody() -> None:
    port = gmp.port()
    gmp.after(0, port, "tick", 1)
    gmp.after(0, port.id, "tick", 2)
    gmp.after(0, gmp.node().id + "#nobody", "tick")
    assert [port.receive(timeout=5), port.receive(timeout=5)] == [("tick", 1), ("tick", 2)]


def test_a_cancelled_timer_does_nothing_and_cancelling_again_neither(recorder: Recorder) -> None:
    timer = gmp.after(0.01, recorder)
    timer.cancel()
    timer.cancel()
    with gmp.after(0.01, recorder):
        pass
    done = gmp.after(0, recorder, "only this")
    recorder.wait()
    done.cancel()
    gevent.sleep(0.02)
    assert recorder.calls == [("only this",)]


def test_a_timer_that_outlives_its_node_is_silent(recorder: Recorder) -> None:
    with gmp.Node("brief", binds=[], secret="x") as node:
        port = node.port()
        node.after(0.01, port, "x")
        node.after(0.01, recorder)
    gevent.sleep(0.02)
    assert len(port) == 0
    assert recorder.calls == []


def test_a_receiver_that_waits_sees_everything_that_comes_after_handlers_took_some_of_what_it_had_passed_over() -> None:
    """race: it has looked at those, and there are fewer messages now than it had looked at."""
    port = gmp.port()
    for number in range(5):
        gmp.send(port, "noise", number)
    received = gevent.spawn(port.receive, "wanted", timeout=20)
    gevent.sleep(0)
    seen = []
    port.on("noise", seen.append)
    gmp.send(port, "other")
    gmp.send(port, "wanted", 1)
    assert received.get(timeout=20) == (1,)
    assert seen == [0, 1, 2, 3, 4]
    assert port.receive(timeout=0) == ("other",)


def test_a_predicate_may_set_a_handler_that_takes_what_it_is_being_asked_about() -> None:
    port = gmp.port()
    for number in range(4):
        gmp.send(port, "ab"[number % 2], number)
    seen = []

    def ask(tag: str, number: int) -> bool:
        port.on("a", seen.append)
        return number == 3

    assert port.receive_if(ask, timeout=0) == ("b", 3)
    gevent.sleep(0)
    assert (seen, port.receive(timeout=0), len(port)) == ([0, 2], ("b", 1), 0)


def test_max_queue_counts_a_message_once_that_a_handler_takes_from_the_mailbox() -> None:
    port = gmp.port(max_queue=4)
    for number in range(4):
        gmp.send(port, "a", number)
    port.on("a", lambda number: None)
    assert port.alive
    gmp.send(port, "b")
    assert port.reason == ("queue_overflow", 5)


def test_the_default_handler_takes_everything_that_waits_whole() -> None:
    port = gmp.port()
    for message in ((), ("a", 1), ([], 2)):
        gmp.send(port, *message)
    seen = []
    port.on("a", lambda number: seen.append(number))
    port.on(None, lambda *message: seen.append(message))
    gevent.sleep(0)
    assert seen == [(), 1, ([], 2)]


def test_a_pickled_port_is_its_id_and_a_copied_one_is_itself() -> None:
    port = gmp.port()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(("to", port), protocol)) == ("to", port.id)
        assert type(pickle.loads(pickle.dumps(port, protocol))) is str
    assert copy.copy(port) is port
    assert copy.deepcopy({"port": [port]})["port"][0] is port
    recording = gmp.port(max_history=3)
    assert pickle.loads(pickle.dumps(recording)) == recording.id


class NoException(BaseException):
    """As some libraries have."""


@pytest.mark.parametrize("error", [gevent.Timeout(5), NoException("odd")], ids=["gevent.Timeout", "BaseException"])
@pytest.mark.parametrize("how", ["body", "handler", "spawn"])
def test_what_is_no_exception_and_escapes_is_logged_once_with_the_ports_name(
    error: BaseException, how: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise error

    port = gmp.port(fail) if how == "body" else gmp.port()
    if how == "handler":
        port.on("go", fail)
        gmp.send(port, "go")
    elif how == "spawn":
        port.spawn(fail)
    assert port.join(20)
    assert port.reason[:2] == ("die", f"{type(error).__name__}: {error}")
    assert [record.getMessage() for record in caplog.records] == [f"port {port.id} died of {type(error).__name__}"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_timeout_that_escapes_from_a_callback_is_logged_once(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    done = gevent.event.Event()

    def fail() -> None:
        done.set()
        raise gevent.Timeout(5)

    gmp.after(0, fail)
    assert done.wait(20)
    gevent.sleep(0)
    assert len(caplog.records) == 1
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt, gevent.GreenletExit])
def test_a_port_dies_of_an_error_whose_text_cannot_be_made(raised: type[BaseException]) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise raised

    def fail(_: Any) -> None:
        raise Odd

    port = gmp.port(fail)
    assert port.join(20)
    assert port.reason[:2] == ("die", f"Odd: <its text cannot be made: {raised.__name__}>")


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="its tracing leaves out jumps back")
def test_a_worker_whose_jobs_others_have_run_between_two_of_its_own_parks(
    make_node: Callable[..., gmp.Node], caplog: pytest.LogCaptureFixture
) -> None:
    """race: a signal handler waits where the loop goes back, and other greenlets run the rest."""
    node = make_node("node", seeds=[])
    workers = node._core.ports.workers
    handled: list[int] = []
    ports = [node.port() for _ in range(3)]
    for port in ports:
        port.on("number", handled.append)

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code is not Workers._run_jobs.__code__:
            return None
        frame.f_trace_opcodes = True
        code = frame.f_code
        if event == "opcode" and opcode.opname[code.co_code[frame.f_lasti]].startswith("JUMP_BACKWARD") and handled == [0]:
            others = [*workers.jobs]
            workers.jobs.clear()
            handled.append(-1)
            for job in others:
                gevent.get_hub().loop.run_callback(workers.add, job)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for number, port in enumerate(ports):
            node.send(port, "number", number)
        gevent.sleep(0.01)
    finally:
        sys.settrace(before)
    eventually(lambda: len(handled) == 4)
    assert handled == [0, -1, 1, 2]
    assert not caplog.records


class Element:
    """An element of a message that can be asked whether somebody keeps it."""


class CarryingTracer:
    """Gives each message a carrier, and does nothing else."""

    def sending(self, _dest: str, _message: tuple[Any, ...]) -> dict[str, str]:
        return {"trace": "1"}

    def received(self, *_of: Any) -> None:
        pass

    def calling(self, *_of: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    handling = calling


def iterate(port: gmp.Port) -> None:
    for message in port:
        del message


def receive(port: gmp.Port) -> None:
    while True:
        port.receive()


def receive_the_tagged(port: gmp.Port) -> None:
    while True:
        port.receive("tag", timeout=60)


def receive_what_is_asked_about(port: gmp.Port) -> None:
    while True:
        port.receive_if(lambda *_: True)


def handle(port: gmp.Port) -> None:
    port.on("tag", lambda _: None)
    outcome(port.receive, "nothing")


@pytest.mark.parametrize("traced", [False, True], ids=["", "traced"])
@pytest.mark.parametrize("body", [iterate, receive, receive_the_tagged, receive_what_is_asked_about, handle])
def test_a_message_that_the_program_let_go_of_is_not_kept_until_the_next_one(
    make_node: Callable[..., gmp.Node], body: Callable[[gmp.Port], None], traced: bool
) -> None:
    node = make_node("node")
    if traced:
        node.trace_messages(CarryingTracer())
    port = node.port()
    receiver = gevent.spawn(outcome, body, port)
    for count in (1, 2, 1):  # one wakes the receiver, the other has come before it runs
        elements = [Element() for _ in range(count)]
        kept = weakref.WeakSet(elements)
        for element in elements:
            node.send(port, "tag", element)
        del element, elements
        eventually(partial(operator.not_, kept), timeout=5)
        assert not receiver.ready()
    port.kill()
    receiver.join()
