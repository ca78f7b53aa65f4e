"""Everything that opens a socket: a server for each bind, dialling, and the table of connections and peers.

Walk of a connection: accepted or dialled → `Connection` in handshake → `greeted` (the arbiter waits, everybody else
sends its authentication line) → `authenticated` (`peerstate.judge`) → attached to its `Peer`, or closed. A
connection that loses that judgement was never up, so no monitor fires for it.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Protocol

import gevent
import gevent.event
import gevent.socket

from gmp.config import Address, Settings, parse_advertised
from gmp.errors import AuthenticationError, GmpError, ProtocolError
from gmp.ids import is_peer_node_id
from gmp.net.admission import Admission
from gmp.net.connection import Connection
from gmp.net.heartbeat import Limits
from gmp.net.housekeeper import Housekeeper, HousekeeperEvents
from gmp.net.listening import Listeners, format_address
from gmp.net.names import family_of
from gmp.net.peer import Peer, PeerEvents
from gmp.net.peerstate import Verdict, is_arbiter, judge
from gmp.net.reasons import CloseReason
from gmp.net.tls import RECORD, make_contexts
from gmp.wire.session import Session

log = logging.getLogger("gmp.net")
READ_SIZE = 256 * 1024
_REFUSALS = {CloseReason.AUTHENTICATION_FAILED, CloseReason.PROTOCOL_ERROR}
_BUG_OR_NORMAL = {
    CloseReason.DUPLICATE,
    CloseReason.REPLACED,
    CloseReason.RESTARTED,
    CloseReason.NODE_CLOSED,
    CloseReason.LEAVING,
}
_ENDED = {CloseReason.EOF, CloseReason.LEAVING, CloseReason.RESTARTED}  # what shows that a process is gone


class NetworkEvents(PeerEvents, HousekeeperEvents, Protocol):
    """What the kernel is told by the network."""

    def peer_drained(self, peer: Peer) -> None:
        """What waited for `peer` has fallen to its low mark."""

    def node_port_message(self, peer: Peer, message: list[Any]) -> None:
        """A message from `peer` for the node port, or for a port that is not in the table."""


class SelfDial(GmpError):
    """The address that was dialled is this node's own."""


class Network:
    """The sockets of one node."""

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        settings: Settings,
        destinations: dict[str, Any],
        events: NetworkEvents,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.binds: list[str] = []
        self.peers: dict[str, Peer] = {}
        self._settings = settings
        self._destinations = destinations
        self._events = events
        self._hub = gevent.get_hub()
        self._limits = Limits(settings.lost_after, settings.busy_after, settings.hung_after)
        self.housekeeper = Housekeeper(self._hub, self._limits, self.up_peers, events)
        self._buffer = bytearray(READ_SIZE)
        self._scratch = bytearray(READ_SIZE + 2 * RECORD if settings.cert else 0)
        self._contexts = make_contexts(settings.cert) if settings.cert else None
        self._listeners = Listeners(self._accepted)
        self._handshakes: dict[Connection, gevent.event.AsyncResult[str] | None] = {}
        self._expected: dict[Connection, str] = {}
        self._admission: Admission[Connection] = Admission(
            settings.max_unauthenticated, settings.max_unauthenticated_per_address, settings.handshake_timeout
        )
        self._refused: dict[Connection, Any] = {}  # their sockets are still open; with the timer that closes each
        self._closed = False

    # ---- listening

    def listen(self, binds: list[Address]) -> None:
        """`Listeners.listen`."""
        self._listeners.listen(binds)
        self.binds = self._listeners.binds

    def announced(self) -> list[str]:
        """The addresses to tell others."""
        advertise = self._settings.advertise
        return self._listeners.announced(None if advertise is None else [parse_advertised(text) for text in advertise])

    def stop_listening(self) -> None:
        """Close the listening sockets."""
        self._listeners.stop()

    def _accepted(self, sock: Any, address: tuple[Any, ...]) -> None:
        host = str(address[0])
        if (leaver := self._admission.make_room(host)) is not None:
            leaver.close(CloseReason.TOO_MANY)
            self._close_refused(leaver)
        connection = self._start(sock.detach(), format_address(*address[:2]), None)
        if connection is not None:
            self._admission.enter(connection, host, time.monotonic())

    def _start(
        self, fd: int, address: str, result: gevent.event.AsyncResult[str] | None, expect: str = ""
    ) -> Connection | None:
        settings = self._settings
        session = Session(
            node_id=self.node_id,
            nonce=b64encode(secrets.token_bytes(66)).decode(),
            secret=settings.secret,
            keys={
                "gmp": "1",
                "incarnation": self.incarnation,
                "heartbeat": f"{self._limits.heartbeat:g}",
                "keepalive": str(self._limits.keepalive),
                "mproto": "1",
                "gproto": "1",
                "peeraddr": address,
            },
            tls=settings.cert is not None,
            require_tls=settings.tls_required,
            allow_cleartext=settings.allow_cleartext,
            allow_anonymous=settings.allow_anonymous,
            max_message=settings.max_message,
        )
        connection = Connection(
            fd,
            session,
            self,
            hub=self._hub,
            buffer=self._buffer,
            scratch=self._scratch,
            contexts=self._contexts,
            cert_names=settings.cert_names,
            destinations=self._destinations,
            address=address,
            handshake_timeout=settings.handshake_timeout,
            limits=self._limits,
            drained=self._drained,
        )
        if connection.reason is not None:
            return None
        self._handshakes[connection] = result
        self._expected[connection] = expect
        return connection

    # ---- dialling

    def dial(self, address: Address, *, expect: str = "") -> str:
        """Connect to the numeric `address` and return the ID of the node there. `expect`: the only node ID to accept.

        *Blocks:* for up to the settings' `address_timeout` for TCP and `handshake_timeout` for the handshake.
        *Raises:* `SelfDial`, or `GmpError` or `OSError` that tell what happened.
        """
        family = family_of(address.host)
        if family is None:
            raise GmpError(f"{address.host!r} is not resolved yet")
        where = format_address(*address)
        result: gevent.event.AsyncResult[str] = gevent.event.AsyncResult()
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._settings.address_timeout)
            sock.connect(address)
            if sock.getsockname() == sock.getpeername():
                raise ConnectionRefusedError("TCP connected to itself")
            if self._closed:
                raise GmpError("the node is closed")
            connection = self._start(sock.detach(), where, result, expect)
        finally:
            sock.close()
        if connection is None:
            raise GmpError(f"{where}: the connection broke at once")
        try:
            node_id = result.get()
        finally:
            if not result.ready():  # whoever wanted it has another connection
                connection.close(CloseReason.DUPLICATE)
        assert node_id is not None
        return node_id

    # ---- what connections tell

    def greeted(self, connection: Connection) -> bool:
        """`Owner.greeted`."""
        greeting = connection.session.greeting
        if greeting.node_id == self.node_id:
            raise ProtocolError(f"{self.node_id!r} is talking to itself")
        if not is_peer_node_id(greeting.node_id):
            raise ProtocolError(f"unusable node ID {greeting.node_id!r}")
        expect = self._expected.get(connection)
        if expect and expect != greeting.node_id:
            raise AuthenticationError(f"expected node {expect!r}, but {greeting.node_id!r} answered")
        return not is_arbiter(self.node_id, greeting.node_id, peer_is_gmp="gmp" in greeting.keys)

    def authenticated(self, connection: Connection) -> None:
        """`Owner.authenticated`."""
        greeting = connection.session.greeting
        connection.node_id = greeting.node_id
        connection.incarnation = greeting.keys.get("incarnation", "")
        peer = self.peer(greeting.node_id)
        old = peer.connection
        verdict = judge(
            arbiter=is_arbiter(self.node_id, greeting.node_id, peer_is_gmp="gmp" in greeting.keys),
            up=None if old is None else old.incarnation,
            newest=peer.newest,
            incarnation=connection.incarnation,
        )
        if verdict is Verdict.REFUSE_OLD:
            connection.close(CloseReason.OLD_INCARNATION)
            return
        if verdict is Verdict.REFUSE_DUPLICATE:
            connection.close(CloseReason.DUPLICATE)
            if old is not None:
                old.send("", ())  # a no-op: the kernels tell whether the old connection is dead
            return
        if verdict is Verdict.REPLACE and old is not None:
            old.close(CloseReason.RESTARTED if connection.incarnation > old.incarnation else CloseReason.REPLACED)
        result = self._handshakes.pop(connection)
        self._expected.pop(connection, None)
        self._admission.leave(connection)
        self._admission.succeeded(host_of(connection.address))
        connection.accept()
        connection.watch = self.housekeeper.watch(connection)
        peer.attach(connection)
        if result is not None:
            result.set(connection.node_id)

    def received(self, connection: Connection, message: list[Any]) -> None:
        """`Owner.received`."""
        self._events.node_port_message(self.peers[connection.node_id], message)

    def closed(self, connection: Connection) -> None:
        """`Owner.closed`."""
        reason = connection.reason
        assert reason is not None
        if connection in self._handshakes:
            self._handshake_failed(connection, reason)
            return
        peer = self.peers.get(connection.node_id)
        if peer is not None and peer.connection is connection:
            if not self._closed:
                log.info("%s: connection with %s ended: %s", self.node_id, connection, describe(connection))
            peer.ended = reason in _ENDED
            if reason is CloseReason.LEAVING:
                peer.lose(("leaving", peer.node_id))
            else:
                peer.lose(("transport_error", peer.node_id, describe(connection)))

    def _handshake_failed(self, connection: Connection, reason: CloseReason) -> None:
        result = self._handshakes.pop(connection)
        self._expected.pop(connection, None)
        node_id = connection.session.greeting.node_id if connection.session.has_greeting else ""
        if result is not None:
            if node_id == self.node_id:
                result.set_exception(SelfDial(f"{connection.address} is this node itself"))
            elif reason is CloseReason.DUPLICATE or (self.peers.get(node_id) and self.peers[node_id].is_up):
                # race: both dialled at once and the other connection won
                result.set(node_id)
            else:
                error = AuthenticationError if reason is CloseReason.AUTHENTICATION_FAILED else ProtocolError
                result.set_exception(error(f"{connection.address}: {describe(connection)}"))
        if reason not in _BUG_OR_NORMAL and node_id != self.node_id:
            self._log_refusal(connection)

    def _log_refusal(self, connection: Connection) -> None:
        """One line per address and minute, or a port scanner would fill the disk."""
        if self._admission.may_log(host_of(connection.address), time.monotonic()):
            log.warning("%s: handshake with %s failed: %s", self.node_id, connection.address, describe(connection))

    def hold(self, connection: Connection) -> bool:
        """`Owner.hold`: a wrong login of an address that keeps failing is told so after a while."""
        delay = 0.0
        if connection in self._handshakes and self._handshakes[connection] is None and not self._closed:  # was accepted
            if connection.reason in _REFUSALS:
                delay = self._admission.refuse(connection, time.monotonic())
            elif connection.reason is CloseReason.HANDSHAKE_TIMEOUT:
                self._admission.failed(host_of(connection.address), time.monotonic())
        if delay == 0:
            self._admission.leave(connection)
            return False
        timer = self._refused[connection] = self._hub.loop.timer(delay)
        timer.start(self._close_refused, connection)
        return True

    def _close_refused(self, connection: Connection) -> None:
        timer = self._refused.pop(connection, None)
        if timer is not None:
            timer.close()
            self._admission.leave(connection)
            connection.sock.close()

    def _drained(self, connection: Connection) -> None:
        peer = self.peers.get(connection.node_id)
        if peer is not None:
            peer.wake_senders()
            self._events.peer_drained(peer)

    # ---- peers

    def peer(self, node_id: str) -> Peer:
        """The peer object of that node, made when it is new."""
        peer = self.peers.get(node_id)
        if peer is None:
            settings = self._settings
            peer = Peer(
                node_id,
                self._events,
                max_message=settings.max_message,
                high_mark=settings.high_mark,
                low_mark=settings.low_mark,
            )
            self.peers[node_id] = peer
        return peer

    def up_peers(self) -> Iterator[Peer]:
        """The peers that are connected now."""
        return (peer for peer in list(self.peers.values()) if peer.is_up)

    def close(self) -> None:
        """Close every socket, in silence."""
        self._closed = True
        self.housekeeper.stop()
        self.stop_listening()
        for connection in list(self._handshakes):
            connection.close(CloseReason.NODE_CLOSED)
        for connection in list(self._refused):
            self._close_refused(connection)
        for peer in list(self.peers.values()):
            connection_up = peer.connection
            peer.close()
            if connection_up is not None:
                connection_up.close(CloseReason.NODE_CLOSED)


def describe(connection: Connection) -> str:
    """The reason of a connection's end in words."""
    reason = connection.reason
    text = "" if reason is None else reason.value
    return f"{text}: {connection.detail}" if connection.detail else text


def host_of(address: str) -> str:
    """The host of what `format_address` made."""
    return address.rpartition(":")[0].strip("[]")
