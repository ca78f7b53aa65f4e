"""Messages of a peer that are well formed and hold a value for which there is no type here.

Such a message is lost alone: the connection lives on, the peer's `dropped` counts it, and a line in the log says what it
was, one a minute for each peer, with the number of those since. So that it is no silent hole (promise 1), the peer's
monitors of that port fire, as when a connection is lost, with ``("transport_error", own_node_id, "a message was lost: …")``.
A `call` whose reply it was fails at once.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from gmp.kernel.calls import Call
from gmp.loglimit import LineLimit
from gmp.texts import shown

if TYPE_CHECKING:
    from gmp.kernel.monitoring import RemoteMonitors
    from gmp.net.peer import Peer
    from gmp.ports.table import Ports
    from gmp.wire.dispatch import Undecodable

log = logging.getLogger("gmp")


class UndecodableMessages:
    """Those of one node's peers."""

    def __init__(self, ports: Ports, monitors: RemoteMonitors) -> None:
        self._ports = ports
        self._monitors = monitors
        self._lines = LineLimit()

    def lost(self, peer: Peer, message: Undecodable) -> None:
        """`peer` has sent a message that cannot be delivered."""
        peer.dropped += 1
        call = self._ports.by_name.get(message.name or "")
        if isinstance(call, Call):
            call.kill("transport_error", peer.node_id, f"the reply was lost: {message.what}")
        if message.name:
            self._monitors.message_lost(peer.node_id, message.name, message.what)
        count = self._lines.left_out(peer.node_id, time.monotonic())
        if count is None:
            return
        since = f", and {count} more since the last line" if count else ""
        name = "an unknown port" if message.name is None else f"port {shown(message.name)}"
        text = "%s: a message of %s to %s is lost: %s%s"
        log.warning(text, self._ports.node_id, peer.node_id, name, message.what[:200], since)
