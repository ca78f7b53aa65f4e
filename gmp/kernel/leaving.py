"""How a node leaves: what was sent still goes out, peers are notified, and monitors fire with ``("leaving", node_id)``.

States: *flushing* (what waits is written; ways that are being looked for are waited for, as messages may wait for them) →
*parting* (gmp peers are notified and close their side, of others the own side is closed) → closed. All of it is driven by
events: a peer that is drained, up or lost. The first takes `leave_timeout` seconds at most, the second `GOODBYE`.

race: closing a socket with unread input resets it, and the other side may lose what it has not read yet: so the other side
closes first. A peer that is stopped never does; what was written lies in its kernel then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gevent.event

from gmp.net.peer import Peer
from gmp.outside import clock
from gmp.wire.requests import LEAVING

GOODBYE = 2.0  # seconds in which peers should close their side


class Leaving:
    """The end of one node. `peers` gives its peers; `changed` is called when one of them is drained, up or lost."""

    def __init__(self, peers: Callable[[], Iterable[Peer]]) -> None:
        self._peers = peers
        self._changed = gevent.event.Event()

    def changed(self) -> None:
        """Something happened to a peer."""
        self._changed.set()

    def flush(self, timeout: float | None) -> bool:
        """Wait until everything that was sent is written, or given up; return whether it was written.

        *Blocks:* up to `timeout` seconds (None: without end).
        """
        before = [(peer, peer.dropped, peer.connection) for peer in self._peers() if peer.flushing()]
        try:
            written = self._wait(lambda peer: peer.flushing(), timeout)
        finally:
            for peer in self._peers():
                peer.flushed()
        return written and all(
            peer.dropped == dropped and (connection is None or peer.connection is connection)
            for peer, dropped, connection in before
        )

    def part(self, timeout: float) -> None:
        """Notify the peers, and wait until they have closed their side. *Blocks:* up to `timeout` seconds."""
        told: set[Peer] = set()

        def is_here(peer: Peer) -> bool:
            """race: a handshake that was under way ends now: that peer is notified like the others."""
            if peer.is_linked and any(other.is_up and not other.is_linked for other in self._peers()):
                return True  # it may be the seed that relays: those are notified first, as it would relay no more
            if peer.is_up and peer not in told:
                told.add(peer)
                if peer.admits(LEAVING):
                    peer.send("", (LEAVING,))
                else:
                    peer.half_close()
            return peer.is_up

        self._wait(is_here, timeout)

    def _wait(self, waits: Callable[[Peer], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else clock.monotonic() + timeout
        while len([peer for peer in self._peers() if waits(peer)]):  # a peer notices its end only when it is asked
            left = None if deadline is None else deadline - clock.monotonic()
            self._changed.clear()
            if (left is not None and left <= 0) or not self._changed.wait(left):
                return False
        return True
