"""What a node knows of another node: one `Peer` per remote node ID.

`peer.send` *is* the connection's send while there is one and the queue's while there is none: it is swapped with
the state, so a send does not test it. While connecting, messages are packed at once (a value that does not
serialise must raise at the caller's line) and wait as bytes.

When a connection ends everything queued is dropped, and the kernel fires the monitors. Until it says that those who
watch have been `told`, the peer is lost: a send raises and blocks as it does while connecting, but the message is dropped.
A way that comes up meanwhile waits (`after_loss`). Only then is the peer idle, and what is sent goes to the next
connection (promise 1: no silent hole; the order is in `gmp.kernel.losing`).

race: the framing of a peer is not known when a message for it is queued, and cannot carry it. Had it been known, the
send had raised: so that message alone is dropped, and told in the log.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gevent
import gevent.event
from gevent.hub import Waiter
from greenlet import getcurrent

from gmp.errors import MessageError
from gmp.net.connection import Connection
from gmp.net.outbox import Outbox
from gmp.net.peerstate import Link, PeerState
from gmp.net.reasons import CloseReason
from gmp.net.relaylink import RelayLink
from gmp.net.run import KEPT, Run
from gmp.showing import MOST_TOLD, portable_reason
from gmp.wire.admitting import NotAdmitted
from gmp.wire.framing import Encoder, make_decoder, make_encoder
from gmp.wire.perl_strings import PerlStrings
from gmp.wire.requests import ALIVE, KIL0, KIL1, PASSED

log = logging.getLogger("gmp.net")
DEATHS = (KIL0, KIL1)  #: requests with a port's name and a reason
LATE = 30.0  #: seconds for which something may be on its way through seeds
HAND_OVER = 10.0  # seconds within which a direct connection must have replaced a relay link


class PeerEvents(Protocol):
    """What the kernel is told of a peer; called in any greenlet, must not block."""

    def peer_wanted(self, peer: Peer) -> None:
        """A message waits for a peer that is not connected: find a way, then `Peer.attach` or `Peer.fail`."""

    def peer_up(self, peer: Peer) -> None:
        """The peer is connected; what is sent here joins the end of the queue."""

    def peer_lost(self, peer: Peer, reason: tuple[Any, ...], was_up: bool) -> None:
        """The connection ended, or none could be made: call `Peer.cut_off`, fire the monitors, in one uninterrupted step.

        When everybody has been told as far as that is done without a greenlet of their own, call `Peer.told`; when those
        greenlets have begun, `Peer.go_on`.
        """


class Peer:
    """Another node, and the way to it."""

    def __init__(
        self, node_id: str, events: PeerEvents, *, max_message: int, high_mark: int, low_mark: int
    ) -> None:
        self.node_id = node_id
        self.state = PeerState.IDLE
        self.connection: Connection | RelayLink | None = None
        self.relay: RelayLink | None = None  #: the link that a direct connection is about to replace
        self.ended = False  #: when it was lost last it left, or its process was seen to end
        self.refused = False  #: when it was lost last it had refused this node
        self.lost_at = float("-inf")  #: when it was up last, in monotonic seconds; not while it is
        self.link: Link[Connection] = Link()  #: the rule of the one connection
        self.came_up = gevent.event.Event()  #: set while it is up
        self.queued = 0  #: bytes of memory that what waits for a connection takes
        self.dropped = 0
        self.dialled = ""  #: the address at which this node reached it, if it is this node that has dialled
        self.send: Callable[[str, tuple[Any, ...]], bool] = self._queue_message  #: True: over the high mark now
        self.outbox: Outbox | None = None  #: whose run `gmp.send` may add to, while `send` is the connection's
        self._events = events
        self._max_message = max_message
        self._high_mark, self._low_mark = high_mark, low_mark
        self._encoder: Encoder | None = None  # of what waits; there as long as something does
        self._queue: list[bytes] = []
        self._waiting: deque[Any] = deque()
        self._deadline: Any = None  # of a hand-over
        self._wanted = False  # somebody has asked for a connection while it was lost
        self._after_loss: list[Callable[[], object]] = []

    @property
    def is_up(self) -> bool:
        """Whether messages can flow now."""
        return self.state is PeerState.UP

    def rests(self, now: float, *, was_up: bool) -> None:
        """There is no way to it, and nothing waits for one: keep only what must be."""
        self._encoder = None
        if was_up:
            self.lost_at = now

    def forgotten(self) -> None:
        """Nobody knows it any more. It cannot send: with a method of its own in it, it would be a cycle."""
        del self.send

    def is_former(self, incarnation: str) -> bool:
        """Whether what comes of that incarnation through seeds is late: it began before the newest, which has not left.

        When it was sent cannot be told there, so start times are compared, for as long as it may have been on its way.
        """
        if incarnation >= self.link.newest:
            return False
        return self.is_up or not (self.ended or time.monotonic() - self.lost_at > LATE)

    @property
    def is_idle(self) -> bool:
        """Whether there is no way to it, none is wanted, and no handshake with it is known."""
        return self.state is PeerState.IDLE and self.link.is_idle

    @property
    def is_gmp(self) -> bool:
        """Whether the peer that is connected is a gmp node."""
        return self.connection is not None and self.connection.is_gmp

    def admits(self, name: str) -> bool:
        """Whether the peer is connected, and knows the request or addition `name` (`gmp.wire.requests`)."""
        return self.connection is not None and self.connection.admits(name)

    @property
    def framing(self) -> str:
        """The framing of what is sent now: that of the connection, else what is queued in."""
        return "msgpack" if self.connection is None else self.connection.framing

    @property
    def strings(self) -> PerlStrings | None:
        """How the strings of what is sent now are written."""
        return None if self.connection is None else self.connection.strings

    @property
    def max_message(self) -> int:
        """The most bytes of a message."""
        return self._max_message

    @property
    def is_linked(self) -> bool:
        """Whether there is a direct connection."""
        return isinstance(self.connection, Connection)

    @property
    def sent_messages(self) -> int:
        """How many messages its connection has written; 0 without one."""
        return self.connection.sent_messages if isinstance(self.connection, Connection) else 0

    def flushing(self) -> bool:
        """Whether something that was sent waits still, for a way or for the socket; tells of its end from now on."""
        connection = self.connection
        if connection is None:
            return bool(self._queue)
        connection.low_mark = 0
        self.flush()  # race: Ctrl-C has struck between a write and its count, or before a turn was begun
        return bool(self._queue) or connection.queued > 0

    def flushed(self) -> None:
        """Nobody waits for the last byte any more, as after `flushing`."""
        if self.connection is not None:
            self.connection.low_mark = self._low_mark

    def half_close(self) -> None:
        """Send nothing more over the connection; the other side sees its end and closes it."""
        self._send_by(self._drop)
        if isinstance(self.connection, Connection):
            self.connection.half_close()

    def stats(self) -> dict[str, Any]:
        """Figures: the state, bytes that wait, messages dropped; of the connection what went each way."""
        figures: dict[str, Any] = {"state": self.state.value, "queued_bytes": self.queued, "dropped": self.dropped}
        connection = self.connection
        if connection is not None:
            figures["queued_bytes"] += connection.queued
            for name in ("sent_messages", "received_messages", "sent_bytes", "received_bytes", "address"):
                figures[name] = getattr(connection, name)
            figures["gmp"] = self.is_gmp
            figures["relayed"] = isinstance(connection, RelayLink)
            if isinstance(connection, Connection):
                figures["seen_as"] = connection.session.greeting.keys.get("peeraddr", "")
                if connection.tls is not None:
                    figures.update(connection.tls.stats())
            if connection.watch is not None:
                figures.update(connection.watch.stats())
        return figures

    @property
    def waiting(self) -> int:
        """Bytes that wait for a way or for the socket."""
        connection = self.connection
        return self.queued + (0 if connection is None else connection.queued)

    @property
    def congested(self) -> bool:
        """Whether more bytes wait than the high mark allows."""
        return self.waiting > self._high_mark

    def _send_by(self, send: Callable[[str, tuple[Any, ...]], bool]) -> None:
        connection, before = self.connection, self.outbox
        self.send = send
        self.outbox = connection if isinstance(connection, Connection) and send == connection.send else None
        if before is not None and before is not self.outbox:
            before.stop_runs()  # or `gmp.send` would add to the one that it knows

    def add(self, run: Run, is_in: bool, name: str, message: tuple[Any, ...], data: bytes) -> bool:
        """Finish what `gmp.send` began: `data`, the message to `name`, was packed for `run`, and, if `is_in`, added to it.

        Return False when it has still to be sent. *Blocks:* as `wait_room`. *Raises:* `MessageError`.
        """
        outbox = self.outbox
        if outbox is None or run is not outbox.run:  # race: a signal handler or `__del__` has sent meanwhile
            left_behind = not is_in or bool(run.rows)
            run.end()
            return not left_behind
        over = outbox.make_room(run) if is_in else outbox.join(name, message, data)
        if over:
            self.wait_room()
        return over is not None

    def _queue_message(self, name: str, message: tuple[Any, ...]) -> bool:
        data = self._pack(name, message)
        self._queue.append(data)
        self.queued += len(data) + KEPT
        self.want()
        return self.queued > self._high_mark

    def _pack(self, name: str, message: tuple[Any, ...]) -> bytes:
        if self._encoder is None:
            self._encoder = make_encoder("msgpack", self._max_message)
        return self._encoder.encode(name, message)

    def _lose_message(self, name: str, message: tuple[Any, ...]) -> bool:
        self.queued += len(self._pack(name, message)) + KEPT  # or a loop that sends would never block
        self.dropped += 1
        return self.queued > self._high_mark

    def send_request(self, request: tuple[Any, ...]) -> None:
        """Send a request to the node port there. *Raises:* `MessageError`, not for a death: its reason always travels."""
        _send_request(self.send, request, self._max_message)

    def want(self) -> None:
        """Ask for a connection, without a message."""
        if self.state is PeerState.IDLE:
            self.state = PeerState.CONNECTING
            self._events.peer_wanted(self)
        elif self.state is PeerState.LOST:
            self._wanted = True

    def attach(self, connection: Connection | RelayLink) -> None:
        """`connection` is the way from now on: tell, send what waited, then read what came early."""
        self.connection = connection
        self.state = PeerState.UP
        self.came_up.set()
        connection.high_mark, connection.low_mark = self._high_mark, self._low_mark
        self._events.peer_up(self)
        queue, self._queue, self.queued = self._queue, [], 0
        self._encoder = None
        if connection.framing == "msgpack" and connection.admits_all:
            for data in queue:
                connection.write(data)
        else:
            self._send_again(connection, queue)
        if connection.reason is not None:
            return
        self._send_by(connection.send)
        connection.read_ahead()
        self.wake_senders()

    def _send_again(self, connection: Connection | RelayLink, queue: list[bytes]) -> None:
        """Pack what waited once more, for a peer with another framing, or one that does not know each request."""
        decoder = make_decoder("msgpack", self._max_message)
        unfit: list[MessageError] = []
        for message in decoder.decode(b"".join(queue)):
            assert isinstance(message, list)  # they are our own
            try:
                if message[0]:
                    connection.send(message[0], tuple(message[1:]))
                else:
                    _send_request(connection.send, tuple(message[1:]), self._max_message)
            except MessageError as error:
                unfit.append(error)
        if unfit:
            self.dropped += len(unfit)
            unknown = isinstance(unfit[0], NotAdmitted)
            more = f", and {len(unfit) - 1} more" if len(unfit) > 1 else ""
            log.error(
                "node %s %s what was sent before it was connected: %s%s",
                self.node_id,
                "does not know" if unknown else f"reads {connection.framing} only, which cannot carry",
                unfit[0],
                more,
            )

    def answer_heartbeat(self, token: int) -> None:
        """The peer asks for a sign of life; while more waits than it reads, what waits is one."""
        if self.connection is not None and not self.congested:
            self.connection.send("", (ALIVE, token))

    def heartbeat_answered(self, token: object) -> None:
        """The peer answers a heartbeat."""
        if self.connection is not None and self.connection.watch is not None:
            self.connection.watch.pulse.answered(token, time.monotonic())

    # ---- from a relay link to a direct connection

    def hand_over(self, connection: Connection) -> None:
        """A direct connection replaces the relay link: what is sent waits until the link's barrier has arrived there."""
        relay = self.connection
        assert isinstance(relay, RelayLink)
        self.connection, self.relay = connection, relay
        connection.high_mark, connection.low_mark = self._high_mark, self._low_mark
        self._send_by(self._queue_message)
        self._begin_barrier(relay)
        connection.read_ahead()

    def join_relay(self, relay: RelayLink) -> None:
        """race: a relay link opens behind a direct connection: the other side may have sent something that way already.

        Nothing was sent that way from here, so sends go on; what comes by the connection waits at its sender.
        """
        self.relay = relay
        self._begin_barrier(relay)
        relay.read_ahead()

    def _begin_barrier(self, relay: RelayLink) -> None:
        self._deadline = gevent.get_hub().loop.timer(HAND_OVER)
        self._deadline.start(self._hand_over_timed_out, relay)
        relay.barrier()
        if relay.barrier_seen:
            self.barrier_seen(relay)

    def _hand_over_timed_out(self, relay: RelayLink) -> None:
        if self.relay is relay:
            relay.close(CloseReason.RELAY_LOST, "no acknowledgement of the hand-over")

    def barrier_seen(self, relay: RelayLink) -> None:
        """The other side sends nothing more over `relay`: say so over the connection, once there is one."""
        if self.relay is relay and isinstance(self.connection, Connection):
            self.connection.send("", (PASSED, relay.token))
            self._end_hand_over()

    def barrier_passed(self, token: object) -> None:
        """``gmp.passed``: our barrier has arrived, so what waits may go over the connection."""
        relay, connection = self.relay, self.connection
        if relay is None or connection is None or relay.token != token or relay.barrier_acknowledged:
            return
        relay.barrier_acknowledged = True
        if self.send == self._queue_message:
            queue, self._queue, self.queued = self._queue, [], 0
            self._encoder = None
            for data in queue:
                connection.write(data)
            self._send_by(connection.send)
        self._end_hand_over()
        self.wake_senders()

    def _end_hand_over(self) -> None:
        relay = self.relay
        if relay is not None and relay.barrier_seen and relay.barrier_acknowledged:
            self.relay = None
            self._deadline.close()
            relay.close(CloseReason.DIRECT)

    # ---- the end

    def fail(self, text: str) -> None:
        """No way was found: drop what waits and fire the monitors."""
        self.lose(("transport_error", self.node_id, text))

    def lose(self, reason: tuple[Any, ...]) -> None:
        """The way is gone: drop what waits, fire the monitors, and be idle when everybody has been told."""
        if self.state not in (PeerState.CONNECTING, PeerState.UP):
            return
        self._events.peer_lost(self, reason, self.state is PeerState.UP)

    def cut_off(self) -> None:
        """It is lost: what waits is dropped, and what is sent from now on. Interrupted, it is called again."""
        self.state = PeerState.LOST
        self._send_by(self._lose_message)
        self.dropped += len(self._queue)
        self._queue.clear()
        self.queued = 0
        self.connection = None
        self.came_up.clear()
        if self.relay is not None:
            self._deadline.close()
            self.relay.close(CloseReason.RELAY_LOST)
            self.relay = None

    def told(self) -> None:
        """What is sent from now on goes to the next connection. Interrupted, it is called again."""
        if self.state is PeerState.LOST:
            self.queued = 0
            self._encoder = None
            self._send_by(self._queue_message)
            self.state = PeerState.IDLE

    def after_loss(self, function: Callable[[], object]) -> None:
        """Call `function` in `go_on`: it is for a peer that is not lost. It may find the peer in any other state."""
        self._after_loss.append(function)

    def go_on(self) -> None:
        """Everybody who watches has begun with what to do about the loss: take the ways that wait, wake blocked senders."""
        if self.state is PeerState.LOST:
            return  # race: anew, by what one of them has done; it is called again
        functions, self._after_loss = self._after_loss, self._after_loss[:0]
        while functions:
            function = functions[0]
            del functions[0]
            try:
                function()
            except BaseException:  # race: Ctrl-C: the others have their turn in the next one
                self._after_loss[:0] = functions
                raise
        if self._wanted:
            self.want()
            self._wanted = False
        self._wake_all()

    def close(self) -> None:
        """The own node ends: nothing is sent or dialled any more."""
        self.lose(("node_closed",))
        self.state = PeerState.CLOSED
        self._send_by(self._drop)
        self._wake_all()

    def _drop(self, name: str, message: tuple[Any, ...]) -> bool:
        self.dropped += 1
        return False

    # ---- the high mark

    def flush(self) -> None:
        """Write now what would be written at the end of the turn."""
        if isinstance(self.connection, Connection):
            self.connection.flush()

    def wait_room(self) -> None:
        """Block the calling greenlet until there is room again or the peer is lost. Never blocks in the hub.

        When what waits falls to the low mark, waiters go on in the order they came, each until it blocks, as long as there
        is room: so a thousand producers do not overshoot the mark by a thousand messages.
        """
        hub = gevent.get_hub()
        if getcurrent() is hub:
            return
        self.flush()  # what waits for the end of the turn is no reason to block
        if not self.congested:
            return
        if isinstance(self.connection, Connection) and self.connection.encrypting:
            return  # race: a signal handler has struck the encryption, which goes on behind it only: it waited for itself
        waiter: Waiter[None] = Waiter(hub)
        self._waiting.append(waiter)
        try:
            waiter.get()
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def wake_senders(self) -> None:
        """There is room."""
        if self._waiting:
            gevent.get_hub().loop.run_callback(self._wake_while_room)

    def _wake_while_room(self) -> None:
        while self._waiting:
            self.flush()  # as in `wait_room`; what the one before has sent is no reason to stop
            if self.congested:
                return
            self._waiting.popleft().switch(None)

    def _wake_all(self) -> None:
        """There is nothing to wait for any more: what they have sent is lost."""
        run_callback = gevent.get_hub().loop.run_callback
        while self._waiting:
            run_callback(self._waiting.popleft().switch, None)


def _send_request(send: Callable[[str, tuple[Any, ...]], bool], request: tuple[Any, ...], max_message: int) -> None:
    try:
        send("", request)
    except MessageError:
        if not request or request[0] not in DEATHS:
            raise
        send("", (*request[:2], *portable_reason(request[2:], min(MOST_TOLD, max_message // 16))))
