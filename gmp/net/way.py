"""A way to a peer, as everything above the socket sees it: a direct `Connection`, or a `RelayLink` through seeds.

Not to be confused with `gmp.net.between.Way`, the addresses of a TCP connection as one end sees them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from gmp.net.heartbeat import Limits, Pulse, Sign
from gmp.outside import clock
from gmp.wire.requests import HEARTBEAT

if TYPE_CHECKING:
    from gmp.net.outbox import Outbox
    from gmp.net.reasons import CloseReason
    from gmp.net.tls import Tls
    from gmp.wire.perl_strings import PerlStrings


class PeerWay(Protocol):
    """What a `Peer` and the housekeeper need of the way to another node, whatever kind it is of."""

    incarnation: str  #: of the node at the other end
    address: str  #: of the other end, for people and for logs
    on_this_host: bool  #: it leads into this node's network namespace, as `gmp.net.between.Way.on_this_host`
    high_mark: int  #: `send` returns True when more bytes wait
    low_mark: int  #: the owner is told when the bytes that wait fall to this
    watch: Watch | None  #: what the housekeeper knows of it, while it is up
    reason: CloseReason | None  #: why it ended; None while it has not
    detail: str  #: more about `reason`, or empty
    sent_messages: int
    received_messages: int
    sent_bytes: int
    received_bytes: int

    @property
    def is_direct(self) -> bool:
        """Whether it is a connection of its own, with a socket, and not a way through seeds."""

    @property
    def outbox(self) -> Outbox | None:
        """Whose batches `gmp.send` may add to; None when it has none."""

    @property
    def tls(self) -> Tls | None:
        """The TLS layer between the two nodes; None without one."""

    @property
    def encrypting(self) -> bool:
        """Whether bytes are being encrypted: only a signal handler that interrupted the encryption sees this."""

    @property
    def queued(self) -> int:
        """Bytes that wait."""

    @property
    def is_gmp(self) -> bool:
        """Whether the node at the other end says that it is a gmp node."""

    @property
    def admits_all(self) -> bool:
        """Whether the other side knows every request."""

    @property
    def framing(self) -> str:
        """The framing of what is sent."""

    @property
    def strings(self) -> PerlStrings | None:
        """How the strings of what is sent are written."""

    def admits(self, name: str) -> bool:
        """Whether the other side knows the request or addition `name` (`gmp.wire.requests`)."""

    def stats(self) -> dict[str, Any]:
        """Return the figures of this kind of way, for `Peer.stats`."""

    def send(self, name: str, message: tuple[Any, ...]) -> bool:
        """Send a message; return whether more than the high mark waits now. *Raises:* `MessageError`."""

    def write(self, data: bytes) -> None:
        """Send a packed message."""

    def flush(self) -> None:
        """Write now what would be written at the end of the turn."""

    def read_ahead(self) -> None:
        """Deliver what arrived before this was the way to the peer."""

    def half_close(self) -> None:
        """Close this side's direction once everything is written, where there is a socket."""

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """End it for `reason`; what waits is lost. Idempotent."""

    def abandon(self) -> None:
        """Let go of its socket, if it has one, without sending a byte: in a child of `fork` it is the parent's."""

    def mend(self) -> None:
        """Resume what an interrupt (Ctrl-C) stopped in the middle, the report of its own end included; in the hub."""


class RelayWay(PeerWay, Protocol):
    """A way through seeds, which a direct connection can replace (`gmp.net.handover`)."""

    token: str  #: names it at both ends
    barrier_seen: bool  #: the other side's barrier has arrived
    barrier_acknowledged: bool  #: the other side has seen ours

    def barrier(self) -> None:
        """Send the barrier behind what waits: nothing more is sent this way."""

    def close(self, reason: CloseReason, detail: str = "", *, told: bool = False) -> None:
        """End it as any way; `told`: the other side knows already."""


def is_relayed(way: PeerWay | None) -> TypeGuard[RelayWay]:
    """Whether `way` leads through seeds."""
    return way is not None and not way.is_direct


class Watch:
    """What the housekeeper knows of one way to a peer: the pulse of the program at its end.

    `interval`: how often that program said it sends heartbeats, in seconds; None: it sends none.
    """

    def __init__(self, way: PeerWay, limits: Limits, interval: float | None, now: float) -> None:
        self.pulse = Pulse(limits, interval, now)
        self._way = way

    def look(self, now: float) -> Sign:
        """Return what is to be done at own time `now`."""
        return self.pulse.look(now, self._way.received_bytes)

    def beat(self, now: float) -> None:
        """Send a heartbeat if one is due."""
        way, pulse = self._way, self.pulse
        if pulse.heartbeat_due(now, way.sent_bytes, way.queued):
            way.send("", (HEARTBEAT, pulse.next_token(now, clock.monotonic())))

    def stats(self) -> dict[str, Any]:
        """Return whether the peer is busy, and the last round trip of a heartbeat in seconds (None before the first)."""
        return {"busy": self.pulse.busy, "round_trip": self.pulse.round_trip}
