"""Why a node is not reached, in words, and the warnings while something waits for it.

Everything that dials (`seeds`, `connector`) says by `explain` what went wrong. By `Complaints` callers that wait for the
network log now and then what they wait for in vain: after `PATIENCE` seconds, again when the reason changes, and never
more than a line in `INTERVAL` seconds, however many wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import gevent.event

from gmp.outside import clock

if TYPE_CHECKING:
    from gmp.config import Address

log = logging.getLogger("gmp.mesh")
PATIENCE = 5.0  # seconds without success before a line is logged
INTERVAL = 60.0  # seconds between two lines
SAME_AGAIN = 600.0  # seconds before the same reason is logged again


def explain(error: Exception, address: Address | None = None) -> str:
    """Return what went wrong with a dial or look-up, after `address` unless the error's own text names it."""
    if isinstance(error, ConnectionRefusedError):
        text = "nobody listens there (connection refused)"
    elif isinstance(error, TimeoutError):
        text = "no answer (timed out)"
    else:
        text = str(error) or type(error).__name__
    if address is None or address.host in text:
        return text
    return f"{_format(address)}: {text}"


def in_words(reason: tuple[object, ...]) -> str:
    """Return why the way to a node is gone, from the reason that its monitors get."""
    return str(reason[-1]) if reason[:1] == ("transport_error",) else " ".join(map(str, reason))


def _format(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


class Complaints:
    """Logs what is waited for in vain, for one node."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._why = ""
        self._last = float("-inf")

    def complain(self, what: str, why: str, now: float) -> None:
        """Log that `what` is waited for and does not come because of `why`, unless that was logged just now."""
        if now - self._last < (SAME_AGAIN if why == self._why else INTERVAL):
            return
        self._why, self._last = why, now
        log.warning("%s: still waiting for %s: %s", self._node_id, what, why)


class Wait:
    """A wait for the network. `what` returns what for, `why` why it does not come (empty: nothing is wrong)."""

    def __init__(self, complaints: Complaints, what: Callable[[], str], why: Callable[[], str]) -> None:
        self._complaints = complaints
        self._what, self._why = what, why
        self._due = clock.monotonic() + PATIENCE

    def pause(self, changed: gevent.event.Event, most: float = PATIENCE) -> None:
        """Wait for `changed`, complaining when a complaint is due. *Blocks:* at most `most` seconds."""
        changed.wait(max(min(self._due - clock.monotonic(), most), 0.0))
        now = clock.monotonic()
        if now >= self._due and not changed.is_set():
            self._due = now + PATIENCE
            why = self._why()
            if why:
                self._complaints.complain(self._what(), why, now)
