"""`Node`: what tasks may ask of a node of gmp.aio. See `gmp.aio.handover` for how it is asked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

import gmp
from gmp.aio.desk import Desk
from gmp.aio.directory import Family, Group
from gmp.aio.handover import Handover
from gmp.aio.inbox import Events, Inbox, Source
from gmp.aio.jobs import Ask
from gmp.aio.port import Port
from gmp.aio.thread import Serving
from gmp.aio.weighing import with_ids
from gmp.errors import CallTimeout, GmpError, WaitTimeout
from gmp.ids import split_port_id
from gmp.kernel.node import family_name
from gmp.outside import clock


class Node:
    """A node for asyncio, in a native thread of its own; made by `gmp.aio.node`.

    ``async with`` starts and closes it. It is used in the event loop that it was started in. Methods that are to be
    awaited take a hand-over to the thread; when the awaiting task is cancelled, what it waits for ends.
    """

    def __init__(self, make: Callable[[], gmp.Node]) -> None:
        self._make = make
        self._handover: Handover | None = None
        self._serving: Serving | None = None
        self._desk: Desk | None = None

    # ---- life

    async def start(self) -> Self:
        """Start the thread, listen, and begin to join the network; joining goes on underneath. Returns the node.

        *Raises:* as `gmp.Node` and its `start`.
        """
        if self._handover is not None:
            raise GmpError("a node of gmp.aio is started once: make another one")
        loop = asyncio.get_running_loop()
        up: asyncio.Future[Desk] = loop.create_future()
        self._handover = Handover(loop)

        def started(desk: Desk) -> None:
            self._desk = desk
            if not up.done():
                up.set_result(desk)

        def failed(error: BaseException) -> None:
            if not up.done():
                up.set_exception(error)

        self._serving = Serving(self._make, self._handover, started, failed)
        self._serving.start()
        try:
            await up
        except asyncio.CancelledError:
            self._serving.close()
            raise
        return self

    async def close(self) -> None:
        """Leave the network, as `gmp.Node.close`, and wait until the thread has ended. Idempotent.

        What was handed over before goes out. If the task is cancelled meanwhile, the node goes on leaving.
        """
        if self._handover is None or self._serving is None or self._handover.ended.done():
            return  # a block may also end in a child of `fork`, which has no such thread
        if asyncio.get_running_loop() is not self._handover.loop:
            raise GmpError("a node of gmp.aio can be closed only in the event loop that it was started in")
        self._serving.close()
        await asyncio.shield(self._handover.ended)

    async def __aenter__(self) -> Self:
        return self if self._desk is not None else await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """True once the node has begun to leave."""
        return self._desk is not None and self._desk.core.closed

    def _at(self) -> tuple[Handover, Desk]:
        """*Raises:* `GmpError` unless it is started, not closed, and this is its event loop."""
        if self._desk is None or self._handover is None:
            raise GmpError("this node of gmp.aio is not started: use `async with`, or await node.start()")
        core = self._desk.core
        if core.closed and not self._handover.why_ended:  # it is leaving, or this is a child of `fork`
            raise GmpError(f"node {core.id} {core.ports.closed_because}")
        self._handover.check()
        return self._handover, self._desk

    def _started(self) -> gmp.Node:
        if self._desk is None:
            raise GmpError("this node of gmp.aio is not started: use `async with`, or await node.start()")
        return self._desk.node

    @property
    def id(self) -> str:
        """This node's ID."""
        return self._started().id

    @property
    def incarnation(self) -> str:
        """What distinguishes this run of the node from others with its ID."""
        return self._started().incarnation

    @property
    def binds(self) -> list[str]:
        """What it really listens on, such as ``127.0.0.1:40311``."""
        return self._started().binds

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function(node, *args)` in a greenlet of the node's thread, and return what it returns or raise what it
        raises.

        `node` is the `gmp.Node`. It may block as gevent's code does, which holds up neither the loop nor the node.
        When the task is cancelled, the greenlet ends by `GreenletExit`.
        """
        handover, desk = self._at()
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise GmpError(f"run: {function!r} cannot be run in the node's thread: expected a function that is no coroutine")
        return await handover.ask(Ask(function, desk.node, *args, blocks=True, sends=True))

    async def _ask(self, method: str, *args: Any, of: Any = None) -> Any:
        """Ask the node by one of its methods that does not block, behind what goes to the node of the port `of`."""
        handover, desk = self._at()
        line = None if of is None else handover.line(split_port_id(of)[0])
        return await handover.ask(Ask(getattr(desk.node, method), *args, line=line))

    # ---- ports and messages

    def port(self, *, max_queue: int | None = None) -> Port:
        """Make a port; see `gmp.port`. `max_queue` holds for messages at the node, and for those that tasks passed over.

        Its ID is known at once. The port is there when something has been awaited of this node since then: what other
        nodes send before that is dropped. Within ``async with node.port() as port`` it is there.
        """
        handover, desk = self._at()
        return Port(handover, Inbox(handover, desk, max_queue))

    async def send(self, dest: Any, *message: Any) -> None:
        """Send a message; see `gmp.send`. Waits only while more than the high mark is on its way to that node.

        A message of which it is not sure here that it can travel (octets, big integers, what is large or deeply
        nested) also waits until the node has taken it. *Raises:* `MessageError`; `ConfigError` if `dest` is not a
        port ID.
        """
        handover, desk = self._at()
        await handover.send(desk.node.send, dest, message)

    def try_send(self, dest: Any, *message: Any) -> bool:
        """As `send`, but never waits: return False, and send nothing, where that would wait for room.

        A message that cannot travel is logged. *Raises:* `ConfigError` if `dest` is not a port ID.
        """
        handover, _ = self._at()
        return handover.try_send(dest, message)

    async def call(self, dest: Any, *message: Any, timeout: float | None = 30.0) -> tuple[Any, ...]:
        """Send a message with the ID of a temporary reply port behind it, and return what is sent there; see `gmp.call`.

        *Raises:* `CallTimeout` after `timeout` seconds (None: never); `PortDied`; as `send`.
        """
        handover, desk = self._at()
        node_id, name = split_port_id(dest)
        dest = f"{node_id}#{name}" if name else node_id
        ask = Ask(
            desk.call, timeout, dest, *with_ids(message),
            line=handover.line(node_id), blocks=True, sends=True,
            deadline=None if timeout is None else clock.monotonic() + timeout,
            late=lambda: CallTimeout(f"no reply from {dest} within {timeout} s: the own node's thread is busy"),
        )  # fmt: skip
        reply: tuple[Any, ...] = await handover.ask(ask)
        return reply

    async def kill(self, dest: Any, *reason: Any) -> None:
        """Kill a port, here or elsewhere; see `gmp.kill`."""
        await self._ask("kill", str(dest), *reason, of=dest)

    async def spawn(self, node_id: str, init: str | Callable[..., Any], *args: Any) -> str:
        """Start `init(port, *args)` as a new port on that node, and return its ID; see `gmp.spawn`.

        On this node it runs in its thread, in greenlets, with `port.node`. If the task is cancelled, the port is killed.
        """
        handover, desk = self._at()
        core = desk.core
        line = handover.line(core.node_port(node_id))
        name = core.ports.new_name()
        ask = Ask(partial(core.spawn, name=name), node_id, init, *with_ids(args), line=line)
        try:
            return str(await handover.ask(ask))
        except asyncio.CancelledError:
            handover.order(core.kill, f"{node_id}#{name}", line=line)
            raise

    # ---- what happens

    def monitor(self, target: Any) -> Events:
        """Watch a port or node. Iterating over it gives the reason of its death, a tuple, once; with it the iteration ends.

        *Raises:* `ConfigError` if `target` is no port ID.
        """
        handover, desk = self._at()
        split_port_id(target)
        return Events(Inbox(handover, desk), partial(_watch_death, str(target)), last=1)

    async def watch(self, target: Any, port: Any, *message: Any) -> Monitor:
        """Watch a port or node for a port: that gets `message` with the reason behind it.

        Without a message it is killed with the reason, on abnormal death only. See `gmp.monitor`. If the task is
        cancelled, nothing is watched.
        *Raises:* `ConfigError`; `GmpError` if `port` is no live one of this node; `MessageError`.
        """
        handover, desk = self._at()
        line = handover.line(split_port_id(target)[0])
        found: list[gmp.Monitor] = []

        def cancel() -> None:
            for monitor in found:
                monitor.cancel()

        ask = Ask(lambda: found.append(desk.node.monitor(str(target), str(port), *with_ids(message))), line=line)
        try:
            await handover.ask(ask)
        except asyncio.CancelledError:
            handover.order(cancel, line=line)
            raise
        return Monitor(handover, found[0])

    async def link(self, a: Any, b: Any) -> None:
        """Let two ports die together; see `gmp.link`."""
        await self._ask("link", str(a), str(b), of=a)

    def monitor_nodes(self) -> Events:
        """Iterate over ``(node_id, up, *reason)``, for each node that is connected or lost from now on."""
        return self._events("monitor_nodes")

    def monitor_busy(self) -> Events:
        """Iterate over ``(node_id, busy, seconds)``; see `gmp.Node.monitor_busy`."""
        return self._events("monitor_busy")

    def monitor_known_nodes(self) -> Events:
        """Iterate over ``(known, added, removed)``, now and after each change; see `gmp.Node.monitor_known_nodes`."""
        return self._events("monitor_known_nodes")

    def _events(self, method: str) -> Events:
        handover, desk = self._at()

        def start(desk: Desk, source: Source) -> Callable[[], object]:
            cancel: Callable[[], object] = getattr(desk.node, method)(source.put)
            return cancel

        return Events(Inbox(handover, desk), start)

    # ---- groups and the network

    def group(self, name: str) -> Group:
        """The group of that name. *Raises:* `ConfigError`."""
        return Group(family_name(name), *self._at())

    def family(self, name: str) -> Family:
        """The family of that name. *Raises:* `ConfigError`."""
        return Family(family_name(name), *self._at())

    async def is_up(self, node_id: str) -> bool:
        """Whether that node is connected; the own one is."""
        return bool(await self._ask("is_up", node_id))

    async def up_nodes(self) -> list[str]:
        """The IDs of the nodes that are connected, without the own."""
        return list(await self._ask("up_nodes"))

    async def known_nodes(self) -> list[str]:
        """The IDs of all nodes that the directory lists or that are connected; see `gmp.Node.known_nodes`."""
        return list(await self._ask("known_nodes"))

    async def wait_up(self, node_id: str | None = None, timeout: float | None = None) -> None:
        """Wait until `node_id` (None: any seed) is connected, at most `timeout` seconds. *Raises:* `WaitTimeout`."""
        handover, desk = self._at()
        what = "a seed" if node_id is None else f"node {node_id}"
        ask = Ask(
            desk.node.wait_up, node_id, timeout,
            blocks=True,
            deadline=None if timeout is None else clock.monotonic() + timeout,
            late=lambda: WaitTimeout(f"{what} is not connected after {timeout} s: the own node's thread is busy"),
        )  # fmt: skip
        await handover.ask(ask)

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was sent so far is written to the sockets; return whether it was. See `gmp.flush`."""
        handover, desk = self._at()
        return bool(await handover.ask(Ask(desk.flush, timeout, blocks=True, sends=True)))

    async def stats(self) -> dict[str, Any]:
        """Figures of this node; see `gmp.Node.stats`."""
        return dict(await self._ask("stats"))


class Monitor:
    """A monitor that was set for a port; made by `Node.watch`. It stays set also when nobody holds this."""

    def __init__(self, handover: Handover, monitor: gmp.Monitor) -> None:
        self._handover, self._monitor = handover, monitor

    def cancel(self) -> None:
        """Watch no more. Does nothing if it has fired or was cancelled already. Never waits."""
        self._handover.order(self._monitor.cancel)


def node(
    node_id: str | None = None,
    *,
    binds: Iterable[str] | None = None,
    seeds: Iterable[str] | None = None,
    secret: str | bytes | None = None,
    cert: str | None = None,
    profile: str | None = None,
    **settings: Any,
) -> Node:
    """A node for asyncio, not started yet, with the settings of `gmp.configure`.

    ``async with gmp.aio.node(seeds=["10.0.0.1:4040"]) as node`` starts it, and closes it at the end.
    """
    return Node(partial(gmp.Node, node_id, binds=binds, seeds=seeds, secret=secret, cert=cert, profile=profile, **settings))


def _watch_death(target: str, desk: Desk, source: Source) -> Callable[[], object]:
    return desk.node.monitor(target, source.put).cancel
