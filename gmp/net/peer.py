"""What a node knows of another node: one `Peer` per remote node ID.

`peer.send` *is* the way's send while there is one and the queue's while there is none: it is swapped with the state, so
that a send does not test it. While connecting, messages are packed at once (a value that does not serialise must raise at
the caller's line) and wait as bytes.

When a way ends, everything queued is dropped, and the kernel fires the monitors. Until it says that the watchers have been
`told`, the peer is lost: a send raises and blocks as it does while connecting, but the message is dropped. A way that comes
up meanwhile waits (`after_loss`). Only then is the peer idle, and what is sent goes over the next way (promise 1: no silent
hole; the order is in `gmp.kernel.losing`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import gevent
import gevent.event
from gevent.hub import Waiter
from greenlet import getcurrent

from gmp.net.batch import KEPT, Batch
from gmp.net.handover import HandOver
from gmp.net.outbox import Outbox
from gmp.net.peerstate import Link, PeerState
from gmp.net.requeue import send_again, send_request, with_marks
from gmp.net.way import PeerWay, RelayWay, is_relayed
from gmp.outside import clock
from gmp.wire.framing import Encoder, make_encoder
from gmp.wire.perl_strings import PerlStrings
from gmp.wire.requests import ALIVE

if TYPE_CHECKING:
    from gmp.net.connection import Connection

log = logging.getLogger("gmp.net")
LATE = 30.0  #: seconds for which something may be on its way through seeds


class PeerEvents(Protocol):
    """What a peer reports to the kernel; called in any greenlet, must not block."""

    def peer_wanted(self, peer: Peer) -> None:
        """A message waits for a peer that is not connected: find a way, then `Peer.attach` or `Peer.fail`."""

    def peer_up(self, peer: Peer) -> None:
        """The peer is connected; what this sends joins the end of the queue."""

    def peer_lost(self, peer: Peer, reason: tuple[Any, ...], was_up: bool) -> None:
        """The connection ended, or none could be made: call `Peer.cut_off` and fire the monitors in one uninterrupted step.

        Call `Peer.told` when every watcher has been told that needs no greenlet of its own, and `Peer.go_on` when the
        greenlets of the others have begun.
        """


class Peer:
    """Another node, and the way to it."""

    def __init__(self, node_id: str, events: PeerEvents, *, max_message: int, high_mark: int, low_mark: int) -> None:
        self.node_id = node_id
        self.state = PeerState.IDLE
        self.connection: PeerWay | None = None  #: the way to it, direct or through seeds
        self.ended = False  #: whether, when last lost, it had left or its process was seen to end
        self.refused = False  #: whether, when last lost, it had refused this node
        self.lost_at = float("-inf")  #: when it was last up, in monotonic seconds; out of date while it is up
        self.link: Link[Connection] = Link()  #: the rule of the one connection
        self.came_up = gevent.event.Event()  #: set while it is up
        self.queued = 0  #: bytes of memory taken by what waits for a way
        self.dropped = 0
        self.dialled = ""  #: the address at which this node reached it; empty unless this node dialled
        self.send: Callable[[str, tuple[Any, ...]], bool] = self._queue_message  #: True: over the high mark now
        self.outbox: Outbox | None = None  #: the outbox whose batch `gmp.send` may add to, while `send` is the way's
        self._events = events
        self.max_message = max_message  #: the most bytes that a message may have
        self._high_mark, self._low_mark = high_mark, low_mark
        self._encoder: Encoder | None = None  # of the queue; None while that is empty
        self._queue: list[bytes] = []
        self._waiting: deque[Any] = deque()
        self._hand_over: HandOver | None = None  # under way
        self._wanted = False  # `want` was called while it was lost
        self._after_loss: list[Callable[[], object]] = []

    @property
    def is_up(self) -> bool:
        """Whether messages can flow now."""
        return self.state is PeerState.UP

    @property
    def is_lost(self) -> bool:
        """Whether it was lost, and not everybody who watches has been told."""
        return self.state is PeerState.LOST

    def rests(self, now: float, *, was_up: bool) -> None:
        """Free what is not needed while there is no way to it and nothing waits for one."""
        self._encoder = None
        if was_up:
            self.lost_at = now

    def forgotten(self) -> None:
        """Break the reference cycle of a peer that is in no table any more; it cannot send from now on."""
        del self.send

    def is_former(self, incarnation: str, asked: int | None = None) -> bool:
        """Whether what arrives through seeds is late: a newer incarnation is known, and has not left.

        `asked`: the number of the request that it answers; None: it answers none, so start times tell.
        """
        if asked is not None:
            return incarnation != self.link.newest and asked < self.link.number
        if incarnation >= self.link.newest:
            return incarnation == self.link.former
        return self.is_up or not (self.ended or clock.monotonic() - self.lost_at > LATE)

    @property
    def is_idle(self) -> bool:
        """Whether there is no way to it, none is wanted, and no handshake with it is known."""
        return self.state is PeerState.IDLE and self.link.is_idle

    @property
    def is_gmp(self) -> bool:
        """Whether the peer is connected and is a gmp node."""
        return self.connection is not None and self.connection.is_gmp

    def admits(self, name: str) -> bool:
        """Whether the peer is connected, and knows the request or addition `name` (`gmp.wire.requests`)."""
        return self.connection is not None and self.connection.admits(name)

    @property
    def framing(self) -> str:
        """The framing of what is sent now: that of the way, or of the queue."""
        return "msgpack" if self.connection is None else self.connection.framing

    @property
    def strings(self) -> PerlStrings | None:
        """How the strings of what is sent now are written."""
        return None if self.connection is None else self.connection.strings

    @property
    def is_linked(self) -> bool:
        """Whether there is a direct connection."""
        return self.connection is not None and self.connection.is_direct

    @property
    def sent_messages(self) -> int:
        """How many messages its direct connection has written; 0 without one."""
        connection = self.connection
        return connection.sent_messages if connection is not None and connection.is_direct else 0

    def flushing(self) -> bool:
        """Return whether something still waits for a way or for the socket; report from now on when nothing does."""
        connection = self.connection
        if connection is None:
            return bool(self._queue)
        connection.low_mark = 0
        self.flush()  # race: Ctrl-C came between a write and its count, or before a turn was begun
        return bool(self._queue) or connection.queued > 0

    def flushed(self) -> None:
        """Undo `flushing`: nothing waits for the last byte any more."""
        if self.connection is not None:
            self.connection.low_mark = self._low_mark

    def half_close(self) -> None:
        """Send nothing more; over a direct connection the other side sees the end and closes."""
        self._send_by(self._drop)
        if self.connection is not None:
            self.connection.half_close()

    def stats(self) -> dict[str, Any]:
        """Return figures: the state, bytes that wait, messages dropped; for a connected peer, what went each way."""
        figures: dict[str, Any] = {"state": self.state.value, "queued_bytes": self.queued, "dropped": self.dropped}
        connection = self.connection
        if connection is not None:
            figures["queued_bytes"] += connection.queued
            for name in ("sent_messages", "received_messages", "sent_bytes", "received_bytes", "address"):
                figures[name] = getattr(connection, name)
            figures["gmp"] = self.is_gmp
            figures["relayed"] = not connection.is_direct
            figures.update(connection.stats())
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
        self.outbox = connection.outbox if connection is not None and send == connection.send else None
        if before is not None and before is not self.outbox:
            before.stop_batches()  # otherwise `gmp.send` would go on adding to the batch that it knows

    def add(self, batch: Batch, is_in: bool, name: str, message: tuple[Any, ...], data: bytes) -> bool:
        """Finish what `gmp.send` began: it packed `data`, the message to `name`, for `batch`, and if `is_in` has added it.

        Return False if the message has still to be sent. *Blocks:* as `wait_room`. *Raises:* `MessageError`.
        """
        outbox = self.outbox
        if outbox is None or batch is not outbox.batch:  # race: a signal handler or `__del__` has sent something meanwhile
            left_behind = not is_in or bool(batch.rows)
            batch.end()
            return not left_behind
        over = outbox.make_room(batch) if is_in else outbox.join(name, message, data)
        if over:
            self.wait_room()
        return over is not None

    def _queue_message(self, name: str, message: tuple[Any, ...]) -> bool:
        data = with_marks(self._pack(name, message), message, self.max_message)
        self._queue.append(data)
        self.queued += len(data) + KEPT
        self.want()
        return self.queued > self._high_mark

    def _pack(self, name: str, message: tuple[Any, ...]) -> bytes:
        if self._encoder is None:
            self._encoder = make_encoder("msgpack", self.max_message)
        return self._encoder.encode(name, message)

    def _lose_message(self, name: str, message: tuple[Any, ...]) -> bool:
        self.queued += len(self._pack(name, message)) + KEPT  # otherwise a loop that sends would never block
        self.dropped += 1
        return self.queued > self._high_mark

    def send_request(self, request: tuple[Any, ...]) -> None:
        """Send a request to the node port there. *Raises:* `MessageError`, but not for a death: its reason is shortened."""
        send_request(self.send, request, self.max_message)

    def want(self) -> None:
        """Ask for a way to the peer, without a message."""
        if self.state is PeerState.IDLE:
            self.state = PeerState.CONNECTING
            self._events.peer_wanted(self)
        elif self.state is PeerState.LOST:
            self._wanted = True

    def attach(self, connection: PeerWay) -> None:
        """Make `connection` the way to the peer: report it, send what waited, then deliver what arrived early."""
        self.connection = connection
        self.state = PeerState.UP
        self.came_up.set()
        connection.high_mark, connection.low_mark = self._high_mark, self._low_mark
        self._events.peer_up(self)
        self._send_queue(connection)
        if connection.reason is None:
            connection.read_ahead()
            self.wake_senders()

    def _send_queue(self, connection: PeerWay) -> None:
        """Send what was queued, which was packed before the framing of `connection` was known; from now on, send by that."""
        send = connection.send
        while self._queue:  # again, race: a signal handler has sent meanwhile
            queue, self._queue, self.queued, self._encoder = self._queue, [], 0, None
            if connection.framing == "msgpack" and connection.admits_all:
                for data in queue:
                    connection.write(data)
            else:
                self.dropped += send_again(self.node_id, connection, queue, self.max_message)
        if connection.reason is None:
            self.send = send  # in one step with the last look at the queue: no call is between
            self._send_by(send)

    def answer_heartbeat(self, token: int) -> None:
        """Answer a heartbeat of the peer, unless so much waits for it that this is a sign of life itself."""
        if self.connection is not None and not self.congested:
            self.connection.send("", (ALIVE, token))

    def heartbeat_answered(self, token: object) -> None:
        """Note the peer's answer to a heartbeat."""
        if self.connection is not None and self.connection.watch is not None:
            self.connection.watch.pulse.answered(token, clock.monotonic())

    # ---- from a relay link to a direct connection

    @property
    def relay(self) -> RelayWay | None:
        """The relay link that a direct connection is about to replace."""
        return None if self._hand_over is None else self._hand_over.relay

    def hand_over(self, connection: PeerWay) -> None:
        """Replace the relay link by a direct connection: what is sent waits until the link's barrier has arrived there."""
        relay = self.connection
        assert is_relayed(relay)
        hand_over = self._make_hand_over(relay, connection)
        self.connection, self._hand_over = connection, hand_over
        connection.high_mark, connection.low_mark = self._high_mark, self._low_mark
        self._send_by(self._queue_message)
        hand_over.begin()
        connection.read_ahead()

    def join_relay(self, relay: RelayWay) -> None:
        """race: a relay link opens behind a direct connection: the other side may have sent something that way already.

        This side has sent nothing that way, so sends go on; what the other side sends over the connection waits there.
        """
        assert self.connection is not None
        self._hand_over = self._make_hand_over(relay, self.connection)
        self._hand_over.begin()
        relay.read_ahead()

    def _make_hand_over(self, relay: RelayWay, connection: PeerWay) -> HandOver:
        if self._hand_over is not None:  # race: the other side has opened another link before the hand-over was over
            self._hand_over.stop()
        return HandOver(relay, connection, self._send_on, self._handed_over)

    def barrier_seen(self, relay: RelayWay) -> None:
        """Note that the other side sends nothing more over `relay`."""
        if self._hand_over is not None and self._hand_over.relay is relay:
            self._hand_over.barrier_seen()

    def barrier_passed(self, token: object) -> None:
        """Handle ``gmp.passed``: our barrier has arrived, so what waits may go over the connection."""
        if self._hand_over is not None:
            self._hand_over.barrier_passed(token)

    def _send_on(self) -> None:
        if self.connection is not None and self.send == self._queue_message:
            self._send_queue(self.connection)
        self.wake_senders()

    def _handed_over(self) -> None:
        self._hand_over = None

    # ---- the end

    def fail(self, text: str) -> None:
        """Drop what waits and fire the monitors, as no way was found; `text` says why."""
        self.lose(("transport_error", self.node_id, text))

    def lose(self, reason: tuple[Any, ...]) -> None:
        """Drop what waits and fire the monitors, as the way is gone; the peer is idle once every watcher has been told."""
        if self.state not in (PeerState.CONNECTING, PeerState.UP):
            return
        self._events.peer_lost(self, reason, self.state is PeerState.UP)

    def cut_off(self) -> None:
        """Drop what waits, and what is sent from now on. When interrupted, it is called again."""
        self.state = PeerState.LOST
        self._send_by(self._lose_message)
        self.dropped += len(self._queue)
        self._queue.clear()
        self.queued = 0
        self.connection = None
        self.came_up.clear()
        if self._hand_over is not None:
            self._hand_over.cancel()
            self._hand_over = None

    def told(self) -> None:
        """Let what is sent from now on go over the next way. When interrupted, it is called again."""
        if self.state is PeerState.LOST:
            self.queued = 0
            self._encoder = None
            self._send_by(self._queue_message)
            self.state = PeerState.IDLE

    def after_loss(self, function: Callable[[], object]) -> None:
        """Call `function` in `go_on`: it is for a peer that is not lost. It may find the peer in any other state.

        Interrupted, it is called again, so it can be.
        """
        self._after_loss.append(function)

    def go_on(self) -> None:
        """Everybody who watches has begun with what to do about the loss: take the ways that wait, wake blocked senders."""
        functions = self._after_loss
        while functions and not self.is_lost:
            try:
                functions[0]()
            except Exception:  # a bug of ours must not keep those who wait for room waiting for ever
                log.exception("node %s: a way that came up behind its loss was not taken", self.node_id)
            del functions[:1]  # only now: interrupted, it is called again; race: the node was closed in it
        if self.is_lost:
            return  # race: anew, by what one of them has done; it is called again
        if self._wanted:
            self.want()
            self._wanted = False
        self._wake_all()

    def close(self) -> None:
        """Send and dial nothing any more, as this node ends."""
        self.lose(("node_closed",))
        self.state = PeerState.CLOSED
        self._after_loss.clear()  # race: a way came up behind its loss: a closed node takes none
        self._send_by(self._drop)
        self._wake_all()

    def _drop(self, name: str, message: tuple[Any, ...]) -> bool:
        self.dropped += 1
        return False

    # ---- the high mark

    def flush(self) -> None:
        """Write now what would be written at the end of the turn."""
        if self.connection is not None:
            self.connection.flush()

    def wait_room(self) -> None:
        """Block the calling greenlet until there is room again or the peer is lost. Never blocks in the hub.

        When what waits falls to the low mark, waiters resume in the order they came, each until it blocks, as long as there
        is room: so a thousand producers do not overshoot the mark by a thousand messages.
        """
        hub = gevent.get_hub()
        if getcurrent() is hub:
            return
        self.flush()  # what waits for the end of the turn is no reason to block
        if not self.congested:
            return
        if self.connection is not None and self.connection.encrypting:
            return  # race: a signal handler interrupted the encryption, which resumes only after it: it would wait forever
        waiter: Waiter[None] = Waiter(hub)
        self._waiting.append(waiter)
        try:
            waiter.get()
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def wake_senders(self) -> None:
        """Wake blocked senders, as there is room."""
        if self._waiting:
            gevent.get_hub().loop.run_callback(self._wake_while_room)

    def _wake_while_room(self) -> None:
        while self._waiting:
            self.flush()  # as in `wait_room`: what the sender before has sent is no reason to stop
            if self.congested:
                return
            self._waiting.popleft().switch(None)

    def _wake_all(self) -> None:
        """Wake all senders, as there is nothing to wait for: what they have sent is lost."""
        run_callback = gevent.get_hub().loop.run_callback
        while self._waiting:
            run_callback(self._waiting.popleft().switch, None)
