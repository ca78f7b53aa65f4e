"""Handshakes: from a socket to a connection that its peer may take, a stream, or a refusal.

The walk of a connection: accepted or dialled → `start` → `greeted` (the arbiter waits, the other node sends its
authentication line) → authenticated, which `gmp.net.network` handles → `done`, or `failed`. Before that nothing is believed.
"""

from __future__ import annotations

import logging
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Protocol

from gmp.config import Settings
from gmp.errors import AuthenticationError, GmpError, ProtocolError
from gmp.ids import is_peer_node_id
from gmp.net.between import Policy, Way
from gmp.net.connection import Connection
from gmp.net.dialling import ClosedUnheard, Detachable, Dial, DialAgain, SelfDial
from gmp.net.heartbeat import Limits
from gmp.net.machine import Machine
from gmp.net.peer import Peer
from gmp.net.peerstate import is_arbiter
from gmp.net.reasons import CloseReason, describe
from gmp.net.streams import DATACONN, STREAM_ID, ExpectedStreams, Stream
from gmp.net.visitors import Visitors, host_of
from gmp.outside import chance, clock
from gmp.peerlog import PeerLog
from gmp.wire.chunks import layer_for
from gmp.wire.framing import default_framings
from gmp.wire.requests import CHUNKS, FRAMES, RUNS
from gmp.wire.session import Session

log = logging.getLogger("gmp.net")
_EXPECTED = {  # ends of a handshake that are neither a refusal nor a fault, and not logged
    CloseReason.SELF,
    CloseReason.DUPLICATE,
    CloseReason.TAKEN,
    CloseReason.REPLACED,
    CloseReason.RESTARTED,
    CloseReason.NODE_CLOSED,
    CloseReason.LEAVING,
}
_REFUSED_HERE = {CloseReason.AUTHENTICATION_FAILED, CloseReason.PROTOCOL_ERROR}
_CLOSED_THERE = {CloseReason.EOF, CloseReason.RESET}


class Table(Protocol):
    """The table of the node's peers."""

    peers: dict[str, Peer]

    def peer(self, node_id: str) -> Peer:
        """Return the peer of that ID, made if it is new."""


class Handshakes:
    """The connections of one node that are in handshake, each with the dial that it is for (None: it was accepted).

    `make` makes a connection of a socket, a session and what is known of its ends; `add_stream` keeps a stream.
    """

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        settings: Settings,
        table: Table,
        *,
        machine: Machine,
        visitors: Visitors,
        limits: Limits,
        peer_log: PeerLog,
        make: Callable[[int, Session, str, Way, int], Connection],
        add_stream: Callable[[Stream], Stream],
    ) -> None:
        self.pending: dict[Connection, Dial | None] = {}
        self._numbers = count(1)
        self.expected_streams = ExpectedStreams()
        self._node_id, self._incarnation = node_id, incarnation
        self._settings = settings
        self._table = table
        self._machine = machine
        self._visitors = visitors
        self._limits = limits
        self._tell = partial(peer_log.tell, log)
        self._make = make
        self._add_stream = add_stream
        self.closed = False  #: whether the node is
        self.announces(())

    def announces(self, advertised: Iterable[str]) -> None:
        """Set the addresses that this node tells others, by which they may have dialled it."""
        settings = self._settings
        self._between = Policy(self._node_id, settings.reached_at, advertised, require_roles=settings.require_roles)

    def next_number(self) -> int:
        """Return the number of what begins now: it is greater than those of all connections that have begun here.

        So for what is asked of another node through seeds: the answer was made after that (`gmp.net.peerstate`).
        """
        return next(self._numbers)

    def start(self, sock: Detachable, address: str, way: Way, dial: Dial | None) -> Connection | None:
        """Begin the handshake of a connection, which takes `sock` over; None when it broke at once."""
        settings = self._settings
        stream_id = "" if dial is None else dial.stream_id
        number = self.next_number()
        session = Session(
            node_id=self._node_id,
            nonce=b2a_base64(chance.token_bytes(66), newline=False).decode(),
            secret=settings.secret,
            framings=settings.framings or default_framings(),
            keys={
                "gmp": "1",
                "incarnation": self._incarnation,
                "heartbeat": f"{self._limits.heartbeat:g}",
                "keepalive": str(self._limits.keepalive),
                "mproto": "1",
                "gproto": "1",
                RUNS.name: RUNS.value,
                CHUNKS.name: CHUNKS.value,
                FRAMES.name: FRAMES.value,
                **way.keys(),
                **({STREAM_ID: stream_id} if stream_id else {}),
            },
            protocol=DATACONN if stream_id else "aemp",
            tls=settings.cert is not None,
            require_tls=settings.tls_required,
            allow_cleartext=settings.allow_cleartext,
            allow_anonymous=settings.allow_anonymous,
            max_message=settings.max_message,
            perl_strings=settings.perl_strings,
        )
        # race: Ctrl-C: only now, as until then whoever lets `sock` go closes it, and the other side sees the end
        connection = self._make(sock.detach(), session, address, way, number)
        if connection.reason is not None:
            return None
        self.pending[connection] = dial
        return connection

    def greeted(self, connection: Connection) -> bool:
        """`Owner.greeted`."""
        greeting = connection.session.greeting
        if connection not in self.pending:  # race: Ctrl-C has struck before it was noted
            connection.close(CloseReason.INTERRUPTED, "before it began")
            return False
        if not is_peer_node_id(greeting.node_id):
            raise ProtocolError(f"unusable node ID {greeting.node_id!r}")
        dial = self.pending[connection]
        if dial is not None:
            if dial.expect and dial.expect != greeting.node_id:
                raise AuthenticationError(f"expected node {dial.expect!r}, but {greeting.node_id!r} answered")
            if greeting.protocol != "aemp":
                raise ProtocolError(f"{greeting.protocol!r} in an answer, expected 'aemp'")
        self._check_nobody_between(connection)
        if greeting.node_id == self._node_id:
            self._meet_itself(connection)
            return False
        if self.is_stream(connection):
            return True
        if self.is_arbiter(connection):
            return False
        peer = self._table.peers.get(greeting.node_id)
        if peer is not None:
            peer.link.offered(connection, incarnation_of(connection))
        return True

    def _meet_itself(self, connection: Connection) -> None:
        """Handle a greeting that claims to be this node's; believe it if the other end is here, with the same greetings.

        Otherwise a node that mirrors a greeting could pass for this one, a seed say. The first of the two ends waits.
        """
        other = next((each for each in self.pending if connection.session.is_other_end(each.session)), None)
        for end in () if other is None else (connection, other):
            dial = self.pending[end]
            if dial is not None:
                dial.result.set_exception(SelfDial(f"{end.address} is this node itself"))
            end.close(CloseReason.SELF)

    def _check_nobody_between(self, connection: Connection) -> None:
        """Check for a third party before we send our authentication line, which is what one would need."""
        greeting, tls = connection.session.greeting, connection.session.tls_active
        try:
            self._between.check(connection.way, greeting.node_id, greeting.keys, tls=tls)
        except AuthenticationError as error:
            if "gmp" in greeting.keys and not tls:
                connection.turn_away(str(error))
            raise

    def is_arbiter(self, connection: Connection) -> bool:
        """Return whether this node decides which of two connections is kept."""
        greeting = connection.session.greeting
        return is_arbiter(self._node_id, greeting.node_id, peer_is_gmp="gmp" in greeting.keys)

    def is_stream(self, connection: Connection) -> bool:
        """Return whether a connection was made for a stream."""
        dial = self.pending[connection]
        return connection.session.greeting.protocol == DATACONN if dial is None else bool(dial.stream_id)

    def done(self, connection: Connection, result: str | Stream) -> None:
        """It was taken: tell `result` to whoever has dialled."""
        self._visitors.proved(connection)
        dial = self.pending[connection]
        if dial is not None:
            dial.result.set(result)
        del self.pending[connection]  # race: Ctrl-C: at last, or who has dialled would wait for ever

    def take_stream(self, connection: Connection) -> None:
        """Make an authenticated connection a stream. An ID is used up by the first node that may use it."""
        greeting, take = connection.session.greeting, None
        if self.pending[connection] is None:
            stream_id = greeting.keys.get(STREAM_ID, "")
            expected = self.expected_streams.take(stream_id, greeting.node_id, clock.monotonic())
            if expected is None:
                raise ProtocolError(f"no stream {stream_id[:40]!r} is expected from node {greeting.node_id!r}")
            take = expected.take
        fd, tls, read_ahead = connection.hand_over()
        layer = layer_for(greeting.keys) if tls is None else tls
        sock, let_go = self._machine.socket_of(fd), self._machine.let_go
        stream = self._add_stream(Stream(sock, greeting.node_id, layer, read_ahead, let_go=let_go))
        self.done(connection, stream)
        if take is not None:
            take(stream)

    def failed(self, connection: Connection, reason: CloseReason) -> None:
        """It has ended before it was taken: tell who has dialled, and the log."""
        dial = self.pending[connection]
        node_id = connection.session.greeting.node_id if connection.session.has_greeting else ""
        if dial is not None and not dial.result.ready():
            self._dial_failed(connection, reason, node_id, dial)
        del self.pending[connection]  # race: Ctrl-C: only now, and the mending tells who has dialled
        if reason not in _EXPECTED and not connection.refused:
            self._log_refusal(connection, logging.WARNING if dial is None else logging.INFO)  # a dialler gets the error

    def _dial_failed(self, connection: Connection, reason: CloseReason, node_id: str, dial: Dial) -> None:
        result = dial.result
        peer = self._table.peer(node_id) if reason is CloseReason.TAKEN else self._table.peers.get(node_id)
        text = f"{connection.address}: {describe(connection)}{self._perhaps(connection)}"
        if node_id == self._node_id and incarnation_of(connection) != self._incarnation:
            result.set_exception(GmpError(f"{connection.address} is another node with the ID {node_id!r} of this one"))
        elif not dial.stream_id and (reason is CloseReason.DUPLICATE or self._is_linked_otherwise(peer, connection)):
            # race: both dialled at once and the other connection won
            result.set(node_id)
        elif peer is not None and not dial.stream_id and self._closed_for_another(peer, connection):
            result.set_exception(DialAgain(text, peer))
        else:
            result.set_exception(self._error_of(connection, reason)(text))

    def _error_of(self, connection: Connection, reason: CloseReason) -> type[ProtocolError]:
        if reason is CloseReason.AUTHENTICATION_FAILED:
            return AuthenticationError
        unheard = reason in _CLOSED_THERE and not connection.session.has_greeting
        return ClosedUnheard if unheard else ProtocolError

    def _perhaps(self, connection: Connection) -> str:
        """Return why the other side most likely closed a connection in the handshake: it does not say."""
        if connection.reason not in _CLOSED_THERE:
            return ""
        if not connection.session.has_greeting:
            return " before it said anything: perhaps it is no gmp node"
        greeting = connection.session.greeting
        perhaps = "the secrets differ"
        if greeting.offers_tls and self._settings.cert is None:
            perhaps = "it requires TLS (setting cert), or the secrets differ"
        elif self._settings.cert is not None:
            perhaps = "it does not accept our certificate, or the secrets differ"
        return f", node {greeting.node_id!r}, in the handshake: perhaps {perhaps}; its log tells"

    def _is_linked_otherwise(self, peer: Peer | None, connection: Connection) -> bool:
        """Return whether the node that was dialled has closed this connection in favour of one that is up."""
        return peer is not None and peer.is_linked and self._has_another(peer, connection)

    def _closed_for_another(self, peer: Peer, connection: Connection) -> bool:
        if connection.reason is CloseReason.TAKEN:
            return True  # race: what makes the other one up here is still on the way
        closed_there = connection.reason in _CLOSED_THERE and self._has_another(peer, connection)
        return closed_there and peer.link.dial_again(incarnation_of(connection))

    def _has_another(self, peer: Peer, connection: Connection) -> bool:
        """Return whether that node has closed `connection` as it has another one.

        A gmp node proves who it is when it says so, otherwise a node at a seed's address could name another one as that
        seed. A Perl node closes without a word: it is taken for that when the node is known as one of Perl's; with
        `cert_names` its certificate has proved it by then.
        """
        if connection.reason is CloseReason.TAKEN:
            return True
        if not peer.link.known or peer.link.newest or connection.reason in _REFUSED_HERE:  # gmp nodes have an incarnation
            return False
        return not self._settings.cert_names or (connection.tls is not None and connection.tls.ready)

    def _log_refusal(self, connection: Connection, level: int) -> None:
        text = f"handshake with {connection.address} failed: {describe(connection)}{self._perhaps(connection)}"
        self._tell(level, "handshake failed", host_of(connection.address), text)

    def hold(self, connection: Connection) -> bool:
        """`Owner.hold`: a wrong login from an address that keeps failing is refused after a delay."""
        accepted = connection in self.pending and self.pending[connection] is None
        return self._visitors.ended(connection, visitor=accepted and not self.closed)



def incarnation_of(connection: Connection) -> str:
    """Return the incarnation that the other side's greeting claims; empty if it has none (Perl)."""
    return connection.session.greeting.keys.get("incarnation", "")
