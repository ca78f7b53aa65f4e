"""A node: what brings ports, network and mesh together.

Walk of a message. Out: `send` → the table from full port ID to a local destination → its `put`; for another node
`peer.send`. In: connection → the same ports' table by local name, or `node_port_message` for everything else.

When a peer is lost: its monitors fire in one uninterrupted step, groups drop its ports, node events follow, and only then
is the peer idle and may be dialled again (`Peer.lose`).
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import gevent
import gevent.event

from gmp.config import Address, Settings, load_settings, parse_bind, parse_seed
from gmp.errors import ConfigError, GmpError, PortDied, WaitTimeout
from gmp.ids import check_node_id, is_peer_node_id, make_incarnation, random_suffix, split_port_id
from gmp.kernel.calls import Calls
from gmp.kernel.forking import let_go_in_children
from gmp.kernel.leaving import GOODBYE, Leaving
from gmp.kernel.monitoring import RemoteMonitors
from gmp.kernel.node_events import NodeEvents
from gmp.kernel.perl import SPAWN
from gmp.kernel.requests import Requests
from gmp.kernel.routes import Routes, told
from gmp.kernel.services import start_services
from gmp.kernel.spawning import function_name, resolve
from gmp.kernel.streams import Streams
from gmp.kernel.supervision import Supervisor
from gmp.kernel.threads import ThreadDoor
from gmp.kernel.tracing import TracingRoutes, make_port_class
from gmp.mesh.addresses import ADDRESSES, is_loopback
from gmp.mesh.groups import Family, Group, watch
from gmp.mesh.mesh import Mesh
from gmp.net import names
from gmp.net.connection import Connection
from gmp.net.network import Network, SelfDial
from gmp.net.peer import Peer
from gmp.net.reasons import CloseReason
from gmp.net.relaylink import RelayLink
from gmp.net.streams import Stream
from gmp.ports.history import Death
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.port import Port, current_port
from gmp.ports.table import Ports
from gmp.ports.timers import Timer
from gmp.ports.tracing import Tracer

log = logging.getLogger("gmp")
_NEW = object()


class Node:
    """One participant of the network. Many can live in one process.

    Takes the settings of `gmp.configure`; usable in ``with``, which starts and closes it.
    """

    def __init__(
        self,
        node_id: str | None = None,
        *,
        binds: Iterable[str] | None = None,
        seeds: Iterable[str] | None = None,
        secret: str | bytes | None = None,
        cert: str | None = None,
        profile: str | None = None,
        **settings: Any,
    ) -> None:
        given = {"node_id": node_id, "secret": secret, "cert": cert, **settings}
        given["binds"] = binds if binds is None or isinstance(binds, str) else list(binds)
        given["seeds"] = seeds if seeds is None or isinstance(seeds, str) else list(seeds)
        self._set_up(load_settings(profile, given, os.environ))

    @classmethod
    def local(cls) -> Node:
        """A node that knows no other: what the default node is before `configure`."""
        node = cls.__new__(cls)
        node._set_up(Settings(binds=()))
        return node

    def _set_up(self, settings: Settings) -> None:
        self.settings = settings
        self.id = self._choose_id(settings)
        self.incarnation = make_incarnation(time.time_ns(), secrets.randbits(32))
        self.ports = Ports(self.id, self.incarnation)
        self.ports.node = self
        self.monitors = RemoteMonitors(self.ports, self.request, self.connect)
        self.mesh = Mesh(self, settings)
        self.backbone = self.mesh.backbone
        self.streams = Streams(self)
        self.requests = Requests(self)
        self.network = Network(self.id, self.incarnation, settings, self.ports.by_name, self)
        self._routes = Routes(self.ports, self._peer, self.requests.handle)
        self.send_tuple = self._routes.send  #: `send` with the message as a tuple, for `gmp.send`
        self.ways, self.runs = self._routes.ways, self._routes.runs  #: as in `Routes`, for `gmp.send`
        self.is_owned = self.ports.hold._is_owned  #: as `Ports.hold`
        self._calls = Calls(self.ports, self._routes.send_soon, self._monitor)
        self._sent: Callable[[Any, tuple[Any, ...]], None] | None = None
        self.services: list[tuple[str, Port]] = []  #: name and port of each service that was started
        self._events = NodeEvents(self.defer)
        self._leaving = Leaving(self.network.peers.values)
        self._changed = gevent.event.Event()
        self._greenlets: set[gevent.Greenlet[..., Any]] = set()
        self.threads = ThreadDoor(self.ports.hub, self.defer, self.id)
        self._state = "new"
        self._closer: gevent.Greenlet[..., None] | None = None
        let_go_in_children(self)

    @staticmethod
    def _choose_id(settings: Settings) -> str:
        node_id = settings.node_id or (settings.profile or os.uname().nodename) + "/"
        return check_node_id(node_id + random_suffix() if node_id.endswith("/") else node_id)

    # ---- life

    @property
    def started(self) -> bool:
        """Whether it was started and not closed."""
        return self._state == "started"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._state in ("closing", "closed", "forked")

    @property
    def inherited(self) -> bool:
        """Whether this process is a child of the one that the node belongs to."""
        return self._state == "forked"

    @property
    def binds(self) -> list[str]:
        """What it really listens on, such as ``127.0.0.1:40311``."""
        return list(self.network.binds)

    def start(self) -> Node:
        """Listen and begin to join the network; joining goes on underneath. Returns the node.

        *Blocks:* until the listeners are bound and the modules of the services imported. *Raises:* `ConfigError` naming a
        bind that cannot be had or a service that is not there.
        """
        self.ports.check_thread()
        if self._state != "new":
            raise GmpError(f"node {self.id} cannot be started: it is {self._state}")
        settings = self.settings
        binds = settings.binds
        if binds is None:
            binds = ("*:0",) if settings.credentials_given else ("127.0.0.1:0",)
        seeds = [parse_seed(seed) for seed in settings.seeds]
        for seed in seeds:
            names.check_seed(seed)
        self.network.listen([parse_bind(bind) for bind in binds])
        try:
            self.addresses()
        except ConfigError:
            self.network.stop_listening()
            raise
        self._state = "started"
        self.network.housekeeper.start()
        self.mesh.start(seeds, SelfDial)
        try:
            self.services = start_services(self, settings.services)
        except ConfigError:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Leave the network: kill the ports with ``("leaving", node_id)``, write what is queued, tell the peers.

        Idempotent; afterwards every call on the node raises. A port of this node that calls it ends here, as one that kills
        itself. *Blocks:* at most the setting `leave_timeout`.
        """
        if self.inherited:
            return  # a `with` block may end in a child of `fork`
        self.ports.check_thread()
        if self.closed:
            return
        started, self._state = self._state == "started", "closing"
        port = current_port()
        if port is not None and port.ports is self.ports:
            self._closer = gevent.spawn(self._close, started)
            self._closer.join()
        else:
            self._close(started)

    def close_at_exit(self) -> None:
        """As `close`, at the end of the program, which comes after a close that a port has begun. *Blocks:* as it does."""
        if self._closer is not None:
            self._closer.join()
        elif self.started:
            self.close()

    def _close(self, started: bool) -> None:
        self.network.stop_listening()
        self.ports.close(("leaving", self.id))
        gevent.sleep(0)  # the ports are buried in the next turn, which is when their monitors' messages go out
        if started:
            self._leaving.flush(self.settings.leave_timeout)  # a way may have to be found first, even to a seed
        self.mesh.stop()
        if started:
            self._leaving.part(GOODBYE)
        gevent.killall([greenlet for greenlet in self._greenlets if greenlet is not gevent.getcurrent()])
        self._calls.close()
        self.threads.close()
        self.network.close()
        self._state = "closed"
        self._changed.set()
        gevent.sleep(0)
        self.ports.workers.close()
        gevent.sleep(0)

    def forked(self) -> None:
        """`Forkable.forked`."""
        self._state = "forked"
        self.ports.forked()
        self._calls.close()
        self.threads.abandon()
        self.mesh.forked()
        gevent.killall(list(self._greenlets), block=False)
        self.network.abandon()

    def from_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function(*args)` in a greenlet of this node's loop, and return what it returns or raise what it raises.

        The one call that may come from another native thread; every other one raises there.
        *Blocks:* the calling thread until it has run. *Raises:* `GmpError` when the node is closed, or closes meanwhile.
        """
        if self.ports.is_own_thread():
            self._check_open()
            return function(*args)
        return self.threads.call(function, args)

    def __enter__(self) -> Node:
        return self if self.started else self.start()  # what `configure` returns is started already

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        self.ports.check()

    # ---- ports and messages

    def port(
        self,
        body: Callable[..., Any] | None = None,
        *args: Any,
        max_queue: int | None = None,
        max_history: int | None = None,
    ) -> Port:
        """Make a port; see `gmp.port`."""
        return self.ports.make(body, args, max_queue, max_history=max_history)

    def deaths(self) -> list[Death]:
        """The last abnormal deaths of ports of this node, oldest first, with the messages of those that keep them.

        *Blocks:* never.
        """
        return self.ports.deaths.last()

    def send(self, dest: Port | str, *message: Any) -> None:
        """Send a message; see `gmp.send`."""
        send = self.send_tuple
        send(dest, message)

    def try_send(self, dest: Port | str, *message: Any) -> bool:
        """As `send`, but return False, and send nothing, when the peer is over its high mark. *Blocks:* never."""
        return self._routes.try_send(dest, message)

    def defer(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` in a pooled greenlet; what it raises is logged."""
        self.ports.workers.spawn(function, *args)

    def send_soon(self, dest: Any, *message: Any) -> None:
        """As `send`, for internal use: never blocks, whatever the mark says."""
        self._routes.send_soon(dest, message)

    def call(self, dest: Port | str, *message: Any, timeout: float | None = 30.0) -> tuple[Any, ...]:
        """Send a message and wait for the reply; see `gmp.call`."""
        return self.call_tuple(dest, message, timeout)

    def call_tuple(self, dest: Port | str, message: tuple[Any, ...], timeout: float | None) -> tuple[Any, ...]:
        """`call` with the message as a tuple, for `gmp.call`."""
        is_owned, calls = self.is_owned, self._calls
        if not is_owned():
            self._check_open()
        if type(dest) is str and dest in calls.targets:  # as it was checked for an earlier call
            call = calls.call
            return call(dest, message, timeout)
        if isinstance(dest, Port) and dest.reason is not None:
            raise PortDied(dest.id, dest.reason)
        node_id, name = split_port_id(dest)
        return self._calls.call(f"{node_id}#{name}" if name else node_id, message, timeout)

    def kill(self, dest: Port | str, *reason: Any) -> None:
        """Kill a port; see `gmp.kill`."""
        self._check_open()
        node_id, name = split_port_id(dest)
        if not name:
            raise GmpError(f"{dest!r} is a node: only ports can be killed")
        if node_id != self.id:
            self._peer(node_id).send("", ("kil1", name, *reason))
            return
        port = self.ports.by_name.get(name)
        if port is not None:
            port.kill(*reason)

    def spawn(self, node_id: str, init: str | Callable[..., Any], *args: Any) -> str:
        """Start a port on another node; see `gmp.spawn`."""
        self._check_open()
        self._node_port(node_id)
        name, function = self.ports.new_name(), function_name(init)
        if node_id == self.id:
            self.ports.make(_run_function, (init if callable(init) else None, function, args), name=name)
        else:
            self._peer(node_id).send("", (SPAWN, name, function, *args))
        return f"{node_id}#{name}"

    def send_to_function(self, node_id: str, function: str | Callable[..., Any], *args: Any) -> None:
        """Let another node call ``"package.module:function"`` with `args`; there is no reply, and a refusal is logged there.

        That node's setting `allow` must admit the function. *Raises:* as `send`; `GmpError` for what is no such name.
        *Blocks:* as `send`.
        """
        self.send(self._node_port(node_id), function_name(function), *args)

    def send_on(self, node_id: str, dest: Port | str, *message: Any) -> None:
        """Let another node send a message for this one: it takes the way over there. *Raises:*, *Blocks:* as `send`."""
        split_port_id(dest)
        self.send(self._node_port(node_id), "snd", dest, *message)

    def eval_on(self, node_id: str, source: str, *reply: Any) -> None:
        """Let another node evaluate `source`, when its setting `allow_eval` is on.

        `reply` is a port and what the answer is to begin with; it gets the error text, empty without an error, and the
        result. *Raises:*, *Blocks:* as `send`.
        """
        self.send(self._node_port(node_id), "eval", source, *reply)

    def open_stream(
        self, node_id: str, function: str | Callable[..., Any], *args: Any, timeout: float | None = None
    ) -> Stream:
        """Open a stream of bytes to another node, which calls ``"package.module:function"`` with `args` and its end of it.

        That node's setting `allow` must admit the function. The stream has the methods of a socket, and is authenticated and
        encrypted as connections between the two nodes are; it goes over a TCP connection of its own, to the same port.
        At least one of the two must listen. Close your end: the function's is closed when it raises, or when nothing refers
        to it any more. `timeout`: seconds until the stream is there (None: `connect_timeout` + `handshake_timeout`).

        *Raises:* `NotAllowed`; `WaitTimeout`; `PortDied`, with the node as its port, when it is lost or cannot be reached;
        `GmpError` when there can be no stream: towards Perl, between two nodes that do not listen.
        *Blocks:* until the stream is there, at most `timeout` seconds.
        """
        self._check_open()
        return self.streams.open(self._node_port(node_id), function, args, timeout)

    def _node_port(self, node_id: str) -> str:
        if not isinstance(node_id, str) or not is_peer_node_id(node_id):
            raise ConfigError(f"{node_id!r} is not a node ID")
        return node_id

    # ---- monitors and timers

    def monitor(self, target: Port | str, action: Any = _NEW, *message: Any) -> Monitor:
        """Watch a port or node; see `gmp.monitor`."""
        self._check_open()
        if action is _NEW:
            action = current_port()
            if action is None:
                raise GmpError("monitor(target) kills the current port, but there is none here: give a callback")
        watcher = self._own_port(action) if isinstance(action, Port | str) else None
        if watcher is not None:
            if message:
                monitor = self._monitor(target, lambda reason: watcher.put((*message, *reason)))
            else:
                monitor = self._monitor(target, lambda reason: watcher.kill(*reason) if reason else None)
            watcher.watches(monitor)
            return monitor
        if not callable(action) or message:
            raise GmpError(f"monitor of {target}: expected a callback, or a port of this node and a message for it")
        return self._monitor(target, lambda reason: self.defer(action, *reason), deferred=True)

    def _own_port(self, port: Port | str) -> Port:
        """`port`, where only one of this node will do. *Raises:* `GmpError`."""
        found = port if isinstance(port, Port) else self.ports.find(port)
        if isinstance(found, Port) and found.ports is self.ports:
            return found
        node_id, _ = split_port_id(port)
        if node_id != self.id:
            raise GmpError(f"{str(port)!r} is a port of node {node_id}: expected one of this node, {self.id}")
        raise GmpError(f"{str(port)!r} is no live port of this node")

    def _monitor(self, target: Any, action: Callable[[Reason], None], *, deferred: bool = False) -> Monitor:
        node_id, name = split_port_id(target)
        if node_id != self.id:
            self._peer(node_id)
            return self.monitors.monitor(node_id, name, action, deferred=deferred)
        port = target if isinstance(target, Port) else self.ports.by_name.get(name)
        if port is not None:
            monitor = Monitor(action, port, deferred=deferred)
            port.add_monitor(monitor)
            return monitor
        monitor = Monitor(action, _NOBODY, deferred=deferred)
        if name:
            reason = ("no_such_port", "cannot monitor nonexistent port", f"{node_id}#{name}")
            gevent.get_hub().loop.run_callback(monitor.fire, reason)
        return monitor

    def link(self, a: Port | str, b: Port | str) -> tuple[Monitor, Monitor]:
        """Let two ports of this node die together; see `gmp.link`."""
        return self.monitor(a, b), self.monitor(b, a)

    def after(self, seconds: float, action: Any, *message: Any) -> Timer:
        """Do something later; see `gmp.after`."""
        self._check_open()
        if isinstance(action, Port | str):
            port_id = str(action)  # not the port itself, which the timer would keep alive
            split_port_id(port_id)
            return Timer(seconds, lambda: None if self.closed else self.send_soon(port_id, *message))
        if not callable(action):
            raise GmpError(f"after: {action!r} is neither a callback nor a port")
        return Timer(seconds, lambda: None if self.closed else self.defer(action, *message))

    def supervise(self, children: Iterable[Any], **settings: Any) -> Port:
        """Start ports and restart them when they die; see `gmp.supervise`."""
        return self.ports.make(Supervisor(children, **settings))

    def on_local_death(self, port: Any, callback: Callable[..., Any]) -> str:
        """`callback` at the death of a live port of this node; returns its ID. For groups."""
        port_id = str(port)
        local = self.ports.find(port_id)
        if local is None:
            raise GmpError(f"{port_id!r} is no live port of this node")
        local.add_monitor(Monitor(lambda reason: callback(*reason), local))
        return port_id

    # ---- groups and the network

    def group(self, name: str) -> Group:
        """The group of that name; see `gmp.group`."""
        self._check_open()
        return Group(_family_name(name), self, self.backbone)

    def family(self, name: str) -> Family:
        """The family of that name; see `gmp.family`."""
        self._check_open()
        return Family(_family_name(name), self, self.backbone)

    def is_up(self, node_id: str) -> bool:
        """Whether that node is connected; the own one is. *Blocks:* never."""
        self.ports.check_thread()
        peer = self.network.peers.get(node_id)
        return node_id == self.id or (peer is not None and peer.is_up)

    def up_nodes(self) -> list[str]:
        """The IDs of the nodes that are connected, without the own. *Blocks:* never."""
        self.ports.check_thread()
        return [peer.node_id for peer in self.network.up_peers()]

    def known_nodes(self) -> list[str]:
        """The IDs of all nodes that the directory lists or that are connected, with the own. *Blocks:* never.

        The first call subscribes to the directory: on a node that is no seed its answer comes a moment later.
        """
        self.ports.check_thread()
        self.backbone.subscribe(ADDRESSES)
        return sorted({self.id, *self.backbone.items(ADDRESSES), *self.up_nodes()})

    def monitor_known_nodes(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(known, added, removed)` at once, and whenever the directory gains or loses a node.

        Each is a list of node IDs. Returns a function that ends it. *Blocks:* never.
        """
        self._check_open()
        return watch(
            self, self.backbone, ADDRESSES, lambda known, added, _, removed: callback(sorted(known), added, removed)
        ).cancel

    def offer(self, name: str, function: Callable[..., Any]) -> Callable[[], None]:
        """Let other nodes call `function(asker_node_id, *args)` here by `name`, in a greenlet of its own.

        For services; `name` may be a Perl one, such as ``My::Service::connect``. Returns a function that ends it.
        *Raises:* `ConfigError` when the name is taken. *Blocks:* never.
        """
        self._check_open()
        return self.requests.offer(name, function)

    def trace_messages(self, tracer: Tracer | None) -> None:
        """Let a trace context travel with messages from now on; None: no longer. See `gmp.services.tracing`.

        It is for ports that are made afterwards. *Blocks:* never.
        """
        arguments = (self.ports, self._peer, self.requests.handle)
        self._routes = Routes(*arguments) if tracer is None else TracingRoutes(*arguments, tracer)
        self._routes.ways, self._routes.runs = self.ways, self.runs  # `gmp.send` knows these
        self.ports.port_class = Port if tracer is None else make_port_class(tracer)
        self._calls.tracer(tracer)
        self.watch_sends(self._sent)

    def watch_sends(self, sent: Callable[[Any, tuple[Any, ...]], None] | None) -> None:
        """Call `sent(dest, message)` for each message that this node's code sends; None: no longer."""
        self._sent = sent
        send, send_soon = self._routes.send, self._routes.send_soon
        self.send_tuple = send if sent is None else told(send, sent)
        untold = sent is None and type(self._routes) is Routes
        self.ports.watch_puts(not untold)
        self._calls.send_by(send_soon if sent is None else told(send_soon, sent))

    def monitor_nodes(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(node_id, up, *reason)` whenever a node is connected or lost; returns a function that ends it.

        *Blocks:* never.
        """
        self.ports.check_thread()
        return self._events.monitor(callback)

    def monitor_busy(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(node_id, busy, seconds)` when a node's program becomes or is no longer busy.

        Busy: connected, its kernel answers, but its program was silent for `busy_after`. `seconds` is how long the silence
        has lasted. A node that is lost meanwhile is told of by `monitor_nodes` alone. Returns a function that ends it.
        *Blocks:* never.
        """
        self.ports.check_thread()
        return self._events.monitor_busy(callback)

    def wait_up(self, node_id: str | None = None, timeout: float | None = None) -> None:
        """Wait until `node_id` (None: any seed) is connected.

        *Blocks:* up to `timeout` seconds (None: without end). *Raises:* `WaitTimeout`.
        """
        self._check_open()
        if node_id is not None:
            self.connect(node_id)
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block in silence
            while not self._waited_for(node_id):
                self._changed.clear()
                self._changed.wait()
        if not self._waited_for(node_id):
            raise WaitTimeout(f"{node_id or 'no seed'} is not connected after {timeout} s")

    def _waited_for(self, node_id: str | None) -> bool:
        self._check_open()
        if node_id is not None:
            return self.is_up(node_id)
        return self.mesh.joined

    def stats(self) -> dict[str, Any]:
        """Figures of this node: messages dropped, ports, its seeds, for each peer what was sent, received and waits.

        `peak` is the port at which the most messages waited at once, and how many, noted at each doubling (None: under 16).
        `loop_lag` is by how many seconds this node's event loop was late last, `loop_lag_peak` the most so far. Of a peer
        that is connected: `busy`, and `round_trip`, the seconds its program took for the last heartbeat.
        """
        self.ports.check_thread()
        peers = {peer.node_id: peer.stats() for peer in self.network.peers.values()}
        lag = self.network.housekeeper.stats()
        figures = {"dropped": self.ports.dropped, "ports": len(self.ports.by_name), "peak": self.ports.peak}
        return {**figures, "peers": peers, "seeds": self.mesh.stats(), **lag}

    # ---- what the mesh needs

    def request(self, node_id: str, *request: Any) -> None:
        """Send a request to another node's node port; one of the mesh is dropped when it is not connected."""
        peer = self._peer(node_id)
        if peer.is_up or not str(request[0]).startswith(("g_", "gmp.")):
            peer.send("", request)

    def is_linked(self, node_id: str) -> bool:
        """`Ground.is_linked`."""
        peer = self.network.peers.get(node_id)
        return peer is not None and peer.is_linked

    def is_gmp(self, node_id: str) -> bool:
        """`Ground.is_gmp`."""
        peer = self.network.peers.get(node_id)
        return peer is not None and peer.is_gmp

    def incarnation_of(self, node_id: str) -> str:
        """`Ground.incarnation_of`."""
        peer = self.network.peers.get(node_id)
        return "" if peer is None else peer.link.newest

    def is_near(self, node_id: str) -> bool:
        """`Ground.is_near`."""
        peer = self.network.peers.get(node_id)
        return peer is not None and peer.connection is not None and is_loopback(peer.connection.address)

    def may_be_seed(self, node_id: str) -> bool:
        """`Ground.may_be_seed`: whoever has the secret, unless `cert_names` tells the nodes apart."""
        if not self.settings.cert_names:
            return True
        if node_id == self.id:
            return self.network.is_marked_seed
        peer = self.network.peers.get(node_id)
        connection = None if peer is None else peer.connection
        if not isinstance(connection, Connection) or connection.tls is None:
            return False
        return connection.tls.marks_seed() or (not self.settings.cert_seeds and self.mesh.is_seed(node_id))

    def relayed(
        self, node_id: str, incarnation: str, token: str, via: str, carry: Callable[..., None]
    ) -> RelayLink | None:
        """`Ground.relayed`."""
        return self.network.relays.attach(node_id, incarnation, token, via, carry)

    def probe(self, node_id: str) -> None:
        """`Ground.probe`."""
        self.request(node_id, "")

    def resolve(self, address: Address) -> list[Address]:
        """`Ground.resolve`."""
        return names.resolve(address)

    def dial(self, address: Address, *, expect: str = "") -> str:
        """`Network.dial`."""
        return self.network.dial(address, expect=expect)

    def connect(self, node_id: str) -> None:
        """Ask for a connection with that node."""
        if node_id != self.id:
            self._peer(node_id).want()

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """`Ground.later`."""
        return Timer(seconds, function)

    def now(self) -> float:
        """`Ground.now`."""
        return time.monotonic()

    def joined(self) -> None:
        """`Ground.joined`."""
        self._changed.set()

    def addresses(self) -> list[str]:
        """Where this node listens, as told to others."""
        return self.network.announced()

    def _peer(self, node_id: str) -> Peer:
        if self._state == "new":
            raise ConfigError(f"node {node_id!r} cannot be reached: this node is local only, call gmp.configure first")
        return self.network.peer(node_id)

    # ---- what the network tells

    def peer_wanted(self, peer: Peer) -> None:
        """`PeerEvents.peer_wanted`: a greenlet looks for a way."""
        greenlet = gevent.spawn(self._find_way, peer)
        self._greenlets.add(greenlet)
        greenlet.rawlink(self._greenlets.discard)

    def _find_way(self, peer: Peer) -> None:
        problem = self.mesh.find_way(peer.node_id)
        if not peer.is_up and self._state in ("started", "closing"):
            peer.fail(f"cannot connect: {problem or 'the connection was lost at once'}")

    def peer_up(self, peer: Peer) -> None:
        """`PeerEvents.peer_up`."""
        self._leaving.changed()
        self.mesh.node_up(peer.node_id)
        self._tell(peer.node_id, True)

    def peer_linked(self, peer: Peer) -> None:
        """`NetworkEvents.peer_linked`."""
        self.mesh.node_linked(peer.node_id)

    def peer_lost(self, peer: Peer, reason: Reason, was_up: bool) -> None:
        """`PeerEvents.peer_lost`: one uninterrupted step, no user code runs in it."""
        self.monitors.node_lost(peer.node_id, reason)
        self._leaving.changed()
        if self._state != "started":
            return
        self.mesh.node_down(peer.node_id, ended=peer.ended)
        if was_up:
            self._tell(peer.node_id, False, *reason)

    def peer_busy(self, peer: Peer, busy: bool, seconds: float) -> None:
        """`HousekeeperEvents.peer_busy`."""
        self._events.tell_busy(peer.node_id, busy, seconds)

    def loop_late(self, seconds: float) -> None:
        """`HousekeeperEvents.loop_late`: others depend on a seed's loop."""
        if self.backbone.is_global:
            log.warning("%s: the event loop of this seed was held up for %.1f s", self.id, seconds)

    def peer_drained(self, peer: Peer) -> None:
        """`NetworkEvents.peer_drained`."""
        self._leaving.changed()

    def peer_leaves(self, peer: Peer) -> None:
        """A peer has said that it leaves."""
        if peer.connection is not None:
            peer.connection.close(CloseReason.LEAVING)

    def _tell(self, node_id: str, up: bool, *reason: Any) -> None:
        self._changed.set()
        self._events.tell(node_id, up, *reason)

    def node_port_message(self, peer: Peer, message: list[Any]) -> None:
        """`NetworkEvents.node_port_message`: for the node port, or for a port that is not there."""
        if message[0] == "":
            self.requests.handle(peer, tuple(message[1:]))
        else:
            self.ports.dropped += 1


class _Nobody:
    """The home of a monitor of a port that is not there."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """There is none."""


_NOBODY = _Nobody()


def _run_function(port: Port, function: Callable[..., Any] | None, name: str, args: tuple[Any, ...]) -> None:
    """The body of a port spawned on the own node."""
    if function is None:
        try:
            function = resolve(name, ("*",), for_spawn=True)
        except GmpError as error:
            port.kill("not_allowed", str(error))
            return
    function(port, *args)


def _family_name(name: object) -> str:
    if not isinstance(name, str) or not name or name.startswith("'"):
        raise ConfigError(f"{name!r} cannot be a group's or family's name: expected a text that does not begin with '")
    return name


__all__ = ["Node", "PortDied"]
