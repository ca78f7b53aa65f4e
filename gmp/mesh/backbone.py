"""The global protocol of AnyEvent::MP 2 (PROTOCOL.md section 12): who keeps the directory, and how it is told.

*Global* nodes (the seeds) keep the directory and tell each other of changes. Every other node is the *slave* of one of
them, its *master*: it reports its own entries, subscribes to the families it watches and asks where a node is. A node
becomes global when it has no seeds, when somebody asks it by ``g_slave``, or when one of its seeds is itself.

A slave's copy of a family stays when its master is lost and is compared with the next master's contents: a change
of master shows only what really changed. race: ``g_chg*`` from a former master is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.mesh.directory import Change, Directory, Family, clean_database, difference
from gmp.mesh.ground import Ground

ADDRESSES, GLOBALS = "'l", "'g"
Watcher = Callable[[Change], None]
Found = Callable[[list[str] | None], None]


class Backbone:
    """One node's part in the global protocol."""

    def __init__(self, ground: Ground) -> None:
        self.master: str | None = None
        self.is_global = False
        self._ground = ground
        self._id = ground.id
        self._local = Directory(self._id)
        self._directory = Directory(self._id)
        self._seeds: list[str] = []  # seed nodes that are up, in the order they came
        self._slaves: set[str] = {self._id}
        self._globals: set[str] = set()
        self._subscribers: dict[str, set[str]] = {}
        self._copies: dict[str, Family] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._finds: dict[str, list[Found]] = {}
        self._hidden: set[str] = set()
        self._requests: dict[str, Callable[..., None]] = {
            "g_global": self._g_global,
            "g_slave": self._g_slave,
            "g_set": self._g_set,
            "g_upd": self._g_upd,
            "g_find": self._g_find,
            "g_found": self._g_found,
            "g_mon1": self._g_mon1,
            "g_mon0": self._g_mon0,
            "g_chg1": self._g_chg1,
            "g_chg2": self._g_chg2,
            "g_db_family": self._g_db_family,
            "g_db_keys": self._g_db_keys,
            "g_db_values": self._g_db_values,
        }

    # ---- what the own node does

    def set(self, family: str, key: str, value: Any) -> None:
        """Set an entry of this node."""
        if key in self._own(family) and self._own(family)[key] == value:
            return
        self._change_own(family, {key: value}, [])

    def delete(self, family: str, key: str) -> None:
        """Delete an entry of this node; nothing when it has none."""
        if key in self._own(family):
            self._change_own(family, {}, [key])

    def _own(self, family: str) -> Family:
        return self._local.shard(self._id).get(family, {})

    def _change_own(self, family: str, changed: Family, deleted: list[str]) -> None:
        before = self.items(family)
        self._local.update(self._id, family, changed, deleted)
        if self.is_global:
            self._apply(self._id, self._directory.update(self._id, family, changed, deleted))
            self._tell_globals("g_upd", family, changed, deleted)
        elif self.master is not None:
            self._ground.request(self.master, "g_upd", family, changed, deleted)
        self._notify(difference(family, before, self.items(family)))

    def items(self, family: str) -> Family:
        """The entries of a family as this node knows them, own ones included, those of lost nodes left out."""
        known = self._directory.view(family) if self.is_global else dict(self._copies.get(family, {}))
        own_prefix = self._id + "#"
        if not self.is_global:
            # race: the master's echo of an entry that was deleted here meanwhile
            known = {key: value for key, value in known.items() if not key.startswith(own_prefix)}
        known.update(self._own(family))
        if self._hidden:
            known = {key: value for key, value in known.items() if key.partition("#")[0] not in self._hidden}
        return known

    def families(self) -> frozenset[str]:
        """The names of the families that are known here; only a global node knows them all."""
        known = self._directory.families() if self.is_global else self._copies
        return frozenset((*known, *self._local.shard(self._id)))

    def watch(self, family: str, watcher: Watcher) -> None:
        """Call `watcher` with each change from now on."""
        watchers = self._watchers.setdefault(family, [])
        watchers.append(watcher)
        self.subscribe(family)

    def unwatch(self, family: str, watcher: Watcher) -> None:
        """No longer call `watcher`."""
        watchers = self._watchers.get(family, [])
        if watcher in watchers:
            watchers.remove(watcher)

    def subscribe(self, family: str) -> None:
        """Keep a copy of that family from now on."""
        if family not in self._copies:
            self._copies[family] = {}
            if not self.is_global and self.master is not None:
                self._ground.request(self.master, "g_mon1", family)

    def find(self, node_id: str, found: Found) -> None:
        """Ask where a node listens; `found` gets its addresses, or None when nobody knows it."""
        if self.is_global:
            found(address_list(self._directory.lookup(ADDRESSES, node_id)))
            return
        waiting = self._finds.setdefault(node_id, [])
        waiting.append(found)
        if len(waiting) == 1 and self.master is not None:
            self._ground.request(self.master, "g_find", node_id)

    def announce(self) -> None:
        """The own node listens now: tell where."""
        self.set(ADDRESSES, self._id, list(self._ground.addresses()))

    # ---- roles

    def become_global(self) -> None:
        """Keep the directory from now on."""
        if self.is_global:
            return
        before = {family: self.items(family) for family in self._copies}
        self.is_global = True
        self.master = None
        self._local.update(self._id, GLOBALS, {self._id: None}, [])
        self._directory.replace(self._id, self._local.shard(self._id))
        for node_id in self._ground.up_nodes():
            self._ground.request(node_id, "g_global")
        for family, entries in before.items():
            self._notify(difference(family, entries, self.items(family)))
        finds, self._finds = self._finds, {}
        for node_id, waiting in finds.items():
            for found in waiting:
                self.find(node_id, found)

    def seed_up(self, node_id: str) -> None:
        """A node that was dialled as a seed is connected."""
        self._ground.request(node_id, "g_slave")
        if node_id not in self._seeds:
            self._seeds.append(node_id)
        self._choose_master()

    def node_up(self, node_id: str) -> None:
        """A node is connected."""
        if self.is_global:
            self._ground.request(node_id, "g_global")
        if node_id in self._hidden:
            self._with_differences(lambda: self._hidden.discard(node_id))

    def node_down(self, node_id: str) -> None:
        """The connection with a node ended, or none could be made."""
        if node_id in self._seeds:
            self._seeds.remove(node_id)
        for subscribers in self._subscribers.values():
            subscribers.discard(node_id)
        self._with_differences(lambda: self._hidden.add(node_id))
        if node_id in self._slaves or node_id in self._globals:
            was_slave = node_id in self._slaves
            self._slaves.discard(node_id)
            self._globals.discard(node_id)
            lost = self._directory.shard(node_id)
            changes = self._directory.drop(node_id)
            self._apply(node_id, changes)
            if was_slave:
                for family, entries in lost.items():
                    self._tell_globals("g_upd", family, {}, list(entries))
        if node_id == self.master:
            self.master = None
            self._choose_master()

    def _choose_master(self) -> None:
        if self.is_global or self.master is not None or not self._seeds:
            return
        self.master = self._seeds[0]
        self._ground.request(self.master, "g_slave", self._local.shard(self._id))
        for family in self._copies:
            self._ground.request(self.master, "g_mon1", family)
        for node_id in self._finds:
            self._ground.request(self.master, "g_find", node_id)

    # ---- changes

    def _with_differences(self, change: Callable[[], None]) -> None:
        before = {family: self.items(family) for family in self._watchers}
        change()
        for family, entries in before.items():
            self._notify(difference(family, entries, self.items(family)))

    def _notify(self, change: Change) -> None:
        if change.set or change.deleted:
            for watcher in list(self._watchers.get(change.family, ())):
                watcher(change)

    def _apply(self, source: str, changes: list[Change]) -> None:
        """The merged view of a global node changed: tell the subscribers and the own watchers."""
        for change in changes:
            for node_id in self._subscribers.get(change.family, ()):
                self._ground.request(node_id, "g_chg2", change.family, change.set, change.deleted)
            if source != self._id:
                self._notify(self._visible(change))
            if change.family == GLOBALS:
                self._meet_globals(change.set)

    def _visible(self, change: Change) -> Change:
        hidden = self._hidden
        if not hidden:
            return change
        shown = {key: value for key, value in change.set.items() if key.partition("#")[0] not in hidden}
        gone = [key for key in change.deleted if key.partition("#")[0] not in hidden]
        return Change(change.family, shown, gone)

    def _meet_globals(self, globals_: Family) -> None:
        for node_id in globals_:
            if node_id != self._id and not self._ground.is_up(node_id):
                self._ground.connect(node_id)

    def _tell_globals(self, *request: Any) -> None:
        for node_id in self._globals:
            self._ground.request(node_id, *request)

    # ---- requests

    def handles(self, name: str) -> bool:
        """Whether `name` is a request of this protocol."""
        return name in self._requests

    def handle(self, sender: str, name: str, args: tuple[Any, ...]) -> None:
        """A request from the node `sender`; one with missing or unusable arguments does nothing."""
        self._requests[name](sender, *args)

    def _g_global(self, sender: str, *_: Any) -> None:
        if not self.is_global:
            return
        self._globals.add(sender)
        self._slaves.discard(sender)
        self._local.update(self._id, GLOBALS, {sender: None}, [])
        self._apply(self._id, self._directory.update(self._id, GLOBALS, {sender: None}, []))
        self._ground.request(sender, "g_set", self._directory.merged(self._slaves))

    def _g_slave(self, sender: str, database: Any = None, *_: Any) -> None:
        self.become_global()
        if database is None or sender in self._globals:
            return
        self._slaves.add(sender)
        self._replace_shard(sender, database)

    def _replace_shard(self, sender: str, database: Any) -> None:
        old = self._directory.shard(sender)
        new = clean_database(database)
        self._apply(sender, self._directory.replace(sender, new))
        if sender in self._slaves:
            for family in set(old) | set(new):
                _, changed, deleted = difference(family, old.get(family, {}), new.get(family, {}))
                if changed or deleted:
                    self._tell_globals("g_upd", family, changed, deleted)

    def _g_set(self, sender: str, database: Any = None, *_: Any) -> None:
        if sender in self._globals:
            self._replace_shard(sender, database)

    def _g_upd(self, sender: str, family: Any, changed: Any = None, deleted: Any = None, *_: Any) -> None:
        if not self.is_global or not isinstance(family, str):
            return
        entries = clean_database({family: changed or {}}).get(family, {})
        keys = [key for key in deleted if isinstance(key, str)] if isinstance(deleted, list | tuple) else []
        self._apply(sender, self._directory.update(sender, family, entries, keys))
        if sender in self._slaves:
            self._tell_globals("g_upd", family, entries, keys)

    def _g_find(self, sender: str, node_id: Any, *_: Any) -> None:
        if isinstance(node_id, str):
            addresses = self._directory.lookup(ADDRESSES, node_id) if self.is_global else None
            self._ground.request(sender, "g_found", node_id, addresses)

    def _g_found(self, sender: str, node_id: Any, addresses: Any = None, *_: Any) -> None:
        if sender == self.master and isinstance(node_id, str):
            for found in self._finds.pop(node_id, []):
                found(address_list(addresses))

    def _g_mon1(self, sender: str, family: Any, *_: Any) -> None:
        if isinstance(family, str):
            self._subscribers.setdefault(family, set()).add(sender)
            self._ground.request(sender, "g_chg1", family, self._directory.view(family) or None)

    def _g_mon0(self, sender: str, family: Any, *_: Any) -> None:
        if isinstance(family, str):
            self._subscribers.get(family, set()).discard(sender)

    def _g_chg1(self, sender: str, family: Any, entries: Any = None, *_: Any) -> None:
        if sender == self.master and family in self._copies:
            before = self.items(family)
            self._copies[family] = clean_database({family: entries or {}}).get(family, {})
            self._notify(difference(family, before, self.items(family)))

    def _g_chg2(self, sender: str, family: Any, changed: Any = None, deleted: Any = None, *_: Any) -> None:
        if sender == self.master and family in self._copies:
            before = self.items(family)
            copy = self._copies[family]
            for key in deleted or ():
                copy.pop(key, None)
            copy.update(clean_database({family: changed or {}}).get(family, {}))
            self._notify(difference(family, before, self.items(family)))

    def _g_db_family(self, sender: str, family: Any, request_id: Any = None, *_: Any) -> None:
        self._ground.request(sender, "g_reply", request_id, self._directory.view(str(family)))

    def _g_db_keys(self, sender: str, family: Any, request_id: Any = None, *_: Any) -> None:
        self._ground.request(sender, "g_reply", request_id, list(self._directory.view(str(family))))

    def _g_db_values(self, sender: str, family: Any, request_id: Any = None, *_: Any) -> None:
        self._ground.request(sender, "g_reply", request_id, list(self._directory.view(str(family)).values()))


def address_list(value: object) -> list[str] | None:
    """Addresses as a peer reported them; None when it knows none."""
    if not isinstance(value, list | tuple):
        return None
    return [item for item in value if isinstance(item, str)]
