"""A whole AnyEvent::MP 2.02 node, seed or not, on top of `tests.perl_peer`: with a connection to each node that it needs,
and its part in the network's directory. Written from the protocol's description, with nothing of gmp.

Every node has a database of its own and tells it to its master, a seed that it is connected with (``g_slave``, ``g_upd``).
A seed is its own master: it merges what its slaves told, and tells the others of its kind (``g_global``, ``g_set``,
``g_upd``). Who monitors a family (``g_mon1``) hears of it from its master (``g_chg1``, ``g_chg2``). Unlike Perl's, this node
always notices when its master is lost.

``python -m tests.perl_seed NODE_ID BIND SEED …`` is such a node in a process of its own, for `tests.mixed_network`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.pool
import gevent.socket

from .perl_peer import PerlPeer

Entries = dict[str, Any]
Database = dict[str, Entries]
ADDRESSES, GLOBALS = "'l", "'g"  # the families of what each node listens on, and of the global nodes
RETRY = 0.5  # seconds between two times that lost seeds and global nodes are dialled


class _Refused(Exception):
    """A greeting is from whom this node does not talk to."""


class _Link(PerlPeer):
    """One connection of a node, whose requests the node answers."""

    def __init__(self, node: PerlNode, sock: Any, **options: Any) -> None:
        self._node = node
        super().__init__(sock, node.node_id, **options)

    def _line(self) -> str:
        line = super()._line()
        if line.startswith("aemp;"):
            self._node.greeted(line.split(";")[2])
        return line

    def _handle(self, message: list[Any]) -> None:
        self.log.clear()  # nobody reads it
        super()._handle(message)

    def _handle_request(self, name: str, *args: Any) -> None:
        if not self._node.handle(self.other, name, *args):
            super()._handle_request(name, *args)


class PerlNode:
    """One node; it listens at `bind`, and is a seed when that is among `seeds`. `views`: the families that it monitors."""

    def __init__(
        self, node_id: str, bind: str = "127.0.0.1:0", seeds: Iterable[str] = (), *, framing: str = "json"
    ) -> None:
        self.node_id = node_id
        self.views: Database = {}
        self._options = {"framing": framing}
        self._links: dict[str, _Link] = {}
        self._own: Database = {}
        self._master = ""
        self._seed_nodes: dict[str, str] = {}  # bind of a seed: its node
        # of a seed
        self._is_global = False
        self._slaves: dict[str, None] = {}
        self._global_nodes: set[str] = set()
        self._shards: dict[str, Database] = {}  # what each slave, and each other global node, has told
        self._monitors: dict[str, set[str]] = {}  # family: who monitors it here
        self._requests: dict[str, Callable[..., None]] = {
            "g_slave": self._g_slave,
            "g_global": self._g_global,
            "g_set": self._g_set,
            "g_upd": self._g_upd,
            "g_find": self._g_find,
            "g_db_family": lambda source, family, number: self._reply(source, number, self._merged(family)),
            "g_db_keys": lambda source, family, number: self._reply(source, number, [*self._merged(family)]),
            "g_db_values": lambda source, family, number: self._reply(source, number, [*self._merged(family).values()]),
            "g_mon1": self._g_mon1,
            "g_mon0": lambda source, family, *_: self._monitors.get(family, set()).discard(source),
            "g_chg1": self._g_chg1,
            "g_chg2": self._g_chg2,
        }
        host, _, port = bind.rpartition(":")
        self._listener = gevent.socket.socket()
        self._listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
        self._listener.bind((host, int(port)))
        self._listener.listen()
        self.bind = f"{host}:{self._listener.getsockname()[1]}"
        self._seeds = [seed for seed in seeds if seed != self.bind]
        self._greenlets = gevent.pool.Group()
        self.db_set(ADDRESSES, node_id, [self.bind])
        if len(self._seeds) < len([*seeds]):
            self._become_global()
        self._greenlets.spawn(self._accept)
        self._greenlets.spawn(self._keep)

    def close(self) -> None:
        """End, without a word, as Perl does."""
        self._greenlets.kill()
        self._listener.close()
        for link in self._links.values():
            link.close()

    # ---- connections

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            self._greenlets.spawn(self._connect, lambda sock=sock: sock)

    def _keep(self) -> None:
        """Dial the seeds, and of a seed the other global nodes, as often as they are lost."""
        while True:
            binds = [seed for seed in self._seeds if self._seed_nodes.get(seed) not in self._links]
            if self._is_global:
                wanted = [node for node in self._merged(GLOBALS) if node not in self._links and node != self.node_id]
                binds += [bind for node in wanted for bind in self._merged(ADDRESSES).get(node) or ()]
            jobs = [self._greenlets.spawn(self._connect, self._dialling(bind), bind) for bind in dict.fromkeys(binds)]
            gevent.joinall(jobs, timeout=10)
            gevent.sleep(RETRY * (1 + random.random()))

    @staticmethod
    def _dialling(bind: str) -> Callable[[], Any]:
        host, _, port = bind.rpartition(":")
        return lambda: gevent.socket.create_connection((host, int(port)), timeout=2)

    def _connect(self, make: Callable[[], Any], bind: str = "") -> None:
        """The handshake on a new connection; `bind` is what was dialled."""
        try:
            link = _Link(self, make(), **self._options)
        except (OSError, _Refused, IndexError, StopIteration):
            return  # the other side is not there, or refuses as well
        if bind in self._seeds:
            self._seed_nodes[bind] = link.other
        former = self._links.pop(link.other, None)
        if former is not None:  # race: both sides have dialled, and both handshakes were done
            former.close()
            self._lost(link.other)
        self._links[link.other] = link
        self._came(link.other)
        link.closed.wait()
        if self._links.get(link.other) is link:
            del self._links[link.other]
            self._lost(link.other)

    def greeted(self, node_id: str) -> None:
        """Somebody's greeting has come."""
        if node_id == self.node_id or node_id in self._links:
            raise _Refused

    def _came(self, node_id: str) -> None:
        is_seed = node_id in self._seed_nodes.values()
        if is_seed:
            self._tell(node_id, "g_slave")
        if self._is_global:
            self._tell(node_id, "g_global")
        elif is_seed and not self._master:
            self._attach(node_id)

    def _lost(self, node_id: str) -> None:
        self._forget(node_id)
        if node_id == self._master:
            self._master = ""
            for other in [*self._seed_nodes.values()]:
                if other in self._links:
                    self._attach(other)
                    break

    def _tell(self, node_id: str, name: str, *args: Any) -> None:
        """Ask a node, or this one, for something; without a connection nothing happens."""
        if node_id == self.node_id:
            self.handle(node_id, name, *json.loads(json.dumps(args)))
        elif node_id in self._links:
            try:
                self._links[node_id].request(name, *args)
            except OSError:
                pass  # it is about to be seen as lost

    def handle(self, source: str, name: str, *args: Any) -> bool:
        """A node's request; false when this is not the place for it."""
        handler = self._requests.get(name)
        if handler is not None:
            handler(source, *args)
        return handler is not None

    # ---- what a program does

    def db_set(self, family: str, key: str, value: Any = None) -> None:
        """Set an entry of this node."""
        entries = self._own.setdefault(family, {})
        if key not in entries or entries[key] != value:
            entries[key] = value
            self._tell(self._master, "g_upd", family, {key: value})

    def db_del(self, family: str, key: str) -> None:
        """Delete an entry of this node."""
        if key in self._own.get(family, {}):
            del self._own[family][key]
            self._tell(self._master, "g_upd", family, None, [key])

    def db_mon(self, family: str) -> None:
        """Keep `views[family]` as the network's entries are."""
        self.views[family] = {}
        self._tell(self._master, "g_mon1", family)

    def _attach(self, master: str) -> None:
        self._master = master
        self._tell(master, "g_slave", self._own)
        for family in self.views:
            self._tell(master, "g_mon1", family)

    def _g_chg1(self, source: str, family: str, entries: Entries | None, *_: Any) -> None:
        if source == self._master and family in self.views:
            self.views[family] = dict(entries or {})

    def _g_chg2(self, source: str, family: str, added: Entries | None, deleted: list[str] | None = None, *_: Any) -> None:
        if source == self._master and family in self.views:
            self.views[family].update(added or {})
            for key in deleted or ():
                self.views[family].pop(key, None)

    # ---- what a seed does

    def _become_global(self) -> None:
        if self._is_global:
            return
        self._is_global = True
        self._attach(self.node_id)
        self.db_set(GLOBALS, self.node_id)
        for node_id in [*self._links]:
            self._tell(node_id, "g_global")
        for node_id in [*self._global_nodes]:
            self._join(node_id)

    def _join(self, node_id: str) -> None:
        """Tell another global node what the slaves of this one have told."""
        self.db_set(GLOBALS, node_id)
        families = {family for slave in self._slaves for family in self._shards.get(slave, {})}
        self._tell(node_id, "g_set", {family: self._merged(family, self._slaves) for family in families})

    def _forget(self, node_id: str) -> None:
        self._global_nodes.discard(node_id)
        self.db_del(GLOBALS, node_id)
        self.db_del(ADDRESSES, node_id)
        for family, entries in [*self._shards.get(node_id, {}).items()]:
            self._g_upd(node_id, family, None, [*entries])
        self._shards.pop(node_id, None)
        self._slaves.pop(node_id, None)
        for monitors in self._monitors.values():
            monitors.discard(node_id)

    def _merged(self, family: str, owners: Iterable[str] | None = None) -> Entries:
        """All entries of a family; of two with one key the one that a slave has told."""
        if owners is None:
            owners = [*(owner for owner in self._shards if owner not in self._slaves), *self._slaves]
        return {key: value for owner in owners for key, value in self._shards.get(owner, {}).get(family, {}).items()}

    def _g_slave(self, source: str, *database: Database | None) -> None:
        self._become_global()
        if database:
            self._slaves[source] = None
            for family, entries in (database[0] or {}).items():
                self._g_upd(source, family, entries)

    def _g_global(self, source: str, *_: Any) -> None:
        self._forget(source)
        self._global_nodes.add(source)
        if self._is_global:
            self._join(source)

    def _g_set(self, source: str, database: Database, *_: Any) -> None:
        for family, entries in database.items():
            self._g_upd(source, family, entries)
        self.db_set(ADDRESSES, source, database.get(ADDRESSES, {}).get(source))

    def _g_upd(self, source: str, family: str, added: Entries | None, deleted: list[str] | None = None, *_: Any) -> None:
        before, told = self._merged(family), self._merged(family, self._slaves)
        entries = self._shards.setdefault(source, {}).setdefault(family, {})
        entries.update(added or {})
        for key in deleted or ():
            entries.pop(key, None)
        if not entries:
            del self._shards[source][family]
        change = _difference(told, self._merged(family, self._slaves))
        if any(change):
            for node_id in [*self._global_nodes]:
                self._tell(node_id, "g_upd", family, *change)
        change = _difference(before, self._merged(family))
        if any(change):
            for node_id in [*self._monitors.get(family, ())]:
                self._tell(node_id, "g_chg2", family, *change)

    def _g_find(self, source: str, node_id: str, *_: Any) -> None:
        self._tell(source, "g_found", node_id, self._merged(ADDRESSES).get(node_id))

    def _reply(self, source: str, number: str, answer: Any) -> None:
        self._tell(source, "g_reply", number, answer)

    def _g_mon1(self, source: str, family: str, *_: Any) -> None:
        self._monitors.setdefault(family, set()).add(source)
        self._tell(source, "g_chg1", family, self._merged(family) or None)


def _difference(before: Entries, after: Entries) -> tuple[Entries, list[str]]:
    """What was set, and what was deleted."""
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return changed, [key for key in before if key not in after]


def main(node_id: str, bind: str, *seeds: str) -> None:
    """Be a node, as `tests.mixed_child` is one."""
    read: Callable[..., Any] = gevent.get_hub().threadpool.apply
    setup = json.loads(read(sys.stdin.readline))
    node = PerlNode(node_id, bind, seeds, framing=setup["framing"])
    port = f"{node_id}#{random.randrange(2**64):x}"
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
