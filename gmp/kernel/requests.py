"""The node port: how nodes manage each other (PROTOCOL.md sections 7 to 9). One table from request to function.

Beside it the names that services offer while they are on, such as ``AnyEvent::MP::LogCatcher::connect``: a peer may call
these whatever the setting `allow` says, and else the functions that it admits.

A request may make this node send to its own node port (``snd``, or an R that is this node's ID). That is handled in the
next turn, as a request of nobody, so that it gets no rights; and it may not do so again, or one message were a long program.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from gmp.errors import ConfigError, GmpError, NotAllowed
from gmp.kernel.following import Following
from gmp.kernel.inspection import Inspection
from gmp.kernel.leaving import LEAVING
from gmp.kernel.perl import SPAWN, UP_NODES, port_name, request_name, understood
from gmp.kernel.spawning import LONGEST_NAME, SpawnedNames, resolve
from gmp.kernel.streams import CONNECT, EXPECT
from gmp.kernel.tracing import TRACED, deliver
from gmp.net.connection import REFUSED
from gmp.net.housekeeper import ALIVE, HEARTBEAT
from gmp.net.peer import PASSED
from gmp.net.reasons import CloseReason
from gmp.ports.port import Port
from gmp.showing import show

if TYPE_CHECKING:
    from gmp.kernel.node import Node
    from gmp.net.peer import Peer

log = logging.getLogger("gmp")
MOST_COMPLAINTS = 1000
Request = Callable[..., None]


class Requests:
    """The node port of one node. `peer` is None for the own node's requests."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._run_callback = gevent.get_hub().loop.run_callback
        self._complained: set[str] = set()
        self._names = SpawnedNames()
        self._own = False  # whether the request of now was made by another request
        inspection, following = Inspection(node), Following(node)
        self._table: dict[str, Request] = {
            "": self._nothing,
            "devnull": self._nothing,
            "mon1": self._mon1,
            "mon0": self._mon0,
            "kil0": self._kil0,
            "kil1": self._kil1,
            "snd": self._snd,
            "can": self._can,
            "time": self._time,
            "eval": self._eval,
            SPAWN: self._spawn,
            EXPECT: lambda peer, *args: self._node.streams.expect(peer, *args),
            CONNECT: lambda peer, stream_id, *_: self._node.streams.connect(peer, stream_id),
            LEAVING: self._leaving,
            PASSED: self._passed,
            REFUSED: self._refused,
            HEARTBEAT: self._heartbeat,
            ALIVE: self._alive,
            "gmp.info": lambda _, *reply: self._reply(reply, inspection.info()),
            "gmp.stats": lambda _, *reply: self._reply(reply, inspection.stats()),
            "gmp.families": lambda _, *reply: self._reply(reply, inspection.families()),
            "gmp.follow": lambda _, *args: following.request(*args),
            TRACED: lambda _, carrier, name, *message: deliver(self._node, carrier, name, message),
            "gmp.ports": lambda _, *reply: self._reply(reply, inspection.ports()),
        }
        self._offered: dict[str, Callable[..., Any]] = {}
        self._evaluation_names: dict[str, Any] = {"node": node}  # kept, so that what is assigned is there the next time

    def offer(self, name: str, function: Callable[..., Any]) -> Callable[[], None]:
        """Let peers call `function(asker, *args)` by `name`; returns a function that ends it."""
        if name in self._table or name in self._offered or self._node.mesh.handles(name):
            raise ConfigError(f"{name!r} is offered on node {self._node.id} already")
        self._offered[name] = function

        def withdraw() -> None:
            if self._offered.get(name) is function:
                del self._offered[name]

        return withdraw

    def handle(self, peer: Peer | None, message: tuple[Any, ...]) -> None:
        """Do what a message to the node port asks for; what it raises is logged, the asker hears nothing."""
        name = request_name(message[0]) if message else ""
        args = message[1:]
        try:
            if peer is not None and not peer.is_gmp and isinstance(name, str):
                args = understood(name, args, offered=name in self._offered)
            self._handle(peer, name, args)
        except (GmpError, TypeError, ValueError) as error:
            asker = None if peer is None else peer.node_id
            log.warning("%s: request %s from %s failed: %s", self._node.id, show(name, 80), asker, error)

    def _handle(self, peer: Peer | None, name: Any, args: tuple[Any, ...]) -> None:
        request = self._table.get(name) if isinstance(name, str) else None
        if request is not None:
            request(peer, *args)
        elif not isinstance(name, str):
            self._complain(show(name, 80), "expected the name of a request")
        elif peer is not None and self._node.mesh.handles(name):
            self._node.mesh.handle(peer.node_id, name, args)
        elif name in self._offered:
            self._node.defer(self._offered[name], self._node.id if peer is None else peer.node_id, *args)
        elif ":" in name:
            self._node.defer(self._call_function, name, args)
        else:
            self._complain(name, "unknown request")

    def _complain(self, name: str, problem: str) -> None:
        """Log once for each name."""
        name = name[:LONGEST_NAME]
        if name not in self._complained and len(self._complained) < MOST_COMPLAINTS:
            self._complained.add(name)
            log.warning("%s: request %r ignored, from now on in silence: %s", self._node.id, name, problem)

    def _nothing(self, peer: Peer | None, *_: Any) -> None:
        """A keepalive."""

    def _refused(self, peer: Peer | None, text: Any = "", *_: Any) -> None:
        if peer is not None and peer.connection is not None and isinstance(text, str):
            peer.connection.close(CloseReason.REFUSED, text)

    def _heartbeat(self, peer: Peer | None, token: Any = 0, *_: Any) -> None:
        if peer is not None and isinstance(token, int):
            peer.answer_heartbeat(token)

    def _alive(self, peer: Peer | None, token: Any = 0, *_: Any) -> None:
        if peer is not None:
            peer.heartbeat_answered(token)

    def _mon1(self, peer: Peer | None, name: Any = "", *_: Any) -> None:
        if peer is not None:
            self._node.monitors.mon1(peer.node_id, port_name(name))

    def _mon0(self, peer: Peer | None, name: Any = "", *_: Any) -> None:
        if peer is not None:
            self._node.monitors.mon0(peer.node_id, port_name(name))

    def _kil0(self, peer: Peer | None, name: Any = "", *reason: Any) -> None:
        if peer is not None:
            self._node.monitors.port_died(peer.node_id, port_name(name), reason)

    def _kil1(self, peer: Peer | None, name: Any = "", *reason: Any) -> None:
        name = port_name(name)
        if not name:
            raise NotAllowed("the node port cannot be killed")
        port = self._node.ports.by_name.get(name)
        if port is not None:
            port.kill(*reason)

    def _snd(self, peer: Peer | None, *message: Any) -> None:
        self._reply(message)

    def _reply(self, reply: tuple[Any, ...], *results: Any) -> None:
        """Send to where a peer said."""
        if not reply:
            return
        dest = reply[0]
        if dest not in (self._node.id, f"{self._node.id}#"):
            self._node.send_soon(dest, *reply[1:], *results)
        elif self._own:
            raise NotAllowed("a request to this node itself, made by such a request")
        else:
            self._run_callback(self._handle_own, (*reply[1:], *results))

    def _handle_own(self, message: tuple[Any, ...]) -> None:
        self._own = True
        try:
            self.handle(None, message)
        finally:
            self._own = False

    def _can(self, peer: Peer | None, name: Any = "", *reply: Any) -> None:
        name = port_name(name)
        known = name in self._table or name in self._offered or self._node.mesh.handles(name)
        self._reply(reply, "1" if known else "")

    def _time(self, peer: Peer | None, *reply: Any) -> None:
        self._reply(reply, time.time())

    def _eval(self, peer: Peer | None, source: Any = "", *reply: Any) -> None:
        if source == UP_NODES:  # tells no more than `gmp.info`: answered whatever `allow_eval` says
            connected = [node_id for node_id in self._node.up_nodes() if self._node.is_linked(node_id)]
            self._reply(reply, "", *connected)
        elif self._node.settings.allow_eval:
            self._node.defer(self._evaluate, source, reply)
        elif reply:
            self._reply(reply, "eval is not allowed on this node")
        else:
            self._complain("eval", "it is not allowed on this node")

    def _evaluate(self, source: Any, reply: tuple[Any, ...]) -> None:
        names = self._evaluation_names
        try:
            try:
                results: tuple[Any, ...] = (eval(compile(source, "<eval>", "eval"), names),)
            except SyntaxError:
                exec(compile(source, "<eval>", "exec"), names)
                results = ()
            self._reply(reply, "", *results)
        except Exception as error:
            self._reply(reply, f"{type(error).__name__}: {error}")

    def _spawn(self, peer: Peer | None, name: Any = "", function: Any = "", *args: Any) -> None:
        """race: messages and ``mon1`` for the new port follow in the same stream, so it is made at once."""
        name, ports = port_name(name), self._node.ports
        maker = peer.link.newest if peer is not None and peer.is_gmp else ""
        if ports.is_used(name) or not self._names.claim(name, maker):
            raise NotAllowed(f"a port cannot be spawned under the name {name[:LONGEST_NAME]!r}")
        if self._node.closed:
            ports.remember_end(name, ("leaving", self._node.id))
        else:
            ports.make(self._run_spawned, (function, args), name=name)

    def _run_spawned(self, port: Port, function: Any, args: tuple[Any, ...]) -> None:
        try:
            found = resolve(function, self._node.settings.allow, for_spawn=True)
        except NotAllowed as error:
            self._complain(str(function), str(error))
            port.kill("not_allowed", str(error))
        else:
            found(port, *args)

    def _call_function(self, name: str, args: tuple[Any, ...]) -> None:
        try:
            found = resolve(name, self._node.settings.allow, for_spawn=False)
        except NotAllowed as error:
            self._complain(name, str(error))
        else:
            found(*args)

    def _passed(self, peer: Peer | None, token: Any = None, *_: Any) -> None:
        if peer is not None:
            peer.barrier_passed(token)

    def _leaving(self, peer: Peer | None, *_: Any) -> None:
        if peer is not None:
            self._node.peer_leaves(peer)
