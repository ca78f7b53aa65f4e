"""The node port: how nodes manage each other (PROTOCOL.md sections 7 to 9). One table from request to function.

Beside it the names that services offer while they are on, such as ``AnyEvent::MP::LogCatcher::connect``: a peer may call
these and no other function, whatever the setting `allow` says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmp.errors import ConfigError, GmpError, NotAllowed
from gmp.kernel.inspection import Inspection
from gmp.kernel.spawning import resolve
from gmp.net.housekeeper import ALIVE, HEARTBEAT

if TYPE_CHECKING:
    from gmp.kernel.node import Node
    from gmp.net.peer import Peer

log = logging.getLogger("gmp")
SPAWN = "AnyEvent::MP::_spawn"
LEAVING = "gmp.leaving"
Request = Callable[..., None]


class Requests:
    """The node port of one node. `peer` is None for the own node's requests."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._unknown: set[str] = set()
        inspection = Inspection(node)
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
            LEAVING: self._leaving,
            HEARTBEAT: self._heartbeat,
            ALIVE: self._alive,
            "gmp.info": lambda _, *reply: self._reply(reply, inspection.info()),
            "gmp.stats": lambda _, *reply: self._reply(reply, inspection.stats()),
            "gmp.families": lambda _, *reply: self._reply(reply, inspection.families()),
        }
        self._offered: dict[str, Callable[..., Any]] = {}

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
        name = message[0] if message else ""
        request = self._table.get(name) if isinstance(name, str) else None
        try:
            if request is not None:
                request(peer, *message[1:])
            elif peer is not None and isinstance(name, str) and self._node.mesh.handles(name):
                self._node.mesh.handle(peer.node_id, name, message[1:])
            elif isinstance(name, str) and name in self._offered:
                asker = self._node.id if peer is None else peer.node_id
                self._node.defer(self._offered[name], asker, *message[1:])
            else:
                self._call_function(name, message[1:])
        except (GmpError, TypeError, ValueError) as error:
            log.warning("%s: request %.80r from %s failed: %s", self._node.id, name, peer and peer.node_id, error)

    def _nothing(self, peer: Peer | None, *_: Any) -> None:
        """A keepalive."""

    def _heartbeat(self, peer: Peer | None, token: Any = 0, *_: Any) -> None:
        if peer is not None and isinstance(token, int):
            peer.answer_heartbeat(token)

    def _alive(self, peer: Peer | None, token: Any = 0, *_: Any) -> None:
        if peer is not None:
            peer.heartbeat_answered(token)

    def _mon1(self, peer: Peer | None, name: Any = "", *_: Any) -> None:
        if peer is not None and isinstance(name, str):
            self._node.monitors.mon1(peer.node_id, name)

    def _mon0(self, peer: Peer | None, name: Any = "", *_: Any) -> None:
        if peer is not None and isinstance(name, str):
            self._node.monitors.mon0(peer.node_id, name)

    def _kil0(self, peer: Peer | None, name: Any = "", *reason: Any) -> None:
        if peer is not None and isinstance(name, str):
            self._node.monitors.port_died(peer.node_id, name, reason)

    def _kil1(self, peer: Peer | None, name: Any = "", *reason: Any) -> None:
        if not name:
            raise NotAllowed("the node port cannot be killed")
        port = self._node.ports.by_name.get(name)
        if port is not None:
            port.kill(*reason)

    def _snd(self, peer: Peer | None, *message: Any) -> None:
        self._node.send_soon(*message)

    def _reply(self, reply: tuple[Any, ...], *results: Any) -> None:
        if reply:
            self._node.send_soon(*reply, *results)

    def _can(self, peer: Peer | None, name: Any, *reply: Any) -> None:
        known = isinstance(name, str) and (
            name in self._table or name in self._offered or self._node.mesh.handles(name)
        )
        self._reply(reply, "1" if known else "")

    def _time(self, peer: Peer | None, *reply: Any) -> None:
        self._reply(reply, time.time())

    def _eval(self, peer: Peer | None, source: Any, *reply: Any) -> None:
        if not self._node.settings.allow_eval:
            self._reply(reply, "eval is not allowed on this node")
            return
        self._node.defer(self._evaluate, source, reply)

    def _evaluate(self, source: str, reply: tuple[Any, ...]) -> None:
        names = {"node": self._node}
        try:
            try:
                results: tuple[Any, ...] = (eval(compile(source, "<eval>", "eval"), names),)
            except SyntaxError:
                exec(compile(source, "<eval>", "exec"), names)
                results = ()
            self._reply(reply, "", *results)
        except Exception as error:
            self._reply(reply, f"{type(error).__name__}: {error}")

    def _spawn(self, peer: Peer | None, name: Any, function: Any, *args: Any) -> None:
        """race: messages and ``mon1`` for the new port follow in the same stream, so it is made at once."""
        if not isinstance(name, str) or not name or self._node.ports.is_used(name):
            raise NotAllowed(f"a port cannot be spawned under the name {name!r}")
        self._node.start_spawned(name, function, args)

    def _leaving(self, peer: Peer | None, *_: Any) -> None:
        if peer is not None:
            self._node.peer_leaves(peer)

    def _call_function(self, name: Any, args: tuple[Any, ...]) -> None:
        if not isinstance(name, str) or (":" not in name):
            if str(name) not in self._unknown and len(self._unknown) < 1000:
                self._unknown.add(str(name))
                log.warning("%s: unknown request %.80r, ignored from now on", self._node.id, name)
            return
        self._node.defer(resolve(name, self._node.settings.allow, for_spawn=False), *args)
