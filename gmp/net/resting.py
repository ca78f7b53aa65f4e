"""How long an idle peer is remembered: the pure rule.

A node may meet any number of others in its life, most of them once. What is kept of one that is idle serves two purposes:
a late line of an older incarnation is told from the newest's (`gmp.net.peerstate`), and a connection that the other side
closes for the sake of one that it still believes in is dialled again. The first is over when every handshake is that
began before: `handshake_timeout` seconds. So is the second when the other process was seen to end; else it is when the
other kernel has found its end of the connection out, with gmp as with Perl: `LOST_KEPT` seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmp.net.peerstate import PeerState

if TYPE_CHECKING:
    from gmp.net.peer import Peer

LOST_KEPT = 60.0  #: seconds for which a peer is kept that was lost, and not seen to end
MARGIN = 1.0  # seconds, as timers come late


class Resting:
    """The peers of one node that may be idle, oldest first in each of two queues."""

    def __init__(self, handshake_timeout: float) -> None:
        kept = handshake_timeout + MARGIN
        self._ended: tuple[float, dict[Peer, float]] = (kept, {})
        self._others: tuple[float, dict[Peer, float]] = (max(kept, LOST_KEPT), {})

    def rest(self, peer: Peer, now: float) -> None:
        """`peer` is idle from now on, as far as is known."""
        for _, since in (self._ended, self._others):
            since.pop(peer, None)
        _, since = self._ended if peer.ended or not peer.link.known else self._others
        since[peer] = now

    def over(self, now: float) -> set[Peer]:
        """The peers whose time is up: they are to be forgotten."""
        found = set()
        for kept, since in (self._ended, self._others):
            while since:
                peer = next(iter(since))
                if since[peer] + kept > now:
                    break
                del since[peer]
                if peer.is_idle:
                    found.add(peer)
                elif peer.state is PeerState.IDLE:
                    self.rest(peer, now)  # a handshake is under way
        return found
