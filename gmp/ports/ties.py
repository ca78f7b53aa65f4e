"""What only some ports have and what ends with them: greenlets, owned resources, monitors, callers of `Port.join`.

A burial can be interrupted, and starts again then: each item is removed only after it has been dealt with.
"""

from __future__ import annotations

from typing import Any

import gevent.event

from gmp.errors import GmpError
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.workers import Task, Worker, Workers

_RELEASES = ("kill", "cancel", "close", "stop")
_CUT = "abort"  # tried before these after an abnormal death: half-finished streams have it


class Ties:
    """The ties of one port. Most ports have none."""

    __slots__ = ("joined", "monitors", "owned", "tasks", "watching")

    def __init__(self) -> None:
        self.tasks: dict[Task, None] = {}  # a dict keeps the order in which they were set
        self.monitors: dict[Monitor, None] = {}
        self.watching: dict[Monitor, None] = {}  # monitors of other ports that were set for this one
        self.owned: list[Any] = []
        self.joined: gevent.event.Event | None = None

    def workers(self) -> list[Worker]:
        """The greenlets in which its tasks run now."""
        return [task.worker for task in self.tasks if task.worker is not None]

    def own(self, resource: Any) -> None:
        """Release `resource` when the port dies. *Raises:* `GmpError` if it has no method for that."""
        if not any(callable(getattr(resource, name, None)) for name in _RELEASES):
            raise GmpError(f"{resource!r} cannot be owned: expected a kill, cancel, close or stop method")
        self.owned.append(resource)

    def untie(self, reason: Reason, workers: Workers) -> None:
        """Release what the port owns, last first; cancel the monitors set for it; fire its own; wake callers of `join`."""
        while self.owned:
            # to look for its method is the resource's own code, too: it may block or fail, which must not hold up monitors
            workers.spawn(_release, self.owned[-1], (_CUT, *_RELEASES) if reason else _RELEASES)
            del self.owned[-1]
        for monitor in list(self.watching):
            monitor.cancel()
        while self.monitors:  # including those that are set in the meantime
            monitor = next(iter(self.monitors))
            monitor.fire(reason)  # does nothing if it has fired
            self.monitors.pop(monitor, None)
        if self.joined is not None:
            self.joined.set()


def _release(resource: Any, names: tuple[str, ...]) -> None:
    next(method for name in names if callable(method := getattr(resource, name, None)))()
