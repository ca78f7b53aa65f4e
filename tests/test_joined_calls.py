"""Requests that join a batch by themselves: the same bytes as by other ways, and what may come between, which is struck at
each point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult
from greenlet import greenlet
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gmp
from gmp.net.connection import Connection
from gmp.net.reasons import CloseReason
from gmp.wire.batches import LONGEST_ROW

from .certificates import self_signed
from .conftest import eventually
from .strikes import Striker, interrupt, strike_each, struck
from .test_every_send import BIG, VALUES, MakeNode, Sent, Wire

TLS = self_signed("shared")


def in_one_step(function: Callable[[], Any]) -> Any:
    """What `function` returns in a callback of the loop, in which nothing else runs."""
    result: AsyncResult[Any] = AsyncResult()

    def run() -> None:
        try:
            result.set(function())
        except BaseException as error:
            result.set_exception(error)

    gevent.get_hub().loop.run_callback(run)
    return result.get(timeout=20)


class Caller:
    """A greenlet that calls; to be begun in the hub, to which it comes back as soon as the call waits."""

    def __init__(self, node: gmp.Node, port_id: str, *message: Any, name: str | None = None, timeout: float = 20) -> None:
        self.node, self.args = node, (port_id, message, timeout, name)
        self.outcome: Any = None
        self._greenlet = greenlet(self._run, gevent.get_hub())

    def begin(self) -> None:
        """Send the request."""
        self._greenlet.switch()

    def throw(self, error: type[BaseException]) -> None:
        """End the greenlet."""
        self._greenlet.throw(error)

    def _run(self) -> None:
        try:
            self.outcome = self.node._core.call(*self.args)
        except BaseException as error:
            self.outcome = error


class Pair:
    """A node that calls a port of another one, which keeps what came and replies."""

    def __init__(self, far: gmp.Node, near: gmp.Node) -> None:
        self.far, self.near = far, near
        near.wait_up("far", timeout=20)
        self.came: list[Any] = []
        self.replies = True
        self.port = far.port()
        self.port.on(None, self._handle)
        self.port_id = self.port.id
        self.other_id = far.port().id
        self.tables = len(near._core.ports.by_name)
        self.call("first")

    def _handle(self, *message: Any) -> None:
        self.came.append(message[0])
        if self.replies and len(message) > 1:
            self.far.send(message[-1], *message[:-1])

    @property
    def connection(self) -> Connection:
        """That of the near node."""
        connection = self.near._core.network.peers["far"].connection
        assert isinstance(connection, Connection)
        return connection

    def call(self, *message: Any) -> Any:
        """A call by itself."""
        return self.near.call(self.port_id, *message, timeout=20)

    def caller(self, *message: Any, **more: Any) -> Caller:
        """A greenlet that will call."""
        return Caller(self.near, self.port_id, *message, **more)

    def open_batch(self) -> None:
        """Let there be a batch that calls know and can join, until this callback of the loop is over."""
        for _ in range(3):
            self.near.send(self.port_id, "before")
        caller = self.caller("knows the batch")
        caller.begin()
        batch = self.connection.batch
        assert batch is not None
        assert self.near._core.calls.targets[self.port_id].batch is batch

    def is_clean(self) -> bool:
        """Whether no call is left in any table."""
        return not self.near._core.calls._waiting and len(self.near._core.ports.by_name) == self.tables


@pytest.fixture(params=["plain", "TLS"])
def pair(make_node: MakeNode, request: pytest.FixtureRequest) -> Pair:
    secured: dict[str, Any] = {"secret": None, "cert": TLS} if request.param == "TLS" else {}
    far = make_node("far", **secured)
    return Pair(far, make_node("near", binds=[], seeds=far.binds, **secured))


def test_requests_of_callers_in_a_row_are_one_batch_and_all_are_answered_and_counted(pair: Pair) -> None:
    eventually(pair.is_clean)
    messages = [(number, "x" * (number % 100)) for number in range(300)]
    callers = [pair.caller(*message) for message in messages]
    before = pair.near.stats()["peers"]["far"]
    in_one_step(lambda: [caller.begin() for caller in callers])
    eventually(lambda: all(caller.outcome for caller in callers))
    assert [caller.outcome for caller in callers] == messages
    assert pair.came[1:] == [number for number, _ in messages]
    after = pair.near.stats()["peers"]["far"]
    assert after["sent_messages"] - before["sent_messages"] == 300
    assert pair.is_clean()


def test_requests_are_the_same_bytes_whether_they_join_a_batch_by_themselves_or_not(pair: Pair) -> None:
    """Only plain: encrypted ones never are."""
    if pair.connection.tls is not None:
        return
    near, calls = pair.near, pair.near._core.calls
    ports = {"a": pair.port_id, "b": pair.other_id}
    with pytest.raises(gmp.CallTimeout):
        near.call(pair.other_id, timeout=0)  # from now on it is monitored

    def ask(joins: bool, messages: Sent) -> tuple[bytes, list[bool]]:
        """The bytes on the wire, and which were refused."""
        calls.send_by(near._core.routes.send_soon, joins)
        connection = pair.connection
        eventually(lambda: connection._flush_at == 0 and connection.queued == 0)
        eventually(lambda: connection._loop.iteration != connection._turn)
        callers = [
            Caller(near, ports[letter], *message, name=f"{near._core.incarnation}{1000 + index}.")
            for index, (letter, message) in enumerate(messages)
        ]

        def all_in_one() -> bytes:
            connection._budget = 1 << 30
            sock, wire = connection.sock, Wire()
            connection.sock = wire  # type: ignore[assignment]
            try:
                for caller in callers:
                    caller.begin()
                connection.flush()
            finally:
                connection.sock = sock
            return wire.taken

        taken = in_one_step(all_in_one)
        refused = [isinstance(caller.outcome, gmp.MessageError) for caller in callers]
        for caller in callers:
            if caller.outcome is None:
                in_one_step(partial(caller.throw, gevent.GreenletExit))
        assert pair.is_clean()
        return taken, refused

    @settings(deadline=None, max_examples=50)
    @example([("a", ("tag", number)) for number in range(60)])
    @example([("a", ("octets", b"x" * 5000)) for _ in range(5)])
    @example([("a", (BIG,)) for _ in range(40)])
    @example([("a", (b"x" * LONGEST_ROW,)), ("a", ("x",)), ("b", ()), ("a", (BIG * 20,)), ("a", ()), ("a", ())])
    @example([("a", ("x",)), ("a", ("x",)), ("a", (object(),)), ("a", ("x",)), ("a", ([object()],)), ("a", ("x",))])
    @example([("a", ([[]] * 9,)), ("a", ("é" * 40,)), ("a", ([[], "é" * 40],)), ("a", ([[]] * 90,)), ("a", (1 << 90,))])
    @given(st.lists(st.tuples(st.sampled_from("aab"), st.lists(VALUES, max_size=3).map(tuple)), min_size=1, max_size=25))
    def compare(messages: Sent) -> None:
        assert ask(True, messages) == ask(False, messages)

    compare()
    alone, together = (len(ask(True, [("a", ("tag",))] * count)[0]) for count in (1, 50))
    assert together < 50 * alone * 3 / 4  # or the comparison is one of requests that all go by themselves


@pytest.mark.parametrize("nested", [100, 64])
def test_what_cannot_travel_raises_in_its_caller_and_leaves_nothing_behind(pair: Pair, nested: int) -> None:
    deep: Any = "deep"
    for _ in range(nested):
        deep = [deep]
    callers = [pair.caller(*message) for message in [("one",), (object(),), ("two",), (deep,), ("three",)]]
    in_one_step(lambda: (pair.open_batch(), [caller.begin() for caller in callers]))
    eventually(lambda: all(caller.outcome for caller in callers))
    kinds = [type(caller.outcome) for caller in callers]
    assert kinds == [tuple, gmp.MessageError, tuple, gmp.MessageError, tuple]
    assert pair.came[-3:] == ["one", "two", "three"]
    eventually(pair.is_clean)


def test_a_caller_that_is_killed_leaves_nothing_behind_and_its_request_is_sent(pair: Pair) -> None:
    callers = [pair.caller(number) for number in range(5)]

    def scene() -> None:
        pair.open_batch()
        for caller in callers:
            caller.begin()
        callers[2].throw(gevent.GreenletExit)

    in_one_step(scene)
    eventually(lambda: all(caller.outcome is not None for caller in callers))
    assert [caller.outcome for caller in callers if caller is not callers[2]] == [(0,), (1,), (3,), (4,)]
    assert isinstance(callers[2].outcome, gevent.GreenletExit)
    assert pair.came[-5:] == [0, 1, 2, 3, 4]
    eventually(pair.is_clean)


def test_requests_wait_in_order_while_the_connection_is_full_and_their_callers_time_out(pair: Pair) -> None:
    """A call waits for its reply and not for room, however full the connection is."""
    assert pair.far._core.network.peers["near"].connection is not None
    reader = pair.far._core.network.peers["near"].connection
    reader.pause()  # type: ignore[attr-defined]
    while pair.near.try_send(pair.other_id, b"x" * 20_000):
        pass
    callers = [pair.caller(number, timeout=0.1) for number in range(2000)]
    in_one_step(lambda: [caller.begin() for caller in callers])
    eventually(lambda: all(caller.outcome is not None for caller in callers))
    assert {type(caller.outcome) for caller in callers} == {gmp.CallTimeout}
    assert pair.is_clean()
    assert pair.near._core.network.peers["far"].congested
    last = pair.caller("last")
    in_one_step(last.begin)
    reader._read_on()  # type: ignore[attr-defined]
    eventually(lambda: last.outcome)
    assert pair.came[1:] == [*range(2000), "last"]
    assert last.outcome == ("last",)


def test_a_lost_connection_fails_the_calls_in_its_batch_and_the_next_ones_go_over_the_next(pair: Pair) -> None:
    callers = [pair.caller(number) for number in range(10)]

    def scene() -> None:
        pair.open_batch()
        for caller in callers[:5]:
            caller.begin()
        pair.connection.close(CloseReason.RESET)
        for caller in callers[5:]:
            caller.begin()

    in_one_step(scene)
    eventually(lambda: all(caller.outcome is not None for caller in callers))
    assert {type(caller.outcome) for caller in callers} == {gmp.PortDied}
    assert pair.is_clean()
    pair.near.wait_up("far", timeout=20)
    assert pair.call("again") == ("again",)
    assert [name for name in pair.came if name != "before"] == ["first", "again"]  # what was written at once may come


class Noting:
    """A tracer that notes which messages it was asked about."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def calling(self, _port_id: str, _message: Any) -> Any:
        return gevent.Timeout(20)  # something for a ``with``

    def sending(self, _port_id: str, message: Any) -> None:
        self.sent.append(message[0])


def test_who_watches_what_is_sent_sees_each_request_from_then_on(pair: Pair) -> None:
    told: list[Any] = []
    tracer = Noting()
    core = pair.near._core
    callers = [pair.caller(number) for number in range(40)]

    def scene() -> None:
        pair.open_batch()
        callers[0].begin()
        core.watch_sends(lambda _dest, message: told.append(message[0]))
        for caller in callers[1:10]:
            caller.begin()
        core.watch_sends(None)
        for caller in callers[10:20]:
            caller.begin()
        pair.near.trace_messages(tracer)  # type: ignore[arg-type]
        for caller in callers[20:30]:
            caller.begin()
        pair.near.trace_messages(None)
        for caller in callers[30:]:
            caller.begin()

    in_one_step(scene)
    eventually(lambda: all(caller.outcome is not None for caller in callers))
    assert [caller.outcome for caller in callers] == [(number,) for number in range(40)]
    assert told == list(range(1, 10))
    assert tracer.sent == list(range(20, 30))
    assert pair.came[-40:] == list(range(40))


# ---- a strike at each point of a call that joins a batch


class Struck:
    """Calls in a row, of which the second is struck; it joins a batch by itself, or begins one."""

    def __init__(self, kind: str, which: str) -> None:
        self.kind, self.joins = kind, which == "joins"
        self.far = gmp.Node("far", binds=["127.0.0.1:0"], secret="geheim").start()
        near = gmp.Node("near", binds=[], seeds=self.far.binds, secret="geheim").start()
        self.pair = Pair(self.far, near)

    def strike(self) -> None:
        """What a signal handler does."""
        pair = self.pair
        if self.kind == "interrupt":
            interrupt()
        elif self.kind == "send to the same":
            pair.near.send(pair.port_id, "handler")
        elif self.kind == "send to another":
            pair.near.send(pair.other_id, "handler")
        elif self.kind in ("send much", "send much to another"):
            for _ in range(200):
                pair.near.send(pair.port_id if self.kind == "send much" else pair.other_id, "handler")
        elif self.kind == "flush":
            pair.connection.flush()
        else:
            pair.connection.close(CloseReason.RESET)

    def turn(self, striker: Striker, at: int) -> tuple[int, list[str]]:
        """Return how many points there are, and what is wrong."""
        pair, passed, where = self.pair, 0, ""
        pair.near.wait_up("far", timeout=20)
        assert pair.call("first") == ("first",)
        eventually(pair.is_clean)
        pair.came.clear()
        callers = [pair.caller(name) for name in "abcd"]

        def scene() -> None:
            nonlocal passed, where
            if self.joins:
                pair.open_batch()
            else:
                pair.near.send(pair.port_id, "before")  # is written at once
            callers[0].begin()
            striker.arm(at)
            try:
                callers[1].begin()
            finally:
                passed, where = striker.passed, striker.where
                striker.disarm()
            for caller in callers[2:]:
                caller.begin()

        in_one_step(scene)
        eventually(lambda: all(caller.outcome is not None for caller in callers))
        pair.near.wait_up("far", timeout=20)
        assert pair.call("last") == ("last",)
        return passed, [f"{where}: {text}" for text in self.look([caller.outcome for caller in callers], bool(where))]

    def look(self, outcomes: list[Any], was_struck: bool) -> list[str]:
        """What is wrong."""
        came, wrong = self.pair.came, []
        expected = {"a": (("a",),), "b": (("b",),), "c": (("c",),), "d": (("d",),)}
        for name, outcome in zip("abcd", outcomes, strict=True):
            lost = self.kind == "lose" and was_struck and isinstance(outcome, gmp.PortDied)
            interrupted = self.kind == "interrupt" and was_struck and name == "b" and isinstance(outcome, KeyboardInterrupt)
            if outcome not in expected[name] and not lost and not interrupted:
                wrong.append(f"{name} has ended with {outcome!r}")
            if came.count(name) != 1 and not ((lost or interrupted) and came.count(name) == 0):
                wrong.append(f"{name} came {came.count(name)} times")
        letters = [name for name in came if name in {*"abcd"}]
        if letters != sorted(letters):
            wrong.append(f"out of order: {letters}")
        handler = {"send to the same": 1, "send much": 200}.get(self.kind, 0) * was_struck
        before = 3 if self.joins else 1
        if came.count("handler") != handler or (self.kind != "lose" and came.count("before") != before):
            wrong.append(f"other messages: {came}")
        if not self.pair.is_clean():
            wrong.append("a call was left behind")
        return wrong


@pytest.mark.parametrize("which", ["joins", "begins"])
@pytest.mark.parametrize(
    "kind", ["interrupt", "send to the same", "send to another", "send much", "send much to another", "flush", "lose"]
)
def test_a_strike_at_each_point_of_a_call_that_joins_a_batch_or_begins_one(kind: str, which: str) -> None:
    points, bad = struck("tests.test_joined_calls", kind, which, timeout=300)
    assert points > 10
    assert bad == []


if __name__ == "__main__":
    scene = Struck(*sys.argv[1:])
    strike_each(scene.turn, strike=scene.strike)
