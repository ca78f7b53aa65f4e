"""What only some ports have, and how it ends with the port: greenlets, belongings, monitors, callers of `Port.join`.

Each step of a burial can be interrupted, and is then called again: an item goes only once it is dealt with.
"""

from __future__ import annotations

from typing import Any

import gevent.event
from greenlet import greenlet

from gmp.errors import GmpError
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.workers import Task, Worker, Workers

_RELEASES = ("kill", "cancel", "close", "stop")
_CUT = "abort"  # tried before these after an abnormal death: half-finished streams have it


class Ties:
    """What ties one port to others. Most ports have none."""

    __slots__ = ("joined", "monitors", "owned", "tasks", "watching")

    def __init__(self) -> None:
        self.tasks: set[Task] = set()
        self.monitors: dict[Monitor, None] = {}  # a dict keeps the order in which they were set
        self.watching: set[Monitor] = set()  # those that this port has set, of other ports
        self.owned: list[Any] = []
        self.joined: gevent.event.Event | None = None

    def workers(self) -> list[Worker]:
        """The greenlets in which tasks run now."""
        return [task.worker for task in self.tasks if task.worker is not None]

    def runs_in(self, current: greenlet) -> bool:
        """Whether one of the tasks runs in that greenlet now."""
        for task in self.tasks:  # noqa: SIM110  # a generator costs more than the rest of a death
            if task.worker is current:
                return True
        return False

    def own(self, resource: Any) -> None:
        """Keep `resource`, to release it at the port's death. *Raises:* `GmpError` if it has no method for that."""
        if not any(callable(getattr(resource, name, None)) for name in _RELEASES):
            raise GmpError(f"{resource!r} cannot be owned: expected a kill, cancel, close or stop method")
        self.owned.append(resource)

    def end_tasks(self) -> None:
        """End the greenlets; only in the hub."""
        for task in list(self.tasks):
            task.throw()

    def untie(self, reason: Reason, workers: Workers) -> None:
        """Release what is owned, last first, cancel monitors of other ports, fire the port's own, wake who joins."""
        while self.owned:
            resource = self.owned[-1]
            ways = (_CUT, *_RELEASES) if reason else _RELEASES
            release = next(name for name in ways if callable(getattr(resource, name, None)))
            # releasing may block or fail, which must not hold up the monitors
            workers.spawn(getattr(resource, release))
            del self.owned[-1]
        for monitor in list(self.watching):
            monitor.cancel()
        while self.monitors:  # also those that are set meanwhile
            monitor = next(iter(self.monitors))
            monitor.fire(reason)  # does nothing if it has fired already
            self.monitors.pop(monitor, None)
        if self.joined is not None:
            self.joined.set()
