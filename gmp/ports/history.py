"""Post-mortem: ports that keep their last messages, and the records of ports that died abnormally.

A `RecordingPort` is made with ``max_history=``; other ports pay nothing for it. When it dies abnormally, its last messages
are logged, and kept in the `Death` that the node records, from which `gmp.testing.replay` feeds a fresh port.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, NamedTuple

from gmp.outside import clock
from gmp.ports.home import Home, Resident
from gmp.ports.mailbox import Message
from gmp.ports.port import Port
from gmp.showing import show

log = logging.getLogger("gmp")
DEATHS_REMEMBERED = 20
MOST_TEXT = 400  # characters of a message in the log


class Death(NamedTuple):
    """An abnormal death: its time (seconds since 1970), the port, the reason, and the port's last messages, oldest first."""

    time: float
    port: str
    reason: tuple[Any, ...]
    history: tuple[Message, ...]


class RecordingPort(Port):
    """A port that keeps its last messages."""

    __slots__ = ("history",)

    def __init__(self, name: str, ports: Home, limit: int | None, max_history: int) -> None:
        super().__init__(name, ports, limit)
        self.history: deque[Message] = deque(maxlen=max_history)  #: the last messages that arrived, oldest first

    def put(self, message: Message) -> None:
        """Do as `Port.put`, and keep the message."""
        if self.reason is None:
            self.history.append(message)
        super().put(message)


class Deaths:
    """The last abnormal deaths on one node."""

    def __init__(self) -> None:
        self._deaths: deque[Death] = deque(maxlen=DEATHS_REMEMBERED)

    def remember(self, port: Resident) -> None:
        """Record the death of `port`, which has just died with a reason that is not empty."""
        history = tuple(port.history) if isinstance(port, RecordingPort) else ()
        death = Death(clock.time(), port.id, port.reason or (), history)
        if history:  # after the burial: a log handler may block, which must not hold up the monitors
            port.ports.duties.add(lambda: port.ports.workers.spawn(_log, death))
        self._deaths.append(death)

    def last(self) -> list[Death]:
        """The recorded deaths, oldest first."""
        return list(self._deaths)


def _log(death: Death) -> None:
    lines = "\n".join(f"  {show(message, MOST_TEXT)}" for message in death.history)
    count = len(death.history)
    log.error("port %s died of %s; its last %d messages:\n%s", death.port, show(death.reason[:2]), count, lines)
