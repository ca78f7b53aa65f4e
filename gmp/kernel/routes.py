"""Where messages go: one table from the full port ID of a port elsewhere to its peer, one dict look-up per send.

Splitting ``nodeid#name`` and finding the peer costs more than everything else about a send, so it is done once per
destination. It is not kept for reply ports of gmp nodes, which get one message and show it (`gmp.ids.USED_ONCE`): they
would fill the table with what nobody asks for again, and each reply would touch memory that is in no cache. The table is
thrown away when it is full. A `Peer` stays the same object whatever becomes of its connections, until it was idle for long
and is forgotten: its entries go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gmp.ids import USED_ONCE, split_port_id
from gmp.net.batch import Batch
from gmp.net.peer import Peer
from gmp.ports.port import Port
from gmp.ports.table import Ports
from gmp.wire.framing import make_encoder
from gmp.wire.perl_strings import PerlStrings

KEEP = 10_000  # destinations


class Routes:
    """The way of every message that this node's own code sends.

    `peer` gives the `Peer` of another node, `node_port` takes messages to the own node port.
    """

    def __init__(
        self, ports: Ports, peer: Callable[[str], Peer], node_port: Callable[[None, tuple[Any, ...]], None]
    ) -> None:
        self._ports = ports
        self._hold = ports.hold  # not owned in another native thread, and when the node is closed
        self._peer = peer
        self._node_port = node_port
        self._local = ports.by_id  # those that were looked for before
        self.ways: dict[str, tuple[Peer, str]] = {}  #: from a full port ID to the peer and the port's name there
        self.batches: dict[str, Batch] = {}  #: the last batch to a full port ID that `gmp.send` has seen
        self._nodes: dict[str, Peer] = {}  # those whose node ID has been checked

    def send(self, dest: Any, message: tuple[Any, ...]) -> None:
        """Send `message` to a `Port` or port ID. *Blocks:* above the high mark. *Raises:* `GmpError`."""
        if not self._hold._is_owned():
            self._ports.check()
        if type(dest) is str:
            route = self.ways.get(dest)
            if route is None:  # a reply, or it goes to a port of this node: as `_find` does, without its frame
                local = self._local.get(dest)
                if local is not None:
                    local.put(message)
                    return
                node_id, _, name = dest.partition("#")
                peer = self._nodes.get(node_id)
                if peer is None:
                    if node_id == self._ports.node_id:
                        self._deliver(name, message)
                        return
                elif dest[-1] == USED_ONCE:
                    route = peer, name
        elif type(dest) is Port and dest.ports is self._ports:
            dest.put(message)
            return
        else:
            route = None
        if route is None:
            route = self._find(dest, message)
            if route is None:
                return
        peer, name = route
        send = peer.send
        if send(name, message):
            peer.wait_room()

    def reply(self, node_id: str, name: str, message: tuple[Any, ...]) -> None:
        """As `send`, to the port `name` of that node: one that is used once, so its way is not kept."""
        peer = self._nodes.get(node_id)
        if peer is None or not self._hold._is_owned():
            self.send(f"{node_id}#{name}", message)
            return
        send = peer.send
        if send(name, message):
            peer.wait_room()

    def send_soon(self, dest: Any, message: tuple[Any, ...]) -> Peer | None:
        """As `send`, but never blocks; return the peer it went to."""
        route = self.ways.get(dest) if type(dest) is str else None
        if route is None:
            route = self._find(dest, message)
            if route is None:
                return None
        peer, name = route
        send = peer.send
        send(name, message)
        return peer

    def _find(self, dest: Any, message: tuple[Any, ...]) -> tuple[Peer, str] | None:
        """The way to a destination that is not in the table; a message for this node is delivered instead."""
        port_id = dest if type(dest) is str else _id_of(dest)
        local = self._local.get(port_id)
        if local is not None:
            local.put(message)
            return None
        node_id, _, name = port_id.partition("#")
        peer = self._nodes.get(node_id)
        if peer is None:
            if node_id == self._ports.node_id:
                self._deliver(name, message)
                return None
            node_id, name = split_port_id(port_id)
            peer = self._nodes[node_id] = self._peer(node_id)
        if port_id[-1] == USED_ONCE:
            return peer, name
        if len(self.ways) >= KEEP:
            self.ways.clear()
            self.batches.clear()
        route = self.ways[port_id] = peer, name
        return route

    def forget(self, gone: set[Peer]) -> None:
        """These peers are no more."""
        for peer in gone:
            self._nodes.pop(peer.node_id, None)
        for port_id in [port_id for port_id, (peer, _) in self.ways.items() if peer in gone]:
            del self.ways[port_id]
            self.batches.pop(port_id, None)

    def _deliver(self, name: str, message: tuple[Any, ...]) -> None:
        local = self._ports.by_name.get(name)
        if local is not None:
            if local.__class__ is Port:  # not the name of a call, which is used once
                self._local[local.id] = local
            local.put(message)
        elif name:
            self._ports.dropped += 1
        else:
            self._node_port(None, message)

    def check(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """Check that `message` can travel to all of them, in each framing that is to carry it. *Raises:* `MessageError`."""
        framings: dict[tuple[str, int, PerlStrings | None], str] = {}
        for destination in destinations:
            node_id, name = split_port_id(destination)
            if node_id != self._ports.node_id:
                peer = self._peer(node_id)
                framing = peer.framing, peer.max_message, peer.strings
                longest = framings.setdefault(framing, name)
                if len(name) > len(longest):
                    framings[framing] = name
        for framing, name in framings.items():
            make_encoder(*framing).encode(name, message)

    def try_send(self, dest: Any, message: tuple[Any, ...]) -> bool:
        """As `send`, but send nothing and return False where that would block."""
        if not self._hold._is_owned():
            self._ports.check()
        node_id, _ = split_port_id(dest)
        if node_id != self._ports.node_id and self._peer(node_id).congested:
            return False
        self.send_soon(dest, message)
        return True


def _id_of(dest: Any) -> str:
    """The full port ID of a destination that is not a `str` itself. *Raises:* `ConfigError` if it is no port."""
    if isinstance(dest, Port):
        return dest.id
    if isinstance(dest, bytes):
        return dest.decode("latin-1")  # from Perl, by cbor
    return "#".join(split_port_id(dest))


def told(send: Callable[[Any, tuple[Any, ...]], Any], sent: Callable[[Any, tuple[Any, ...]], None]) -> Callable[..., Any]:
    """Wrap `send` so that `sent` is called with each message that it took."""

    def send_and_tell(dest: Any, message: tuple[Any, ...]) -> Any:
        taken_by = send(dest, message)
        sent(dest, message)
        return taken_by

    return send_and_tell
