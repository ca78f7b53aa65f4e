"""What is finished before a node leaves: services take no new calls, and what runs has time to end.

*Open* → `begin`: each takes nothing more → the node waits until all are idle, or for so long → `end`: each tells those whose
work is not done. A node without anything that is at work leaves at once.
"""

from __future__ import annotations

from typing import Any, Protocol

import gevent.event

from gmp.outside import clock

SHARE = 0.5  # of `leave_timeout` that is left, at most `MOST` seconds, for what is written afterwards
MOST = 1.0


class Drained(Protocol):
    """Something that has work to finish."""

    def drain(self) -> None:
        """Take nothing more."""

    @property
    def idle(self) -> bool:
        """True when nothing is at work."""

    def end(self) -> None:
        """The time is up, or everything has ended."""

    def stats(self) -> dict[str, Any]:
        """Its figures: plain data."""


class Draining:
    """What one node drains when it leaves."""

    def __init__(self) -> None:
        self._drained: dict[Drained, None] = {}
        self._changed = gevent.event.Event()
        self.begun = False  #: True once the node has begun to leave

    def add(self, drained: Drained) -> None:
        """Drain this, too."""
        self._drained[drained] = None

    def discard(self, drained: Drained) -> None:
        """It has ended by itself."""
        self._drained.pop(drained, None)
        self._changed.set()

    def changed(self) -> None:
        """Something may be idle now."""
        if self.begun:
            self._changed.set()

    def begin(self) -> bool:
        """Let everything drain; return True if there is something to wait for. *Blocks:* never."""
        self.begun = True
        for drained in list(self._drained):
            drained.drain()
        return not self._idle()

    def wait(self, deadline: float, leave_timeout: float) -> None:
        """Wait until all is idle, or until shortly before `deadline`, in monotonic time. *Blocks:* until then."""
        until = deadline - min(MOST, leave_timeout * SHARE)
        while not self._idle():
            self._changed.clear()
            left = until - clock.monotonic()
            if left <= 0 or not self._changed.wait(left):
                return

    def end(self) -> None:
        """Let everything tell those whose work is not done. *Blocks:* never."""
        for drained in list(self._drained):
            drained.end()

    def stats(self) -> list[dict[str, Any]]:
        """Return the figures of each. *Blocks:* never."""
        return [drained.stats() for drained in self._drained]

    def _idle(self) -> bool:
        return all(drained.idle for drained in self._drained)
