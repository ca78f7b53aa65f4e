"""A node: what brings ports, network and mesh together.

Walk of a message. Out: `send` → the table from full port ID to a local destination → its `put`; for another node
`peer.send`. In: connection → the same ports' table by local name, or `node_port_message` for everything else.

When a peer is lost, `losing` says what happens in which order, and when the peer may be dialled again.
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

from gmp.config import Address, Settings, load_settings, own_name, parse_bind, parse_seed
from gmp.errors import ConfigError, GmpError, MessageError, PortDied, WaitTimeout
from gmp.ids import check_node_id, is_encodable, is_peer_node_id, make_incarnation, random_suffix, split_port_id
from gmp.kernel.calls import Calls
from gmp.kernel.ending import Ending, close_at_exit
from gmp.kernel.forking import LEFT_BY_FORK, let_go_in_children
from gmp.kernel.leaving import GOODBYE, Leaving
from gmp.kernel.losing import Loss
from gmp.kernel.monitoring import RemoteMonitors
from gmp.kernel.node_events import NodeEvents
from gmp.kernel.passing import Passing
from gmp.kernel.remote_watchers import RemoteWatcher
from gmp.kernel.requests import Requests
from gmp.kernel.routes import Routes, told
from gmp.kernel.services import start_services
from gmp.kernel.spawning import function_name, resolve
from gmp.kernel.streams import Streams
from gmp.kernel.supervision import Supervisor
from gmp.kernel.threads import ThreadDoor
from gmp.kernel.tracing import TracingRoutes, make_port_class
from gmp.kernel.undecodable import UndecodableMessages
from gmp.mesh.addresses import ADDRESSES, is_loopback
from gmp.mesh.backlog import Backlog
from gmp.mesh.failures import Wait, in_words
from gmp.mesh.groups import Family, Group, watch
from gmp.mesh.mesh import Mesh
from gmp.net import names
from gmp.net.connection import Connection
from gmp.net.network import Network, SelfDial
from gmp.net.peer import Peer
from gmp.net.reasons import CloseReason
from gmp.net.relaylink import RelayLink
from gmp.net.streams import Stream
from gmp.peerlog import PeerLog
from gmp.ports.history import Death
from gmp.ports.monitors import Kind, Monitor, Reason
from gmp.ports.port import Port, current_port
from gmp.ports.table import Ports
from gmp.ports.timers import Timer
from gmp.ports.tracing import Tracer
from gmp.texts import shown
from gmp.wire.dispatch import Decoded, Undecodable
from gmp.wire.requests import EVAL, KIL1, REFUSED, SND, SPAWN

log = logging.getLogger("gmp")
_NEW = object()
DIAL_AGAIN = 1.0  # seconds before `wait_up` dials a node again


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
    def local(cls, *, parent: Node | None = None) -> Node:
        """A node that knows no other: what the default node is before `configure`.

        `parent` is the one that this process has inherited by `fork`: if that was configured, whoever uses this one most
        likely expects to be in the network, so its first use for that is warned of.
        """
        node = cls.__new__(cls)
        node._set_up(Settings(binds=()))
        if parent is not None:
            node._left_by_fork = node._unsaid = parent.id if parent._configured else parent._left_by_fork
        return node

    def _set_up(self, settings: Settings) -> None:
        self.settings = settings
        self.id = self._choose_id(settings)
        self.incarnation = make_incarnation(time.time_ns(), secrets.randbits(32))
        self.ports = Ports(self.id, self.incarnation)
        self.ports.node = self
        self.peer_log = PeerLog(self.id, self.later)
        self.monitors = RemoteMonitors(self.ports, self.request, self.connect)
        self._undecodable = UndecodableMessages(self.ports, self.monitors, self.peer_log)
        self.mesh = Mesh(self, settings)
        self.backbone, self.complaints = self.mesh.backbone, self.mesh.complaints
        self.streams = Streams(self)
        answers = settings.high_mark + settings.max_message
        self.passing = Passing(settings.high_mark, answers, self.backlog, self._asks_too_much)
        self.requests = Requests(self)
        self.network = Network(self.id, self.incarnation, settings, self.ports.by_name, self, self.peer_log)
        self._routes = Routes(self.ports, self._peer, self.requests.handle)
        self.send_tuple = self._routes.send  #: `send` with the message as a tuple, for `gmp.send`
        self.ways, self.runs = self._routes.ways, self._routes.runs  #: as in `Routes`, for `gmp.send`
        self.is_owned = self.ports.hold._is_owned  #: as `Ports.hold`
        self._calls = Calls(self.ports, self._routes.send_soon, self._monitor, self._why_unreached)
        self._sent: Callable[[Any, tuple[Any, ...]], None] | None = None
        self.services: list[tuple[str, Port]] = []  #: name and port of each service that was started
        self._events = NodeEvents(self.defer)
        self._leaving = Leaving(self.network.peers.values)
        self._changed = gevent.event.Event()
        self._greenlets: set[gevent.Greenlet[..., Any]] = set()
        self.threads = ThreadDoor(self.ports.hub, self.defer, self.id, lambda: self.ports.closed_because)
        self._state = "new"
        self._was_started = False
        self._held_up = False  # whether the log has told that messages waited for the loop
        self._ending = Ending(self._leave, self.ports.hub)
        self.ended = gevent.event.Event()  #: set when it begins to leave
        self._configured = False  # whether it was ever started
        self._left_by_fork = self._unsaid = ""  # the ID of the node that the parent process has, until it was warned of
        let_go_in_children(self)

    @staticmethod
    def _choose_id(settings: Settings) -> str:
        node_id = settings.node_id or (settings.profile or own_name(os.environ)) + "/"
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
        self._state, self._configured = "started", True
        close_at_exit(self)
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

        What the ports' ``finally`` blocks send meanwhile is written too. Idempotent; afterwards every call on the node
        raises. A port of this node that calls it ends here, as one that kills itself. In a signal handler that runs in the
        event loop it only begins to leave; the end of the program waits until that is done.
        *Blocks:* at most the setting `leave_timeout` and 2 seconds; never in the hub.
        """
        if self.inherited:
            return  # a `with` block may end in a child of `fork`
        self.ports.check_thread()
        if self._state in ("new", "started"):
            self._was_started, self._state = self._state == "started", "closing"
            self.ended.set()
            self._changed.set()
            self.network.stop_listening()
            self.ports.leave(("leaving", self.id))
        elif self._state == "closed":
            return
        self._ending.close()

    def close_at_exit(self) -> None:
        """`Endable.close_at_exit`: the process ends."""
        if self.inherited:
            return
        if not self.ports.is_own_thread():
            self.threads.close_node(self.close, self.settings.leave_timeout + GOODBYE)
            return
        if self.started:
            self.ports.closed_because = "has left the network, as the program ends"
            self.close()
        self._ending.wait()

    def flush(self, timeout: float | None = None) -> bool:
        """Write what this node has sent so far to its peers' sockets; return whether all of it was written.

        For programs that wait natively (`time.sleep`, a blocking library): messages leave while the event loop runs, which
        it does not do then. What was sent to a node that is not connected waits until a way was found, or is dropped.
        *Raises:* `GmpError` in the hub. *Blocks:* until then, at most `timeout` seconds (None: without end).
        """
        self._check_open()
        if gevent.getcurrent() is self.ports.hub:
            raise GmpError("flush in the hub: a callback of the event loop must not block")
        return self._leaving.flush(timeout)

    def _leave(self) -> None:
        deadline = time.monotonic() + self.settings.leave_timeout
        self.ports.close(deadline)
        if self._was_started:
            self._leaving.flush(max(0.0, deadline - time.monotonic()))  # a way may have to be found first, even to a seed
            self.network.finish_streams(max(0.0, deadline - time.monotonic()))
        self.mesh.stop()
        if self._was_started:
            self._leaving.part(GOODBYE)
        gevent.killall([greenlet for greenlet in self._greenlets if greenlet is not gevent.getcurrent()])
        self._calls.close()
        self.threads.close()
        self.network.close()
        self.peer_log.sum_up()
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

    def from_thread(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Run `function(*args)` in a greenlet of this node's loop, and return what it returns or raise what it raises.

        The one call that may come from another native thread; every other one raises there.
        *Blocks:* the calling thread until it has run, at most `timeout` seconds (None: without end).
        *Raises:* `WaitTimeout`: the function goes on then, if it has begun; `GmpError` when the node is closed, or closes
        meanwhile, and when the node's own native thread waits for the calling one, so that neither would ever go on.
        """
        if self.ports.is_own_thread():
            self._check_open()
            return function(*args)
        return self.threads.call(function, args, timeout)

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

    def check_message(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """Check that `message` can travel to all of these ports. *Raises:* `MessageError`. *Blocks:* never."""
        self._routes.check(destinations, message)

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
            self.request(node_id, KIL1, name, *reason)
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
        self.send(self._node_port(node_id), SND, dest, *message)

    def eval_on(self, node_id: str, source: str, *reply: Any) -> None:
        """Let another node evaluate `source`, when its setting `allow_eval` is on.

        `reply` is a port and what the answer is to begin with; it gets the error text, empty without an error, and the
        result. *Raises:*, *Blocks:* as `send`.
        """
        self.send(self._node_port(node_id), EVAL, source, *reply)

    def open_stream(
        self, node_id: str, function: str | Callable[..., Any], *args: Any, timeout: float | None = None
    ) -> Stream:
        """Open a stream of bytes to another node, which calls ``"package.module:function"`` with `args` and its end of it.

        That node's setting `allow` must admit the function. The stream has the methods of a socket, and is authenticated and
        encrypted as connections between the two nodes are; it goes over a TCP connection of its own, to the same port.
        At least one of the two must listen. Close your end, or the other side reads a cut and no end (see `Stream`); the
        function's is cut when it raises, and closed when it returns, unless it has passed it on. `timeout`: seconds until
        the stream is there (None: `connect_timeout` + `handshake_timeout`).

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
        watcher = self._watcher(action, message) if isinstance(action, Port | str) else None
        if isinstance(watcher, RemoteWatcher):
            return watcher.watch(target)
        if watcher is not None:
            if message:
                monitor = self._monitor(target, lambda reason: watcher.put_once((*message, *reason)))
            else:
                monitor = self._monitor(target, lambda reason: watcher.kill(*reason) if reason else None, Kind.KILL)
            watcher.watches(monitor)
            return monitor
        if not callable(action) or message:
            raise GmpError(f"monitor of {target}: expected a callback, or a port and a message for it")
        return self._monitor(target, lambda reason: self.defer(action, *reason), Kind.CALLBACK)

    def _watcher(self, port: Port | str, message: tuple[Any, ...] = ()) -> Port | RemoteWatcher:
        """Whom a monitor is set for. *Raises:* `GmpError` for a port that is not alive here, or what is no port."""
        node_id, name = split_port_id(port)
        found = port if isinstance(port, Port) else self.ports.by_name.get(name)
        if isinstance(found, Port) and found.ports is self.ports and node_id == self.id:
            return found
        if node_id != self.id:
            self._peer(node_id)
            return RemoteWatcher(self, node_id, name, message)
        raise GmpError(f"{str(port)!r} is no live port of this node")

    def _monitor(self, target: Any, action: Callable[[Reason], None], kind: Kind = Kind.MESSAGE) -> Monitor:
        node_id, name = split_port_id(target)
        if node_id != self.id:
            self._peer(node_id)
            return self.monitors.monitor(node_id, name, action, kind)
        port = target if isinstance(target, Port) else self.ports.by_name.get(name)
        if port is not None:
            monitor = Monitor(action, port, kind=kind)
            port.add_monitor(monitor)
            return monitor
        monitor = Monitor(action, _NOBODY, kind=kind)
        if name:
            reason = ("no_such_port", "cannot monitor nonexistent port", f"{node_id}#{name}")
            self.ports.duties.add(lambda: monitor.fire(reason))
        return monitor

    def link(self, a: Port | str, b: Port | str) -> tuple[Monitor, Monitor]:
        """Let two ports die together; see `gmp.link`."""
        self._check_open()
        for port in (a, b):
            self._watcher(port)  # raises before anything is set
        return self.monitor(a, b), self.monitor(b, a)

    def after(self, seconds: float, action: Any, *message: Any) -> Timer:
        """Do something later; see `gmp.after`."""
        self._check_open()
        if isinstance(action, Port | str):
            port_id = str(action)  # not the port itself, which the timer would keep alive
            self._routes.check([port_id], message)
            return Timer(seconds, lambda: None if self.closed else self._send_later(port_id, message))
        if not callable(action):
            raise GmpError(f"after: {action!r} is neither a callback nor a port")
        return Timer(seconds, lambda: None if self.closed else self.defer(action, *message))

    def _send_later(self, port_id: str, message: tuple[Any, ...]) -> None:
        try:
            self._routes.send_soon(port_id, message)
        except GmpError as error:  # it was changed meanwhile, or the node has another framing than it had
            log.error("%s: a message to %s that was due now cannot be sent: %s", self.id, port_id, error)

    def supervise(self, children: Iterable[Any], **settings: Any) -> Port:
        """Start ports and restart them when they die; see `gmp.supervise`."""
        return self.ports.make(Supervisor(children, **settings))

    def on_local_death(self, port: Any, callback: Callable[[], None]) -> Monitor:
        """Call `callback` at the death of a live port of this node. For groups."""
        port_id = str(port)
        local = self.ports.find(port_id)
        if local is None:
            raise GmpError(f"{port_id!r} is no live port of this node")
        monitor = Monitor(lambda reason: callback(), local)
        local.add_monitor(monitor)
        return monitor

    # ---- groups and the network

    def group(self, name: str) -> Group:
        """The group of that name; see `gmp.group`."""
        self._check_open()
        self._warn_if_left_by_fork(f"group {name!r}")
        return Group(_family_name(name), self, self.backbone)

    def family(self, name: str) -> Family:
        """The family of that name; see `gmp.family`."""
        self._check_open()
        self._warn_if_left_by_fork(f"family {name!r}")
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
        return sorted({self.id, *filter(is_peer_node_id, self.backbone.items(ADDRESSES)), *self.up_nodes()})

    def monitor_known_nodes(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(known, added, removed)` at once, and whenever the directory gains or loses a node.

        Each is a list of node IDs. Returns a function that ends it. *Blocks:* never.
        """
        self._check_open()

        def changed(*lists: Iterable[str]) -> None:
            known, added, _, removed = (list(filter(is_peer_node_id, each)) for each in lists)
            callback(sorted(known), added, removed)

        return watch(self, self.backbone, ADDRESSES, changed).cancel

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
        """Wait until `node_id` (None: any seed) is connected; that node is dialled again and again meanwhile.

        While it waits in vain a warning in the log says why, now and then.
        *Blocks:* up to `timeout` seconds (None: without end). *Raises:* `WaitTimeout`, which says why too; `ConfigError`.
        """
        self._check_open()
        if node_id is not None:
            self._node_port(node_id)
        problem, again = "", 0.0  # why it was not connected last, and when to dial it again
        watch: Monitor | None = None

        def failed(reason: Reason) -> None:
            nonlocal problem, again
            problem = in_words(reason)
            again = time.monotonic() + DIAL_AGAIN
            self._changed.set()

        def why() -> str:
            return problem or self.mesh.trouble()

        wait = Wait(self.complaints, lambda: f"node {node_id}" if node_id else "a seed", why)
        try:
            with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block in silence
                while not self._waited_for(node_id):
                    if node_id is not None and (watch is None or not watch.active) and time.monotonic() >= again:
                        watch = self._monitor(node_id, failed)  # which dials
                    self._changed.clear()
                    wait.pause(self._changed, DIAL_AGAIN)
        finally:
            if watch is not None:
                watch.cancel()
        if not self._waited_for(node_id):
            text = f"{node_id} is not connected" if node_id else "no seed is connected"
            text += f" after {timeout} s"
            raise WaitTimeout(f"{text}: {why()}" if why() else text)

    def _waited_for(self, node_id: str | None) -> bool:
        self._check_open()
        if node_id is not None:
            return self.is_up(node_id)
        return self.mesh.joined

    def stats(self) -> dict[str, Any]:
        """Figures of this node: messages dropped, ports, its seeds, for each peer what was sent, received and waits.

        A peer is any node that this one has a connection with, or had one lately: those that were idle for a while are not
        told of.
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
        """Send a request to another node's node port; one of the mesh is dropped when it is not connected.

        Never raises for what is in it, as it is one of many things that have to happen: what cannot travel is left out, and
        logged. A death always travels, with a reason that does.
        """
        peer = self._peer(node_id)
        if peer.is_up or not str(request[0]).startswith(("g_", "gmp.")):
            try:
                peer.send_request(request)
            except MessageError as error:
                text = f"{self.id}: the request {request[0]} to {node_id} is left out: {error}"
                self.peer_log.tell(log, logging.ERROR, "request left out", node_id, text)

    def pass_on(self, asker: str, receiver: str, *request: Any) -> None:
        """`Ground.pass_on`."""
        self.passing.run(asker, receiver, lambda: self.request(receiver, *request))

    def complain(self, kind: str, node_id: str, text: str) -> None:
        """`Ground.complain`."""
        self.peer_log.tell(log, logging.WARNING, kind, node_id, text)

    def backlog(self, node_id: str) -> Backlog:
        """`Ground.backlog`."""
        peer = self.network.peers.get(node_id)
        connection = None if peer is None else peer.connection
        written = 0 if connection is None else connection.sent_bytes
        return Backlog(connection, written, 0 if peer is None else peer.waiting)

    def admits(self, node_id: str, request: str) -> bool:
        """`Ground.admits`."""
        peer = self.network.peers.get(node_id)
        return peer is not None and peer.admits(request)

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

    def portable(self, key: str, value: Any) -> Any:
        """`Ground.portable`."""
        return self.network.portable.copy(key, value)

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """`Ground.later`."""
        return Timer(seconds, function)

    def now(self) -> float:
        """`Ground.now`."""
        return time.monotonic()

    def joined(self) -> None:
        """`Ground.joined`."""
        self._changed.set()

    def _why_unreached(self, port_id: str) -> str:
        """Why a node may not have answered; empty: it is connected."""
        node_id, _ = split_port_id(port_id)
        if self.is_up(node_id):
            return ""
        trouble = self.mesh.trouble()
        return f"node {node_id} is not connected; {trouble}" if trouble else f"node {node_id} is not connected"

    def trouble(self) -> str:
        """`GroupGround.trouble`."""
        return self.mesh.trouble()

    def addresses(self) -> list[str]:
        """Where this node listens, as told to others."""
        return self.network.announced()

    def _warn_if_left_by_fork(self, what: str) -> None:
        """The parent process has configured a node, and this child uses its own, local one: once it is told."""
        if self._unsaid and self._state == "new":
            log.warning(LEFT_BY_FORK, self.id, what, os.getpid(), self._unsaid)
            self._unsaid = ""

    def _peer(self, node_id: str) -> Peer:
        if self._state == "new":
            self._warn_if_left_by_fork(f"node {node_id!r}")
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

        def before() -> None:
            peer.cut_off()
            self.network.rest(peer, was_up=was_up)
            self.passing.node_down(peer.node_id)

        loss = Loss(peer, reason, self.monitors, self.ports)
        loss.begin(before, lambda: self._after_monitors(peer, reason, was_up))

    def _after_monitors(self, peer: Peer, reason: Reason, was_up: bool) -> None:
        self._leaving.changed()
        if self._state != "started":
            return
        self.mesh.node_down(peer.node_id, in_words(reason), ended=peer.ended, refused=peer.refused)
        if was_up:
            self._tell(peer.node_id, False, *reason)

    def peer_busy(self, peer: Peer, busy: bool, seconds: float) -> None:
        """`HousekeeperEvents.peer_busy`."""
        self._events.tell_busy(peer.node_id, busy, seconds)

    def loop_late(self, seconds: float, sent: int) -> None:
        """`HousekeeperEvents.loop_late`: others depend on a seed's loop, and what was sent has waited for it."""
        if self.backbone.is_global:
            log.warning("%s: the event loop of this seed was held up for %.1f s", self.id, seconds)
        busy_after = self.settings.busy_after
        if sent and busy_after is not None and seconds > busy_after and not self._held_up:
            self._held_up = True
            log.warning(
                "%s: the event loop did not run for %.1f s, and messages that were sent meanwhile waited for it; a program"
                " that waits natively (time.sleep, a blocking library) calls gmp.flush() before, or waits by gevent.sleep",
                self.id,
                seconds,
            )

    def peers_forgotten(self, peers: set[Peer]) -> None:
        """`NetworkEvents.peers_forgotten`."""
        self._routes.forget(peers)
        self.mesh.forget({peer.node_id for peer in peers})

    def is_former(self, node_id: str, incarnation: str) -> bool:
        """`Ground.is_former`."""
        peer = self.network.peers.get(node_id)
        return peer is not None and peer.is_former(incarnation)

    def peer_drained(self, peer: Peer) -> None:
        """`NetworkEvents.peer_drained`."""
        self._leaving.changed()

    def _asks_too_much(self, node_id: str, text: str) -> None:
        """More waits that `node_id` wants passed on than may: it is lost, and told so if it reads."""
        self.peer_log.tell(log, logging.WARNING, "asks for too much", node_id, f"{node_id} is lost: {text}")
        connection = self.network.peer(node_id).connection
        if connection is not None:
            if connection.admits(REFUSED):
                connection.send("", (REFUSED, text))
                self.network.peer(node_id).flush()
            connection.close(CloseReason.TOO_MUCH, text)

    def peer_leaves(self, peer: Peer) -> None:
        """A peer has said that it leaves."""
        if peer.connection is not None:
            peer.connection.close(CloseReason.LEAVING)

    def _tell(self, node_id: str, up: bool, *reason: Any) -> None:
        self._changed.set()
        self._events.tell(node_id, up, *reason)

    def node_port_message(self, peer: Peer, message: Decoded) -> None:
        """`NetworkEvents.node_port_message`: for the node port, or for a port that is not there."""
        if isinstance(message, Undecodable):
            self._undecodable.lost(peer, message)
        elif message[0] == "":
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
    if not isinstance(name, str) or not name or name.startswith("'") or not is_encodable(name):
        raise ConfigError(f"{shown(name)} cannot be a group's or family's name: expected a text that does not begin with '")
    return str.__str__(name)


__all__ = ["Node", "PortDied"]
