"""What a node does about what its network tells: `gmp.net.network.NetworkEvents`.

When a peer is lost, `gmp.kernel.losing` says what happens in which order, and when the peer may be dialled again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gevent

from gmp.kernel.losing import Loss
from gmp.kernel.undecodable import UndecodableMessages
from gmp.mesh.failures import in_words
from gmp.net.peer import Peer
from gmp.net.peerstate import PeerState
from gmp.net.reasons import CloseReason
from gmp.ports.monitors import Reason
from gmp.wire.dispatch import Decoded, Undecodable
from gmp.wire.requests import REFUSED

if TYPE_CHECKING:
    from gmp.kernel.host import Parts

log = logging.getLogger("gmp")


class Reactions:
    """Those of one node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._undecodable = UndecodableMessages(parts.ports, parts.monitors, parts.peer_log)
        self._searching: dict[Peer, gevent.Greenlet[..., Any]] = {}
        self._searches = True  # until it is told to look for no ways any more
        self._held_up = False  # whether the log has told that messages waited for the loop

    # ---- ways

    def peer_wanted(self, peer: Peer) -> None:
        """`PeerEvents.peer_wanted`: a greenlet looks for a way. Nothing when one does."""
        if self._searches and not self._searching.get(peer):  # a greenlet that has ended is false
            self._searching[peer] = gevent.spawn(self._find_way, peer)

    def _find_way(self, peer: Peer) -> None:
        try:
            problem = self._parts.mesh.find_way(peer.node_id)
        except Exception as error:  # a bug of ours: what waits for the way must not wait for ever
            log.error("%s: the search for a way to %s failed", self._parts.id, peer.node_id, exc_info=error)
            problem = f"the search for a way failed: {type(error).__name__}"
        self._searching.pop(peer, None)  # race: whoever is told of the failure may want it again
        if not peer.is_up and self._parts.life.networked:
            peer.fail(f"cannot connect: {problem or 'the connection was lost at once'}")

    def mend(self) -> None:
        """`NetworkEvents.mend`: look for the ways for which nobody looks any more, since Ctrl-C has struck who did."""
        for peer in list(self._parts.network.peers.values()):
            if peer.state is PeerState.CONNECTING:
                self.peer_wanted(peer)
        self._parts.mesh.mend()

    def stop_searching(self, *, block: bool = True) -> None:
        """Look for no ways any more. *Blocks:* until the greenlets have ended, with `block`."""
        self._searches = False
        me = gevent.getcurrent()
        gevent.killall([greenlet for greenlet in self._searching.values() if greenlet is not me], block=block)

    # ---- peers that come and go

    def peer_up(self, peer: Peer) -> None:
        """`PeerEvents.peer_up`."""
        parts = self._parts
        parts.leaving.changed()
        parts.mesh.node_up(peer.node_id)
        parts.tell(peer.node_id, True)

    def peer_linked(self, peer: Peer) -> None:
        """`NetworkEvents.peer_linked`."""
        self._parts.mesh.node_linked(peer.node_id)

    def peer_lost(self, peer: Peer, reason: Reason, was_up: bool) -> None:
        """`PeerEvents.peer_lost`: one uninterrupted step, no user code runs in it."""
        parts = self._parts

        def before() -> None:
            peer.cut_off()
            parts.network.rest(peer, was_up=was_up)
            parts.passing.node_down(peer.node_id)

        loss = Loss(peer, reason, parts.monitors, parts.ports)
        loss.begin(before, lambda: self._tell_mesh(peer, reason), lambda: self._tell_events(peer, reason, was_up))

    def _tell_mesh(self, peer: Peer, reason: Reason) -> None:
        parts = self._parts
        parts.leaving.changed()
        if parts.life.started:
            parts.mesh.node_down(peer.node_id, in_words(reason), ended=peer.ended, refused=peer.refused)

    def _tell_events(self, peer: Peer, reason: Reason, was_up: bool) -> None:
        if was_up and self._parts.life.started:
            self._parts.tell(peer.node_id, False, *reason)

    def peer_drained(self, peer: Peer) -> None:
        """`NetworkEvents.peer_drained`."""
        self._parts.leaving.changed()

    def peers_forgotten(self, peers: set[Peer]) -> None:
        """`NetworkEvents.peers_forgotten`."""
        self._parts.routes.forget(peers)
        self._parts.mesh.forget({peer.node_id for peer in peers})

    # ---- liveness

    def peer_busy(self, peer: Peer, busy: bool, seconds: float) -> None:
        """`HousekeeperEvents.peer_busy`."""
        self._parts.events.tell_busy(peer.node_id, busy, seconds)

    def loop_late(self, seconds: float, sent: int) -> None:
        """`HousekeeperEvents.loop_late`: others depend on a seed's loop, and what was sent has waited for it."""
        parts = self._parts
        if parts.mesh.backbone.is_global:
            log.warning("%s: the event loop of this seed was held up for %.1f s", parts.id, seconds)
        busy_after = parts.settings.busy_after
        if sent and busy_after is not None and seconds > busy_after and not self._held_up:
            self._held_up = True
            log.warning(
                "%s: the event loop did not run for %.1f s, and messages that were sent meanwhile waited for it; a program"
                " that waits natively (time.sleep, a blocking library) calls gmp.flush() before, or waits by gevent.sleep",
                parts.id,
                seconds,
            )

    # ---- messages

    def node_port_message(self, peer: Peer, message: Decoded) -> None:
        """`NetworkEvents.node_port_message`: for the node port, or for a port that is not there."""
        if isinstance(message, Undecodable):
            self._undecodable.lost(peer, message)
        elif message[0] == "":
            self._parts.requests.handle(peer, tuple(message[1:]))
        else:
            self._parts.ports.dropped += 1

    def asks_too_much(self, node_id: str, text: str) -> None:
        """More waits that `node_id` wants passed on than may: it is lost, and told so if it reads."""
        parts = self._parts
        parts.peer_log.tell(log, logging.WARNING, "asks for too much", node_id, f"{node_id} is lost: {text}")
        peer = parts.network.peer(node_id)
        connection = peer.connection
        if connection is not None:
            if connection.admits(REFUSED):
                connection.send("", (REFUSED, text))
                peer.flush()
            connection.close(CloseReason.TOO_MUCH, text)
