"""The node port: how nodes manage each other (PROTOCOL.md sections 7 to 9). One table from request to function.

Beside it the names that services offer while they are on, such as ``AnyEvent::MP::LogCatcher::connect``: a peer may call
these whatever the setting `allow` says, and else the functions that it admits.

A request may make this node send to its own node port (``snd``, or an R that is this node's ID). That is handled in the
next turn, as a request without a sender, so that it gets no rights; and it may not do so again, or one
message could start an endless chain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from gmp.errors import ConfigError, GmpError, NotAllowed
from gmp.ids import split_port_id
from gmp.kernel.following import Following
from gmp.kernel.inspection import Inspection
from gmp.kernel.perl import port_name, request_name, understood
from gmp.kernel.spawning import LONGEST_NAME, SpawnedNames, resolve
from gmp.later import later
from gmp.net.reasons import CloseReason
from gmp.outside import clock
from gmp.ports.port import Port
from gmp.showing import MOST_TOLD, describe, show
from gmp.wire.requests import (
    ALIVE,
    CAN,
    CONNECT,
    DEVNULL,
    EVAL,
    EXPECT,
    FAMILIES,
    FOLLOW,
    HEARTBEAT,
    INFO,
    KEY,
    KIL0,
    KIL1,
    LEAVING,
    MON0,
    MON1,
    NOTHING,
    PASSED,
    PORTS,
    REFUSED,
    SND,
    SPAWN,
    STATS,
    TIME,
    TRACED,
    UP_NODES,
)

if TYPE_CHECKING:
    from gmp.kernel import tracing
    from gmp.kernel.host import Host
    from gmp.kernel.streams import Streams
    from gmp.net.peer import Peer
else:
    tracing = later("gmp.kernel.tracing")

log = logging.getLogger("gmp")
Request = Callable[..., None]


class Requests:
    """The node port of one node. `peer` is None for the own node's requests."""

    def __init__(self, host: Host, streams: Streams) -> None:
        self._host = host
        self._run_callback = gevent.get_hub().loop.run_callback
        self._names = SpawnedNames()
        self._own = False  # whether the request of now was made by another request
        self._for = host.id  # whose request that is
        inspection, following = Inspection(host), Following(host)
        self._table: dict[str, Request] = {
            NOTHING: self._nothing,
            DEVNULL: self._nothing,
            MON1: self._mon1,
            MON0: self._mon0,
            KIL0: self._kil0,
            KIL1: self._kil1,
            SND: self._snd,
            CAN: self._can,
            TIME: self._time,
            EVAL: self._eval,
            SPAWN: self._spawn,
            EXPECT: lambda peer, *args: streams.expect(peer, *args),
            CONNECT: lambda peer, stream_id, *_: streams.connect(peer, stream_id),
            LEAVING: self._leaving,
            PASSED: self._passed,
            REFUSED: self._refused,
            HEARTBEAT: self._heartbeat,
            ALIVE: self._alive,
            INFO: lambda _, *reply: self._reply(reply, inspection.info()),
            STATS: lambda _, *reply: self._reply(reply, inspection.stats()),
            FAMILIES: lambda _, *reply: self._reply(reply, inspection.families()),
            KEY: self._key,
            FOLLOW: lambda _, *args: following.request(*args),
            TRACED: self._traced,
            PORTS: lambda _, *reply: self._reply(reply, inspection.ports()),
        }
        self._offered: dict[str, Callable[..., Any]] = {}
        self._evaluation_names: dict[str, Any] = {"node": host.node}  # kept, so that what is assigned is there the next time

    def offer(self, name: str, function: Callable[..., Any]) -> Callable[[], None]:
        """Let peers call `function(asker, *args)` by `name`; returns a function that ends it."""
        if name in self._table or name in self._offered or self._host.mesh.handles(name):
            raise ConfigError(f"{name!r} is offered on node {self._host.id} already")
        self._offered[name] = function

        def withdraw() -> None:
            if self._offered.get(name) is function:
                del self._offered[name]

        return withdraw

    def take_over(self, before: Requests) -> None:
        """What is offered on the node `before` is offered here as well, until that ends."""
        self._offered = before._offered

    def handle(self, peer: Peer | None, message: tuple[Any, ...]) -> None:
        """Do what a message to the node port asks for; what it raises is logged, the asker hears nothing."""
        name = request_name(message[0]) if message else ""
        args = message[1:]
        if not self._own:
            self._for = self._asker(peer)
        try:
            if peer is not None and not peer.is_gmp and isinstance(name, str):
                args = understood(name, args, offered=name in self._offered)
            if peer is None:
                self._handle(peer, name, args)
            else:
                self._host.passing.run(peer.node_id, peer.node_id, lambda: self._handle(peer, name, args))
        except (GmpError, TypeError, ValueError) as error:
            asker = self._asker(peer)
            self._tell("request failed", asker, f"request {show(name, 80)} from {asker} failed: {error}")

    def _handle(self, peer: Peer | None, name: Any, args: tuple[Any, ...]) -> None:
        request = self._table.get(name) if isinstance(name, str) else None
        if request is not None:
            request(peer, *args)
        elif not isinstance(name, str):
            self._complain(self._asker(peer), show(name, 80), "expected the name of a request")
        elif peer is not None and self._host.mesh.handles(name):
            self._host.mesh.handle(peer.node_id, name, args)
        elif name in self._offered:
            self._defer(self._asker(peer), self._offered[name], self._asker(peer), *args)
        elif ":" in name:
            self._defer(self._asker(peer), self._call_function, self._asker(peer), name, args)
        else:
            self._complain(self._asker(peer), repr(name[:LONGEST_NAME]), "unknown request")

    def _defer(self, asker: str, function: Callable[..., Any], *args: Any) -> None:
        self._host.defer(self._host.peer_log.run, log, asker, function, *args)

    def _asker(self, peer: Peer | None) -> str:
        return self._host.id if peer is None else peer.node_id

    def _complain(self, asker: str, name: str, problem: str) -> None:
        self._tell("request ignored", asker, f"request {name} from {asker} ignored: {problem}")

    def _tell(self, kind: str, asker: str, text: str) -> None:
        self._host.peer_log.tell(log, logging.WARNING, kind, asker, text)

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
            self._host.monitors.mon1(peer.node_id, port_name(name))

    def _mon0(self, peer: Peer | None, name: Any = "", *_: Any) -> None:
        if peer is not None:
            self._host.monitors.mon0(peer.node_id, port_name(name))

    def _kil0(self, peer: Peer | None, name: Any = "", *reason: Any) -> None:
        if peer is not None:
            self._host.monitors.port_died(peer.node_id, port_name(name), reason)

    def _kil1(self, peer: Peer | None, name: Any = "", *reason: Any) -> None:
        name = port_name(name)
        if not name:
            raise NotAllowed("the node port cannot be killed")
        port = self._host.ports.by_name.get(name)
        if port is not None:
            port.kill(*reason)

    def _snd(self, peer: Peer | None, *message: Any) -> None:
        self._reply(message)

    def _reply(self, reply: tuple[Any, ...], *results: Any) -> None:
        """Send to where a peer said."""
        if not reply:
            return
        dest = reply[0]
        if dest not in (self._host.id, f"{self._host.id}#"):
            self._pass_on(dest, (*reply[1:], *results))
        elif self._own:
            raise NotAllowed("a request to this node itself, made by such a request")
        else:
            self._run_callback(self._handle_own, self._for, (*reply[1:], *results))

    def _pass_on(self, dest: Any, message: tuple[Any, ...]) -> None:
        host, asker = self._host, self._for
        receiver = split_port_id(dest)[0]
        if asker == host.id or receiver in (asker, host.id):  # an asker's answers to itself are counted with its request
            host.send_soon(dest, *message)
        else:
            host.passing.run(asker, receiver, lambda: host.send_soon(dest, *message))

    def _handle_own(self, asker: str, message: tuple[Any, ...]) -> None:
        self._own, self._for = True, asker
        try:
            if asker == self._host.id:
                self.handle(None, message)
            else:
                self._host.passing.run(asker, asker, lambda: self.handle(None, message))
        finally:
            self._own, self._for = False, self._host.id

    def _can(self, peer: Peer | None, name: Any = "", *reply: Any) -> None:
        name = port_name(name)
        known = name in self._table or name in self._offered or self._host.mesh.handles(name)
        self._reply(reply, "1" if known else "")

    def _time(self, peer: Peer | None, *reply: Any) -> None:
        self._reply(reply, clock.time())

    def _eval(self, peer: Peer | None, source: Any = "", *reply: Any) -> None:
        if source == UP_NODES:  # reveals no more than `gmp.info`: answered whatever `allow_eval` says
            connected = [node_id for node_id in self._host.up_nodes() if self._host.peer(node_id).is_linked]
            self._reply(reply, "", *connected)
        elif self._host.settings.allow_eval:
            self._defer(self._asker(peer), self._evaluate, self._for, source, reply)
        elif reply:
            self._reply(reply, "eval is not allowed on this node")
        else:
            self._complain(self._asker(peer), EVAL, "it is not allowed on this node")

    def _evaluate(self, asker: str, source: Any, reply: tuple[Any, ...]) -> None:
        names = self._evaluation_names
        try:
            try:
                results: tuple[Any, ...] = (eval(compile(source, "<eval>", "eval"), names),)
            except SyntaxError:
                exec(compile(source, "<eval>", "exec"), names)
                results = ()
            self._for = asker  # others were served meanwhile
            self._reply(reply, "", *results)
        except Exception as error:
            self._for = asker
            self._reply(reply, describe(error, MOST_TOLD))

    def _spawn(self, peer: Peer | None, name: Any = "", function: Any = "", *args: Any) -> None:
        """race: messages and ``mon1`` for the new port follow in the same stream, so it is made at once."""
        name, ports = port_name(name), self._host.ports
        maker = peer.link.newest if peer is not None and peer.is_gmp else ""
        if ports.is_used(name) or not self._names.claim(name, maker):
            raise NotAllowed(f"a port cannot be spawned under the name {name[:LONGEST_NAME]!r}")
        if self._host.closed:
            ports.remember_end(name, ("leaving", self._host.id))
        else:
            ports.make(self._run_spawned, (self._asker(peer), function, args), name=name)

    def _run_spawned(self, port: Port, asker: str, function: Any, args: tuple[Any, ...]) -> None:
        try:
            found = resolve(function, self._host.settings.allow, for_spawn=True)
        except NotAllowed as error:
            self._complain(asker, f"{function!r:.{LONGEST_NAME}}", str(error))
            port.kill("not_allowed", str(error))
        else:
            found(port, *args)

    def _call_function(self, asker: str, name: str, args: tuple[Any, ...]) -> None:
        try:
            found = resolve(name, self._host.settings.allow, for_spawn=False)
        except NotAllowed as error:
            self._complain(asker, repr(name[:LONGEST_NAME]), str(error))
        else:
            found(*args)

    def _traced(self, peer: Peer | None, carrier: Any, name: Any, *message: Any) -> None:
        """A message for the local `name`, with its trace context; a node that does not trace delivers it like any other."""
        ports = self._host.ports
        destination = ports.by_name.get(name) if isinstance(name, str) else None
        if destination is None:
            ports.dropped += 1
        elif ports.port_class is Port:
            destination.put(message)
        else:
            destination.put(tracing.restored(carrier, message))

    def _key(self, peer: Peer | None, name: Any = "", *reply: Any) -> None:
        """Give the node that asks the key of a service; to a port of its own, whoever has brought it to ask."""
        ask = self._host.keys.get(port_name(name))
        if reply and split_port_id(reply[0])[0] == self._for:
            self._reply(reply, *(("key", "") if ask is None else ask(self._for)))

    def _passed(self, peer: Peer | None, token: Any = None, *_: Any) -> None:
        if peer is not None:
            peer.barrier_passed(token)

    def _leaving(self, peer: Peer | None, *_: Any) -> None:
        if peer is not None and peer.connection is not None:
            peer.connection.close(CloseReason.LEAVING)
