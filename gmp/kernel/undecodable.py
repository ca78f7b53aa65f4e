"""Messages of a peer that are well formed and hold a value for which there is no type here.

Such a message is lost alone: the connection lives on, the peer's `dropped` counts it, and a line in the log says what it
was, one a minute for each peer, with the number of those since. So that the loss is not silent (promise 1), the peer's
monitors of that port fire, as when a connection is lost, with ``("transport_error", own_node_id, "a message was lost: …")``.
A `call` whose reply it was fails at once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gmp.kernel.calls import Call

if TYPE_CHECKING:
    from gmp.kernel.monitoring import RemoteMonitors
    from gmp.net.peer import Peer
    from gmp.peerlog import PeerLog
    from gmp.ports.table import Ports
    from gmp.wire.dispatch import Undecodable

log = logging.getLogger("gmp")


class UndecodableMessages:
    """Those of one node's peers."""

    def __init__(self, ports: Ports, monitors: RemoteMonitors, peer_log: PeerLog) -> None:
        self._ports = ports
        self._monitors = monitors
        self._peer_log = peer_log

    def lost(self, peer: Peer, message: Undecodable) -> None:
        """`peer` has sent a message that cannot be delivered."""
        peer.dropped += 1
        call = self._ports.by_name.get(message.name or "")
        if isinstance(call, Call):
            call.kill("transport_error", peer.node_id, f"the reply was lost: {message.what}")
        if message.name:
            self._monitors.message_lost(peer.node_id, message.name, message.what)
        name = "an unknown port" if message.name is None else f"port {message.name}"
        text = f"a message of {peer.node_id} to {name} is lost: {message.what}"
        self._peer_log.tell(log, logging.WARNING, "message lost", peer.node_id, text)
