"""Calls within one process: reply, timeout, death of the target and of the caller, late replies."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import pytest
from greenlet import greenlet

import gmp
from gmp import send
from gmp.kernel.calls import Call

from .conftest import Recorder, eventually


def turns(count: int = 5) -> None:
    """Let the loop turn, and everything begin that waits for that: each turn has its time only, on a busy machine too."""
    for _ in range(count):
        gevent.sleep(0)
    ports = gmp.node()._core.ports
    for _ in range(1000):
        if ports.workers.jobs or ports.wakeups.pending:
            gevent.sleep(0)


@pytest.fixture
def echo() -> gmp.Port:
    port = gmp.port()
    port.on(None, lambda *message: send(message[-1], *message[:-1]))
    return port


def caught(function: Any, *args: Any, **keywords: Any) -> Any:
    try:
        return function(*args, **keywords)
    except gmp.GmpError as error:
        return error


def test_a_call_returns_the_reply_as_a_tuple_also_an_empty_one(echo: gmp.Port) -> None:
    assert gmp.call(echo, "a", 1, {"k": [2]}) == ("a", 1, {"k": [2]})
    assert gmp.call(echo.id, "a") == ("a",)
    assert gmp.call(echo) == ()


def test_calls_of_many_greenlets_each_get_their_own_reply() -> None:
    slow = gmp.port()

    @slow.on("square")
    def square(number: int, reply: str) -> None:
        slow.spawn(lambda: (gevent.sleep(0.001 * (number % 7)), send(reply, number * number)))

    calls = [gevent.spawn(gmp.call, slow, "square", number) for number in range(200)]
    assert [call.get(timeout=20) for call in calls] == [(number * number,) for number in range(200)]


def test_the_node_port_answers_calls() -> None:
    assert gmp.call(gmp.node().id, "time")[0] > 0


def test_time_is_up(echo: gmp.Port) -> None:
    silent = gmp.port()
    with pytest.raises(gmp.CallTimeout, match=f"no reply from {silent.id} within 0.02 s") as error:
        gmp.call(silent, "x", timeout=0.02)
    assert isinstance(error.value, TimeoutError)
    with pytest.raises(gmp.CallTimeout):
        gmp.call(silent, "x", timeout=0)
    assert len(silent) == 2


def test_timeouts_work_where_nothing_else_keeps_the_loop_busy() -> None:
    program = (
        "import gmp\n"
        "port = gmp.port()\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        gmp.call(port, 'x', timeout=0.1)\n"
        "    except gmp.CallTimeout:\n"
        "        print('timed out')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "timed out\ntimed out\n", done.stderr


def test_a_late_reply_is_dropped_without_a_trace() -> None:
    silent, before = gmp.port(), len(gmp.node()._core.ports.by_name)
    with pytest.raises(gmp.CallTimeout):
        gmp.call(silent, "x", timeout=0)
    _, reply = silent.receive()
    dropped = gmp.node().stats()["dropped"]
    send(reply, "late")
    turns()
    assert gmp.node().stats()["dropped"] == dropped + 1
    assert len(gmp.node()._core.ports.by_name) == before
    assert len(silent) == 0


def test_a_second_reply_is_dropped() -> None:
    twice = gmp.port()
    twice.on("x", lambda reply: (send(reply, 1), send(reply, 2)))
    assert [gmp.call(twice, "x") for _ in range(3)] == [(1,)] * 3


def test_the_targets_death_is_seen_at_once_with_its_reason() -> None:
    silent = gmp.port()
    calls = [gevent.spawn(caught, gmp.call, silent, "x", timeout=None) for _ in range(10)]
    turns()
    silent.kill("gone", 1)
    for call in calls:
        error = call.get(timeout=5)
        assert isinstance(error, gmp.PortDied)
        assert (error.port, error.reason) == (silent.id, ("gone", 1))


def test_a_target_that_is_dead_or_was_never_there_is_told() -> None:
    dead = gmp.port()
    dead.kill("before")
    with pytest.raises(gmp.PortDied, match="before"):
        gmp.call(dead, "x")
    nobody = f"{gmp.node().id}#nobody"
    for _ in range(2):
        with pytest.raises(gmp.PortDied, match="no_such_port"):
            gmp.call(nobody, "x")


class Untold:
    """A tracer that does nothing."""

    def calling(self, _port_id: str, _message: Any) -> Any:
        return contextlib.nullcontext()

    def sending(self, _port_id: str, _message: Any) -> None:
        return None


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("by", [lambda *call: gmp.call(*call), lambda *call: gmp.node().call(*call)], ids=["gmp", "node"])
def test_what_cannot_be_called_is_refused_by_each_way_of_calling(
    echo: gmp.Port, recorder: Recorder, by: Callable[..., Any], traced: bool
) -> None:
    gmp.node().trace_messages(Untold() if traced else None)  # type: ignore[arg-type]
    try:
        dead, other = gmp.port(), gmp.port()
        dead.kill("before")
        assert by(echo, "x") == by(echo.id, "x") == ("x",)
        for wrong in (5, None, [echo.id], ""):
            with pytest.raises(gmp.ConfigError, match="is not a port"):
                by(wrong, "x")
        with pytest.raises(gmp.PortDied, match="before"):
            by(dead, "x")
        called, new = echo.id, other.id
        for target in (called, new, echo, other):
            gevent.get_hub().loop.run_callback(lambda target=target: recorder(caught(by, target, "x")))
        refusals = [str(error) for (error,) in recorder.wait(4)]
        refused = "call to {} in the hub: a callback of the event loop must not block"
        assert refusals == [refused.format(port_id) for port_id in (called, new, called, new)]
        assert gmp.node()._core.calls.targets.keys() == {called}
    finally:
        gmp.node().trace_messages(None)


def test_a_target_that_replies_and_dies_has_replied() -> None:
    """race: a reply and a death come in the same turn."""

    def body(port: gmp.Port) -> None:
        _, reply = port.receive()
        send(reply, "last words")

    for _ in range(20):
        assert gmp.call(gmp.port(body), "x") == ("last words",)


def test_a_handler_that_fails_fails_the_call() -> None:
    port = gmp.port()
    port.on("x", lambda reply: 1 / 0)
    with pytest.raises(gmp.PortDied, match="ZeroDivisionError"):
        gmp.call(port, "x")


def test_a_caller_that_dies_leaves_nothing_and_is_not_woken_by_the_reply(recorder: Recorder) -> None:
    """race: the caller is killed when its wake-up is on its way."""
    silent = gmp.port()

    def body(port: gmp.Port) -> None:
        try:
            gmp.call(silent, "x", timeout=60)
        finally:
            gevent.sleep(0.02)
            recorder("through")

    before = len(gmp.node()._core.ports.by_name)
    caller = gmp.port(body)
    _, reply = silent.receive(timeout=5)
    caller.kill()
    send(reply, "too late")  # before the caller's greenlet is ended
    turns()
    assert recorder.calls == []
    assert recorder.wait() == [("through",)]
    assert len(gmp.node()._core.ports.by_name) == before
    gc.collect()
    assert not [call for call in gc.get_objects() if isinstance(call, Call)]


def test_a_gevent_timeout_around_a_call_ends_it_cleanly(echo: gmp.Port) -> None:
    silent = gmp.port()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        gmp.call(silent, "x")
    assert gmp.call(echo, "fine") == ("fine",)


def test_killing_a_reply_port_fails_the_call() -> None:
    silent = gmp.port()
    call = gevent.spawn(caught, gmp.call, silent, "x")
    _, reply = silent.receive(timeout=5)
    gmp.kill(reply, "unwanted")
    error = call.get(timeout=5)
    assert isinstance(error, gmp.PortDied)
    assert error.reason == ("unwanted",)


def test_monitors_of_a_target_are_shared_and_go_with_it(echo: gmp.Port) -> None:
    calls = [gevent.spawn(gmp.call, echo, number) for number in range(100)]
    gevent.joinall(calls, raise_error=True)
    ties = echo._ties
    assert ties is not None
    assert len(ties.monitors) == 1
    echo.kill()
    turns()
    assert gmp.node()._core.calls.targets == {}


def test_calls_end_when_the_node_closes(recorder: Recorder) -> None:
    with gmp.Node("brief", binds=[], secret="x") as node:
        silent = node.port()
        call = gevent.spawn(caught, node.call, silent, "x", timeout=None)
        turns()
    assert isinstance(call.get(timeout=5), gmp.PortDied)
    with pytest.raises(gmp.GmpError, match="closed"):
        node.call(silent, "x")


def test_a_call_in_a_callback_of_a_monitor_is_fine(echo: gmp.Port, recorder: Recorder) -> None:
    target = gmp.port()
    gmp.monitor(target, lambda *reason: recorder(gmp.call(echo, *reason)))
    target.kill("x")
    assert recorder.wait() == [(("x",),)]


def test_a_reply_wins_over_nothing_but_never_comes_twice() -> None:
    """race: a reply and the timeout come in the same turn."""
    outcomes = set()
    for delay in range(20):
        port = gmp.port()
        port.on("x", lambda reply, delay=delay: (gevent.sleep(0.04 + 0.001 * delay), send(reply, "in time")))
        outcome = caught(gmp.call, port, "x", timeout=0.05)
        outcomes.add(type(outcome))
        assert outcome == ("in time",) or isinstance(outcome, gmp.CallTimeout)
        eventually(lambda port=port: len(port) == 0)
        port.kill()
    assert outcomes <= {tuple, gmp.CallTimeout}


def test_each_turn_wakes_all_callers_by_one_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one who was woken is answered at once, or answers another caller: nothing piles up in the loop."""
    wakes: list[None] = []
    wakeups = gmp.node()._core.ports.wakeups
    run_callback = wakeups.run_callback

    def note(callback: Callable[[], Any]) -> Any:
        wakes.append(None)
        return run_callback(callback)

    monkeypatch.setattr(wakeups, "run_callback", note)
    for _ in range(100):
        gmp.call(gmp.node().id, "time")
        assert len(gmp.node()._core.ports.wakeups.pending) <= 1
    assert len(wakes) <= 100


def test_a_caller_that_ends_with_an_error_keeps_no_other_one_from_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain greenlet's error goes to its parent, the hub, in the middle of waking the callers of this turn."""
    port, replies, failed = gmp.port(), list[tuple[Any, ...]](), list[Any]()
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _, kind, *more: failed.append(kind))

    def caller(number: int) -> None:
        replies.append(gmp.call(port, number))
        if number % 3 == 0:
            raise ZeroDivisionError

    hub = gevent.get_hub()
    for number in range(10):
        hub.loop.run_callback(greenlet(caller, hub).switch, number)
    for number, reply in [port.receive(timeout=20) for _ in range(10)]:
        send(reply, "reply", number)
    eventually(lambda: len(replies) == 10 and len(failed) == 4)
    assert replies == [("reply", number) for number in range(10)]
    assert failed == [ZeroDivisionError] * 4


@pytest.mark.parametrize("default", [False, True])
def test_a_handler_that_calls_its_own_port_is_told_at_once(default: bool) -> None:
    port = gmp.port()
    port.on("inner", lambda reply: gmp.send(reply, 1))

    def outer(*_: Any) -> None:
        gmp.call(port, "inner", timeout=None)

    port.on(None if default else "outer", outer)
    gmp.send(port, "outer")
    assert port.join(20)
    assert port.reason[0] == "die"
    assert f"a handler of {port.id} calls its own port" in port.reason[1]


def test_a_port_may_call_itself_where_somebody_can_answer() -> None:
    port = gmp.port()
    port.on("inner", lambda reply: gmp.send(reply, 1))

    @port.on("spawns")
    def spawns(reply: str) -> None:
        port.spawn(lambda: gmp.send(reply, *gmp.call(port, "inner", timeout=20)))

    @port.on("asks")
    def asks(reply: str) -> None:
        gmp.send(reply, *gmp.call(port, "for the mailbox", timeout=20))

    def body(own: gmp.Port, reply: str) -> None:
        own.on("inner", lambda reply: gmp.send(reply, 3))
        gmp.send(reply, *gmp.call(own, "inner", timeout=20))

    assert gmp.call(port, "spawns", timeout=20) == (1,)
    asking = gevent.spawn(gmp.call, port, "asks", timeout=20)
    (reply,) = port.receive("for the mailbox", timeout=20)
    gmp.send(reply, 2)
    assert asking.get(timeout=20) == (2,)
    here = gmp.port()
    gmp.port(body, here)
    assert here.receive(timeout=20) == (3,)
