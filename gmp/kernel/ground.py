"""The node as the mesh and its groups see it: `gmp.mesh.ground.Ground` and `gmp.mesh.subscriptions.GroupGround`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gmp.config import Address
from gmp.errors import GmpError, MessageError
from gmp.mesh.backbone import Backbone
from gmp.mesh.backlog import Backlog
from gmp.mesh.failures import Complaints
from gmp.mesh.subscriptions import GroupGround
from gmp.net import names
from gmp.net.relaylink import RelayLink
from gmp.outside import clock
from gmp.ports.monitors import Monitor
from gmp.ports.timers import Timer

if TYPE_CHECKING:
    from gmp.kernel.host import Host

log = logging.getLogger("gmp")
ON_LAN = Address("lan", 0)  #: the seeds that are found on the LAN; nothing listens on port 0


class MeshGround:
    """What the mesh of one node gets handed in. `joined` is called when the node has a master, or is a seed itself."""

    def __init__(self, host: Host, joined: Callable[[], None]) -> None:
        self._host = host
        self._followers: dict[Callable[[GroupGround | None], None], None] = {}
        self.id = host.id
        self.incarnation = host.incarnation
        self.joined = joined
        self.request = host.request
        self.defer = host.defer
        self.complete = host.ports.workers.complete
        self.failed = host.ports.workers.failed
        self.send = host.send
        self.is_up = host.is_up
        self.up_nodes = host.up_nodes

    # ---- other nodes

    def pass_on(self, asker: str, receiver: str, *request: Any) -> None:
        """`Ground.pass_on`."""
        self._host.passing.run(asker, receiver, lambda: self.request(receiver, *request))

    def complain(self, kind: str, node_id: str, text: str) -> None:
        """`Ground.complain`."""
        self._host.peer_log.tell(log, logging.WARNING, kind, node_id, text)

    def backlog(self, node_id: str) -> Backlog:
        """`Ground.backlog`."""
        peer = self._host.network.peers.get(node_id)
        connection = None if peer is None else peer.connection
        written = 0 if connection is None else connection.sent_bytes
        return Backlog(connection, written, 0 if peer is None else peer.waiting)

    def is_linked(self, node_id: str) -> bool:
        """`Ground.is_linked`."""
        peer = self._host.network.peers.get(node_id)
        return peer is not None and peer.is_linked

    def admits(self, node_id: str, request: str) -> bool:
        """`Ground.admits`."""
        peer = self._host.network.peers.get(node_id)
        return peer is not None and peer.admits(request)

    def carries_bytes(self, node_id: str) -> bool:
        """`Ground.carries_bytes`."""
        try:
            self._host.check_message([node_id], (b"",))
        except MessageError:
            return False
        return True

    def incarnation_of(self, node_id: str) -> str:
        """`Ground.incarnation_of`."""
        peer = self._host.network.peers.get(node_id)
        return "" if peer is None else peer.link.newest

    def next_number(self) -> int:
        """`Ground.next_number`."""
        return self._host.network.handshakes.next_number()

    def is_former(self, node_id: str, incarnation: str, asked: int | None) -> bool:
        """`Ground.is_former`."""
        peer = self._host.network.peers.get(node_id)
        return peer is not None and peer.is_former(incarnation, asked)

    def is_near(self, node_id: str) -> bool:
        """`Ground.is_near`."""
        peer = self._host.network.peers.get(node_id)
        return peer is not None and peer.connection is not None and peer.connection.on_this_host

    def may_be_seed(self, node_id: str) -> bool:
        """`Ground.may_be_seed`: any node with the secret, unless `cert_names` distinguishes nodes."""
        host = self._host
        if not host.settings.cert_names:
            return True
        if node_id == self.id:
            return host.network.is_marked_seed
        peer = host.network.peers.get(node_id)
        connection = None if peer is None else peer.connection
        if connection is None or connection.tls is None:
            return False
        return connection.tls.marks_seed() or (not host.settings.cert_seeds and host.mesh.is_seed(node_id))

    # ---- ways to them

    def resolve(self, address: Address) -> list[Address]:
        """`Ground.resolve`."""
        lan = self._host.lan
        if lan is not None and address == ON_LAN:
            return lan.seeds(self.id, self.incarnation, self.addresses())
        return names.resolve(address, self._host.network.look_up)

    def dial(self, address: Address, *, expect: str = "") -> str:
        """`Ground.dial`."""
        return self._host.network.dial(address, expect=expect)

    def connect(self, node_id: str) -> None:
        """`Ground.connect`."""
        if node_id != self.id:
            self._host.peer(node_id).want()

    def relayed(
        self, node_id: str, incarnation: str, token: str, via: str, carry: Callable[..., None], asked: int | None
    ) -> RelayLink | None:
        """`Ground.relayed`."""
        return self._host.network.relays.attach(node_id, incarnation, token, via, carry, asked)

    def probe(self, node_id: str) -> None:
        """`Ground.probe`."""
        self.request(node_id, "")

    # ---- itself

    def addresses(self) -> list[str]:
        """`Ground.addresses`."""
        return self._host.network.announced()

    def portable(self, key: str, value: Any) -> Any:
        """`Ground.portable`."""
        return self._host.network.portable.copy(key, value)

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """`Ground.later`: in a child of `fork`, where the loop keeps its timers, nothing is done any more."""
        ports = self._host.ports
        return Timer(seconds, lambda: None if ports.inherited else self.backbone.whole.do(function), again=True)

    def now(self) -> float:
        """`Ground.now`."""
        return clock.monotonic()

    # ---- for groups

    @property
    def backbone(self) -> Backbone:
        """`GroupGround.backbone`."""
        return self._host.mesh.backbone

    @property
    def gathering(self) -> bool:
        """`GroupGround.gathering`."""
        return self._host.ports.workers.gathered is not None

    def follow(self, successor: Callable[[GroupGround | None], None]) -> Callable[[], None]:
        """`GroupGround.follow`."""
        self._followers[successor] = None
        return lambda: self._followers.pop(successor, None)

    def go_on_at(self, ground: MeshGround | None) -> None:
        """Pass the followers on to `ground`, which takes the place of this node; None: this one is closed."""
        while self._followers:
            self._followers.popitem()[0](ground)

    def why_closed(self) -> str:
        """`GroupGround.why_closed`."""
        return f"node {self.id} {self._host.ports.closed_because}"

    @property
    def complaints(self) -> Complaints:
        """`GroupGround.complaints`."""
        return self._host.mesh.complaints

    def check_message(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """`GroupGround.check_message`."""
        self._host.check_message(destinations, message)

    def trouble(self) -> str:
        """`GroupGround.trouble`."""
        return self._host.mesh.trouble()

    def on_local_death(self, port: Any, callback: Callable[[], None]) -> Monitor:
        """`GroupGround.on_local_death`."""
        port_id = str(port)
        local = self._host.ports.find(port_id)
        if local is None:
            raise GmpError(f"{port_id!r} is no live port of this node")
        monitor = Monitor(lambda reason: callback(), local)
        local.add_monitor(monitor)
        return monitor
