"""The relay links of one node: making them, and what their events mean for its peers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from gmp.net.peer import Peer
from gmp.net.peerstate import PeerState
from gmp.net.reasons import CloseReason
from gmp.net.relaylink import RelayLink
from gmp.net.way import Watch, is_relayed
from gmp.peerlog import PeerLog
from gmp.wire.dispatch import Decoded

log = logging.getLogger("gmp.net")


class Relays:
    """Makes relay links and attaches them to peers."""

    def __init__(
        self,
        node_id: str,
        peer: Callable[[str], Peer],
        received: Callable[[Peer, Decoded], None],
        destinations: dict[str, Any],
        max_message: int,
        watch: Callable[[RelayLink], Watch],
        next_number: Callable[[], int],
        peer_log: PeerLog,
    ) -> None:
        self._node_id = node_id
        self._peer = peer
        self._received = received
        self._destinations = destinations
        self._max_message = max_message
        self._watch = watch
        self._next_number = next_number
        self._tell = partial(peer_log.tell, log, logging.INFO)

    def attach(
        self,
        node_id: str,
        incarnation: str,
        token: str,
        via: str,
        carry: Callable[..., None],
        asked: int | None = None,
    ) -> RelayLink | None:
        """Make the link that has opened with a node the way to it; return None if it comes from a former incarnation.

        `asked`: as for `Peer.is_former`.
        """
        peer = self._peer(node_id)
        if peer.is_former(incarnation, asked):
            return None
        link = RelayLink(
            node_id,
            incarnation,
            token,
            via,
            carry=carry,
            owner=self,
            destinations=self._destinations,
            max_message=self._max_message,
        )
        self._join(peer, link, asked, self._next_number() if asked is None else asked)
        return link

    def _join(self, peer: Peer, link: RelayLink, asked: int | None, number: int) -> None:
        if link.reason is not None or peer.connection is link:
            return  # race: it has ended while it waited; Ctrl-C has struck behind its being taken
        if peer.is_former(link.incarnation, asked):
            link.close(CloseReason.RELAY_LOST, "of a former incarnation")  # race: a newer one has connected meanwhile
            return
        old = peer.connection
        if old is not None and link.incarnation != old.incarnation:
            old.close(CloseReason.RESTARTED)
        elif is_relayed(old):
            old.close(CloseReason.RELAY_LOST, "opened anew", told=True)
        peer.link.met(link.incarnation, number)
        if peer.state is PeerState.LOST:  # what is sent before the watchers know of the loss must not find a way
            peer.after_loss(partial(self._join, peer, link, asked, number))
        elif peer.is_linked:
            peer.join_relay(link)
        else:
            link.watch = self._watch(link)
            self._tell("relayed", link.node_id, f"{link.node_id} is {link.address}")
            link.guard(peer.attach, link)

    # ---- what links tell

    def relay_received(self, link: RelayLink, message: Decoded) -> None:
        """`RelayOwner.relay_received`."""
        self._received(self._peer(link.node_id), message)

    def relay_barrier(self, link: RelayLink) -> None:
        """`RelayOwner.relay_barrier`."""
        self._peer(link.node_id).barrier_seen(link)

    def relay_drained(self, link: RelayLink) -> None:
        """`RelayOwner.relay_drained`."""
        self._peer(link.node_id).wake_senders()

    def relay_closed(self, link: RelayLink) -> None:
        """`RelayOwner.relay_closed`: the way is gone and with it the peer, as with a connection."""
        peer = self._peer(link.node_id)
        reason = link.reason
        assert reason is not None
        text = f"{reason.value}: {link.detail}" if link.detail else reason.value
        if peer.relay is link and peer.connection is not None:
            # race: it ended before both barriers passed, so something may be lost: a silent hole if the peer stayed up
            peer.connection.close(CloseReason.RELAY_LOST, text)
        elif peer.connection is link:
            leaving = peer.ended = reason is CloseReason.LEAVING
            self._tell("relay ended", link.node_id, f"the way to {link.node_id}, {link.address}, ended: {text}")
            peer.lose(("leaving", peer.node_id) if leaving else ("transport_error", peer.node_id, text))
