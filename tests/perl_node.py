"""A whole AnyEvent::MP 2.02 node, made of `PerlPeer` connections: it listens, dials, and has its part of the directory.

As a *slave* it is connected with its seeds, tells the first one what it has, and finds other nodes by ``g_find`` when
something is to be sent to them. As a *global* node it keeps the directory of its slaves, and tells other global nodes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.event
import gevent.socket

from .perl_peer import PerlPeer

#: every request that the Kernel and Global of 2.02 know; other names are those of functions, with ``::``
KERNEL = {"", "mon0", "mon1", "kil0", "kil1", "snd", "can", "time", "eval", "devnull"}
GLOBAL = {
    "g_global", "g_slave", "g_set", "g_upd", "g_find", "g_found", "g_mon1", "g_mon0", "g_chg1", "g_chg2",
    "g_db_family", "g_db_keys", "g_db_values", "g_reply",
}  # fmt: skip
UP_NODES, FAMILIES = "AnyEvent::MP::Kernel::up_nodes", "keys %AnyEvent::MP::Kernel::GLOBAL_DB"


class PerlNode:
    """One node. `port`: what to listen on (0: any free one; None: not at all). `secure`: it answers no ``eval``."""

    def __init__(
        self,
        node_id: str,
        *,
        seeds: Iterable[str] = (),
        port: int | None = 0,
        is_global: bool = False,
        secure: bool = False,
        **options: Any,
    ) -> None:
        self.node_id, self.is_global, self.secure = node_id, is_global, secure
        self.links: dict[str, PerlPeer] = {}
        self.seen: list[tuple[str, Any]] = []  #: what came over connections that have ended, and from whom
        self.ports: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self.own: dict[str, dict[str, Any]] = {}
        self.shards: dict[str, dict[str, dict[str, Any]]] = {}  # a global node's
        self.bind = ""
        self._options = options
        self._subscribers: dict[str, set[str]] = {}
        self._found: dict[str, list[gevent.event.AsyncResult[Any]]] = {}
        self._queues: dict[str, list[list[Any]]] = {}
        self._greenlets: list[gevent.Greenlet[..., Any]] = []
        self._listener: Any = None
        self.deaf = False  #: it dials nobody but its seeds
        if port is not None:
            self._listen(port)
        self.own["'l"] = {node_id: [self.bind] if self.bind else []}
        if is_global:
            self.own["'g"] = {node_id: None}
            self.shards[node_id] = self.own
        self._seeds = list(seeds)
        for seed in self._seeds:
            self._dial(seed, as_seed=True)

    def _listen(self, port: int) -> None:
        self._listener = gevent.socket.socket()
        self._listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen()
        self.bind = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._greenlets.append(gevent.spawn(self._accept))

    def listen(self) -> None:
        """Listen from now on, and tell where."""
        self._listen(0)
        self.set("'l", self.node_id, [self.bind])

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # it was closed
            self._greenlets.append(gevent.spawn(self._meet, sock))

    def _dial(self, bind: str, *, as_seed: bool = False) -> bool:
        host, _, port = bind.rpartition(":")
        try:
            sock = gevent.socket.create_connection((host, int(port)), timeout=5)
        except OSError:
            return False
        return self._meet(sock, as_seed=as_seed)

    def _meet(self, sock: Any, *, as_seed: bool = False) -> bool:
        try:
            link = PerlPeer(sock, self.node_id, start=False, **self._options)
        except (OSError, AssertionError):
            return False  # as when the other side has another connection with this node
        link.ports, link.functions = self.ports, self.functions
        link.answer = self.snd
        link.requests = self._requests(link)
        self.links[link.other] = link
        link.closed.rawlink(lambda _: self._gone(link))
        if self.is_global:
            link.request("g_global")
        if as_seed:
            link.request("g_slave")
            if not self.is_global:
                link.request("g_slave", self.own)
        for message in self._queues.pop(link.other, []):
            link.send(*message)
        link.start()
        return True

    def _gone(self, link: PerlPeer) -> None:
        self.seen += [(link.other, message) for message in link.seen]
        if self.links.get(link.other) is link:
            del self.links[link.other]
            if link.other in self.shards:
                self._replace(link.other, {})

    def requests_seen(self) -> list[tuple[str, str]]:
        """The names of all requests that came to the node port, and from whom."""
        seen = self.seen + [(link.other, message) for link in self.links.values() for message in link.seen]
        return [(other, str(message[1])) for other, message in seen if not (message and message[0]) and message[1:]]

    def close(self) -> None:
        """Vanish, as a process that is killed."""
        if self._listener is not None:
            self._listener.close()
        gevent.killall(self._greenlets)
        for link in list(self.links.values()):
            link.close()

    def __enter__(self) -> PerlNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- sending

    def port(self, handler: Callable[..., None] | None = None) -> str:
        """A new port; returns its full ID."""
        name = f"b{len(self.ports)}x{id(self):x}"
        self.ports[name] = handler or (lambda *_: None)
        return f"{self.node_id}#{name}"

    def snd(self, port_id: str = "", *message: Any) -> None:
        """Send to any node: find and dial it first if need be. What cannot be sent is dropped after a while."""
        node_id, _, name = str(port_id).partition("#")
        if node_id == self.node_id:
            handler = self.ports.get(name)
            if handler is not None:
                handler(*message)
        elif node_id in self.links:
            self.links[node_id].send(name, *message)
        elif node_id in self._queues:
            self._queues[node_id].append([name, *message])
        elif node_id:
            self._queues[node_id] = [[name, *message]]
            self._greenlets.append(gevent.spawn(self._find_and_dial, node_id))

    def _find_and_dial(self, node_id: str) -> None:
        with gevent.Timeout(0 if self.deaf else 2, False):  # as 2.02: connect_interval is all the time there is
            for address in self._find(node_id) or ():
                if self._dial(address):
                    return
        self._queues.pop(node_id, None)

    def _find(self, node_id: str) -> list[str] | None:
        if self.is_global:
            addresses: list[str] | None = self.view("'l").get(node_id)
            return addresses
        master = next(iter(self.links.values()))
        result: gevent.event.AsyncResult[Any] = gevent.event.AsyncResult()
        self._found.setdefault(node_id, []).append(result)
        master.request("g_find", node_id)
        found: list[str] | None = result.get()
        return found

    # ---- the directory

    def set(self, family: str, key: str, value: Any = None) -> None:
        """Set an entry of this node."""
        self.own.setdefault(family, {})[key] = value
        if self.is_global:
            self._tell(family, {key: value}, [])
        else:
            next(iter(self.links.values())).request("g_upd", family, {key: value}, None)

    def view(self, family: str) -> dict[str, Any]:
        """What a global node has of a family, of all."""
        return {key: value for shard in self.shards.values() for key, value in shard.get(family, {}).items()}

    def _requests(self, link: PerlPeer) -> dict[str, Callable[..., None]]:
        def found(node_id: str, addresses: Any = None, *_: Any) -> None:
            for result in self._found.pop(node_id, []):
                result.set(addresses)

        def evaluate(source: str, *reply: Any) -> None:
            if reply and not self.secure:
                known = {UP_NODES: list(self.links), FAMILIES: list(self._of_slaves())}
                self.snd(*reply, *(("", *known[source]) if source in known else ("syntax error",)))

        requests: dict[str, Callable[..., None]] = {"g_found": found, "eval": evaluate}
        if self.is_global:
            requests |= {
                "g_slave": lambda database=None, *_: database is not None and self._replace(link.other, database),
                "g_set": lambda database=None, *_: self._replace(link.other, database or {}),
                "g_upd": lambda *change: self._update(link.other, *change),
                "g_global": lambda *_: link.request("g_set", self._of_slaves()),
                "g_find": lambda node_id, *_: link.request("g_found", node_id, self.view("'l").get(node_id)),
                "g_mon1": lambda family, *_: self._subscribe(link, family),
                "g_mon0": lambda family, *_: self._subscribers.get(family, set()).discard(link.other),
                "g_db_family": lambda family, what=None, *_: link.request("g_reply", what, self.view(family)),
                "g_db_keys": lambda family, what=None, *_: link.request("g_reply", what, list(self.view(family))),
                "g_db_values": lambda family, what=None, *_: link.request("g_reply", what, list(self.view(family).values())),
            }
        return requests

    def _of_slaves(self) -> dict[str, dict[str, Any]]:
        return {family: self.view(family) for shard in self.shards.values() for family in shard}

    def _subscribe(self, link: PerlPeer, family: str) -> None:
        self._subscribers.setdefault(family, set()).add(link.other)
        link.request("g_chg1", family, self.view(family) or None)

    def _replace(self, owner: str, database: dict[str, dict[str, Any]]) -> None:
        for family, entries in list(self.shards.get(owner, {}).items()):
            self._update(owner, family, {}, list(entries.keys() - database.get(family, {}).keys()))
        for family, entries in database.items():
            self._update(owner, family, entries, None)

    def _update(self, owner: str, family: str, changed: Any = None, deleted: Any = None, *_: Any) -> None:
        entries = self.shards.setdefault(owner, {}).setdefault(family, {})
        entries.update(changed or {})
        for key in deleted or ():
            entries.pop(key, None)
        self._tell(family, changed or {}, list(deleted or ()))

    def _tell(self, family: str, changed: dict[str, Any], deleted: list[str]) -> None:
        for node_id in self._subscribers.get(family, ()):
            if node_id in self.links and (changed or deleted):
                self.links[node_id].request("g_chg2", family, changed, deleted)
