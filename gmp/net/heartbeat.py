"""When a peer is busy, hung or lost: pure rules, which take the time and figures and return what to do.

The kernel answers for the host, the heartbeat for the program. A program that only computes still has a kernel that
acknowledges, so *lost* is decided from TCP's own figures (`Reach`), *busy* and *hung* from a silence of the program
(`Pulse`). Each side sends a heartbeat when it has sent nothing for a while; anything received is a sign of life.

Time here is the time during which this node itself ran (`OwnTime`): a stall of this node counts against no peer.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

HEARTBEAT = 2.0  # seconds without traffic in one direction after which a heartbeat is sent
MEASURE = 5  # heartbeat intervals after which one is sent all the same, to measure the round trip


class Limits(NamedTuple):
    """How long silence may last, in seconds; None: for ever."""

    lost_after: float = 20.0
    busy_after: float | None = 10.0
    hung_after: float | None = 60.0

    @property
    def heartbeat(self) -> float:
        """Seconds between heartbeats: small enough that several fall into what this node tolerates itself."""
        return min([HEARTBEAT, *(limit / 4 for limit in (self.busy_after, self.hung_after) if limit is not None)])

    @property
    def keepalive(self) -> int:
        """Whole seconds between the kernel's keepalive probes, and before the first of them."""
        return max(1, round(self.lost_after * 3 / 20))

    @property
    def probes(self) -> int:
        """How many keepalive probes may go unanswered."""
        return max(1, round(self.lost_after / self.keepalive) - 1)

    @property
    def tick(self) -> float:
        """Seconds between two looks."""
        return min(0.5, self.heartbeat / 4, self.lost_after / 10)


class OwnTime:
    """The time in which this node ran. `lag` is by how much the last look came late, `peak` the most so far.

    Between two looks at most one heartbeat's interval counts, however long this node did not run.
    """

    def __init__(self, now: float, limits: Limits) -> None:
        self.now = 0.0
        self.lag = self.peak = 0.0
        self._tick, self._most = limits.tick, limits.heartbeat
        self._last = now

    def advance(self, now: float) -> float:
        """Advance to monotonic time `now`; return the own time."""
        elapsed, self._last = now - self._last, now
        self.now += min(elapsed, self._most)
        self.lag = max(0.0, elapsed - self._tick)
        self.peak = max(self.peak, self.lag)
        return self.now


class Sign(enum.Enum):
    """What a look at a peer's silence calls for."""

    NOTHING = "nothing"
    BUSY = "busy"  #: it has become busy
    NOT_BUSY = "not busy"  #: it is no longer busy
    HUNG = "hung"


class Pulse:
    """The program at the other end of one connection. `interval` is how often it said it sends heartbeats.

    None: it sends none (a Perl node), so its silence means nothing.
    """

    def __init__(self, limits: Limits, interval: float | None, now: float) -> None:
        self.busy = False
        self.heard = now  #: own time of the last sign of life that was noticed
        self.round_trip: float | None = None  #: seconds from the last answered heartbeat to its answer
        self._interval = interval
        self._every = limits.heartbeat
        # a peer that sends less often than this node tolerates is judged by what it promised
        patience = 0.0 if interval is None else interval * 2.5
        self._busy_after = None if limits.busy_after is None else max(limits.busy_after, patience)
        self._hung_after = None if limits.hung_after is None else max(limits.hung_after, patience)
        self._spoke = self._beat = now
        self._received = self._sent = -1
        self._token = 0
        self._asked: float | None = None

    def carry_on(self, former: Pulse) -> None:
        """Take over from `former`, whose way this one replaces: a busy peer is reported as not busy at the next look."""
        self.heard, self.busy = former.heard, former.busy

    def look(self, now: float, received: int) -> Sign:
        """Return what the silence calls for at own time `now`, with `received` bytes so far."""
        if received != self._received:
            self._received = received
            self.heard = now
            if self.busy:
                self.busy = False
                return Sign.NOT_BUSY
            return Sign.NOTHING
        silence = now - self.heard
        if self._interval is None:
            return Sign.NOTHING
        if self._hung_after is not None and silence >= self._hung_after:
            return Sign.HUNG
        if not self.busy and self._busy_after is not None and silence >= self._busy_after:
            self.busy = True
            return Sign.BUSY
        return Sign.NOTHING

    def heartbeat_due(self, now: float, sent: int, queued: int) -> bool:
        """Return whether to send a heartbeat: nothing was sent for a while, and nothing waits to be sent."""
        if self._interval is None:
            return False
        if queued:
            self._spoke = now
            return False
        if sent != self._sent:
            self._sent = sent
            self._spoke = now
        return now - self._spoke >= self._every or now - self._beat >= MEASURE * self._every

    def next_token(self, now: float, clock: float) -> int:
        """Return the token of a heartbeat sent at own time `now`, wall or monotonic `clock`."""
        self._beat = self._spoke = now
        self._token += 1
        self._asked = clock
        return self._token

    def answered(self, token: object, clock: float) -> None:
        """Note an answer; one to an older heartbeat, or to none, says nothing about the round trip."""
        if token == self._token and self._asked is not None:
            self.round_trip = clock - self._asked
            self._asked = None


class TcpFigures(NamedTuple):
    """What the kernel says of a connection; times in milliseconds."""

    probes: int
    unacked: int
    last_data_sent: int
    last_ack_received: int
    segments_in: int
    not_sent: int
    established: bool = True


class Reach:
    """The host at the other end of one connection: the rule by which it is lost.

    Any segment that arrives is a sign of life, the peer's own keepalives included. While nothing is unacknowledged the
    kernel's keepalive decides, and ends the connection by itself. `retry_bounded`: the kernel was told to retry at least
    every tenth of `lost_after` (TCP_RTO_MAX_MS), so silence means a loss; without that it may be backing off, and must
    first have retried late enough. `peer_keepalive`: seconds between the peer's probes, None when it did
    not say.

    What was tried and does not work: the age of the last acknowledgement (window probes to a program that does not read back
    off to minutes), TCP_USER_TIMEOUT (kills a stopped peer whose kernel answers), polling SO_ERROR (an ARP failure sets it
    while the connection lives).
    """

    def __init__(self, lost_after: float, *, retry_bounded: bool, peer_keepalive: float | None, now: float) -> None:
        self.heard = now
        self._lost_after = lost_after
        self._retry_bounded = retry_bounded
        self._peer_probes = peer_keepalive is not None and peer_keepalive * 4 <= lost_after
        self._segments = -1

    def lost(self, now: float, tcp: TcpFigures) -> bool:
        """Return whether the host is lost, at own time `now`."""
        if tcp.segments_in != self._segments:
            self._segments = tcp.segments_in
            self.heard = now
        if tcp.unacked == 0 and tcp.not_sent == 0:
            return False
        if now - self.heard < self._lost_after:
            return False
        if self._retry_bounded:
            return True
        if tcp.unacked > 0:
            return tcp.last_ack_received - tcp.last_data_sent >= self._lost_after * 625
        # the peer's window is closed, as its program does not read: its kernel's keepalives or our window probes decide
        return self._peer_probes or tcp.probes >= 2
