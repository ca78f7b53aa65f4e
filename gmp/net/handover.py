"""The hand-over from a relay link to a direct connection, so that messages keep their order across it.

Each side sends a *barrier* behind the last piece that it sends over the relay link. When the other side's barrier arrives,
nothing more comes that way, and this side says so over the connection (``gmp.passed``). Until that has arrived for its own
barrier, a side sends nothing over the connection: what is sent waits. When both barriers have passed, the link is closed.
"""

from __future__ import annotations

from collections.abc import Callable

import gevent

from gmp.net.reasons import CloseReason
from gmp.net.way import PeerWay, RelayWay
from gmp.wire.requests import PASSED

HAND_OVER = 10.0  # seconds within which a direct connection must have replaced a relay link


class HandOver:
    """The replacement of `relay` by `connection`.

    `passed()` is called when what waits may go over the connection, `finished()` before the link is closed.
    """

    def __init__(
        self, relay: RelayWay, connection: PeerWay, passed: Callable[[], None], finished: Callable[[], None]
    ) -> None:
        self.relay = relay
        self._connection = connection
        self._passed = passed
        self._finished = finished
        self._deadline = gevent.get_hub().loop.timer(HAND_OVER)

    def begin(self) -> None:
        """Send our barrier; the other side's may have arrived already."""
        self._deadline.start(self._timed_out)
        self.relay.barrier()
        if self.relay.barrier_seen and self.relay.reason is None:
            self.barrier_seen()

    def _timed_out(self) -> None:
        self.relay.close(CloseReason.RELAY_LOST, "no acknowledgement of the hand-over")

    def barrier_seen(self) -> None:
        """The other side sends nothing more over the relay link: acknowledge that over the connection."""
        self._connection.send("", (PASSED, self.relay.token))
        self._finish()

    def barrier_passed(self, token: object) -> None:
        """Handle ``gmp.passed``: our barrier has arrived at the other side."""
        relay = self.relay
        if relay.token == token and not relay.barrier_acknowledged:
            relay.barrier_acknowledged = True
            self._passed()
            self._finish()

    def _finish(self) -> None:
        if self.relay.barrier_seen and self.relay.barrier_acknowledged:
            self._finished()
            self._deadline.close()
            self.relay.close(CloseReason.DIRECT)

    def stop(self) -> None:
        """Wait for nothing more: another hand-over takes the place of this one."""
        self._deadline.close()

    def cancel(self) -> None:
        """Close the link, as the peer is lost."""
        self._deadline.close()
        self.relay.close(CloseReason.RELAY_LOST)
