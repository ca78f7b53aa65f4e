"""One node from within: its parts, how they are joined, and what they ask of each other (`gmp.kernel.host`).

Walk of a message. Out: `send_tuple` → the table from full port ID to a local destination → its `put`; for another node
`peer.send`. In: connection → the same ports' table by local name, or `Reactions.node_port_message` for everything else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import gevent.event

from gmp.config import Settings, own_name
from gmp.errors import ConfigError, GmpError, MessageError
from gmp.ids import check_node_id, is_peer_node_id, make_incarnation, random_suffix, split_port_id
from gmp.kernel.calls import Calls
from gmp.kernel.draining import Draining
from gmp.kernel.forking import LEFT_BY_FORK
from gmp.kernel.ground import MeshGround
from gmp.kernel.leaving import Leaving
from gmp.kernel.life import Life
from gmp.kernel.monitoring import RemoteMonitors
from gmp.kernel.node_events import NodeEvents
from gmp.kernel.passing import Passing
from gmp.kernel.reactions import Reactions
from gmp.kernel.requests import Requests
from gmp.kernel.routes import Routes, told
from gmp.kernel.spawning import function_name, run_function
from gmp.kernel.streams import Streams
from gmp.kernel.threads import ThreadDoor
from gmp.kernel.waiting import wait_up
from gmp.kernel.watching import Watching
from gmp.later import later
from gmp.mesh.addresses import ADDRESSES
from gmp.mesh.mesh import Mesh
from gmp.mesh.subscriptions import Subscription
from gmp.net.network import Network
from gmp.net.peer import Peer
from gmp.outside import chance, clock
from gmp.peerlog import PeerLog
from gmp.ports.port import Port
from gmp.ports.table import Ports
from gmp.ports.timers import Timer
from gmp.ports.workers import Task
from gmp.wire.framing import make_encoder
from gmp.wire.requests import KIL1, SPAWN
from gmp.wire.tables import without_unfit

if TYPE_CHECKING:
    from gmp.kernel import tracing
    from gmp.lan import discovery
    from gmp.ports.tracing import Tracer
else:
    discovery, tracing = later("gmp.lan.discovery"), later("gmp.kernel.tracing")

log = logging.getLogger("gmp")
Sent = Callable[[Any, tuple[Any, ...]], None]


class Core:
    """The parts of one node. `node` is the `gmp.Node` that users see."""

    def __init__(self, settings: Settings, node: Any) -> None:
        self.settings = settings
        self.node = node
        self.id = _choose_id(settings)
        self.incarnation = make_incarnation(clock.time_ns(), chance.randbits(32))
        self.ports = Ports(self.id, self.incarnation)
        self.ports.node, self.ports.host = node, self
        self.changed = gevent.event.Event()  #: set when a node has come or gone, or this one has joined the network
        self.services: list[tuple[str, Port]] = []  #: name and port of each service that was started
        self.successor: Core | None = None  #: the node that has taken this one's place as the default one
        self.left_by_fork = ""  #: the ID of the node that the parent process has, if this is a child's own local one
        self._warned_of_fork = False
        self.peer_log = PeerLog(self.id, Timer)
        self.draining = Draining()
        self.keys: dict[str, Callable[[str], tuple[Any, ...]]] = {}  #: by a port's name: answers a node that asks for a key
        self.events = NodeEvents(self.defer)
        self.monitors = RemoteMonitors(self.ports, self.request, self._connect)
        self.life = Life(self)
        self._join_network()
        self._join_messages()

    def _join_network(self) -> None:
        settings = self.settings
        self.ground = MeshGround(self, self.changed.set)
        self.mesh = Mesh(self.ground, settings)
        self.lan = self._make_lan()
        self.streams = Streams(self, self.ground.resolve)
        self.reactions = Reactions(self)
        answers = settings.high_mark + settings.max_message
        self.passing = Passing(settings.high_mark, answers, self.ground.backlog, self.reactions.asks_too_much)
        self.requests = Requests(self, self.streams)
        self.network = Network(self.id, self.incarnation, settings, self.ports.by_name, self.reactions, self.peer_log)
        self.leaving = Leaving(self.network.peers.values)

    def _make_lan(self) -> discovery.Lan | None:
        settings = self.settings
        if settings.lan is None:
            return None
        key = settings.secret or b""  # without one, certificates are asked for anyway
        return discovery.Lan(settings.lan, key, self.ports.hub.loop, self.mesh.look_again)

    def _join_messages(self) -> None:
        self.routes = Routes(self.ports, self.peer, self.requests.handle)
        self.ways, self.batches = self.routes.ways, self.routes.batches  #: as in `Routes`, for `gmp.send`
        self.send_tuple: Callable[[Any, tuple[Any, ...]], Any] = self.routes.send  #: `send` with the message as a tuple
        self.reply: Callable[[str, str, tuple[Any, ...]], Any] = self.routes.reply  #: the same to a node ID and a name there
        self.send_changed: Callable[[], None] = _nothing  #: is called when that is another one
        self._sent: Sent | None = None
        self.tracer: Tracer | None = None  #: who is asked for the trace context of messages
        self._watching = Watching(self)
        self.monitor, self.watch, self.link = self._watching.monitor, self._watching.watch, self._watching.link
        self.calls = Calls(self.ports, self.routes.send_soon, self.watch, self._why_unreached)
        self.threads = ThreadDoor(self.ports.hub, self.defer, self.id, lambda: self.ports.closed_because)

    @property
    def closed(self) -> bool:
        """True once the node has begun to leave."""
        return self.life.closed

    def check_open(self) -> None:
        """`Host.check_open`."""
        self.ports.check()

    # ---- the default node before `gmp.configure`, and the one that takes its place

    def latest(self) -> Core:
        """Return this node, or the one that has taken its place."""
        core = self
        while core.successor is not None:
            core = core.successor
        return core

    def place(self) -> MeshGround:
        """Return what groups and families need of the latest node. *Raises:* `GmpError` when that is closed."""
        core = self.latest()
        core.check_open()
        return core.ground

    def take_over(self, before: Core) -> None:
        """Take what was set on the local node `before`; this one has not started. *Raises:* `MessageError`."""
        for family, entries in before.mesh.backbone.own_entries().items():
            for key, value in entries.items():
                self.mesh.backbone.set(family, key, value)
        self.requests.take_over(before.requests)
        self.events.take_over(before.events)
        if before.tracer is not None:
            self.trace_messages(before.tracer)

    def give_way(self, successor: Core) -> None:
        """The node `successor` is the default one now: what watches here goes on there. *Blocks:* as closing a node."""
        self.successor = successor
        self.ports.closed_because = "was replaced by gmp.configure: gmp.node() is the default node now"
        self.life.close()
        self.ground.go_on_at(successor.ground)

    # ---- messages

    def send(self, dest: Any, *message: Any) -> None:
        """`Host.send`."""
        self.send_tuple(dest, message)

    def send_soon(self, dest: Any, *message: Any) -> None:
        """`Host.send_soon`."""
        self.routes.send_soon(dest, message)

    def check_message(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """Check that `message` can travel to all of these ports. *Raises:* `MessageError`."""
        self.routes.check(destinations, message)

    def call(
        self, dest: Port | str, message: tuple[Any, ...], timeout: float | None, name: str | None = None
    ) -> tuple[Any, ...]:
        """`gmp.call`, with the message as a tuple. `name`: of the reply port, made by `Ports.new_reply_name`."""
        call = self.calls.call  # as in `gmp.call`
        return call(dest, message, timeout, name)

    def defer(self, function: Callable[..., Any], *args: Any) -> Task:
        """`Host.defer`."""
        return self.ports.workers.spawn(function, *args)

    def request(self, node_id: str, *request: Any) -> None:
        """Send a request to another node's node port; one of the mesh is dropped when it is not connected.

        Never raises for what is in it, as it is one of many things that have to happen: what cannot travel is left out, and
        logged; of a table of entries, those alone. A death always travels, with a reason that does.
        """
        peer = self.peer(node_id)
        if peer.is_up or not str(request[0]).startswith(("g_", "gmp.")):
            try:
                peer.send_request(request)
            except MessageError as error:
                self._request_what_fits(peer, request, error)

    def _request_what_fits(self, peer: Peer, request: tuple[Any, ...], error: MessageError) -> None:
        """Send `request`, which raised `error`, without the entries that this peer's framing cannot carry."""
        fit, left_out = without_unfit(request, make_encoder(peer.framing, peer.max_message, peer.strings))
        try:
            if not left_out:
                raise error
            peer.send_request(fit)
        except MessageError as why:
            text = f"{self.id}: the request {request[0]} to {peer.node_id} is left out: {why}"
            self.peer_log.tell(log, logging.ERROR, "request left out", peer.node_id, text)
            return
        for named, path, reason in left_out:
            owner = named or self.mesh.owner_of(*path)
            entry = " ".join(f"{part!r:.80}" for part in path)
            text = f"the entry {entry}, set by {owner}, is left out of {request[0]} to {peer.node_id}: {reason}"
            self.peer_log.tell(log, logging.WARNING, f"entry left out of {request[0]}", owner, text)

    def trace_messages(self, tracer: Tracer | None) -> None:
        """`gmp.Node.trace_messages`."""
        self.tracer = tracer
        arguments = (self.ports, self.peer, self.requests.handle)
        self.routes = Routes(*arguments) if tracer is None else tracing.TracingRoutes(*arguments, tracer)
        self.routes.ways, self.routes.batches = self.ways, self.batches  # `gmp.send` knows these
        self.ports.port_class = Port if tracer is None else tracing.make_port_class(tracer)
        self.calls.tracer(tracer)
        self.watch_sends(self._sent)

    def watch_sends(self, sent: Sent | None) -> None:
        """`Host.watch_sends`."""
        self._sent = sent
        send, send_soon = self.routes.send, self.routes.send_soon
        self.send_tuple = send if sent is None else told(send, sent)
        untold = sent is None and type(self.routes) is Routes
        self.reply = self.routes.reply if untold else self._reply_told
        self.ports.watch_puts(not untold)
        self.calls.send_by(send_soon if sent is None else told(send_soon, sent), joins=untold)
        self.send_changed()

    def _reply_told(self, node_id: str, name: str, message: tuple[Any, ...]) -> None:
        self.send_tuple(f"{node_id}#{name}", message)

    # ---- ports, here and elsewhere

    def kill(self, dest: Port | str, *reason: Any) -> None:
        """`gmp.kill`."""
        node_id, name = split_port_id(dest)
        if not name:
            raise GmpError(f"{dest!r} is a node: only ports can be killed")
        if node_id != self.id:
            self.request(node_id, KIL1, name, *reason)
            return
        port = self.ports.by_name.get(name)
        if port is not None:
            port.kill(*reason)

    def spawn(self, node_id: str, init: str | Callable[..., Any], *args: Any, name: str | None = None) -> str:
        """`gmp.spawn`. `name` is one that `Ports.new_name` has made (None: another one)."""
        name, function = name or self.ports.new_name(), function_name(init)
        if node_id == self.id:
            self.ports.make(run_function, (init if callable(init) else None, function, args), name=name)
        else:
            self.peer(node_id).send("", (SPAWN, name, function, *args))
        return f"{node_id}#{name}"

    def after(self, seconds: float, action: Any, *message: Any) -> Timer:
        """`gmp.after`."""
        if isinstance(action, Port | str):
            port_id = str(action)  # not the port itself, which the timer would keep alive
            self.routes.check([port_id], message)
            return Timer(seconds, lambda: None if self.closed else self._send_later(port_id, message))
        if not callable(action):
            raise GmpError(f"after: {action!r} is neither a callback nor a port")

        def due() -> None:
            core = self.latest()
            if not core.closed:
                core.defer(action, *message)

        return Timer(seconds, due, again=True)

    def _send_later(self, port_id: str, message: tuple[Any, ...]) -> None:
        try:
            self.routes.send_soon(port_id, message)
        except GmpError as error:  # it was changed meanwhile, or the node has another framing than it had
            log.error("%s: a message to %s that was due now cannot be sent: %s", self.id, port_id, error)

    # ---- other nodes

    def peer(self, node_id: str) -> Peer:
        """`Host.peer`."""
        if self.life.state == "new":
            self.warn_if_left_by_fork(f"node {node_id!r}")
            raise ConfigError(f"node {node_id!r} cannot be reached: this node is local only, call gmp.configure first")
        return self.network.peer(node_id)

    def node_port(self, node_id: str) -> str:
        """Return the node port of that node. *Raises:* `ConfigError` if `node_id` is not a node ID."""
        if not isinstance(node_id, str) or not is_peer_node_id(node_id):
            raise ConfigError(f"{node_id!r} is not a node ID")
        return node_id

    def _connect(self, node_id: str) -> None:
        self.ground.connect(node_id)

    def is_up(self, node_id: str) -> bool:
        """`Host.is_up`."""
        self.ports.check_thread()
        peer = self.network.peers.get(node_id)
        return node_id == self.id or (peer is not None and peer.is_up)

    def up_nodes(self) -> list[str]:
        """`Host.up_nodes`."""
        self.ports.check_thread()
        return [peer.node_id for peer in self.network.up_peers()]

    def known_nodes(self) -> list[str]:
        """`gmp.Node.known_nodes`."""
        backbone = self.mesh.backbone
        backbone.subscribe(ADDRESSES)
        return sorted({self.id, *filter(is_peer_node_id, backbone.items(ADDRESSES)), *self.up_nodes()})

    def monitor_known_nodes(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """`gmp.Node.monitor_known_nodes`."""

        def changed(*lists: Iterable[str]) -> None:
            known, added, _, removed = (list(filter(is_peer_node_id, each)) for each in lists)
            callback(sorted(known), added, removed)

        return Subscription(self.ground, ADDRESSES, changed).cancel

    def wait_up(self, node_id: str | None, timeout: float | None) -> None:
        """`gmp.Node.wait_up`."""
        if node_id is not None:
            self.node_port(node_id)
        wait_up(self, self.changed, node_id, timeout)

    def tell(self, node_id: str, up: bool, *reason: Any) -> None:
        """Report to waiters and callbacks that a node is connected, or lost."""
        self.changed.set()
        self.events.tell(node_id, up, *reason)

    def _why_unreached(self, port_id: str) -> str:
        """Return why a node may not have answered; empty if it is connected."""
        node_id, _ = split_port_id(port_id)
        if self.is_up(node_id):
            return ""
        trouble = self.mesh.trouble()
        return f"node {node_id} is not connected; {trouble}" if trouble else f"node {node_id} is not connected"

    def stats(self) -> dict[str, Any]:
        """`gmp.Node.stats`."""
        self.ports.check_thread()
        peers = {peer.node_id: peer.stats() for peer in self.network.peers.values()}
        lag = self.network.housekeeper.stats()
        figures = {"dropped": self.ports.dropped, "ports": len(self.ports.by_name), "peak": self.ports.peak}
        return {**figures, "peers": peers, "seeds": self.mesh.stats(), "services": self.draining.stats(), **lag}

    # ---- a child of `fork`

    def forked_from(self, parent: Core) -> None:
        """Remember the parent's node in a child of `fork`: if it was configured, using this one for the network warns."""
        self.left_by_fork = parent.id if parent.life.was_started else parent.left_by_fork

    def warn_if_left_by_fork(self, what: str) -> None:
        """Warn, once, that the parent process has configured a node but this child uses its own, local one."""
        if self.left_by_fork and not self._warned_of_fork and self.life.state == "new":
            self._warned_of_fork = True
            log.warning(LEFT_BY_FORK, self.id, what, os.getpid(), self.left_by_fork)


def _choose_id(settings: Settings) -> str:
    node_id = settings.node_id or (settings.profile or own_name(os.environ)) + "/"
    return check_node_id(node_id + random_suffix() if node_id.endswith("/") else node_id)


def _nothing() -> None:
    """The default of `send_changed`: nothing depends on it yet."""
