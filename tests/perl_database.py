"""A Perl node's part in the network's directory, as AnyEvent::MP 2.02 has it; written from the protocol's description, with
nothing of gmp. `tests.perl_node` has the connections.

Every node has a database of its own and tells it to its master, a seed that it is connected with (``g_slave``, ``g_upd``).
A seed is its own master: it merges what its slaves told, and tells the others of its kind (``g_global``, ``g_set``,
``g_upd``). Who monitors a family (``g_mon1``) hears of it from its master (``g_chg1``, ``g_chg2``).

It has 2.02's fault too: a node watches its master, but one that has taken over at once from another it does not, and so goes
on as before when that is lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

Entries = dict[str, Any]
Families = dict[str, Entries]
ADDRESSES, GLOBALS = "'l", "'g"  # the families of what each node listens on, and of the global nodes
#: what the Kernel of each node knows of it, and what a global node knows besides
OF_KERNEL = {"g_global", "g_slave", "g_found", "g_reply", "g_chg1", "g_chg2"}
OF_GLOBAL = {"g_set", "g_upd", "g_find", "g_mon1", "g_mon0", "g_db_family", "g_db_keys", "g_db_values"}


class PerlDatabase:
    """What one node has, knows, and tells others."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.is_global = False
        self.master = ""
        self.views: Families = {}  #: the families that it monitors, as it sees them
        self.failed: list[tuple[str, str]] = []  #: requests that came and that it does not have, behind who sent them
        self._own: Families = {}
        self._watches_master = False
        # of a global node
        self._slaves: dict[str, None] = {}
        self._global_nodes: set[str] = set()
        self._shards: dict[str, Families] = {}  # what each slave, and each other global node, has told
        self._monitors: dict[str, set[str]] = {}  # family: who monitors it here
        self.requests: dict[str, Callable[..., None]] = {
            "g_slave": self._g_slave,
            "g_global": self._g_global,
            "g_set": self._g_set,
            "g_upd": self._g_upd,
            "g_find": lambda source, node_id, *_: self.tell(source, "g_found", node_id, self.addresses(node_id)),
            "g_db_family": lambda source, family, number, *_: self._reply(source, number, self.view(family)),
            "g_db_keys": lambda source, family, number, *_: self._reply(source, number, [*self.view(family)]),
            "g_db_values": lambda source, family, number, *_: self._reply(source, number, [*self.view(family).values()]),
            "g_mon1": self._g_mon1,
            "g_mon0": lambda source, family, *_: self._monitors.get(family, set()).discard(source),
            "g_chg1": self._g_chg1,
            "g_chg2": self._g_chg2,
        }

    # ---- what a node with connections adds

    def send_request(self, node_id: str, name: str, *args: Any) -> None:
        """Ask another node for something; without a connection nothing happens."""
        raise NotImplementedError

    def seeds_up(self) -> list[str]:
        """The seeds that it is connected with."""
        raise NotImplementedError

    def tell(self, node_id: str, name: str, *args: Any) -> None:
        """Ask a node, or this one, for something."""
        if node_id == self.node_id:
            self.handle(node_id, name, *copy.deepcopy(args))
        elif node_id:
            self.send_request(node_id, name, *args)

    def handle(self, source: str, name: str, *args: Any) -> None:
        """A node's request."""
        if self.is_global or name in OF_KERNEL:
            self.requests[name](source, *args)
        else:
            self.failed.append((source, name))

    def came(self, node_id: str) -> None:
        """A connection with that node is there."""
        is_seed = node_id in self.seeds_up()
        if is_seed:
            self.tell(node_id, "g_slave")
        if self.is_global:
            self.tell(node_id, "g_global")
        elif is_seed and not self.master:
            self._attach(node_id)

    def lost(self, node_id: str) -> None:
        """And is no more."""
        self._forget(node_id)
        if node_id == self.master and self._watches_master:
            self._search()
            self._watches_master = False

    # ---- what a program does

    def db_set(self, family: str, key: str, value: Any = None) -> None:
        """Set an entry of this node."""
        entries = self._own.setdefault(family, {})
        if key not in entries or entries[key] != value:
            entries[key] = value
            self.tell(self.master, "g_upd", family, {key: value})

    def db_del(self, family: str, key: str) -> None:
        """Delete an entry of this node."""
        if key in self._own.get(family, {}):
            del self._own[family][key]
            self.tell(self.master, "g_upd", family, None, [key])

    def db_mon(self, family: str) -> None:
        """Keep `views[family]` as the network's entries are."""
        self.views[family] = {}
        self.tell(self.master, "g_mon1", family)

    # ---- its master

    def _attach(self, master: str) -> None:
        self.master, self._watches_master = master, True
        self.tell(master, "g_slave", self._own)
        for family in self.views:
            self.tell(master, "g_mon1", family)

    def _search(self) -> None:
        self.master = ""
        for seed in self.seeds_up():
            self._attach(seed)
            return

    def attach_again(self) -> None:
        """To its master if that is there, else to another seed."""
        if self.master in self.seeds_up():
            self._attach(self.master)
        elif not self.is_global:
            self._search()

    def _g_chg1(self, source: str, family: str, entries: Entries | None, *_: Any) -> None:
        if source == self.master and family in self.views:
            self.views[family] = dict(entries or {})

    def _g_chg2(self, source: str, family: str, added: Entries | None, deleted: list[str] | None = None, *_: Any) -> None:
        if source == self.master and family in self.views:
            self.views[family].update(added or {})
            for key in deleted or ():
                self.views[family].pop(key, None)

    # ---- what a global node does

    def become_global(self) -> None:
        """Keep the directory from now on."""
        if self.is_global:
            return
        self.is_global = True
        self._attach(self.node_id)
        self.db_set(GLOBALS, self.node_id)
        for node_id in self.nodes_up():
            self.tell(node_id, "g_global")
        for node_id in [*self._global_nodes]:
            self._join(node_id)

    def nodes_up(self) -> list[str]:
        """The nodes that it is connected with."""
        raise NotImplementedError

    def view(self, family: str, owners: Iterable[str] | None = None) -> Entries:
        """All entries of a family; of two with one key the one that a slave has told."""
        if owners is None:
            owners = [*(owner for owner in self._shards if owner not in self._slaves), *self._slaves]
        return {key: value for owner in owners for key, value in self._shards.get(owner, {}).get(family, {}).items()}

    def families(self) -> list[str]:
        """The names of all of them."""
        return sorted({family for shard in self._shards.values() for family in shard})

    def addresses(self, node_id: str) -> list[str] | None:
        """Where that node listens, as far as a global node knows."""
        return self.view(ADDRESSES).get(node_id)

    def _join(self, node_id: str) -> None:
        """Tell another global node what the slaves of this one have told."""
        self.db_set(GLOBALS, node_id)
        families = {family for slave in self._slaves for family in self._shards.get(slave, {})}
        self.tell(node_id, "g_set", {family: self.view(family, self._slaves) for family in families})

    def _forget(self, node_id: str) -> None:
        self._global_nodes.discard(node_id)
        if not self.is_global:
            return
        self.db_del(GLOBALS, node_id)
        self.db_del(ADDRESSES, node_id)
        for family, entries in [*self._shards.get(node_id, {}).items()]:
            self._g_upd(node_id, family, None, [*entries])
        self._shards.pop(node_id, None)
        self._slaves.pop(node_id, None)
        for monitors in self._monitors.values():
            monitors.discard(node_id)

    def _g_slave(self, source: str, *database: Families | None) -> None:
        self.become_global()
        if database:
            self._slaves[source] = None
            for family, entries in (database[0] or {}).items():
                self._g_upd(source, family, entries)

    def _g_global(self, source: str, *_: Any) -> None:
        self._forget(source)
        self._global_nodes.add(source)
        if self.is_global:
            self._join(source)

    def _g_set(self, source: str, database: Families, *_: Any) -> None:
        for family, entries in database.items():
            self._g_upd(source, family, entries)
        self.db_set(ADDRESSES, source, database.get(ADDRESSES, {}).get(source))

    def _g_upd(
        self, source: str, family: str, added: Entries | None = None, deleted: list[str] | None = None, *_: Any
    ) -> None:
        before, told = self.view(family), self.view(family, self._slaves)
        entries = self._shards.setdefault(source, {}).setdefault(family, {})
        entries.update(added or {})
        for key in deleted or ():
            entries.pop(key, None)
        if not entries:
            del self._shards[source][family]
        change = _difference(told, self.view(family, self._slaves))
        if any(change):
            for node_id in [*self._global_nodes]:
                self.tell(node_id, "g_upd", family, *change)
        change = _difference(before, self.view(family))
        if any(change):
            for node_id in [*self._monitors.get(family, ())]:
                self.tell(node_id, "g_chg2", family, *change)

    def _reply(self, source: str, number: str, answer: Any) -> None:
        self.tell(source, "g_reply", number, answer)

    def _g_mon1(self, source: str, family: str, *_: Any) -> None:
        self._monitors.setdefault(family, set()).add(source)
        self.tell(source, "g_chg1", family, self.view(family) or None)


def _difference(before: Entries, after: Entries) -> tuple[Entries, list[str]]:
    """What was set, and what was deleted."""
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return changed, [key for key in before if key not in after]
