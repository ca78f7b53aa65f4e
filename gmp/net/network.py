"""Everything that opens a socket: a server for each bind, dialling, and the table of connections and peers.

Walk of a connection: accepted or dialled → `Connection` in handshake → `greeted` (the arbiter waits, everybody else
sends its authentication line) → `authenticated` (`peerstate.Link` decides, `_run` does it) → attached to its `Peer`, or
closed. A connection that loses that judgement was never up, so no monitor fires for it. One that was made for a stream is
no way to a peer: nobody waits for the arbiter, and its socket is handed over.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet

import gevent
import gevent.event
import gevent.socket

from gmp.config import Address, Settings, parse_advertised
from gmp.errors import AuthenticationError, GmpError, ProtocolError
from gmp.ids import is_peer_node_id
from gmp.net.between import Policy, Way, make_end
from gmp.net.challenge import answered_for
from gmp.net.connection import Connection
from gmp.net.heartbeat import Limits
from gmp.net.housekeeper import Housekeeper, HousekeeperEvents
from gmp.net.listening import Listeners, format_address
from gmp.net.machine import is_own, machine_name
from gmp.net.names import family_of
from gmp.net.peer import Peer, PeerEvents
from gmp.net.peerstate import Act, Do, PeerState, is_arbiter
from gmp.net.reasons import CloseReason
from gmp.net.relaylink import RelayLink
from gmp.net.relays import Relays
from gmp.net.resting import Resting
from gmp.net.streams import DATACONN, STREAM_ID, ExpectedStreams, Stream
from gmp.net.tls import RECORD, make_contexts, marks_seed
from gmp.net.visitors import Visitors, host_of
from gmp.peerlog import PeerLog
from gmp.wire.chunks import layer_for
from gmp.wire.dispatch import Decoded
from gmp.wire.framing import default_framings
from gmp.wire.perl_strings import PERL_STRINGS
from gmp.wire.portable import Portable
from gmp.wire.requests import CHUNKS, RUNS
from gmp.wire.session import Session

log = logging.getLogger("gmp.net")
READ_SIZE = 64 * 1024  # what it becomes stays in the processor's cache until it is used
_BUG_OR_NORMAL = {
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
FIRST_DELAY, MOST_DELAY = 0.1, 2.0  # seconds before dialling again, doubling, while the other side clears up
_ENDED = {CloseReason.EOF, CloseReason.LEAVING, CloseReason.RESTARTED}  # what shows that a process is gone


class NetworkEvents(PeerEvents, HousekeeperEvents, Protocol):
    """What the kernel is told by the network."""

    def peer_drained(self, peer: Peer) -> None:
        """What waited for `peer` has fallen to its low mark."""

    def peer_linked(self, peer: Peer) -> None:
        """A peer that was relayed is connected directly now."""

    def peers_forgotten(self, peers: set[Peer]) -> None:
        """These were idle for long, and nothing is known of them any more."""

    def node_port_message(self, peer: Peer, message: Decoded) -> None:
        """A message from `peer` for the node port, for a port that is not in the table, or that cannot be decoded."""


class Dial(NamedTuple):
    """What a connection was dialled for; `result` gets the ID of the node there, or the stream."""

    result: gevent.event.AsyncResult[Any]
    expect: str  #: the only node ID to accept; empty: any
    stream_id: str  #: empty: it is to be a way to that node


class SelfDial(GmpError):
    """The address that was dialled is this node's own."""


class DialAgain(GmpError):
    """The other side closed the connection, but most likely for the sake of another one with this node."""

    def __init__(self, text: str, peer: Peer) -> None:
        super().__init__(text)
        self.peer = peer


class Network:
    """The sockets of one node."""

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        settings: Settings,
        destinations: dict[str, Any],
        events: NetworkEvents,
        peer_log: PeerLog,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.binds: list[str] = []
        self.peers: dict[str, Peer] = {}
        self._settings = settings
        self._destinations = destinations
        self._events = events
        self._tell = partial(peer_log.tell, log)
        self._hub = gevent.get_hub()
        self._limits = Limits(settings.lost_after, settings.busy_after, settings.hung_after)
        self.housekeeper = Housekeeper(
            self._hub, self._limits, self.up_peers, self._mend, self._forget_idle, events
        )
        self._resting = Resting(settings.handshake_timeout)
        self._buffer = bytearray(READ_SIZE)
        self._scratch = bytearray(READ_SIZE + 2 * RECORD if settings.cert else 0)
        self._framings = settings.framings or default_framings()
        self.portable = Portable(  # raises for a framing that cannot be
            self._framings, settings.max_message, PERL_STRINGS[settings.perl_strings]
        )
        self._contexts = make_contexts(settings.cert) if settings.cert else None
        self.is_marked_seed = self._contexts is not None and settings.cert_names and marks_seed(self._contexts)
        self._listeners = Listeners(self._accepted)
        self._handshakes: dict[Connection, Dial | None] = {}  # None: it was accepted
        self._begun = 0  # connections, so far
        self.expected_streams = ExpectedStreams()
        self._streams: WeakSet[Stream] = WeakSet()
        self.visitors = Visitors(
            settings.max_unauthenticated,
            settings.max_unauthenticated_per_address,
            settings.handshake_timeout,
            self._hub,
        )
        self._between = self._policy(())
        self._challenges: dict[Connection, gevent.Greenlet[..., None]] = {}
        self._acts: dict[Act, Callable[[Peer, Connection], object]] = {
            Act.ACCEPT: self._accept,
            Act.CLOSE_OLD: lambda peer, connection: connection.close(CloseReason.OLD_INCARNATION),
            Act.CLOSE_DUPLICATE: lambda peer, connection: connection.close_second(),
            Act.CLOSE_REPLACED: lambda peer, connection: connection.close(CloseReason.REPLACED),
            Act.CLOSE_RESTARTED: lambda peer, connection: connection.close(CloseReason.RESTARTED),
            Act.LOSE: self._lose,
            Act.PROBE: lambda peer, connection: connection.probe(),
            Act.CHALLENGE: self._challenge,
            Act.REFUSE: self._refuse,
        }
        self._closed = False
        self.relays = Relays(
            node_id,
            self.peer,
            events.node_port_message,
            destinations,
            settings.max_message,
            self.housekeeper.watch_relayed,
            lambda: self._begun,
            peer_log,
        )

    def _policy(self, advertised: Iterable[str]) -> Policy:
        settings = self._settings
        return Policy(self.node_id, settings.reached_at, advertised, require_roles=settings.require_roles)

    # ---- listening

    def listen(self, binds: list[Address]) -> None:
        """`Listeners.listen`."""
        self._listeners.listen(binds)
        self.binds = self._listeners.binds
        if self._settings.advertise is not None:
            self._between = self._policy(self.announced())

    def announced(self) -> list[str]:
        """The addresses to tell others."""
        advertise = self._settings.advertise
        return self._listeners.announced(None if advertise is None else [parse_advertised(text) for text in advertise])

    def stop_listening(self) -> None:
        """Close the listening sockets."""
        self._listeners.stop()

    def _accepted(self, sock: Any, address: tuple[Any, ...]) -> None:
        host = str(address[0])
        self.visitors.make_room(host)
        way = _way(sock.getsockname(), address, dialled=False)
        connection = self._start(sock.detach(), format_address(*address[:2]), way, None)
        if connection is not None:
            self.visitors.enter(connection, host)

    def _start(self, fd: int, address: str, way: Way, dial: Dial | None) -> Connection | None:
        settings = self._settings
        stream_id = "" if dial is None else dial.stream_id
        self._begun += 1
        session = Session(
            node_id=self.node_id,
            nonce=b64encode(secrets.token_bytes(66)).decode(),
            secret=settings.secret,
            framings=self._framings,
            keys={
                "gmp": "1",
                "incarnation": self.incarnation,
                "heartbeat": f"{self._limits.heartbeat:g}",
                "keepalive": str(self._limits.keepalive),
                "mproto": "1",
                "gproto": "1",
                RUNS.name: RUNS.value,
                CHUNKS.name: CHUNKS.value,
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
            way=way,
            number=self._begun,
            handshake_timeout=settings.handshake_timeout,
            limits=self._limits,
            send_buffer=settings.send_buffer,
            drained=self._drained,
        )
        if connection.reason is not None:
            return None
        self._handshakes[connection] = dial
        return connection

    # ---- dialling

    def dial(self, address: Address, *, expect: str = "") -> str:
        """Connect to the numeric `address` and return the ID of the node there. `expect`: the only node ID to accept.

        *Blocks:* for up to the settings' `address_timeout` for TCP and `handshake_timeout` for the handshake; while the
        other side takes another connection with this node for up, it dials again, for up to `connect_timeout`.
        *Raises:* `SelfDial`, or `GmpError` or `OSError` that tell what happened.
        """
        deadline, delay = time.monotonic() + self._settings.connect_timeout, FIRST_DELAY
        while True:
            try:
                return str(self._dial(address, Dial(gevent.event.AsyncResult(), expect, "")))
            except DialAgain as again:
                if time.monotonic() + delay > deadline:
                    raise
                if again.peer.is_up and not again.peer.is_linked:
                    gevent.sleep(delay)  # it is relayed; nothing tells when it is no more
                else:
                    again.peer.came_up.wait(delay)
                if again.peer.is_linked:
                    return again.peer.node_id
                delay = min(2 * delay, MOST_DELAY)

    def dial_stream(self, address: Address, node_id: str, stream_id: str) -> Stream:
        """Connect to the numeric `address` of `node_id` for a stream that is expected there.

        *Blocks:*, *Raises:* as `dial`.
        """
        stream = self._dial(address, Dial(gevent.event.AsyncResult(), node_id, stream_id))
        assert isinstance(stream, Stream)
        return stream

    def _dial(self, address: Address, dial: Dial) -> str | Stream:
        if self._closed:
            raise GmpError("the node is closed")
        family = family_of(address.host)
        if family is None:
            raise GmpError(f"{address.host!r} is not resolved yet")
        where = format_address(*address)
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._settings.address_timeout)
            sock.connect(address)
            own, other = sock.getsockname(), sock.getpeername()
            if own == other:
                raise ConnectionRefusedError("TCP connected to itself")
            if self._closed:
                raise GmpError("the node is closed")
            connection = self._start(sock.detach(), where, _way(own, other, dialled=True), dial)
        finally:
            sock.close()
        if connection is None:
            raise GmpError(f"{where}: the connection broke at once")
        try:
            dial.result.wait()
        finally:
            if not dial.result.ready():  # whoever wanted it has another connection
                connection.close(CloseReason.DUPLICATE)
        result: str | Stream | None = dial.result.value
        error = dial.result.exception
        del dial, connection  # an error's traceback refers to this frame: in it they would be garbage that is a cycle
        try:
            if error is not None:
                raise error
        finally:
            del error
        assert result is not None
        return result

    # ---- what connections tell

    def greeted(self, connection: Connection) -> bool:
        """`Owner.greeted`."""
        greeting = connection.session.greeting
        if not is_peer_node_id(greeting.node_id):
            raise ProtocolError(f"unusable node ID {greeting.node_id!r}")
        dial = self._handshakes[connection]
        if dial is not None:
            if dial.expect and dial.expect != greeting.node_id:
                raise AuthenticationError(f"expected node {dial.expect!r}, but {greeting.node_id!r} answered")
            if greeting.protocol != "aemp":
                raise ProtocolError(f"{greeting.protocol!r} in an answer, expected 'aemp'")
        self._check_nobody_between(connection)
        if greeting.node_id == self.node_id:
            self._meet_itself(connection)
            return False
        if self._is_stream(connection):
            return True
        if self._is_arbiter(connection):
            return False
        peer = self.peers.get(greeting.node_id)
        if peer is not None:
            peer.link.offered(connection, _incarnation(connection))
        return True

    def _meet_itself(self, connection: Connection) -> None:
        """The other side says that it is this node. Believed when the other end is here, and has said and heard the same.

        Otherwise whoever mirrors a greeting would make us take a seed for ourselves. The first of the two ends waits.
        """
        other = next((each for each in self._handshakes if connection.session.is_other_end(each.session)), None)
        for end in () if other is None else (connection, other):
            dial = self._handshakes[end]
            if dial is not None:
                dial.result.set_exception(SelfDial(f"{end.address} is this node itself"))
            end.close(CloseReason.SELF)

    def _check_nobody_between(self, connection: Connection) -> None:
        """Before our authentication line, which is what somebody in between would need."""
        greeting, tls = connection.session.greeting, connection.session.tls_active
        try:
            self._between.check(connection.way, greeting.node_id, greeting.keys, tls=tls)
        except AuthenticationError as error:
            if "gmp" in greeting.keys and not tls:
                connection.turn_away(str(error))
            raise

    def _is_arbiter(self, connection: Connection) -> bool:
        greeting = connection.session.greeting
        return is_arbiter(self.node_id, greeting.node_id, peer_is_gmp="gmp" in greeting.keys)

    def _is_stream(self, connection: Connection) -> bool:
        dial = self._handshakes[connection]
        return connection.session.greeting.protocol == DATACONN if dial is None else bool(dial.stream_id)

    def authenticated(self, connection: Connection) -> None:
        """`Owner.authenticated`."""
        if connection.session.greeting.node_id == self.node_id:
            raise ProtocolError(f"the other side says that it is this node {self.node_id!r}, and is not")
        if self._is_stream(connection):
            self._stream_authenticated(connection)
            return
        connection.node_id = connection.session.greeting.node_id
        connection.incarnation = _incarnation(connection)
        peer = self.peer(connection.node_id)
        arbiter = self._is_arbiter(connection)
        self._run(
            peer, peer.link.authenticated(connection, connection.incarnation, connection.number, arbiter=arbiter)
        )

    def _run(self, peer: Peer, todo: list[Do[Connection]]) -> None:
        """Do what the rule of the one connection says."""
        for act, connection in todo:
            self._acts[act](peer, connection)

    def _accept(self, peer: Peer, connection: Connection) -> None:
        if connection.reason is not None:
            return  # race: it has ended while it waited
        old = peer.connection
        if isinstance(old, RelayLink) and old.incarnation != connection.incarnation:
            old.close(CloseReason.RESTARTED)
        if peer.state is PeerState.LOST:  # what is sent before the loss is told must not find a way
            connection.pause()
            peer.after_loss(partial(self._accept, peer, connection))
            return
        dial = self._handshake_done(connection)
        connection.accept()
        connection.watch = self.housekeeper.watch(connection)
        peer.dialled = "" if dial is None else connection.address
        if isinstance(old, RelayLink) and old is peer.connection:
            if old.watch is not None:
                connection.watch.pulse.carry_on(old.watch.pulse)
            peer.hand_over(connection)
            self._events.peer_linked(peer)
        else:
            peer.attach(connection)
        if dial is not None:
            dial.result.set(connection.node_id)

    def _handshake_done(self, connection: Connection) -> Dial | None:
        self.visitors.proved(connection)
        return self._handshakes.pop(connection)

    def _stream_authenticated(self, connection: Connection) -> None:
        """Only now is anything believed: who opens which stream. An ID is used up by the first who may use it."""
        greeting, take = connection.session.greeting, None
        if self._handshakes[connection] is None:
            stream_id = greeting.keys.get(STREAM_ID, "")
            expected = self.expected_streams.take(stream_id, greeting.node_id, time.monotonic())
            if expected is None:
                raise ProtocolError(f"no stream {stream_id[:40]!r} is expected from node {greeting.node_id!r}")
            take = expected.take
        fd, tls, read_ahead = connection.hand_over()
        dial = self._handshake_done(connection)
        layer = layer_for(greeting.keys) if tls is None else tls
        stream = self.add_stream(Stream(gevent.socket.socket(fileno=fd), greeting.node_id, layer, read_ahead))
        if dial is not None:
            dial.result.set(stream)
        elif take is not None:
            take(stream)

    def add_stream(self, stream: Stream) -> Stream:
        """This node has a part in it: it ends with the node."""
        self._streams.add(stream)
        return stream

    def finish_streams(self, timeout: float) -> None:
        """Wait for the goodbyes of closed streams to go out. *Blocks:* up to `timeout` seconds."""
        gevent.joinall([stream.lingering for stream in self._streams if stream.lingering is not None], timeout)

    def _lose(self, peer: Peer, connection: Connection) -> None:
        reason = connection.reason
        assert reason is not None
        if peer.connection is connection:
            peer.ended, peer.refused = reason in _ENDED, reason is CloseReason.REFUSED
            if reason is CloseReason.LEAVING:
                peer.lose(("leaving", peer.node_id))
            else:
                peer.lose(("transport_error", peer.node_id, describe(connection)))
        if not self._closed:  # at last: a handler of the log may block, or send
            text = f"connection with {connection} ended: {describe(connection)}"
            self._tell(logging.INFO, f"connection ended, {reason.value}", peer.node_id, text)

    def _challenge(self, peer: Peer, connection: Connection) -> None:
        """Another incarnation wants the place of `connection`: it waits until the kernel has told whether that one lives."""
        for challenger in peer.link.held:
            challenger.pause()
        if peer.state is PeerState.LOST:  # race: `connection` waits itself, so there is no no-op yet to ask the kernel about
            peer.after_loss(partial(self._challenge, peer, connection))
            return
        if connection not in self._challenges:
            self._challenges[connection] = gevent.spawn(self._ask_kernel, peer, connection)

    def _ask_kernel(self, peer: Peer, connection: Connection) -> None:
        alive = answered_for(connection)
        del self._challenges[connection]
        self._run(peer, peer.link.challenged(connection, alive=alive))

    def _refuse(self, peer: Peer, connection: Connection) -> None:
        first = "somebody else" if peer.connection is None else peer.connection.address
        text = f"node ID {peer.node_id!r} is in use by {first}, so that {connection.address} cannot have it"
        self._tell(logging.ERROR, "node ID in use", peer.node_id, text)
        connection.refuse(text)
        dial = self._handshakes[connection]
        if dial is not None:
            dial.result.set_exception(GmpError(text))

    def received(self, connection: Connection, message: Decoded) -> None:
        """`Owner.received`."""
        self._events.node_port_message(self.peers[connection.node_id], message)

    def closed(self, connection: Connection) -> None:
        """`Owner.closed`."""
        reason = connection.reason
        assert reason is not None
        session = connection.session
        peer = self.peers.get(session.greeting.node_id) if session.has_greeting else None
        todo = [] if peer is None else peer.link.closed(connection)
        if connection in self._handshakes:
            self._handshake_failed(connection, reason)
        if peer is not None:
            self._run(peer, todo)

    def _handshake_failed(self, connection: Connection, reason: CloseReason) -> None:
        dial = self._handshakes.pop(connection)
        node_id = connection.session.greeting.node_id if connection.session.has_greeting else ""
        if dial is not None and not dial.result.ready():
            self._dial_failed(connection, reason, node_id, dial)
        if reason not in _BUG_OR_NORMAL and not connection.refused:
            self._log_refusal(connection, logging.WARNING if dial is None else logging.INFO)  # who dials is told

    def _dial_failed(self, connection: Connection, reason: CloseReason, node_id: str, dial: Dial) -> None:
        result = dial.result
        peer = self.peer(node_id) if reason is CloseReason.TAKEN else self.peers.get(node_id)
        text = f"{connection.address}: {describe(connection)}{self._perhaps(connection)}"
        if node_id == self.node_id and _incarnation(connection) != self.incarnation:
            result.set_exception(GmpError(f"{connection.address} is another node with the ID {node_id!r} of this one"))
        elif not dial.stream_id and (reason is CloseReason.DUPLICATE or self._is_linked_otherwise(peer, connection)):
            # race: both dialled at once and the other connection won
            result.set(node_id)
        elif peer is not None and not dial.stream_id and self._closed_for_another(peer, connection):
            result.set_exception(DialAgain(text, peer))
        else:
            error = AuthenticationError if reason is CloseReason.AUTHENTICATION_FAILED else ProtocolError
            result.set_exception(error(text))

    def _perhaps(self, connection: Connection) -> str:
        """What most likely made the other side close a connection in the handshake: it does not say."""
        if connection.reason not in _CLOSED_THERE:
            return ""
        if not connection.session.has_greeting:
            return " before it said anything: perhaps it is no gmp node"
        greeting = connection.session.greeting
        perhaps = "the secrets differ"
        if greeting.offers_tls and self._contexts is None:
            perhaps = "it requires TLS (setting cert), or the secrets differ"
        elif self._contexts is not None:
            perhaps = "it does not accept our certificate, or the secrets differ"
        return f", node {greeting.node_id!r}, in the handshake: perhaps {perhaps}; its log tells"

    def _is_linked_otherwise(self, peer: Peer | None, connection: Connection) -> bool:
        """Whether the node that was dialled is connected by another connection, for which it has closed this one."""
        return peer is not None and peer.is_linked and self._has_another(peer, connection)

    def _closed_for_another(self, peer: Peer, connection: Connection) -> bool:
        if connection.reason is CloseReason.TAKEN:
            return True  # race: what makes that one up here is still on the way
        closed_there = connection.reason in _CLOSED_THERE and self._has_another(peer, connection)
        return closed_there and peer.link.dial_again(_incarnation(connection))

    def _has_another(self, peer: Peer, connection: Connection) -> bool:
        """Whether that node has closed `connection` since it has another one.

        A gmp node proves who it is when it says so, or whoever is at a seed's address could name another node as that
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
        """`Owner.hold`: a wrong login of an address that keeps failing is told so after a while."""
        accepted = connection in self._handshakes and self._handshakes[connection] is None
        return self.visitors.ended(connection, visitor=accepted and not self._closed)

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
            self.rest(peer, was_up=False)
        return peer

    def rest(self, peer: Peer, *, was_up: bool) -> None:
        """A peer is new, or was lost: it is forgotten when it stays idle."""
        now = time.monotonic()
        peer.rests(now, was_up=was_up)
        self._resting.rest(peer, now)

    def _forget_idle(self) -> None:
        """What is left of a peer that was idle for long is memory: forget it, as a peer that was never seen."""
        forgotten = self._resting.over(time.monotonic())
        if forgotten:
            for peer in forgotten:
                del self.peers[peer.node_id]
            self._events.peers_forgotten(forgotten)
            for peer in forgotten:
                peer.forgotten()

    def up_peers(self) -> Iterator[Peer]:
        """The peers that are connected now."""
        return (peer for peer in list(self.peers.values()) if peer.is_up)

    def _mend(self) -> None:
        """Let every socket go on whose callback Ctrl-C has struck, and tell of the ends that it kept from being told."""
        self._listeners.mend()
        for connection in list(self._handshakes):
            self._mend_connection(connection)
        for peer in self.up_peers():
            way = peer.connection
            if isinstance(way, Connection):
                self._mend_connection(way)
                if way.reason is not None:
                    self._lose(peer, way)
            elif way is not None:
                way.mend()
            if peer.relay is not None:
                peer.relay.mend()

    def _mend_connection(self, connection: Connection) -> None:
        if connection.reason is None:
            connection.mend()
        else:
            self.closed(connection)

    def abandon(self) -> None:
        """Let go of every socket without a byte, in a child of `fork`: they are the parent's."""
        self._closed = True
        self.housekeeper.stop()
        self._listeners.abandon()
        self.visitors.abandon()
        for stream in list(self._streams):
            stream.abandon()
        up = [peer.connection for peer in self.peers.values() if isinstance(peer.connection, Connection)]
        for connection in (*self._handshakes, *up):
            connection.abandon()

    def close(self) -> None:
        """Close every socket, in silence."""
        self._closed = True
        self.housekeeper.stop()
        gevent.killall(list(self._challenges.values()), block=False)
        self.stop_listening()
        for connection in list(self._handshakes):
            connection.close(CloseReason.NODE_CLOSED)
        self.visitors.close()
        for stream in list(self._streams):
            stream.abort()
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


def _way(own: tuple[Any, ...], other: tuple[Any, ...], *, dialled: bool) -> Way:
    """A TCP connection by the names of its two sockets."""
    ends = make_end(*own[:2]), make_end(*other[:2])
    near = ends[1].is_loopback or is_own(ends[1].host)
    return Way(dialled, *ends, near, machine_name())


def _incarnation(connection: Connection) -> str:
    """What the greeting of the other side claims; empty: it has none (Perl)."""
    return connection.session.greeting.keys.get("incarnation", "")
