"""The functions on the default node: what ``import gmp`` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import gevent.event

from gmp.errors import ConfigError
from gmp.ids import split_port_id
from gmp.kernel.node import Node, core_of, family_name, local_node
from gmp.kernel.node_thread import NodeThread
from gmp.kernel.serving import serve
from gmp.kernel.supervision import Strategy
from gmp.mesh.groups import Family, Find, Group, GroupGround
from gmp.ports.monitors import Monitor
from gmp.ports.port import Port
from gmp.ports.table import NEVER_HELD
from gmp.ports.timers import Timer

if TYPE_CHECKING:
    from gmp.kernel.core import Core

_default: Node | None = None
_core: Core | None = None  # what does its work
_ports: Any = None  # its ports, and `Ports.put_hold`, `Routes.ways` and `Routes.batches`, for `send`
_hold: Any = NEVER_HELD
_ways: dict[str, tuple[Any, str]] = {}
_batches: dict[str, Any] = {}
_configured = gevent.event.Event()  # set for a moment when `configure` has started a node


def _use(node: Node | None) -> None:
    """Make `node` the default one."""
    global _default, _core, _ports, _ways, _batches
    _default, _core = node, None if node is None else core_of(node)
    _ports, _ways, _batches = (None, {}, {}) if _core is None else (_core.ports, _core.ways, _core.batches)
    _look_at_hold()
    if _core is not None:
        _core.ports.put_hold_changed = _look_at_hold


def _look_at_hold() -> None:
    global _hold
    _hold = NEVER_HELD if _ports is None else _ports.put_hold


def configure(
    profile: str | None = None,
    *,
    node_id: str | None = None,
    binds: Iterable[str] | None = None,
    seeds: Iterable[str] | None = None,
    secret: str | bytes | None = None,
    cert: str | None = None,
    services: Iterable[Any] | None = None,
    **settings: Any,
) -> Node:
    """Start the default node, once, and return it.

    `profile` names a profile of the configuration file. `node_id` is this node's name; one that ends in ``/`` gets a
    random part, without one it is the profile's or host's name with a random part. `binds` are the ``host:port`` to listen
    on (None: any free port, on all addresses if a secret was given, else on loopback; ``[]``: none). `seeds` are the
    ``host:port`` of nodes to join. `secret` is shared by all nodes (None: this user's secret file). `cert`
    is a PEM text, or the path of one, with key, certificate and what else is trusted: connections then use TLS.
    `services` are functions to start in ports of their own, ``service(port, *args)``: functions, names such as
    ``"myapp.jobs:start"``, or lists of one of these and arguments. Further settings: the fields of `gmp.config.Settings`.

    *Raises:* `ConfigError` for a setting that cannot be used, or when the default node already has live ports.
    *Blocks:* until the listeners are bound; joining goes on underneath.
    """
    _check_unused("configure")
    new = Node(node_id, binds=binds, seeds=seeds, secret=secret, cert=cert, profile=profile, services=services, **settings)
    old, before = _default, None if _core is None or _core.closed else _core
    _use(new)  # a service's module may use gmp's functions while it is imported
    try:
        if before is not None:
            core().take_over(before)
        new.start()
    except BaseException:
        _use(old)
        new.close()
        raise
    if before is not None:
        before.give_way(core_of(new))
    _configured.set()
    _configured.clear()
    return new


def _check_unused(by: str) -> None:
    if _core is not None and not _core.closed and (_core.life.started or _core.ports.by_name):
        raise ConfigError(f"the default node is in use: call {by} once, before ports are made, or gmp.node().close() first")


def run_in_thread(profile: str | None = None, **settings: Any) -> NodeThread[Node]:
    """Start the default node as `configure` does, but in a native thread of its own: it lives on while others wait natively.

    Bodies, handlers and what `NodeThread.run` is given run there, and use `gmp` as ever; use what is returned in all other
    threads. *Raises:* and *Blocks:* as `configure`.
    """
    _check_unused("run_in_thread")
    if _core is not None and not _core.closed:
        node().close()  # a local node that nobody uses; it belongs to this thread
    return NodeThread(lambda: configure(profile, **settings))


def wait_for_another(than: Node) -> Node:
    """Wait until `configure` has started another default node than `than`; return it. *Blocks:* without end."""
    while _default is None or _default is than or not _default.started:
        _configured.wait()
    return _default


def node() -> Node:
    """The default node; before `configure` a local one, which knows no other; in a child of `fork` one of its own.

    *Blocks:* never.

    >>> import gmp
    >>> gmp.node_of(gmp.port()) == gmp.node().id
    True
    """
    core()
    assert _default is not None
    return _default


def core() -> Core:
    """What does the work of the default node, for gmp's own code."""
    if _core is None or _core.ports.inherited:
        before, made = _default, local_node(_default)  # which imports it, the first time
        _use(made if _default is before else _default)  # race: another thread, or a finaliser, was faster, and has ports
    assert _core is not None
    return _core


def _finding(what: str) -> Find:
    """For handles of the default node, whichever that is when they are used."""

    def find() -> GroupGround:
        found = core()
        found.warn_if_left_by_fork(what)
        return found.place()

    return find


def node_of(port: Port | str) -> str:
    """The ID of the node that a port is on. *Raises:* `ConfigError` if it is not a port ID. *Blocks:* never.

    >>> import gmp
    >>> gmp.node_of("db1#A1b2C3")
    'db1'
    """
    return split_port_id(port)[0]


def port(
    body: Callable[..., Any] | None = None,
    *args: Any,
    max_queue: int | None = None,
    max_history: int | None = None,
) -> Port:
    """Make a port. With a body, `body(port, *args)` runs in the port's greenlet; usable as a decorator.

    When the body returns the port dies normally, unless it has handlers. `max_queue`: over so many waiting messages the
    port dies with ``("queue_overflow", n)``. `max_history`: so many of its last messages are kept; when it dies abnormally
    they are in the log and in `Node.deaths`. *Raises:* `GmpError` for a body that cannot be called. *Blocks:* never.

    >>> import gmp
    >>> echo = gmp.port(lambda port: [gmp.send(reply, "you said", text) for text, reply in port])
    >>> gmp.call(echo, "hello")
    ('you said', 'hello')
    """
    return core().ports.make(body, args, max_queue, max_history=max_history)


def send(dest: Port | str, *message: Any) -> None:
    """Send a message to a port or port ID; a dead or unknown port drops it (only monitors report a death).

    A message is any number of plain values: None, booleans, numbers, text, bytes, lists, tuples, dicts, and ports. The first
    is by custom a text, its *tag*. Do not change a value after sending it. Messages from one port to another arrive in
    the order sent. A node ID is a destination too: that node's own port.
    *Raises:* `MessageError` for a value that cannot travel to another node, `ConfigError` if `dest` is not a port ID.
    *Blocks:* only while more than the high mark waits for that node, until there is room or it is lost.

    >>> import gmp
    >>> port = gmp.port()
    >>> gmp.send(port, "greet", "world")
    >>> gmp.send(port.id, "greet", "again")
    >>> port.receive("greet"), port.receive("greet")
    (('world',), ('again',))
    """
    # what `Routes.send` does, for the usual cases: here each further call would cost a tenth of the rate, and what hangs at
    # an attribute but not a method is called faster by a name of its own
    if type(dest) is Port:
        if dest.ports is _ports and _hold._is_owned():
            handlers = dest.handlers
            if handlers is not None:
                handlers.put(message)
            else:
                queue = dest.queue
                if len(queue) < dest.room:  # as `Mailbox.put`
                    queue.append(message)
                else:
                    dest.put(message)
            return
    elif type(dest) is str:
        batch = _batches.get(dest)
        if batch is not None and batch.room > 0 and _hold._is_owned():
            pack = batch.pack
            try:
                data = pack([*message])
            except Exception:
                way = None  # there is more to it: below
            else:
                rows = batch.rows
                if len(data) <= batch.short:
                    rows.append(data)
                    if len(rows) < batch.room:
                        return
                    is_in = True
                else:
                    size, last = len(data), message[-1]
                    is_in = type(last) is bytes and size - len(last) <= batch.short and size <= batch.longest  # `is_flat`
                    if is_in:
                        batch.room -= size >> batch.bits
                        rows.append(data)
                        if len(rows) < batch.room:
                            return
                way = _ways.get(dest)
                if way is None and is_in:
                    return  # race: the tables were emptied meanwhile; there is room, or the turn's end brings it away
            if way is not None and way[0].add(batch, is_in, way[1], message, data):
                return
        elif (way := _ways.get(dest)) is not None and _hold._is_owned():
            _begin_batch(dest, way, message)
            return
    general = (_core if _hold._is_owned() else core()).send_tuple  # type: ignore[union-attr]  # owned: so it is there
    general(dest, message)


def _begin_batch(dest: str, way: tuple[Any, str], message: tuple[Any, ...]) -> None:
    """Send to another node what joins no batch; if it is the first of one, the next will join that."""
    peer, name = way
    over = peer.send(name, message)
    outbox = peer.outbox
    if outbox is not None and outbox.batch is not None and outbox.batch.name is name:
        _batches[dest] = outbox.batch
    if over:
        peer.wait_room()


def call(dest: Port | str, *message: Any, timeout: float | None = 30.0) -> tuple[Any, ...]:
    """Send a message with the ID of a temporary reply port behind it, and return what is sent there.

    *Blocks:* until the reply, at most `timeout` seconds (None: without end).
    *Raises:* `CallTimeout`; `PortDied` when the target is dead, dies, does not exist or cannot be reached; as `send`;
    `GmpError` in a handler that calls its own port, whose handlers run one after another.

    >>> import gmp
    >>> @gmp.port
    ... def adder(port):
    ...     for a, b, reply in port:
    ...         gmp.send(reply, "sum", a + b)
    >>> gmp.call(adder, 2, 3)
    ('sum', 5)
    >>> gmp.call(adder, 2, "three")
    Traceback (most recent call last):
    gmp.errors.PortDied: port ... died: die, TypeError: unsupported operand type(s) for +: 'int' and 'str'
    >>> gmp.call(gmp.port(), "anybody?", timeout=0.01)
    Traceback (most recent call last):
    gmp.errors.CallTimeout: no reply from ... within 0.01 s
    """
    call = (_core if _hold._is_owned() else core()).calls.call  # type: ignore[union-attr]  # as `send`
    return call(dest, message, timeout)


def kill(dest: Port | str, *reason: Any) -> None:
    """Kill a port, here or elsewhere; no reason: a normal death. Does nothing if it is dead or unknown.

    A port of this node is dead when this returns; its greenlets end and its monitors fire in the next turn of the loop.
    *Raises:* `GmpError` if it is not a port. *Blocks:* never.

    >>> import gmp
    >>> port = gmp.port()
    >>> gmp.kill(port, "enough", 42)
    >>> port.alive, port.reason
    (False, ('enough', 42))
    """
    node().kill(dest, *reason)


def spawn(node_id: str, init: str | Callable[..., Any], *args: Any) -> str:
    """Start `init(port, *args)` as a new port on that node, and return the port's ID at once.

    `init` is a function with `gmp.spawnable`, or its name ``"package.module:function"``. When it is unknown or not allowed
    there, the port dies with a reason that says so. *Raises:* `MessageError`, `ConfigError`. *Blocks:* never.

    >>> import gmp
    >>> @gmp.spawnable
    ... def greeter(port, boss):
    ...     gmp.send(boss, "hello from", gmp.node_of(port))
    >>> boss = gmp.port()
    >>> spawned = gmp.spawn(gmp.node().id, greeter, boss)      # here; any other node's ID will do
    >>> boss.receive("hello from") == (gmp.node_of(spawned),)
    True
    """
    return node().spawn(node_id, init, *args)


def monitor(target: Port | str, *action: Any) -> Monitor:
    """Watch a port, or a node: fires once, at its death. Returns a `Monitor` to `cancel()`, usable in ``with``.

    ``monitor(target, callback)`` calls `callback(*reason)` in a greenlet of its own; ``monitor(target, port)`` kills `port`
    with the reason, on abnormal death only; ``monitor(target, port, *message)`` sends message + reason to `port`;
    ``monitor(target)`` kills the current port, on abnormal death only. A target that does not exist fires at once.
    A monitor that was set for a port goes with that port. `reason` is empty for a normal death.

    Target and `port` may each be on any node. The monitor stands on this one: when the way from here to the target is
    lost it fires with that reason, whatever the target does, and `port` is notified by the way from here to its node.
    *Raises:* `GmpError`; `MessageError` for a message to another node's port that cannot travel. *Blocks:* never.

    >>> import gmp
    >>> worker, boss = gmp.port(), gmp.port()
    >>> monitor = gmp.monitor(worker, boss, "down", "worker 1")
    >>> worker.kill("broken")
    >>> boss.receive("down")
    ('worker 1', 'broken')
    >>> with gmp.monitor(boss, print):      # only while in here
    ...     gmp.send(boss, "work")
    """
    return node().monitor(target, *action)


def link(a: Port | str, b: Port | str) -> tuple[Monitor, Monitor]:
    """Monitor both ways: when one of two ports dies abnormally, so does the other; `cancel` both to end it.

    Each port may be on any node. This node carries the link: if the way from here to one of them is lost, the other is
    killed with that reason, and the lost one as soon as there is a way again, within `connect_timeout`.
    *Raises:* `GmpError`. *Blocks:* never.

    >>> import gmp
    >>> a, b = gmp.port(), gmp.port()
    >>> monitors = gmp.link(a, b)
    >>> a.kill("broken")
    >>> b.join(5), b.reason
    (True, ('broken',))
    """
    return node().link(a, b)


def after(seconds: float, action: Any, *message: Any) -> Timer:
    """In `seconds` call `action(*message)` in a greenlet of its own, or send the message when it is a port.

    Returns a `Timer` to `cancel()`. *Raises:* `GmpError`. *Blocks:* never.

    >>> import gmp
    >>> port = gmp.port()
    >>> timer = gmp.after(0.01, port, "tick", 1)
    >>> port.receive(timeout=5)
    ('tick', 1)
    >>> gmp.after(60, print, "never").cancel()
    """
    return node().after(seconds, action, *message)


def supervise(
    children: Iterable[Any], strategy: Strategy = "one_for_one", max_restarts: int = 3, period: float = 5.0
) -> Port:
    """Make a port that starts `children`, in their order, and restarts those that die; returns it.

    A child is a function (a port's body), ``(node_id, "package.module:function", args)`` (spawned there), a `Child`, which
    has more to say, or a `Supervisor`, whose arguments are those of this function. A child that dies is restarted alone
    with ``"one_for_one"``, with all others with ``"one_for_all"``, with those behind it with ``"rest_for_one"``; the
    others are stopped first, the last one first. After more than `max_restarts` within `period` seconds the supervisor
    stops all and dies with ``("restart_limit", name_of_the_child, text, *reason_of_its_death)``.

    Kill it, or send it ``"stop"`` (a call returns when all is stopped), to stop the children, the last one first. The
    message ``("children", reply_port)`` is answered by a list of ``[name, port_id, restart]``.
    *Raises:* `ConfigError`. *Blocks:* never; the children start in the next turn of the loop.

    >>> import gmp
    >>> def worker(port):
    ...     for number, reply in port:
    ...         gmp.send(reply, 10 / number)
    >>> supervisor = gmp.supervise([worker])
    >>> [[name, first, restart]] = gmp.call(supervisor, "children")[0]
    >>> gmp.call(first, 0)
    Traceback (most recent call last):
    gmp.errors.PortDied: port ... died: die, ZeroDivisionError: division by zero
    >>> [[name, second, restart]] = gmp.call(supervisor, "children")[0]
    >>> gmp.call(second, 5)
    (2.0,)
    >>> gmp.call(supervisor, "stop")
    ('stopped',)
    """
    return node().supervise(children, strategy=strategy, max_restarts=max_restarts, period=period)


def group(name: str) -> Group:
    """The network-wide group of ports of that name; see `Group`. *Raises:* `ConfigError`. *Blocks:* never.

    >>> import gmp
    >>> worker = gmp.port()
    >>> workers = gmp.group("workers of an example")
    >>> workers.join(worker, {"speed": 3})
    >>> workers.members() == {worker.id: {"speed": 3}}
    True
    >>> gmp.send(workers.pick(), "work")
    >>> worker.receive()
    ('work',)
    """
    return Group(family_name(name), _finding(f"group {name!r}"))


def family(name: str) -> Family:
    """The network-wide table of that name; see `Family`. *Raises:* `ConfigError`. *Blocks:* never.

    >>> import gmp
    >>> settings = gmp.family("settings of an example")
    >>> settings.set("colour", "red")
    >>> settings.items()
    {'colour': 'red'}
    """
    return Family(family_name(name), _finding(f"family {name!r}"))


def flush(timeout: float | None = None) -> bool:
    """Write what was sent so far to the sockets of its receivers' nodes; return whether all of it was written.

    For scripts that wait natively (`time.sleep`): messages leave while the event loop runs. False also if some were dropped.
    *Raises:* `GmpError` in the hub. *Blocks:* until then, at most `timeout` seconds (None: without end).

    >>> import gmp
    >>> gmp.flush(timeout=5)
    True
    """
    return node().flush(timeout)


def serve_forever() -> None:
    """Keep the script alive until SIGINT or SIGTERM, or until the node is closed; then leave the network.

    Signals are waited for in the main thread only. A second one ends the process at once; when this returns,
    Python's handlers have them again. *Blocks:* until then.
    """
    serve(node())
