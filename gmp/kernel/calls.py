"""Calls: a table of waiting callers, without a port, a timer or a monitor message for each.

The reply goes to a name of its own, under which the waiting call stands in the table of ports. Time-outs are found by
a housekeeper that looks every 50 ms while calls wait. One monitor for each target serves all calls to it and is kept
for ten seconds after the last. A late reply finds no such name and is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import Waiter
from greenlet import getcurrent

from gmp.errors import CallTimeout, GmpError, PortDied
from gmp.ports.mailbox import Message
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.table import Ports

TICK = 0.05
KEEP = 10.0


class Call:
    """One waiting caller, in the place of a port."""

    __slots__ = ("_waiter", "deadline", "outcome", "target")

    def __init__(self, target: Target, deadline: float | None) -> None:
        self.target = target
        self.deadline = deadline
        self.outcome: Message | Exception | None = None
        self._waiter: Waiter[None] | None = None

    def put(self, message: Message) -> None:
        """The reply."""
        self.finish(message)

    def kill(self, *reason: Any) -> None:
        """Somebody killed the reply port, or the node ends."""
        self.finish(PortDied(self.target.port_id, reason))

    def add_monitor(self, monitor: Monitor) -> None:
        """A reply port is gone when its call is: whoever monitors it is told nothing before that."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """As `add_monitor`."""

    def finish(self, outcome: Message | Exception) -> None:
        """Only the first outcome counts; wakes the caller."""
        if self.outcome is None:
            self.outcome = outcome
            if self._waiter is not None:
                gevent.get_hub().loop.run_callback(self._waiter.switch, None)

    def wait(self) -> None:
        """Wait for the outcome."""
        if self.outcome is None:
            self._waiter = Waiter()
            self._waiter.get()


class Target:
    """A port that is called: its calls and the monitor they share."""

    __slots__ = ("calls", "idle_since", "monitor", "port_id")

    def __init__(self, port_id: str) -> None:
        self.port_id = port_id
        self.calls: set[Call] = set()
        self.monitor: Monitor | None = None
        self.idle_since = 0.0

    def died(self, reason: Reason) -> None:
        """Every caller is told."""
        self.monitor = None
        for call in list(self.calls):
            call.finish(PortDied(self.port_id, reason))


class Calls:
    """The waiting calls of one node."""

    def __init__(self, ports: Ports, monitor: Callable[[str, Callable[[Reason], None]], Monitor]) -> None:
        self._ports = ports
        self._monitor = monitor
        self._targets: dict[str, Target] = {}
        self._waiting: set[Call] = set()
        self._timer: Any = None

    def call(self, port_id: str, send: Callable[..., None], message: Message, timeout: float | None) -> Message:
        """Send `message` with a reply port's ID behind it and wait for what comes there."""
        if getcurrent() is gevent.get_hub():
            raise GmpError(f"call to {port_id} in the hub: a callback of the event loop must not block")
        deadline = None if timeout is None else time.monotonic() + timeout
        target = self._targets.get(port_id)
        if target is None:
            target = self._targets[port_id] = Target(port_id)
        call = Call(target, deadline)
        name = self._ports.new_name()
        self._ports.add(name, call)
        target.calls.add(call)
        self._waiting.add(call)
        try:
            if target.monitor is None:
                target.monitor = self._monitor(port_id, target.died)
            self._start_timer()
            send(port_id, *message, f"{self._ports.node_id}#{name}")
            call.wait()
        finally:
            self._ports.remove(name)
            target.calls.discard(call)
            target.idle_since = time.monotonic()
            self._waiting.discard(call)
        outcome = call.outcome
        if isinstance(outcome, CallTimeout):
            raise CallTimeout(f"no reply from {port_id} within {timeout} s")
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None
        return outcome

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(TICK, TICK, ref=False)
            self._timer.start(self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        for call in list(self._waiting):
            if call.deadline is not None and call.deadline <= now:
                call.finish(CallTimeout())
        for port_id, target in list(self._targets.items()):
            if not target.calls and (target.monitor is None or now - target.idle_since > KEEP):
                del self._targets[port_id]
                if target.monitor is not None:
                    target.monitor.cancel()
        if not self._waiting and not self._targets:
            self.close()

    def close(self) -> None:
        """Stop the housekeeper."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
