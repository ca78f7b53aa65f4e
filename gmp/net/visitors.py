"""Accepted connections that have not proved themselves, and the sockets of those that were refused: `admission` carried out.

race: room is needed while a refused connection still waits for its end: it is closed then, and its timer with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.net.admission import Admission
from gmp.net.connection import Connection
from gmp.net.reasons import CloseReason
from gmp.outside import clock

_REFUSALS = {CloseReason.AUTHENTICATION_FAILED, CloseReason.PROTOCOL_ERROR}


class Visitors:
    """The visitors of one node."""

    def __init__(self, limit: int, limit_per_address: int, patience: float, hub: Any, let_go: Callable[[int], None]) -> None:
        self.refused: dict[Connection, Any] = {}  #: their sockets are still open; with the timer that closes each
        self._admission: Admission[Connection] = Admission(limit, limit_per_address, patience)
        self._hub = hub
        self._let_go = let_go

    def make_room(self, host: str) -> None:
        """Make room for one more connection from `host`; another one may have to be closed."""
        leaver = self._admission.make_room(host)
        if leaver is not None:
            leaver.close(CloseReason.TOO_MANY)
            self._close_refused(leaver)

    def enter(self, connection: Connection, host: str) -> None:
        """Add an accepted connection."""
        self._admission.enter(connection, host, clock.monotonic())

    def proved(self, connection: Connection) -> None:
        """Remove a connection, accepted or dialled, that has proved itself."""
        self._admission.leave(connection)
        self._admission.succeeded(host_of(connection.address))

    def ended(self, connection: Connection, *, visitor: bool) -> bool:
        """Handle a failed handshake; return whether the socket stays open. `visitor`: the connection was accepted."""
        delay = 0.0
        if visitor and connection.reason in _REFUSALS:
            delay = self._admission.refuse(connection, clock.monotonic())
        elif visitor and connection.reason is CloseReason.HANDSHAKE_TIMEOUT:
            self._admission.failed(host_of(connection.address), clock.monotonic())
        if delay == 0:
            self._admission.leave(connection)
            return False
        timer = self.refused[connection] = self._hub.loop.timer(delay)
        timer.start(self._close_refused, connection)
        return True

    def _close_refused(self, connection: Connection) -> None:
        timer = self.refused.pop(connection, None)
        if timer is not None:
            timer.close()
            self._admission.leave(connection)
            connection.sock.close()

    def abandon(self) -> None:
        """Let go of the sockets without sending a byte: they are the parent process's."""
        for connection, timer in self.refused.items():
            timer.close()
            self._let_go(connection.sock.detach())

    def close(self) -> None:
        """Close the sockets of refused connections."""
        for connection in list(self.refused):
            self._close_refused(connection)


def host_of(address: str) -> str:
    """Return the host of a ``host:port``, without the brackets of IPv6."""
    return address.rpartition(":")[0].strip("[]")
