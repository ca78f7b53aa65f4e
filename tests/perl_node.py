"""A whole AnyEvent::MP 2.02 node, seed or not, made of `PerlPeer` connections: it listens, keeps a connection with each of
its seeds, dials nodes that something is to be sent to, and has its part of the directory (`tests.perl_database`).

``python -m tests.perl_node NODE_ID BIND SEED …`` is such a node in a process of its own, for `tests.mixed_network`.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import gevent
import gevent.event
import gevent.pool
import gevent.socket

from .perl_database import ADDRESSES, GLOBALS, OF_GLOBAL, OF_KERNEL, PerlDatabase
from .perl_peer import PerlPeer

#: every request that 2.02 knows; other names are those of functions, with ``::``
KERNEL = {"", "mon0", "mon1", "kil0", "kil1", "snd", "can", "time", "eval", "devnull"}
GLOBAL = OF_KERNEL | OF_GLOBAL
UP_NODES, FAMILIES = "AnyEvent::MP::Kernel::up_nodes", "keys %AnyEvent::MP::Kernel::GLOBAL_DB"
ATTACH_AGAIN = "master_search ()"  #: in the code by which a seed asks for that
RETRY = 0.5  # seconds between two times that lost seeds and global nodes are dialled
CONNECT_INTERVAL = 2.0  # seconds: all the time there is to find and reach a node, as with 2.02


class _Refused(Exception):
    """A greeting is from whom this node does not talk to."""


class PerlNode(PerlDatabase):
    """One node. `bind`: what to listen on (None: nothing). It is global if that is among `seeds`, if `is_global` says so, or
    when another node takes it for a seed. `secure`: it evaluates nothing. Other options are those of `PerlPeer`."""

    def __init__(
        self,
        node_id: str,
        bind: str | None = "127.0.0.1:0",
        seeds: Iterable[str] = (),
        *,
        is_global: bool = False,
        secure: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(node_id)
        self.secure = secure
        self.deaf = False  #: it dials nobody but its seeds
        self.bind = ""
        self.links: dict[str, PerlPeer] = {}
        self.ports: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self._seen: list[tuple[str, Any]] = []  # what came over connections that have ended, and from whom
        self._options = options
        self._prefix = secrets.token_hex(5)
        self._queues: dict[str, list[list[Any]]] = {}  # what waits for connections
        self._found: dict[str, gevent.event.AsyncResult[Any]] = {}
        self._seed_nodes: dict[str, str] = {}  # bind of a seed: its node
        self._greenlets = gevent.pool.Group()
        self._listener: Any = None
        if bind is not None:
            self._listen(bind)
        self.db_set(ADDRESSES, node_id, [self.bind] if self.bind else [])
        seeds = [*seeds]
        self._seeds = [seed for seed in seeds if seed != self.bind]
        if is_global or self.bind in seeds:
            self.become_global()
        self._dial_all()
        self._greenlets.spawn(self._keep)

    def close(self) -> None:
        """Vanish, as a process that is killed."""
        self._greenlets.kill()
        if self._listener is not None:
            self._listener.close()
        for link in self.links.values():
            link.close()
            self._keep_seen(link)
        self.links.clear()

    def __enter__(self) -> PerlNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- connections

    def _listen(self, bind: str) -> None:
        host, _, port = bind.rpartition(":")
        self._listener = gevent.socket.socket()
        self._listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
        self._listener.bind((host, int(port)))
        self._listener.listen()
        self.bind = f"{host}:{self._listener.getsockname()[1]}"
        self._greenlets.spawn(self._accept)

    def listen(self) -> None:
        """Listen from now on, and tell where."""
        self._listen("127.0.0.1:0")
        self.db_set(ADDRESSES, self.node_id, [self.bind])

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            self._greenlets.spawn(self._meet, sock)

    def _keep(self) -> None:
        while True:
            gevent.sleep(RETRY * (1 + random.random()))
            self._dial_all()

    def _dial_all(self) -> None:
        """Dial the seeds, and of a global node the others, as far as they are not connected."""
        binds = [seed for seed in self._seeds if self._seed_nodes.get(seed) not in self.links]
        if self.is_global:
            wanted = [node for node in self.view(GLOBALS) if node not in self.links and node != self.node_id]
            binds += [bind for node in wanted for bind in self.addresses(node) or ()]
        gevent.joinall([self._greenlets.spawn(self._dial, bind) for bind in dict.fromkeys(binds)], timeout=10)

    def _dial(self, bind: str) -> bool:
        host, _, port = bind.rpartition(":")
        try:
            sock = gevent.socket.create_connection((host, int(port)), timeout=CONNECT_INTERVAL)
        except OSError:
            return False
        return self._meet(sock, bind)

    def _meet(self, sock: Any, bind: str = "") -> bool:
        """The handshake on a new connection; `bind` is what was dialled."""
        try:
            link = PerlPeer(sock, self.node_id, start=False, check=self._check, **self._options)
        except (OSError, _Refused, IndexError, StopIteration):
            return False  # the other side is not there, or refuses as well
        if bind in self._seeds:
            self._seed_nodes[bind] = link.other
        former = self.links.pop(link.other, None)
        if former is not None:  # race: both sides have dialled, and both handshakes were done
            former.close()
            self._keep_seen(former)
            self.lost(link.other)
        link.ports, link.functions, link.answer = self.ports, self.functions, self.snd
        link.requests = {name: partial(self.handle, link.other, name) for name in self.requests}
        link.requests |= {"eval": self._evaluate, "g_found": self._g_found}
        self.links[link.other] = link
        self.came(link.other)
        for message in self._queues.pop(link.other, []):
            link.send(*message)
        link.start()
        self._greenlets.spawn(self._until_lost, link)
        return True

    def _check(self, node_id: str) -> None:
        if node_id == self.node_id or node_id in self.links:
            raise _Refused

    def _until_lost(self, link: PerlPeer) -> None:
        link.closed.wait()
        if self.links.get(link.other) is link:
            del self.links[link.other]
            self._keep_seen(link)
            self.lost(link.other)

    def _keep_seen(self, link: PerlPeer) -> None:
        self._seen += [(link.other, message) for message in link.seen]

    def requests_seen(self) -> list[tuple[str, str]]:
        """The names of all requests that came to the node port, and from whom."""
        seen = self._seen + [(link.other, message) for link in self.links.values() for message in link.seen]
        return [(other, str(message[1])) for other, message in seen if not (message and message[0]) and message[1:]]

    # ---- what its part in the directory asks

    def send_request(self, node_id: str, name: str, *args: Any) -> None:
        if node_id in self.links:
            try:
                self.links[node_id].request(name, *args)
            except OSError:
                pass  # it is about to be seen as lost

    def seeds_up(self) -> list[str]:
        return [node for node in self._seed_nodes.values() if node in self.links]

    def nodes_up(self) -> list[str]:
        return [*self.links]

    # ---- sending

    def port(self, handler: Callable[..., None] | None = None) -> str:
        """A new port; returns its full ID."""
        name = f"{self._prefix}{len(self.ports)}"
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
            self._greenlets.spawn(self._find_and_dial, node_id)

    def _find_and_dial(self, node_id: str) -> None:
        with gevent.Timeout(0 if self.deaf else CONNECT_INTERVAL, False):
            for address in self._find(node_id) or ():
                if self._dial(address):
                    return
        self._queues.pop(node_id, None)

    def _find(self, node_id: str) -> list[str] | None:
        if self.is_global:
            return self.addresses(node_id)
        result = self._found.setdefault(node_id, gevent.event.AsyncResult())
        self.tell(self.master, "g_find", node_id)
        found: list[str] | None = result.get()
        return found

    def _g_found(self, node_id: str, addresses: list[str] | None = None, *_: Any) -> None:
        if node_id in self._found:
            self._found.pop(node_id).set(addresses)

    def _evaluate(self, source: str, *reply: Any) -> None:
        """Of all Perl code it knows what gmp sends."""
        if self.secure:
            return
        if ATTACH_AGAIN in source:
            self.attach_again()
        elif reply:
            known = {UP_NODES: [*self.links], FAMILIES: self.families()}
            self.snd(*reply, *(("", *known[source]) if source in known else ("syntax error",)))


def main(node_id: str, bind: str, *seeds: str) -> None:
    """Be a node, as `tests.mixed_child` is one."""
    read: Callable[..., Any] = gevent.get_hub().threadpool.apply
    setup = json.loads(read(sys.stdin.readline))
    node = PerlNode(node_id, bind, seeds, framing=setup["framing"])
    port = node.port()
    for name in setup["groups"]:
        node.db_set(name, port)
    for name in setup["watched"]:
        node.db_mon(name)
    print(json.dumps(port), flush=True)
    while read(sys.stdin.readline):
        print(json.dumps({name: sorted(entries) for name, entries in node.views.items()}), flush=True)
    node.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
