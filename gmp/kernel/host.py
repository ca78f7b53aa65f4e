"""What the parts of the kernel ask of the node that they belong to. `gmp.kernel.core` has all of it, and makes the parts.

`Host` is what most of them see; `Parts` what the life of a node and its network need to know of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gevent.event import Event

from gmp.config import Settings
from gmp.kernel.calls import Calls
from gmp.kernel.draining import Draining
from gmp.kernel.leaving import Leaving
from gmp.kernel.monitoring import RemoteMonitors
from gmp.kernel.node_events import NodeEvents
from gmp.kernel.passing import Passing
from gmp.kernel.routes import Routes
from gmp.kernel.threads import ThreadDoor
from gmp.lan.discovery import Lan
from gmp.mesh.mesh import Mesh
from gmp.net.network import Network
from gmp.net.peer import Peer
from gmp.peerlog import PeerLog
from gmp.ports.monitors import Kind, Monitor, Reason
from gmp.ports.port import Port
from gmp.ports.table import Ports
from gmp.ports.timers import Timer
from gmp.ports.tracing import Tracer
from gmp.ports.workers import Task


class Host(Protocol):
    """One node, from within. Nothing of it blocks unless it says so."""

    id: str
    incarnation: str
    settings: Settings
    node: Any  #: the `gmp.Node` that users see
    ports: Ports
    network: Network
    mesh: Mesh
    lan: Lan | None
    monitors: RemoteMonitors
    draining: Draining
    tracer: Tracer | None
    keys: dict[str, Callable[[str], tuple[Any, ...]]]
    passing: Passing
    peer_log: PeerLog

    @property
    def closed(self) -> bool:
        """True once the node has begun to leave."""

    def check_open(self) -> None:
        """*Raises:* `GmpError` in another native thread, and when the node is closed."""

    def defer(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function` in a pooled greenlet; what it raises is logged."""

    def send(self, dest: Any, *message: Any) -> None:
        """Send a message. *Blocks:* above the high mark."""

    @property
    def send_tuple(self) -> Callable[[Any, tuple[Any, ...]], Any]:
        """`send`, with the message as a tuple; another one when the node traces or somebody watches what it sends."""

    @property
    def reply(self) -> Callable[[str, str, tuple[Any, ...]], Any]:
        """Do as `send_tuple`, to a node ID and the name of a port there, which is used once."""

    def send_soon(self, dest: Any, *message: Any) -> None:
        """Send a message, whatever the high mark says."""

    def request(self, node_id: str, *request: Any) -> None:
        """Send a request to another node's node port; what cannot travel is left out, and logged."""

    def kill(self, dest: Any, *reason: Any) -> None:
        """Kill a port, here or elsewhere."""

    def spawn(self, node_id: str, init: str | Callable[..., Any], *args: Any) -> str:
        """Start a port on that node; return its ID."""

    def check_message(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """Check that `message` can travel to all of these ports. *Raises:* `MessageError`."""

    def after(self, seconds: float, action: Any, *message: Any) -> Timer:
        """Do something later, as `gmp.after`."""

    def call(self, dest: Any, message: tuple[Any, ...], timeout: float | None) -> tuple[Any, ...]:
        """Send a message and wait for the reply. *Blocks:* up to `timeout` seconds."""

    def monitor(self, target: Port | str, action: Any, *message: Any) -> Monitor:
        """Watch a port or node, as `gmp.monitor`."""

    def watch(self, target: Any, action: Callable[[Reason], object], kind: Kind = Kind.MESSAGE) -> Monitor:
        """Watch a port or node: `action(reason)` runs in the step of the death, and must not block."""

    def peer(self, node_id: str) -> Peer:
        """What this node knows of another one. *Raises:* `ConfigError` while this node is local only."""

    def is_up(self, node_id: str) -> bool:
        """True while that node is connected; the own one is."""

    def up_nodes(self) -> list[str]:
        """The IDs of the nodes that are connected."""

    def watch_sends(self, sent: Callable[[Any, tuple[Any, ...]], None] | None) -> None:
        """Call `sent(dest, message)` for each message that this node's code sends; None: no longer."""

    def stats(self) -> dict[str, Any]:
        """The figures of `gmp.Node.stats`."""


class State(Protocol):
    """Where a node is in its life; see `gmp.kernel.life`."""

    @property
    def started(self) -> bool:
        """True while it runs: started, and not closed."""

    @property
    def networked(self) -> bool:
        """True while it talks to others: started, or about to leave."""


class Searching(Protocol):
    """The greenlets that look for ways to other nodes."""

    def stop_searching(self, *, block: bool = True) -> None:
        """End them. *Blocks:* until they have ended, with `block`."""


class Followed(Protocol):
    """What watches a node: monitors of groups, and those who wait for members."""

    def go_on_at(self, ground: None) -> None:
        """The node is closed: it ends."""


class NodePort(Protocol):
    """The node port."""

    def handle(self, peer: Peer | None, message: tuple[Any, ...]) -> None:
        """Do what a message asks for; `peer` is None for the own node's."""


class Parts(Host, Protocol):
    """A node with all its parts."""

    changed: Event
    services: list[tuple[str, Port]]
    events: NodeEvents
    leaving: Leaving
    calls: Calls
    routes: Routes
    threads: ThreadDoor

    @property
    def successor(self) -> Parts | None:
        """The node that has taken this one's place as the default one."""

    @property
    def ground(self) -> Followed:
        """The node as its groups see it."""

    @property
    def life(self) -> State:
        """Where it is in its life."""

    @property
    def reactions(self) -> Searching:
        """Its reactions to events of the network."""

    @property
    def requests(self) -> NodePort:
        """The node port."""

    def tell(self, node_id: str, up: bool, *reason: Any) -> None:
        """Report to waiters and callbacks that a node is connected, or lost."""
