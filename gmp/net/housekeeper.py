"""The housekeeper of a node: one timer that checks every way to a peer that is up, and this node's own loop.

For a way through seeds only the program at its end is judged: each hop sees for itself whether its host is lost.

It reads counters and the kernel's figures, asks the pure rules of `heartbeat`, and does what they say: sends a heartbeat,
reports that a peer is busy or no longer is, ends a connection that is lost or hung. No code on the path of a message
knows of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gmp.net import heartbeat, tcp
from gmp.net.connection import Connection
from gmp.net.heartbeat import Limits, OwnTime, Reach, Sign
from gmp.net.peer import Peer
from gmp.net.reasons import CloseReason, reason_of
from gmp.net.way import PeerWay, Watch
from gmp.outside import clock

log = logging.getLogger("gmp.net")


class HousekeeperEvents(Protocol):
    """What the housekeeper reports to the kernel; called in the hub, must not block."""

    def peer_busy(self, peer: Peer, busy: bool, seconds: float) -> None:
        """A peer's program has been silent for `seconds` (`busy`), or has answered after so long."""

    def loop_late(self, seconds: float, sent: int) -> None:
        """This node's own loop was held up for `seconds`; `sent` messages were written since the look before."""


class ConnectionWatch(Watch):
    """What the housekeeper knows of one connection: also whether the host at its end can be reached."""

    def __init__(self, connection: Connection, limits: Limits, now: float) -> None:
        keys = connection.session.greeting.keys
        # another kind of node may have a key of that name: it knows no heartbeats, and must not be sent one
        super().__init__(connection, limits, _seconds(keys.get("heartbeat")) if connection.is_gmp else None, now)
        self._connection = connection
        self.reach = Reach(
            limits.lost_after,
            retry_bounded=connection.retry_bounded,
            peer_keepalive=_seconds(keys.get("keepalive")),
            now=now,
        )

    def look(self, now: float) -> Sign:
        """Return what is to be done at own time `now`; end the connection if it is lost."""
        connection = self._connection
        try:
            figures = tcp.read_figures(connection.sock)
        except OSError as error:
            connection.close(reason_of(error), str(error))
            return Sign.NOTHING
        if figures is not None and self.reach.lost(now, figures):
            connection.close(CloseReason.LOST, f"nothing heard of the host for {now - self.reach.heard:.0f} s")
            return Sign.NOTHING
        return super().look(now)


class Housekeeper:
    """The housekeeper of one node."""

    def __init__(
        self,
        hub: Any,
        limits: Limits,
        up_peers: Callable[[], Iterator[Peer]],
        mend: Callable[[], None],
        forget_idle: Callable[[], None],
        events: HousekeeperEvents,
    ) -> None:
        self._hub = hub
        self._limits = limits
        self._up_peers = up_peers
        self._mend = mend  # resumes what an interrupt stopped in the middle
        self._forget_idle = forget_idle
        self._events = events
        self._time = OwnTime(clock.monotonic(), limits)
        self._sent = 0  # messages written by the connections that were up at the last look
        self._timer: Any = None

    def start(self) -> None:
        """Begin to look."""
        self._time = OwnTime(clock.monotonic(), self._limits)
        self._timer = self._hub.loop.timer(self._limits.tick, self._limits.tick, ref=False)
        self._timer.start(self._look)

    def stop(self) -> None:
        """Stop looking. Idempotent."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()

    def watch(self, connection: Connection) -> Watch:
        """Return the watch for a connection that has come up."""
        return ConnectionWatch(connection, self._limits, self._time.now)

    def watch_relayed(self, link: PeerWay) -> Watch:
        """Return the watch for a way through seeds that has opened.

        No greeting was exchanged on it, but gmp nodes never beat more seldom than every `HEARTBEAT` seconds.
        """
        return Watch(link, self._limits, heartbeat.HEARTBEAT, self._time.now)

    def stats(self) -> dict[str, Any]:
        """Return by how many seconds the last look came late, and the most so far."""
        return {"loop_lag": self._time.lag, "loop_lag_peak": self._time.peak}

    def _look(self) -> None:
        now = self._time.advance(clock.monotonic())
        sent = sum(peer.sent_messages for peer in self._up_peers())
        if self._time.lag > 1.0:
            self._events.loop_late(self._time.lag, max(0, sent - self._sent))
        self._sent = sent
        self._mend()
        for peer in self._up_peers():
            connection = peer.connection
            if connection is not None and connection.watch is not None:
                self._look_at(peer, connection, connection.watch, now)
        self._forget_idle()

    def _look_at(self, peer: Peer, connection: PeerWay, watch: Watch, now: float) -> None:
        heard = watch.pulse.heard
        sign = watch.look(now)
        if connection.reason is not None:
            return  # race: this very look found it lost
        if sign is Sign.HUNG:
            connection.close(CloseReason.HUNG, f"no sign of life from the program for {now - heard:.0f} s")
            return
        if sign is not Sign.NOTHING:
            busy = sign is Sign.BUSY
            log.info("%s is %s after %.1f s", connection, "busy" if busy else "no longer busy", now - heard)
            self._events.peer_busy(peer, busy, now - heard)
        watch.beat(now)


def _seconds(text: str | None) -> float | None:
    """Return a greeting's number of seconds; None if it is not one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < 3600 else None
