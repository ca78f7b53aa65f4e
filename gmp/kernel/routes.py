"""Where messages go: one table from the full port ID of a port elsewhere to its peer, one dict look-up per send.

Splitting ``nodeid#name`` and finding the peer costs more than everything else about a send, so it is done once per
destination. The table is thrown away when it is full: most entries are reply ports that were used once. A `Peer` stays
the same object for the life of this node, whatever becomes of its connections, so no entry goes stale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.ids import split_port_id
from gmp.net.peer import Peer
from gmp.ports.port import Port
from gmp.ports.table import Ports

KEEP = 10_000  # destinations


class Routes:
    """The way of every message that this node's own code sends.

    `peer` gives the `Peer` of another node, `node_port` takes messages to the own node port.
    """

    def __init__(
        self, ports: Ports, peer: Callable[[str], Peer], node_port: Callable[[None, tuple[Any, ...]], None]
    ) -> None:
        self._ports = ports
        self._is_owned = ports.hold._is_owned  # False in another native thread, and when the node is closed
        self._peer = peer
        self._node_port = node_port
        self._remote: dict[str, tuple[Peer, str]] = {}

    def send(self, dest: Any, message: tuple[Any, ...]) -> None:
        """Send `message` to a `Port` or port ID. *Blocks:* above the high mark. *Raises:* `GmpError`."""
        if not self._is_owned():
            self._ports.check()
        if dest.__class__ is Port and dest.ports is self._ports:
            dest.put(message)
            return
        if dest.__class__ is str and dest in self._remote:
            peer, name = self._remote[dest]
            if peer.send(name, message):
                peer.wait_room()
        else:
            taken_by = self.send_soon(dest, message)
            if taken_by is not None and taken_by.congested:
                taken_by.wait_room()

    def send_soon(self, dest: Any, message: tuple[Any, ...]) -> Peer | None:
        """As `send`, but never blocks; return the peer it went to."""
        port_id = dest.id if isinstance(dest, Port) else dest
        if isinstance(port_id, bytes):
            port_id = dest = port_id.decode("latin-1")  # from Perl, by cbor
        if isinstance(port_id, str):
            route = self._remote.get(port_id)
            if route is not None:
                route[0].send(route[1], message)
                return route[0]
            local = self._ports.find(port_id)
            if local is not None:
                local.put(message)
                return None
        node_id, name = split_port_id(dest)
        if node_id == self._ports.node_id:
            if name:
                self._ports.dropped += 1
            else:
                self._node_port(None, message)
            return None
        peer = self._peer(node_id)
        if len(self._remote) >= KEEP:
            self._remote.clear()
        self._remote[str(port_id)] = peer, name
        peer.send(name, message)
        return peer

    def try_send(self, dest: Any, message: tuple[Any, ...]) -> bool:
        """As `send`, but send nothing and return False where that would block."""
        if not self._is_owned():
            self._ports.check()
        node_id, _ = split_port_id(dest)
        if node_id != self._ports.node_id and self._peer(node_id).congested:
            return False
        self.send_soon(dest, message)
        return True


def told(send: Callable[[Any, tuple[Any, ...]], Any], sent: Callable[[Any, tuple[Any, ...]], None]) -> Callable[..., Any]:
    """`send`, of which `sent` is told when it did not raise."""

    def send_and_tell(dest: Any, message: tuple[Any, ...]) -> Any:
        taken_by = send(dest, message)
        sent(dest, message)
        return taken_by

    return send_and_tell
