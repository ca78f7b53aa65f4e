"""Dialling: connecting to an address, by a Unix socket or TCP, waiting for its handshake, and returning the outcome.

race: both sides dial at once, and one connection wins: the end of the other is no failure
(`DialAgain`, `gmp.net.handshakes`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import gevent
import gevent.event

from gmp.config import Address, Settings
from gmp.errors import GmpError, ProtocolError
from gmp.net.between import Way
from gmp.net.connection import Connection
from gmp.net.listening import format_address
from gmp.net.machine import Machine, unix_way_to, way_between
from gmp.net.names import family_of
from gmp.net.reasons import CloseReason
from gmp.net.streams import Stream
from gmp.outside import clock

if TYPE_CHECKING:
    from gmp.net.peer import Peer

FIRST_DELAY, MOST_DELAY = 0.1, 2.0  # seconds before dialling again, doubling, while the other side settles


class Dial(NamedTuple):
    """The purpose of a dialled connection; `result` gets the ID of the node there, or the stream."""

    result: gevent.event.AsyncResult[Any]
    expect: str  #: the only node ID to accept; empty: any
    stream_id: str  #: empty: the connection is to be a way to that node


class Detachable(Protocol):
    """A socket whose descriptor can be taken from it."""

    def detach(self) -> int:
        """Give the descriptor away."""


class SelfDial(GmpError):
    """The address that was dialled is this node's own."""


class ClosedUnheard(ProtocolError):
    """The other side closed the connection before it said anything."""


class DialAgain(GmpError):
    """The other side closed the connection, most likely in favour of another one with this node."""

    def __init__(self, text: str, peer: Peer) -> None:
        super().__init__(text)
        self.peer = peer


class Dialling:
    """Dials for one node on `machine`.

    `start` makes a connection of a socket; `is_closed` returns whether the node is closed.
    """

    def __init__(
        self,
        machine: Machine,
        settings: Settings,
        start: Callable[[Detachable, str, Way, Dial], Connection | None],
        is_closed: Callable[[], bool],
    ) -> None:
        self._machine = machine
        self._settings = settings
        self._start = start
        self._is_closed = is_closed

    def dial(self, address: Address, *, expect: str = "") -> str:
        """Connect to the numeric `address` and return the ID of the node there. `expect`: the only node ID to accept.

        *Blocks:* for up to the settings' `address_timeout` for TCP and `handshake_timeout` for the handshake; while the
        other side takes another connection with this node for up, it dials again, for up to `connect_timeout`.
        *Raises:* `SelfDial`, or `GmpError` or `OSError` that tell what happened.
        """
        deadline, delay = clock.monotonic() + self._settings.connect_timeout, FIRST_DELAY
        while True:
            try:
                return str(self._dial(address, expect))
            except DialAgain as again:
                if clock.monotonic() + delay > deadline:
                    raise
                if again.peer.is_up and not again.peer.is_linked:
                    gevent.sleep(delay)  # it is relayed; no event reports the end of that
                else:
                    again.peer.came_up.wait(delay)
                if again.peer.is_linked:
                    return again.peer.node_id
                delay = min(2 * delay, MOST_DELAY)

    def dial_stream(self, address: Address, node_id: str, stream_id: str) -> Stream:
        """Connect to the numeric `address` of `node_id` for a stream that is expected there.

        *Blocks:*, *Raises:* as `dial`.
        """
        stream = self._dial(address, node_id, stream_id)
        assert isinstance(stream, Stream)
        return stream

    def _dial(self, address: Address, expect: str, stream_id: str = "") -> str | Stream:
        if self._is_closed():
            raise GmpError("the node is closed")
        family = family_of(address.host)
        if family is None:
            raise GmpError(f"{address.host!r} is not resolved yet")
        # a stream that is aborted ends by a RST, which a Unix socket has not
        near = self._machine.unix_socket(*address) if self._settings.unix_sockets and not stream_id else None
        if near is not None:
            try:
                return self._meet(near, address, Dial(gevent.event.AsyncResult(), expect, ""), unix=True)
            except ClosedUnheard:
                pass  # it is not what it seemed: another program, or one that is not of this user any more
        sock = self._machine.tcp_socket(family)
        return self._meet(sock, address, Dial(gevent.event.AsyncResult(), expect, stream_id), unix=False)

    def _meet(self, sock: Any, address: Address, dial: Dial, *, unix: bool) -> str | Stream:
        """Take `sock` over and return the outcome of the handshake with who is there. *Blocks:*, *Raises:* as `dial`."""
        where = format_address(*address)
        with closing(sock):
            way = unix_way_to(self._machine, *address) if unix else self._connect(sock, address)
            connection = self._start(sock, where, way, dial)
        if connection is None:
            raise ClosedUnheard(f"{where}: the connection broke at once")
        try:
            dial.result.wait()
        finally:
            if not dial.result.ready():  # the caller has another connection by now, or gave up
                connection.close(CloseReason.DUPLICATE)
        result: str | Stream | None = dial.result.value
        error = dial.result.exception
        del dial, connection  # an error's traceback refers to this frame: with them it would be a reference cycle
        try:
            if error is not None:
                raise error
        finally:
            del error
        assert result is not None
        return result

    def _connect(self, sock: Any, address: Address) -> Way:
        """Connect the TCP socket; return the way that it is."""
        sock.settimeout(self._settings.address_timeout)
        sock.connect(address)
        own, other = sock.getsockname(), sock.getpeername()
        if own == other:
            raise ConnectionRefusedError("TCP connected to itself")
        if self._is_closed():
            raise GmpError("the node is closed")
        return way_between(self._machine, own, other, dialled=True)
