"""The sockets of one node: listeners, and the table of connections and peers. `dialling` and `handshakes` belong to it.

A connection that its handshake has authenticated is judged by the rule of the one connection (`peerstate.Link` decides,
`_run` does it): attached to its `Peer`, or closed. One that loses that judgement was never up, so no monitor fires for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import gevent
import gevent.event

from gmp.config import Address, Settings, parse_advertised
from gmp.errors import GmpError, ProtocolError
from gmp.later import later
from gmp.net import machine, unix
from gmp.net.between import Way
from gmp.net.challenge import answered_for
from gmp.net.connection import Connection
from gmp.net.dialling import Detachable, Dial, Dialling
from gmp.net.firstother import FirstOther
from gmp.net.handshakes import Handshakes, incarnation_of
from gmp.net.heartbeat import Limits
from gmp.net.housekeeper import Housekeeper, HousekeeperEvents
from gmp.net.listening import Listeners, format_address
from gmp.net.machine import unix_way_from, way_between
from gmp.net.peer import Peer, PeerEvents
from gmp.net.peerstate import Act, Do, PeerState
from gmp.net.reasons import CloseReason, describe
from gmp.net.records import RECORD
from gmp.net.relaylink import RelayLink
from gmp.net.relays import Relays
from gmp.net.resting import Resting
from gmp.net.streams import Stream
from gmp.net.visitors import Visitors
from gmp.net.way import PeerWay
from gmp.outside import clock
from gmp.peerlog import PeerLog
from gmp.wire.dispatch import Decoded
from gmp.wire.framing import NAMES
from gmp.wire.perl_strings import PERL_STRINGS
from gmp.wire.portable import Portable
from gmp.wire.session import Session

if TYPE_CHECKING:
    from gmp.net import tls
else:
    tls = later("gmp.net.tls")

log = logging.getLogger("gmp.net")
READ_SIZE = 64 * 1024  # so much that the decoded messages stay in the processor's cache until they are used
_ENDED = {CloseReason.EOF, CloseReason.LEAVING, CloseReason.RESTARTED}  # ends which show that the process is gone

# glibc gives free memory at the end of its heap back to the system when it is more than 128 KiB: messages of 64 KiB are
# then packed into new pages, each time. It keeps twice the size of the largest mapped block that was ever freed, such as
# this one, which is not touched and takes no memory. Messages of up to 256 KiB, also with TLS, fault in no pages with that
# of three of them. Nor more: what is smaller is no longer mapped by itself, and leaves holes where it was when it grows.
bytes(3 * 256 * 1024)


class NetworkEvents(PeerEvents, HousekeeperEvents, Protocol):
    """What the network reports to the kernel."""

    def peer_drained(self, peer: Peer) -> None:
        """What waited for `peer` has fallen to its low mark."""

    def peer_linked(self, peer: Peer) -> None:
        """A peer that was relayed is connected directly now."""

    def peers_forgotten(self, peers: set[Peer]) -> None:
        """These peers were idle for long, and were forgotten."""

    def mend(self) -> None:
        """Let go on what an interrupt has struck, as is done for every socket now and then."""

    def node_port_message(self, peer: Peer, message: Decoded) -> None:
        """A message from `peer` has arrived for the node port, for a port not in the table, or one that does not decode."""


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
        self._machine = machine.here()
        self.look_up = self._machine.look_up  #: a name, as `gmp.net.machine.Machine.look_up`
        self._limits = Limits(settings.lost_after, settings.busy_after, settings.hung_after)
        self.housekeeper = Housekeeper(self._hub, self._limits, self.up_peers, self._mend, self._forget_idle, events)
        self._resting = Resting(settings.handshake_timeout)
        self._buffer = bytearray(READ_SIZE)
        self._scratch = bytearray(READ_SIZE + 2 * RECORD if settings.cert else 0)
        self.portable = Portable(settings.framings, settings.max_message, PERL_STRINGS[settings.perl_strings])
        self._contexts = tls.make_contexts(settings.cert) if settings.cert else None
        self.is_marked_seed = self._contexts is not None and settings.cert_names and tls.marks_seed(self._contexts)
        self.first_other = first = FirstOther(settings.framings or NAMES, lambda: self._closed)
        near = first.before(self._accepted_near) if settings.unix_sockets else None
        self._listeners = Listeners(self._machine, first.before(self._accepted), near)
        self._streams: WeakKeyDictionary[Stream, None] = WeakKeyDictionary()  # in their order
        self.visitors = Visitors(
            settings.max_unauthenticated,
            settings.max_unauthenticated_per_address,
            settings.handshake_timeout,
            self._hub,
            self._machine.let_go,
        )
        self.handshakes = handshakes = Handshakes(
            node_id,
            incarnation,
            settings,
            self,
            machine=self._machine,
            visitors=self.visitors,
            limits=self._limits,
            peer_log=peer_log,
            make=self._make_connection,
            add_stream=self.add_stream,
        )
        self.greeted, self.hold = handshakes.greeted, handshakes.hold  #: as `Owner`
        self.expected_streams = handshakes.expected_streams
        dialling = Dialling(self._machine, settings, self._dialled, lambda: self._closed)
        self.dial, self.dial_stream = dialling.dial, dialling.dial_stream
        self._challenges: dict[Connection, gevent.Greenlet[..., None]] = {}
        self._acts = self._acts_of_rule()
        self._closed = False
        self.relays = self._make_relays(peer_log)

    def _make_relays(self, peer_log: PeerLog) -> Relays:
        return Relays(
            self.node_id,
            self.peer,
            self._events.node_port_message,
            self._destinations,
            self._settings.max_message,
            self.housekeeper.watch_relayed,
            self.handshakes.next_number,
            peer_log,
        )

    def _acts_of_rule(self) -> dict[Act, Callable[[Peer, Connection], object]]:
        """Return how to do each act of the rule of the one connection."""
        return {
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

    # ---- listening

    def listen(self, binds: list[Address]) -> None:
        """`Listeners.listen`."""
        self._listeners.listen(binds)
        self.binds = self._listeners.binds
        if self._settings.advertise is not None:
            self.handshakes.announces(self.announced())

    def announced(self) -> list[str]:
        """Return the addresses to tell others."""
        advertise = self._settings.advertise
        return self._listeners.announced(None if advertise is None else [parse_advertised(text) for text in advertise])

    def stop_listening(self) -> None:
        """Close the listening sockets."""
        self._listeners.stop()

    def _dialled(self, sock: Detachable, address: str, way: Way, dial: Dial) -> Connection | None:
        self.first_other.appears()
        return self.handshakes.start(sock, address, way, dial)

    def _accepted(self, sock: Any, address: tuple[Any, ...]) -> None:
        host = str(address[0])
        self.visitors.make_room(host)
        way = way_between(self._machine, sock.getsockname(), address, dialled=False)
        connection = self.handshakes.start(sock, format_address(*address[:2]), way, None)
        if connection is not None:
            self.visitors.enter(connection, host)

    def _accepted_near(self, sock: Any, host: str, port: int) -> None:
        if not unix.is_own_user(sock):
            sock.close()
            return
        way = unix_way_from(self._machine, host, port, unix.process_of(sock))
        self.visitors.make_room(way.other.host)
        connection = self.handshakes.start(sock, str(way.other), way, None)
        if connection is not None:
            self.visitors.enter(connection, way.other.host)

    def _make_connection(self, fd: int, session: Session, address: str, way: Way, number: int) -> Connection:
        settings = self._settings
        return Connection(
            fd,
            session,
            self,
            machine=self._machine,
            hub=self._hub,
            buffer=self._buffer,
            scratch=self._scratch,
            contexts=self._contexts,
            cert_names=settings.cert_names,
            destinations=self._destinations,
            address=address,
            way=way,
            number=number,
            handshake_timeout=settings.handshake_timeout,
            limits=self._limits,
            send_buffer=settings.send_buffer,
            drained=self._drained,
        )

    # ---- what connections tell

    def authenticated(self, connection: Connection) -> None:
        """`Owner.authenticated`."""
        if connection.session.greeting.node_id == self.node_id:
            raise ProtocolError(f"the other side says that it is this node {self.node_id!r}, and is not")
        if self.handshakes.is_stream(connection):
            self.handshakes.take_stream(connection)
            return
        connection.node_id = connection.session.greeting.node_id
        connection.incarnation = incarnation_of(connection)
        peer = self.peer(connection.node_id)
        arbiter = self.handshakes.is_arbiter(connection)
        self._run(
            peer, peer.link.authenticated(connection, connection.incarnation, connection.number, arbiter=arbiter)
        )

    def _run(self, peer: Peer, todo: list[Do[Connection]]) -> None:
        """Carry out what the rule of the one connection has decided."""
        for act, connection in todo:
            self._acts[act](peer, connection)

    def _accept(self, peer: Peer, connection: Connection) -> None:
        if connection.reason is not None or connection.up:
            return  # race: it has ended while it waited; Ctrl-C has struck behind its being taken
        old = peer.connection
        if isinstance(old, RelayLink) and old.incarnation != connection.incarnation:
            old.close(CloseReason.RESTARTED)
        if peer.state is PeerState.LOST:  # what is sent before the loss is told must not find a way
            connection.pause()
            peer.after_loss(partial(self._accept, peer, connection))
            return
        connection.guard(self._take, peer, connection)  # race: Ctrl-C: whole or closed

    def _take(self, peer: Peer, connection: Connection) -> None:
        old = peer.connection
        peer.dialled = "" if self.handshakes.pending[connection] is None else connection.address
        connection.accept()
        if connection.reason is not None:
            return  # race: it broke with our authentication line
        connection.watch = self.housekeeper.watch(connection)
        self.handshakes.done(connection, connection.node_id)
        if isinstance(old, RelayLink):
            if old.watch is not None:
                connection.watch.pulse.carry_on(old.watch.pulse)
            peer.hand_over(connection)
            self._events.peer_linked(peer)
        else:
            peer.attach(connection)

    def add_stream(self, stream: Stream) -> Stream:
        """Track a stream so that it closes with the node; return it."""
        self._streams[stream] = None
        return stream

    def stream_pair(self) -> tuple[Stream, Stream]:
        """Return the two ends of a stream within this node."""
        ours, theirs = self._machine.socket_pair()
        return self.add_stream(self._make_stream(ours)), self.add_stream(self._make_stream(theirs))

    def _make_stream(self, sock: Any) -> Stream:
        return Stream(sock, self.node_id, let_go=self._machine.let_go)

    def finish_streams(self, timeout: float) -> None:
        """Wait for the goodbyes of closed streams to go out. *Blocks:* up to `timeout` seconds."""
        gevent.joinall([stream.lingering for stream in self._streams if stream.lingering is not None], timeout)

    def _lose(self, peer: Peer, connection: PeerWay) -> None:
        reason = connection.reason
        assert reason is not None
        if peer.connection is connection:
            peer.ended, peer.refused = reason in _ENDED, reason is CloseReason.REFUSED
            if reason is CloseReason.LEAVING:
                peer.lose(("leaving", peer.node_id))
            else:
                peer.lose(("transport_error", peer.node_id, describe(connection)))
        if not self._closed:  # comes last: a logging handler may block, or send
            text = f"connection with {connection} ended: {describe(connection)}"
            self._tell(logging.INFO, f"connection ended, {reason.value}", peer.node_id, text)

    def _challenge(self, peer: Peer, connection: Connection) -> None:
        """Let another incarnation, which wants the place of `connection`, wait until the kernel tells whether that lives."""
        for challenger in peer.link.held:
            challenger.pause()
        if peer.state is PeerState.LOST:  # race: `connection` waits itself, so no no-op can be sent on it yet
            peer.after_loss(partial(self._challenge, peer, connection))
            return
        if not self._challenges.get(connection):  # a greenlet that has ended, as when Ctrl-C has struck it, is false
            self._challenges[connection] = gevent.spawn(self._ask_kernel, peer, connection)

    def _ask_kernel(self, peer: Peer, connection: Connection) -> None:
        alive = answered_for(connection)
        self._challenges.pop(connection, None)
        self._run(peer, peer.link.challenged(connection, alive=alive))

    def _refuse(self, peer: Peer, connection: Connection) -> None:
        first = "somebody else" if peer.connection is None else peer.connection.address
        text = f"node ID {peer.node_id!r} is in use by {first}, so that {connection.address} cannot have it"
        self._tell(logging.ERROR, "node ID in use", peer.node_id, text)
        connection.refuse(text)
        dial = self.handshakes.pending[connection]
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
        if connection in self.handshakes.pending:
            self.handshakes.failed(connection, reason)
        if peer is not None:
            self._run(peer, todo)

    def _drained(self, connection: Connection) -> None:
        peer = self.peers.get(connection.node_id)
        if peer is not None:
            peer.wake_senders()
            self._events.peer_drained(peer)

    # ---- peers

    def peer(self, node_id: str) -> Peer:
        """Return the peer of that node, made if it is new."""
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
        """Note that a peer is new or was lost, and is to be forgotten if it stays idle."""
        now = clock.monotonic()
        peer.rests(now, was_up=was_up)
        self._resting.rest(peer, now)

    def _forget_idle(self) -> None:
        """Forget the peers that were idle for long, as if they had never been seen."""
        forgotten = self._resting.over(clock.monotonic())
        if forgotten:
            for peer in forgotten:
                del self.peers[peer.node_id]
            self._events.peers_forgotten(set(forgotten))
            for peer in forgotten:
                peer.forgotten()

    def up_peers(self) -> Iterator[Peer]:
        """Return the peers that are connected now."""
        return (peer for peer in list(self.peers.values()) if peer.is_up)

    def _mend(self) -> None:
        """Resume every socket whose callback Ctrl-C has interrupted, and report the ends that were not reported for it."""
        self._listeners.mend()
        for connection in list(self.handshakes.pending):
            connection.mend()
        for peer in self.up_peers():
            way = peer.connection
            if way is not None:
                way.mend()
                if way.is_direct and way.reason is not None:
                    self._lose(peer, way)
            if peer.relay is not None:
                peer.relay.mend()
        self._events.mend()

    def abandon(self) -> None:
        """Let go of every socket without sending a byte, in a child of `fork`: they are the parent's."""
        self._closed = self.handshakes.closed = True
        self.housekeeper.stop()
        self._listeners.abandon()
        self.visitors.abandon()
        for stream in list(self._streams):
            stream.abandon()
        up = [peer.connection for peer in self.peers.values() if peer.connection is not None]
        for connection in (*self.handshakes.pending, *up):
            connection.abandon()

    def close(self) -> None:
        """Close every socket silently."""
        self._closed = self.handshakes.closed = True
        self.housekeeper.stop()
        gevent.killall(list(self._challenges.values()), block=False)
        self.stop_listening()
        for connection in list(self.handshakes.pending):
            connection.close(CloseReason.NODE_CLOSED)
        self.visitors.close()
        for stream in list(self._streams):
            stream.abort()
        for peer in list(self.peers.values()):
            connection_up = peer.connection
            peer.close()
            if connection_up is not None:
                connection_up.close(CloseReason.NODE_CLOSED)
