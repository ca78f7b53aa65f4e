"""Random programs of send, receive, kill, monitor and on against a model: nothing lost, doubled or out of order."""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import gmp

TAGS = ["a", "b", "c"]
LIMIT = 6


class Model:
    """What a port should be."""

    def __init__(self, port: gmp.Port, limit: int | None) -> None:
        self.port = port
        self.limit = limit
        self.queue: deque[tuple[Any, ...]] = deque()
        self.handlers: dict[str | None, int] = {}
        self.handled: list[Any] = []  # what its handlers should have seen, in order
        self.pending: list[Any] = []  # of that, what they see in the next turn
        self.seen: list[Any] = []  # what they saw
        self.reason: tuple[Any, ...] | None = None
        self.watchers: list[tuple[str, Any, Any]] = []  # (kind, model or list, tag), in the order they were set
        self.waiting: tuple[str, gevent.Greenlet[..., Any]] | None = None  # a greenlet in receive(tag)


class PortMachine(RuleBasedStateMachine):
    ports = Bundle("ports")

    def __init__(self) -> None:
        super().__init__()
        self.node = gmp.Node.local()
        self.models: list[Model] = []
        self.number = 0

    @initialize(target=ports)
    def two_ports(self) -> Any:
        return multiple(self.make(None), self.make(LIMIT))

    @rule(target=ports, limit=st.sampled_from([None, LIMIT]))
    def new_port(self, limit: int | None) -> Model:
        return self.make(limit)

    def make(self, limit: int | None) -> Model:
        model = Model(self.node.port(max_queue=limit), limit)
        self.models.append(model)
        return model

    # ---- what a user does, and the model beside it

    @rule(model=ports, tag=st.sampled_from(TAGS), by_id=st.booleans(), count=st.integers(1, 4))
    def send(self, model: Model, tag: str, by_id: bool, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.node.send(model.port.id if by_id else model.port, tag, self.number)
            self.deliver(model, (tag, self.number))

    def deliver(self, model: Model, message: tuple[Any, ...]) -> None:
        if model.reason is not None:
            return
        tag = message[0]
        if tag in model.handlers:
            model.pending.append((model.handlers[tag], message[1:]))
        elif None in model.handlers:
            model.pending.append((model.handlers[None], message))
        else:
            model.queue.append(message)
        waiting = len(model.queue) + len(model.pending)
        if model.limit is not None and waiting > model.limit:
            self.die(model, ("queue_overflow", waiting))

    @rule(model=ports, prefix=st.sampled_from([(), *[(tag,) for tag in TAGS], ("no such tag",)]))
    def receive(self, model: Model, prefix: tuple[Any, ...]) -> None:
        if model.waiting is not None and model.reason is None:
            with pytest.raises(gmp.GmpError, match="another greenlet"):
                model.port.receive(*prefix, timeout=0)
        elif model.reason is not None:
            with pytest.raises(gmp.PortDied) as died:
                model.port.receive(*prefix, timeout=0)
            assert died.value.reason == model.reason
        else:
            self.expect(model, prefix, lambda: model.port.receive(*prefix, timeout=0), len(prefix))

    @rule(model=ports, tag=st.sampled_from(TAGS))
    def receive_if(self, model: Model, tag: str) -> None:
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

    @rule(model=ports, tag=st.sampled_from(TAGS))
    def wait_in_receive(self, model: Model, tag: str) -> None:
        """A greenlet of somebody else's that waits for a tag, across turns and whatever else happens."""
        if model.waiting is None and model.reason is None:

            def receive() -> Any:
                try:
                    return model.port.receive(tag)
                except gmp.PortDied as error:
                    return error.reason

            model.waiting = (tag, gevent.spawn(receive))
            self.turn()

    @rule(model=ports, tag=st.sampled_from([*TAGS, None]))
    def on(self, model: Model, tag: str | None) -> None:
        if model.reason is None:
            self.number += 1
            number = self.number
            model.port.on(tag, lambda *message: model.seen.append((number, message)))
            model.handlers[tag] = number

    @rule(model=ports, tag=st.sampled_from([*TAGS, None]))
    def off(self, model: Model, tag: str | None) -> None:
        if model.reason is None:
            model.port.on(tag, None)
            model.handlers.pop(tag, None)

    @rule(model=ports, reason=st.sampled_from([(), ("why",), ("why", 2)]))
    def kill(self, model: Model, reason: tuple[Any, ...]) -> None:
        model.port.kill(*reason)
        self.die(model, reason)
        self.turn()

    def die(self, model: Model, reason: tuple[Any, ...]) -> None:
        if model.reason is None:
            model.reason = reason
            model.queue.clear()
            model.pending.clear()
            model.handlers.clear()

    @rule(target_model=ports, watcher=ports, kind=st.sampled_from(["message", "kill", "callback"]))
    def monitor(self, target_model: Model, watcher: Model, kind: str) -> None:
        if target_model.reason is not None:
            return
        if kind == "callback":
            seen: list[Any] = []
            self.node.monitor(target_model.port, lambda *reason: seen.append(reason))
            target_model.watchers.append((kind, seen, None))
        elif watcher is not target_model and watcher.reason is None:
            self.number += 1
            if kind == "kill":
                self.node.monitor(target_model.port, watcher.port)
            else:
                self.node.monitor(target_model.port, watcher.port, "a", self.number)
            target_model.watchers.append((kind, watcher, self.number))

    @rule()
    def turn(self) -> None:
        """Let everything that is due happen, in both worlds."""
        for _ in range(30):
            gevent.sleep(0)
        self.settle()

    def settle(self) -> None:
        while any(model.reason is not None and model.watchers for model in self.models):
            for model in self.models:
                if model.reason is None or not model.watchers:
                    continue
                watchers, model.watchers = model.watchers, []
                for kind, who, number in watchers:
                    if kind == "callback":
                        assert who == [model.reason]
                    elif kind == "message":
                        self.deliver(who, ("a", number, *model.reason))
                    elif model.reason:
                        self.die(who, model.reason)
        for model in self.models:
            model.handled += model.pending
            model.pending.clear()
            if model.waiting is not None:
                tag, greenlet = model.waiting
                wanted = next((message for message in model.queue if message[0] == tag), None)
                if model.reason is not None:
                    assert greenlet.get(timeout=5) == model.reason or greenlet.value[0] in range(self.number + 1)
                    model.waiting = None
                elif wanted is not None:
                    assert greenlet.get(timeout=5) == wanted[1:]
                    model.queue.remove(wanted)
                    model.waiting = None
                else:
                    assert not greenlet.ready()

    @invariant()
    def the_same(self) -> None:
        self.turn()
        for model in self.models:
            assert model.port.reason == model.reason
            assert model.port.alive == (model.reason is None)
            assert len(model.port) == len(model.queue)
            assert model.seen == model.handled[: len(model.seen)]
            if model.reason is None:
                assert model.seen == model.handled

    def teardown(self) -> None:
        for model in self.models:
            if model.waiting is None and model.reason is None:
                assert [model.port.receive(timeout=0) for _ in range(len(model.port))] == list(model.queue)
        self.node.close()


PortMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPorts = PortMachine.TestCase
