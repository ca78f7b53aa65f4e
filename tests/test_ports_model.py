"""Random programs of send, receive, kill, monitor and on against a model: nothing lost, doubled or out of order.

A step is a program that runs within one turn of the loop; then everything that it has set off happens, and the ports must
be as the model's. The model keeps an agenda of what the loop is to do, in order: the turn of the handlers, the wake-up of a
receiver, the burial of a dead port.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
import gevent.lock
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import gmp
from gmp.kernel.node import local_node

TAGS = ["a", "b"]
LIMIT = 5
PORTS = 4  # the last one has a limit

port = st.integers(0, PORTS - 1)
tag = st.sampled_from(TAGS)
OPERATIONS = st.one_of(
    *[st.tuples(st.just("send"), port, tag, st.booleans()) for _ in range(5)],
    *[st.tuples(st.just("receive"), port, st.sampled_from([(), ("a",), ("b",)])) for _ in range(3)],
    *[st.tuples(st.just("on"), port, st.sampled_from([*TAGS, None]), st.booleans()) for _ in range(2)],
    st.tuples(st.just("receive_if"), port, tag),
    st.tuples(st.just("wait"), port, tag),
    *[st.tuples(st.just("monitor"), port, port, st.sampled_from(["message", "kill", "callback"])) for _ in range(2)],
    st.tuples(st.just("kill"), port, st.sampled_from([(), ("why",), ("why", 2)])),
)


class Model:
    """What a port should be."""

    def __init__(self, port: gmp.Port, limit: int | None) -> None:
        self.port = port
        self.limit = limit
        self.queue: deque[tuple[Any, ...]] = deque()
        self.handlers: dict[str | None, int] = {}
        self.arrived: dict[Any, int] = {}  # when each message came
        self.pending: list[Any] = []  # what waits for handlers: when it came, which handler, what that gets
        self.handled: list[Any] = []  # what they should have seen, in order
        self.seen: list[Any] = []  # what they saw
        self.reason: tuple[Any, ...] | None = None
        self.watchers: list[tuple[str, Any, int]] = []  # in the order they were set
        self.waiting: tuple[str, gevent.Greenlet[..., Any]] | None = None  # a greenlet in receive(tag)


class PortMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.node = local_node()
        self.number = 0
        self.agenda: deque[tuple[str, Model | None]] = deque()
        self.models: list[Model] = []
        self.all: list[Model] = []
        for index in range(PORTS):
            self.models.append(self.make(LIMIT if index == PORTS - 1 else None))

    def make(self, limit: int | None) -> Model:
        model = Model(self.node.port(max_queue=limit), limit)
        self.all.append(model)
        return model

    @rule(program=st.lists(OPERATIONS, min_size=1, max_size=15))
    def run(self, program: list[tuple[Any, ...]]) -> None:
        for name, index, *rest in program:
            getattr(self, f"do_{name}")(self.models[index], *rest)

    @rule(index=port)
    def replace(self, index: int) -> None:
        """A dead port makes room for a new one."""
        if self.models[index].reason is not None:
            self.models[index] = self.make(self.models[index].limit)

    # ---- what a user does, and the model beside it

    def do_send(self, model: Model, tag: str, by_id: bool) -> None:
        self.number += 1
        self.node.send(model.port.id if by_id else model.port, tag, self.number)
        self.deliver(model, (tag, self.number))

    def deliver(self, model: Model, message: tuple[Any, ...]) -> None:
        if model.reason is not None:
            return
        model.arrived[message] = len(model.arrived)
        if not self.handle(model, message):
            model.queue.append(message)
            if model.waiting is not None:
                self.plan("wake", model)
        if model.pending:
            self.plan("handle", None)
        waiting = len(model.queue) + len(model.pending)
        if model.limit is not None and waiting > model.limit:
            self.die(model, ("queue_overflow", waiting))

    def handle(self, model: Model, message: tuple[Any, ...]) -> bool:
        """Give a message to its handler, if it has one: in the order of arrival, whenever it is given."""
        handler = model.handlers.get(message[0])
        if handler is not None:
            model.pending.append((model.arrived[message], handler, message[1:]))
        elif None in model.handlers:
            model.pending.append((model.arrived[message], model.handlers[None], message))
        else:
            return False
        model.pending.sort()
        return True

    def plan(self, what: str, model: Model | None) -> None:
        if (what, model) not in self.agenda:
            self.agenda.append((what, model))

    def do_receive(self, model: Model, prefix: tuple[Any, ...]) -> None:
        def receive() -> Any:
            return model.port.receive(*prefix, timeout=0)

        if model.reason is not None:
            with pytest.raises(gmp.PortDied) as died:
                receive()
            assert died.value.reason == model.reason
        elif model.waiting is not None:
            with pytest.raises(gmp.GmpError, match="another greenlet"):
                receive()
        else:
            self.expect(model, prefix, receive, len(prefix))

    def do_receive_if(self, model: Model, tag: str) -> None:
        if model.waiting is None and model.reason is None:
            self.expect(model, (tag,), lambda: model.port.receive_if(lambda *m: m[0] == tag, timeout=0), 0)

    def expect(self, model: Model, prefix: tuple[Any, ...], receive: Any, cut: int) -> None:
        wanted = next((message for message in model.queue if message[: len(prefix)] == prefix), None)
        if wanted is None:
            with pytest.raises(gmp.ReceiveTimeout):
                receive()
        else:
            assert receive() == wanted[cut:]
            model.queue.remove(wanted)

    def do_wait(self, model: Model, tag: str) -> None:
        """A greenlet of somebody else's that waits for a tag, across turns and whatever else happens."""
        if model.waiting is None and model.reason is None and not any(message[0] == tag for message in model.queue):

            def receive() -> Any:
                try:
                    return model.port.receive(tag)
                except gmp.PortDied as error:
                    return error.reason

            model.waiting = (tag, gevent.spawn(receive))  # race: what is due already may bring it a message, or the death
            self.turn()  # if not, it waits from here on

    def do_on(self, model: Model, tag: str | None, there: bool) -> None:
        if model.reason is None:
            self.number += 1
            number = self.number
            model.port.on(tag, (lambda *message: model.seen.append((number, message))) if there else None)
            model.handlers.pop(tag, None)
            if there:
                model.handlers[tag] = number
                for message in [*model.queue]:
                    if self.handle(model, message):
                        model.queue.remove(message)
                        self.plan("handle", None)

    def do_kill(self, model: Model, reason: tuple[Any, ...]) -> None:
        model.port.kill(*reason)
        self.die(model, reason)

    def die(self, model: Model, reason: tuple[Any, ...]) -> None:
        if model.reason is None:
            model.reason = reason
            model.queue.clear()
            model.pending.clear()
            model.handlers.clear()
            self.agenda.append(("bury", model))
            for wake in [planned for planned in self.agenda if planned[0] == "wake"]:  # a death comes before those
                self.agenda.remove(wake)
                self.agenda.append(wake)

    def do_monitor(self, target: Model, index: int, kind: str) -> None:
        watcher = self.models[index]
        if target.reason is not None or watcher.reason is not None:
            return
        self.number += 1
        if kind == "callback":
            seen: list[Any] = []
            self.node.monitor(target.port, lambda *reason: seen.append(reason))
            target.watchers.append((kind, seen, 0))
        elif kind == "kill":
            self.node.monitor(target.port, watcher.port)
            target.watchers.append((kind, watcher, 0))
        else:
            self.node.monitor(target.port, watcher.port, "a", self.number)
            target.watchers.append((kind, watcher, self.number))

    # ---- what the loop does

    def turn(self) -> None:
        """Let everything happen that is due, in both worlds."""
        for _ in range(20):
            gevent.sleep(0)
        told: list[tuple[list[Any], tuple[Any, ...]]] = []
        while self.agenda:
            what, model = self.agenda.popleft()
            if what == "handle":
                for each in self.all:
                    each.handled += [pending[1:] for pending in each.pending]
                    each.pending.clear()
            elif model is not None and what == "wake":
                self.wake(model)
            elif model is not None:
                self.bury(model, told)
                while burials := [planned for planned in self.agenda if planned[0] == "bury"]:  # all in one turn
                    self.agenda.remove(burials[0])
                    assert burials[0][1] is not None
                    self.bury(burials[0][1], told)
        for seen, reason in told:
            assert seen == [reason]

    def wake(self, model: Model) -> None:
        if model.waiting is None:
            return
        tag, greenlet = model.waiting
        wanted = next((message for message in model.queue if message[0] == tag), None)
        if wanted is not None:
            assert greenlet.get(timeout=5) == wanted[1:]
            model.queue.remove(wanted)
            model.waiting = None

    def bury(self, model: Model, told: list[tuple[list[Any], tuple[Any, ...]]]) -> None:
        reason = model.reason
        assert reason is not None
        if model.waiting is not None:
            assert model.waiting[1].get(timeout=5) == reason
            model.waiting = None
        watchers, model.watchers = model.watchers, []
        for kind, who, number in watchers:
            if kind == "callback":
                told.append((who, reason))
            elif kind == "message":
                self.deliver(who, ("a", number, *reason))
            elif reason:
                self.die(who, reason)

    @invariant()
    def the_same(self) -> None:
        self.turn()
        for model in self.all:
            assert model.port.reason == model.reason
            assert len(model.port) == len(model.queue)
            assert model.seen == model.handled
            assert model.waiting is None or not model.waiting[1].ready()

    def teardown(self) -> None:
        for model in self.all:
            if model.waiting is None and model.reason is None:
                assert [model.port.receive(timeout=0) for _ in range(len(model.port))] == list(model.queue)
        self.node.close()
        for _ in range(3):
            gevent.sleep(0)


PortMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPorts = pytest.mark.timeout(240)(PortMachine.TestCase)  # many examples, on any machine


def test_a_death_that_a_death_brings_about_comes_in_the_same_turn_and_before_a_handler() -> None:
    machine = PortMachine()
    try:
        machine.run(program=[("monitor", 0, 2, "kill"), ("monitor", 1, 0, "kill"), ("send", 2, "b", False)])
        machine.the_same()
        machine.run(program=[("kill", 1, ("why",)), ("on", 2, "b", True)])
        machine.the_same()
        assert [model.reason for model in machine.models[:3]] == [("why",)] * 3
        assert machine.models[2].seen == []
    finally:
        machine.teardown()


STEPS = st.lists(
    st.one_of(
        *[st.tuples(st.just("send"), st.sampled_from("abcd")) for _ in range(4)],
        *[st.tuples(st.just("on"), st.sampled_from(["a", "b", "c", None])) for _ in range(2)],
        st.tuples(st.just("off"), st.sampled_from(["a", "b", "c", None])),
        st.tuples(st.just("receive"), st.sampled_from("abcd")),
        st.tuples(st.just("go on"), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
@example([*[("send", "d")] * 3, *[("send", tag) for tag in "bab"], ("on", "a"), ("on", "b"), ("go on", None)])
@example([("on", "a"), *[("send", tag) for tag in "aababa"], ("go on", None), ("on", "b"), ("on", None)])
@example([("on", "a"), ("send", "a"), *[("send", "b"), ("receive", "b")] * 99, ("send", "b"), ("send", "a"), ("on", "b")])
def test_what_waits_for_handlers_begins_in_the_order_in_which_it_came_whenever_each_was_set(steps: list[Any]) -> None:
    """Handlers that block one by one: a message is claimed while earlier and later ones have begun, or have not."""
    node = local_node()
    here = node.port()
    gate = gevent.lock.Semaphore(0)
    begun: list[int] = []
    waiting: dict[int, str] = {}  # in the mailbox, in the order in which they came
    given: list[int] = []  # to handlers, and not begun
    expected: list[int] = []
    handled: set[str | None] = set()

    def handle(*message: Any) -> None:
        begun.append(message[-1])
        gate.acquire()

    def let_begin() -> None:
        for _ in range(5):
            gevent.sleep(0)

    busy = False
    for number, (what, tag) in enumerate(steps):
        if what == "send":
            node.send(here, tag, number)
            if tag in handled or None in handled:
                given.append(number)
            else:
                waiting[number] = tag
        elif what == "on":
            here.on(tag, handle)
            handled.add(tag)
            for each in [each for each, its in waiting.items() if tag in (None, its)]:
                given.append(each)
                del waiting[each]
        elif what == "off":
            here.on(tag, None)
            handled.discard(tag)
        elif what == "receive":
            wanted = next((each for each, its in waiting.items() if its == tag), None)
            if wanted is not None:
                assert here.receive(tag, timeout=0) == (wanted,)
                del waiting[wanted]
        else:
            if busy:
                gate.release()
            let_begin()
            given.sort()
            busy = bool(given)
            expected += given[:1]
            del given[:1]
            assert begun == expected
    for _ in range(len(given) + 1):
        gate.release()
    let_begin()
    gevent.sleep(0)
    assert begun == expected + sorted(given)
    assert [number for _, number in (here.receive() for _ in range(len(here)))] == list(waiting)
    node.close()
    let_begin()
