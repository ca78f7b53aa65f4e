"""A way to another node through seeds: what a `Peer` uses in place of a connection when neither node can dial the other.

It is a stream of bytes, cut into pieces that travel as requests between nodes (`gmp.mesh.detours` opens it and knows the
route). At most `WINDOW` bytes are in flight without an acknowledgement; the rest waits here and counts towards the peer's
high mark, so that a slow receiver blocks the sender and no seed between them has to keep much.

The other side is always told of its end, and its loss is the loss of the peer, as with a connection. When a direct
connection replaces it, the last piece of each direction is a *barrier* (`gmp.net.handover`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from gmp.errors import ProtocolError
from gmp.net.reasons import CloseReason
from gmp.net.way import Watch
from gmp.wire.dispatch import Decoded, Undecodable
from gmp.wire.framing import make_decoder, make_encoder
from gmp.wire.requests import EVERYBODY, OF_GMP, key_of

log = logging.getLogger("gmp.net")
WINDOW = 256 * 1024
PIECE = 64 * 1024
DATA, ACK, BARRIER, CLOSE, LOST = "data", "ack", "barrier", "close", "lost"


class RelayOwner(Protocol):
    """What a link reports; called in any greenlet, must not block."""

    def relay_received(self, link: RelayLink, message: Decoded) -> None:
        """A message whose destination is not in the table, or that cannot be decoded."""

    def relay_barrier(self, link: RelayLink) -> None:
        """The other side's barrier has arrived: it sends nothing more this way."""

    def relay_drained(self, link: RelayLink) -> None:
        """The bytes that wait have fallen to the low mark."""

    def relay_closed(self, link: RelayLink) -> None:
        """The link has ended; `reason` and `detail` say why."""


class RelayLink:
    """A `PeerWay` through seeds. `carry(kind, *args)` sends a piece or a sign to the other end."""

    framing = "msgpack"
    strings = outbox = tls = None
    is_gmp = admits_all = True
    is_direct = encrypting = False
    on_this_host: bool = False

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        token: str,
        via: str,
        *,
        carry: Callable[..., None],
        owner: RelayOwner,
        destinations: dict[str, Any],
        max_message: int,
    ) -> None:
        self.node_id, self.incarnation, self.token = node_id, incarnation, token
        self.via = via  #: the seed to which this node hands the pieces
        self.address = f"relayed by {via}"
        self.reason: CloseReason | None = None
        self.detail = ""
        self.high_mark = 1 << 62
        self.low_mark = 0
        self.sent_messages = self.received_messages = 0
        self.sent_bytes = self.received_bytes = 0
        self.queued = 0  #: bytes that wait for the window
        self.watch: Watch | None = None  #: what the housekeeper knows of it, while it is open
        self.barrier_seen = False  #: the other side's barrier has arrived
        self.barrier_acknowledged = False  #: the other side has seen ours
        self._carry = carry
        self._owner = owner
        self._destinations = destinations
        self._encode = make_encoder("msgpack", max_message).encode
        self._decoder = make_decoder("msgpack", max_message)
        self._waiting: deque[bytes] = deque()
        self._early: list[tuple[str, tuple[Any, ...]]] | None = []  # what arrived before this was the peer's way
        self._barrier_waits = False
        self._pumping = False
        self._acknowledged = 0
        self._told = 0

    @staticmethod
    def admits(name: str) -> bool:
        """Whether the other end knows the request or addition `name`: it sent no greeting, but it is a gmp node."""
        return key_of(name) in (EVERYBODY, OF_GMP)

    def stats(self) -> dict[str, Any]:
        """Return no figures: all are those of any way."""
        return {}

    # ---- sending

    def send(self, name: str, message: tuple[Any, ...]) -> bool:
        """Send a message; return whether more than the high mark waits now. *Raises:* `MessageError`."""
        self.write(self._encode(name, message))
        return self.queued > self.high_mark

    def write(self, data: bytes) -> None:
        """Send a packed message."""
        if self.reason is None:
            self.sent_messages += 1
            self._waiting.append(data)
            self.queued += len(data)
            self._pump()

    def barrier(self) -> None:
        """Send the barrier behind what waits: nothing more is sent this way."""
        self._barrier_waits = True
        self._pump()

    def _pump(self) -> None:
        if self._pumping:  # race: a signal handler sends: the code that it interrupted sends this too, afterwards
            return
        self._pumping = True
        try:
            self.guard(self._pump_on)  # nobody knows whether the piece is on its way
        finally:
            self._pumping = False

    def _pump_on(self) -> None:
        while self._waiting and self.reason is None:
            room = WINDOW - (self.sent_bytes - self._acknowledged)
            if room <= 0:
                return
            data = self._waiting.popleft()
            size = min(room, PIECE, len(data))
            if size < len(data):
                self._waiting.appendleft(data[size:])
            self.queued -= size
            self.sent_bytes += size
            self._carry(DATA, data[:size])
        if self._barrier_waits and self.reason is None:
            self._barrier_waits = False
            self._carry(BARRIER)

    # ---- what the other end sends

    def arrived(self, kind: str, args: tuple[Any, ...]) -> None:
        """Handle a piece or sign of the other end; one that is not well formed ends the link."""
        if self._early is not None:
            self._early.append((kind, args))
            return
        argument = args[0] if args else None
        if kind == DATA and isinstance(argument, bytes):
            self._receive(argument)
        elif kind == ACK and isinstance(argument, int) and self._acknowledged <= argument <= self.sent_bytes:
            self._acknowledged = argument
            self._pump()
            if self.queued <= self.low_mark:
                self._owner.relay_drained(self)
        elif kind == BARRIER:
            self.barrier_seen = True
            self._owner.relay_barrier(self)
        elif kind == CLOSE and self.barrier_seen:
            pass  # race: the other side has finished its hand-over before us: the acknowledgement comes by the connection
        elif kind in (CLOSE, LOST):
            self.close(CloseReason.RELAY_LOST, str(argument or ""), told=True)
        else:
            self.close(CloseReason.PROTOCOL_ERROR, f"relayed {kind!r} with {argument!r:.40}")

    def _receive(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes - self._told >= WINDOW // 4:
            self._told = self.received_bytes
            self._carry(ACK, self.received_bytes)
        find = self._destinations.get
        try:
            for message in self._decoder.decode(data):
                self.received_messages += 1
                destination = None if isinstance(message, Undecodable) else find(message[0])
                if destination is not None:
                    assert isinstance(message, list)
                    del message[0]
                    destination.put(tuple(message))
                else:
                    self._owner.relay_received(self, message)
                    if self.reason is not None:
                        return
        except ProtocolError as error:
            self.close(CloseReason.PROTOCOL_ERROR, str(error))

    def read_ahead(self) -> None:
        """Handle what arrived before this was the way to the peer."""
        early, self._early = self._early, None
        for kind, args in early or ():
            self.arrived(kind, args)

    # ---- the end

    def close(self, reason: CloseReason, detail: str = "", *, told: bool = False) -> None:
        """End the link; what waits is lost. `told`: the other side knows already. Idempotent."""
        if self.reason is not None:
            return
        self.reason, self.detail = reason, detail
        self._waiting.clear()
        self.queued = 0
        if not told:
            self._carry(CLOSE if reason is CloseReason.DIRECT else LOST, reason.value)
        self._owner.relay_closed(self)
        self.watch = None  # it refers to this link

    def guard(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function`; what it raises ends this link by name, and what interrupts it goes on."""
        try:
            function(*args)
        except Exception as error:  # a bug of ours must not leave it open with a piece missing
            log.error("the way to %s, %s, failed", self.node_id, self.address, exc_info=error)
            self.close(CloseReason.INTERNAL_ERROR, repr(error))
        except BaseException as error:  # race: Ctrl-C
            self.close(CloseReason.INTERRUPTED, type(error).__name__)
            raise

    def mend(self) -> None:
        """race: Ctrl-C came while it ended: report the end again."""
        if self.reason is not None:
            self._owner.relay_closed(self)

    def flush(self) -> None:
        """Do nothing: what may be sent has been handed on already."""

    def half_close(self) -> None:
        """Do nothing: there is no socket."""

    def abandon(self) -> None:
        """Do nothing: there is no socket."""

    def __str__(self) -> str:
        return f"{self.node_id} {self.address}"
