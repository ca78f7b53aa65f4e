"""`Node`: what a program may ask of one participant of the network. `gmp.kernel.core` is what does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from gmp.characters import own_text
from gmp.errors import ConfigError, GmpError
from gmp.ids import is_encodable, split_port_id
from gmp.kernel.forking import let_go_in_children
from gmp.kernel.node_thread import NodeThread
from gmp.kernel.spawning import function_name
from gmp.kernel.supervision import Supervisor
from gmp.later import later
from gmp.mesh.groups import Family, Group
from gmp.net.streams import Stream
from gmp.ports.history import Death
from gmp.ports.monitors import KILL_CURRENT, Monitor
from gmp.ports.port import Port
from gmp.ports.timers import Timer
from gmp.showing import show_typed
from gmp.wire.requests import EVAL, SND

if TYPE_CHECKING:
    import gmp.config as config
    from gmp.config import Settings
    from gmp.kernel import core as kernel_core
    from gmp.kernel import loop_thread
    from gmp.kernel.core import Core
    from gmp.ports import tracing
else:
    config, kernel_core = later("gmp.config"), later("gmp.kernel.core")
    loop_thread, tracing = later("gmp.kernel.loop_thread"), later("gmp.ports.tracing")


class Node:
    """One participant of the network. Many can live in one process.

    Takes the settings of `gmp.configure`; usable in ``with``, which starts and closes it. `id` is its node ID, `settings`
    are the `gmp.config.Settings` that it was made with.
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
        self._set_up(config.load_settings(profile, given, os.environ))

    def _set_up(self, settings: Settings) -> None:
        self._core = core = kernel_core.Core(settings, self)
        let_go_in_children(core.life)  # only now: a signal handler may fork while a node is being made
        self.id = core.id  #: this node's ID
        self.settings = settings  #: what it was made with
        core.send_changed = self._use_send
        self._use_send()

    def _use_send(self) -> None:
        self._send = self._core.send_tuple  # a name of its own: a look-up less for each message

    def __repr__(self) -> str:
        return f"<gmp.Node {self.id!r}, {self._core.life.state}>"

    # ---- life

    @property
    def started(self) -> bool:
        """True while the node is running: started, and not closed."""
        return self._core.life.started

    @property
    def closed(self) -> bool:
        """True once the node was closed."""
        return self._core.life.closed

    @property
    def ended(self) -> gevent.event.Event:
        """Set when the node begins to leave."""
        return self._core.life.ended

    @property
    def incarnation(self) -> str:
        """What distinguishes this run of the node from others with its ID."""
        return self._core.incarnation

    @property
    def binds(self) -> list[str]:
        """What it really listens on, such as ``127.0.0.1:40311``."""
        return list(self._core.network.binds)

    @property
    def master(self) -> str | None:
        """The ID of the seed that keeps the directory for this node; a seed's own ID; None: it has none yet."""
        backbone = self._core.mesh.backbone
        return self.id if backbone.is_global else backbone.master

    @property
    def services(self) -> list[tuple[str, Port]]:
        """Name and port of each service that was started."""
        return self._core.services

    def start(self) -> Node:
        """Listen and begin to join the network; joining goes on underneath. Returns the node.

        *Blocks:* until the listeners are bound and the modules of the services imported. *Raises:* `ConfigError` naming a
        bind that cannot be had or a service that is not there.
        """
        self._core.ports.check_thread()
        self._core.life.start()
        return self

    def close(self) -> None:
        """Leave the network: kill the ports with ``("leaving", node_id)``, write what is queued, notify the peers.

        Exposed objects (`gmp.expose`) take no new calls before that, and finish what runs, within `leave_timeout`.
        What the ports' ``finally`` blocks send meanwhile is written too. Idempotent; afterwards every call on the node
        raises. A port of this node that calls it ends here, as one that kills itself. In a signal handler that runs in the
        event loop it only begins to leave; the end of the program waits until that is done.
        *Blocks:* at most the setting `leave_timeout` and 2 seconds; never in the hub.
        """
        self._core.life.close()

    def flush(self, timeout: float | None = None) -> bool:
        """Write what this node has sent so far to its peers' sockets; return whether all of it was written.

        For programs that wait natively (`time.sleep`, a blocking library): messages leave while the event loop runs, which
        it does not do then. What was sent to a node that is not connected waits until a way was found, or is dropped.
        *Raises:* `GmpError` in the hub. *Blocks:* until then, at most `timeout` seconds (None: without end).
        """
        self._core.check_open()
        if gevent.getcurrent() is self._core.ports.hub:
            raise GmpError("flush in the hub: a callback of the event loop must not block")
        return self._core.leaving.flush(timeout)

    def from_thread(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Run `function(*args)` in a greenlet of this node's loop, and return what it returns or raise what it raises.

        The one call that may come from another native thread; every other one raises there.
        *Blocks:* the calling thread until it has run, at most `timeout` seconds (None: without end).
        *Raises:* `WaitTimeout`: the function goes on then, if it has begun; `GmpError` when the node is closed, or closes
        meanwhile, and when the node's own native thread waits for the calling one, so that neither would ever go on.
        """
        if self._core.ports.is_own_thread():
            self._core.check_open()
            return function(*args)
        return self._core.threads.call(function, args, timeout)

    def run_in_thread(self) -> NodeThread[Node]:
        """Start this node in a native thread of its own, for programs that wait natively (`time.sleep`, a blocking library).

        Use what is returned in all other threads, this one too; the node itself in functions that run there.
        `gmp.run_in_thread` does it with the default node.
        *Raises:* as `start`; `GmpError` for a node that was started, or has ports. *Blocks:* as `start`.
        """
        self._core.check_open()
        if self.started or self._core.ports.by_name:
            is_used = "was started" if self.started else "has ports"
            raise GmpError(f"node {self.id} cannot run in a thread of its own: it {is_used}; call run_in_thread before that")
        self.close()
        settings = self.settings._replace(node_id=self.id)

        def start() -> Node:
            self._set_up(settings)
            return loop_thread.start_or_close(self)

        return NodeThread(start)

    def __enter__(self) -> Node:
        return self if self.started else self.start()  # what `configure` returns is started already

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- ports and messages

    def port(
        self,
        body: Callable[..., Any] | None = None,
        *args: Any,
        max_queue: int | None = None,
        max_history: int | None = None,
    ) -> Port:
        """Make a port; see `gmp.port`."""
        return self._core.ports.make(body, args, max_queue, max_history=max_history)

    def find(self, port_id: str) -> Port | None:
        """The live port of this node with that ID; None: there is none. *Blocks:* never."""
        self._core.ports.check_thread()
        found = self._core.ports.find(port_id)
        return found if isinstance(found, Port) else None

    def deaths(self) -> list[Death]:
        """The last abnormal deaths of ports of this node, oldest first, with the messages of those that keep them.

        *Blocks:* never.
        """
        return self._core.ports.deaths.last()

    def send(self, dest: Port | str, *message: Any) -> None:
        """Send a message; see `gmp.send`."""
        send = self._send
        send(dest, message)

    def try_send(self, dest: Port | str, *message: Any) -> bool:
        """As `send`, but return False, and send nothing, when the peer is over its high mark. *Blocks:* never."""
        return self._core.routes.try_send(dest, message)

    def call(self, dest: Port | str, *message: Any, timeout: float | None = 30.0) -> tuple[Any, ...]:
        """Send a message and wait for the reply; see `gmp.call`."""
        call = self._core.calls.call  # as in `gmp.call`
        return call(dest, message, timeout)

    def kill(self, dest: Port | str, *reason: Any) -> None:
        """Kill a port; see `gmp.kill`."""
        self._core.check_open()
        self._core.kill(dest, *reason)

    def spawn(self, node_id: str, init: str | Callable[..., Any], *args: Any) -> str:
        """Start a port on another node; see `gmp.spawn`."""
        self._core.check_open()
        return self._core.spawn(self._core.node_port(node_id), init, *args)

    def send_to_function(self, node_id: str, function: str | Callable[..., Any], *args: Any) -> None:
        """Let another node call ``"package.module:function"`` with `args`; there is no reply, and a refusal is logged there.

        That node's setting `allow` must admit the function. *Raises:* as `send`; `GmpError` if it is not such a name.
        *Blocks:* as `send`.
        """
        self.send(self._core.node_port(node_id), function_name(function), *args)

    def send_on(self, node_id: str, dest: Port | str, *message: Any) -> None:
        """Let another node send a message for this one: it takes the way over there. *Raises:*, *Blocks:* as `send`."""
        split_port_id(dest)
        self.send(self._core.node_port(node_id), SND, dest, *message)

    def eval_on(self, node_id: str, source: str, *reply: Any) -> None:
        """Let another node evaluate `source`, when its setting `allow_eval` is on.

        `reply` is a port and what the answer is to begin with; it gets the error text, empty without an error, and the
        result. *Raises:*, *Blocks:* as `send`.
        """
        self.send(self._core.node_port(node_id), EVAL, source, *reply)

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
        self._core.check_open()
        return self._core.streams.open(self._core.node_port(node_id), function, args, timeout)

    # ---- monitors and timers

    def monitor(self, target: Port | str, action: Any = KILL_CURRENT, *message: Any) -> Monitor:
        """Watch a port or node; see `gmp.monitor`."""
        self._core.check_open()
        return self._core.monitor(target, action, *message)

    def link(self, a: Port | str, b: Port | str) -> tuple[Monitor, Monitor]:
        """Let two ports die together; see `gmp.link`."""
        self._core.check_open()
        return self._core.link(a, b)

    def after(self, seconds: float, action: Any, *message: Any) -> Timer:
        """Do something later; see `gmp.after`."""
        self._core.check_open()
        return self._core.after(seconds, action, *message)

    def supervise(self, children: Iterable[Any], **settings: Any) -> Port:
        """Start ports and restart them when they die; see `gmp.supervise`."""
        return self._core.ports.make(Supervisor(children, **settings))

    # ---- groups and the network

    def group(self, name: str) -> Group:
        """The group of that name; see `gmp.group`."""
        self._core.check_open()
        self._core.warn_if_left_by_fork(f"group {name!r}")
        return Group(family_name(name), self._core.place)

    def family(self, name: str) -> Family:
        """The family of that name; see `gmp.family`."""
        self._core.check_open()
        self._core.warn_if_left_by_fork(f"family {name!r}")
        return Family(family_name(name), self._core.place)

    def is_up(self, node_id: str) -> bool:
        """Whether that node is connected; the own one is. *Blocks:* never."""
        return self._core.is_up(node_id)

    def up_nodes(self) -> list[str]:
        """The IDs of the nodes that are connected, without the own. *Blocks:* never."""
        return self._core.up_nodes()

    def known_nodes(self) -> list[str]:
        """The IDs of all nodes that the directory lists or that are connected, with the own. *Blocks:* never.

        The first call subscribes to the directory: on a node that is not a seed the answer comes a moment later.
        """
        self._core.check_open()
        return self._core.known_nodes()

    def monitor_known_nodes(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(known, added, removed)` at once, and whenever the directory gains or loses a node.

        Each is a list of node IDs. Returns a function that ends it. *Blocks:* never.
        """
        self._core.check_open()
        return self._core.monitor_known_nodes(callback)

    def monitor_nodes(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(node_id, up, *reason)` whenever a node is connected or lost; returns a function that ends it.

        *Blocks:* never.
        """
        self._core.check_open()
        return self._core.events.monitor(callback)

    def monitor_busy(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Call `callback(node_id, busy, seconds)` when a node's program becomes or is no longer busy.

        Busy: connected, its kernel answers, but its program was silent for `busy_after`. `seconds` is how long the silence
        has lasted. A node that is lost meanwhile is reported by `monitor_nodes` alone. Returns a function that ends it.
        *Blocks:* never.
        """
        self._core.check_open()
        return self._core.events.monitor_busy(callback)

    def wait_up(self, node_id: str | None = None, timeout: float | None = None) -> None:
        """Wait until `node_id` (None: any seed) is connected; that node is dialled again and again meanwhile.

        While it waits in vain a warning in the log says why, now and then.
        *Blocks:* up to `timeout` seconds (None: without end). *Raises:* `WaitTimeout`, which says why too; `ConfigError`.
        """
        self._core.check_open()
        self._core.wait_up(node_id, timeout)

    def offer(self, name: str, function: Callable[..., Any]) -> Callable[[], None]:
        """Let other nodes call `function(asker_node_id, *args)` here by `name`, in a greenlet of its own.

        For services; `name` may be a Perl one, such as ``My::Service::connect``. Returns a function that ends it.
        *Raises:* `ConfigError` when the name is taken. *Blocks:* never.
        """
        self._core.check_open()
        return self._core.requests.offer(name, function)

    def complain(self, node_id: str, kind: str, text: str) -> None:
        """Log a warning of what another node does wrong: one a minute of each kind and node, and how many were left out.

        For services that other nodes may call, which could be made to fill the log. *Blocks:* as logging does.
        """
        self._core.ground.complain(kind, node_id, text)

    def trace_messages(self, tracer: tracing.Tracer | None) -> None:
        """Let a trace context travel with messages from now on; None: no longer. See `gmp.services.tracing`.

        It is for ports that are made afterwards. *Blocks:* never.
        """
        self._core.trace_messages(tracer)

    def stats(self) -> dict[str, Any]:
        """Figures of this node: messages dropped, ports, its seeds, for each peer what was sent, received and waits.

        A peer is any node that this one has a connection with, or had one lately: those that were idle for a while are not
        told of.
        `peak` is the port at which the most messages waited at once, and how many, noted at each doubling (None: under 16).
        `loop_lag` is by how many seconds this node's event loop was late last, `loop_lag_peak` the most so far. Of a peer
        that is connected: `busy`, and `round_trip`, the seconds its program took for the last heartbeat. `services` are the
        objects that were exposed, each with what runs and waits, and of each method that was called its calls, those that
        raised, and the seconds they took.
        """
        return self._core.stats()


def local_node(parent: Node | None = None) -> Node:
    """A node that knows no other: what the default node is before `gmp.configure`.

    `parent` is the default node of the parent process, in a child of `fork`.
    """
    node = Node.__new__(Node)
    node._set_up(config.Settings(binds=()))
    if parent is not None:
        core_of(node).forked_from(core_of(parent))
    return node


def core_of(node: Node) -> Core:
    """What does a node's work, for gmp's own code above the kernel."""
    return node._core


def family_name(name: object) -> str:
    """`name`, if it can be a group's or family's. *Raises:* `ConfigError`."""
    if not isinstance(name, str) or not name or name.startswith("'") or not is_encodable(name):
        expected = "expected a text that does not begin with '"
        raise ConfigError(f"{show_typed(name)} cannot be a group's or family's name: {expected}")
    return own_text(name)


__all__ = ["Node", "Stream", "config", "core_of", "family_name", "local_node"]
