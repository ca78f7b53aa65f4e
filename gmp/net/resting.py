"""How long an idle peer is remembered: the pure rule.

A node may meet any number of others in its life, most of them once. What is kept of an idle one serves two purposes: to
tell a late line of an older incarnation from the newest's (`gmp.net.peerstate`), and to dial again when the other side
closes a connection in favour of one that it still believes to be up. The first ends with the last handshake that began
before: after `handshake_timeout` seconds. So does the second if the other process was seen to end; otherwise it ends when
the other kernel has noticed the end of the connection, with gmp as with Perl: after `LOST_KEPT` seconds.
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
        """Note that `peer` is idle from now on, as far as is known."""
        for _, since in (self._ended, self._others):
            since.pop(peer, None)
        _, since = self._ended if peer.ended or not peer.link.known else self._others
        since[peer] = now

    def over(self, now: float) -> list[Peer]:
        """Return the peers whose time is up, and which are to be forgotten."""
        found = []
        for kept, since in (self._ended, self._others):
            while since:
                peer = next(iter(since))
                if since[peer] + kept > now:
                    break
                del since[peer]
                if peer.is_idle:
                    found.append(peer)
                elif peer.state is PeerState.IDLE:
                    self.rest(peer, now)  # a handshake is under way
        return found
