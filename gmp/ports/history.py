"""Post-mortem: ports that keep their last messages, and what is remembered of ports that died abnormally.

A `RecordingPort` is made with ``max_history=``; every other port pays nothing for it. What it got last goes to the log with
its abnormal death, and into the `Death` that the node remembers, from which `gmp.testing.replay` feeds a fresh port.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any, NamedTuple

from gmp.ports.home import Home, Resident
from gmp.ports.mailbox import Message
from gmp.ports.port import Port
from gmp.showing import show

log = logging.getLogger("gmp")
DEATHS_REMEMBERED = 20
MOST_TEXT = 400  # characters of a message in the log


class Death(NamedTuple):
    """An abnormal death: when (seconds since 1970), of which port, why, and the last messages it got, oldest first."""

    time: float
    port: str
    reason: tuple[Any, ...]
    history: tuple[Message, ...]


class RecordingPort(Port):
    """A port that keeps its last messages."""

    __slots__ = ("history",)

    def __init__(self, name: str, ports: Home, limit: int | None, max_history: int) -> None:
        super().__init__(name, ports, limit)
        self.history: deque[Message] = deque(maxlen=max_history)  #: the last messages that came, oldest first

    def put(self, message: Message) -> None:
        """As `Port.put`, and keep the message."""
        if self.reason is None:
            self.history.append(message)
        super().put(message)


class Deaths:
    """The last abnormal deaths on one node."""

    def __init__(self) -> None:
        self._deaths: deque[Death] = deque(maxlen=DEATHS_REMEMBERED)

    def remember(self, port: Resident) -> None:
        """`port` has just died, with a reason that is not empty."""
        history = tuple(port.history) if isinstance(port, RecordingPort) else ()
        death = Death(time.time(), port.id, port.reason or (), history)
        if history:  # behind the burial: a handler of the log may block, which must not hold up what is told of the death
            port.ports.duties.add(lambda: port.ports.workers.spawn(_log, death))
        self._deaths.append(death)

    def last(self) -> list[Death]:
        """They, oldest first."""
        return list(self._deaths)


def _log(death: Death) -> None:
    lines = "\n".join(f"  {show(message, MOST_TEXT)}" for message in death.history)
    count = len(death.history)
    log.error("port %s died of %s; its last %d messages:\n%s", death.port, show(death.reason[:2]), count, lines)
