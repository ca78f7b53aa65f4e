"""One node's part in the global protocol (PROTOCOL.md section 12; what gmp adds is in `gmp.mesh.registry`).

*Global* nodes (the seeds) keep the directory and tell each other of changes: `Registry`. Every other node is the *slave*
of one of them, its *master*: it reports its own entries, subscribes to the families it watches and asks where a node is.
A node becomes global when it has no seeds, when somebody asks it by ``g_slave``, or when one of its seeds is itself.

A slave is connected to all of its seeds, so that another one takes over in the moment when its master is lost. Its copies
stay meanwhile and are compared with the next master's contents: a change of master shows only what really changed.
race: ``g_chg*`` from a former master is ignored. race: all seeds were restarted and the new master does not know yet what is
still there: what it misses is a *remnant*, kept for the time of grace.

The ports of a lost peer are *hidden* from the loss on, and shown again once it is up, if they are still listed; as long as
they are, `wanted` has that node, so that somebody dials it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gmp.mesh.addresses import ADDRESSES, address_list, for_others, for_others_in
from gmp.mesh.claims import GRACE
from gmp.mesh.directory import Change, Database, Family, clean_family, clean_keys, difference
from gmp.mesh.ground import Cancellable, Ground
from gmp.mesh.registry import GLOBALS, Registry

log = logging.getLogger("gmp.mesh")
Watcher = Callable[[Change], None]
Found = Callable[[list[str] | None], None]


class Remnant(NamedTuple):
    """What a new master does not list of a family, and the timer at whose end it goes."""

    keys: set[str]
    timer: Cancellable


class Backbone:
    """What this node keeps in the directory, and what it sees of it. `poke()` is called when `wanted` may have changed."""

    def __init__(self, ground: Ground, poke: Callable[[], None]) -> None:
        self.master: str | None = None
        self.is_global = False
        self.registry = Registry(ground, self._registry_changed)
        self._declined = False  # somebody was told that this node is no seed
        self._ground = ground
        self._poke = poke  # what `wanted` returns may have changed
        self._id = ground.id
        self._prefix = ground.id + "#"  # of the own ports
        self._own: Database = {}
        self._counter = 0
        self._seeds: list[str] = []  # seed nodes that are up, in the order they came
        self._copies: dict[str, Family] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._finds: dict[str, list[Found]] = {}
        self._hidden: dict[str, float] = {}
        self._remnants: dict[str, Remnant] = {}
        self._requests: dict[str, Callable[..., None]] = {
            **self.registry.requests,
            "g_global": self._g_global,
            "g_slave": self._g_slave,
            "g_found": self._g_found,
            "g_chg1": self._g_chg1,
            "g_chg2": self._g_chg2,
            "g_reply": self._g_reply,
        }

    # ---- what the own node does

    def set(self, family: str, key: str, value: Any) -> None:
        """Set an entry of this node."""
        own = self._own.get(family, {})
        if key not in own or own[key] != value:
            self._change_own(family, {key: value}, [])

    def delete(self, family: str, key: str) -> None:
        """Delete an entry of this node; nothing when it has none."""
        if key in self._own.get(family, {}):
            self._change_own(family, {}, [key])

    def _change_own(self, family: str, changed: Family, deleted: list[str]) -> None:
        keys = [*changed, *deleted]
        before = self._pick(family, keys)
        entries = self._own.setdefault(family, {})
        entries.update(changed)
        for key in deleted:
            del entries[key]
        if self.is_global:
            self.registry.set_own(family, changed, deleted)
            return  # the registry tells of what changed in the merged view
        self._counter += 1
        if self.master is not None:
            shown = for_others(family, changed, near=self._ground.is_near(self.master))
            if self._ground.is_gmp(self.master):
                self._ground.request(self.master, "gmp.update", self._counter, family, shown, deleted)
            else:
                self._ground.request(self.master, "g_upd", family, shown, deleted)
        self._notify(difference(family, before, self._pick(family, keys)))

    def items(self, family: str) -> Family:
        """The entries of a family as this node knows them, own ones included, those of lost nodes left out."""
        if self.is_global and not self._hidden:
            return dict(self.registry.directory.view(family))
        return self._pick(family, [*self._listed(family), *self._own.get(family, {})])

    def _listed(self, family: str) -> Iterable[str]:
        return self.registry.directory.view(family) if self.is_global else self._copies.get(family, {})

    def _pick(self, family: str, keys: Iterable[str]) -> Family:
        """The entries of a family with these keys, where there are any."""
        known = self.registry.directory.view(family) if self.is_global else self._copies.get(family, {})
        own = self._own.get(family, {})
        result: Family = {}
        for key in keys:
            if key in own:
                result[key] = own[key]
            elif key in known and not self._is_hidden(key) and not key.startswith(self._prefix):
                result[key] = known[key]  # race: the master's echo of an own port that left here meanwhile
        return result

    def _is_hidden(self, key: str) -> bool:
        """Whether that entry is a port of a lost node."""
        node_id, sharp, _ = key.partition("#")
        return bool(sharp) and node_id in self._hidden

    def families(self) -> frozenset[str]:
        """The names of the families that are known here; only a global node knows them all."""
        known = self.registry.directory.families() if self.is_global else self._copies
        return frozenset((*known, *self._own))

    def watch(self, family: str, watcher: Watcher) -> None:
        """Call `watcher` with each change from now on."""
        self._watchers.setdefault(family, []).append(watcher)
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
            found(address_list(self.registry.directory.lookup(ADDRESSES, node_id)))
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
        families = {*self._copies, *self._watchers}
        before = {family: self.items(family) for family in families}
        former, self.master = self.master, None
        if former is not None:
            for family in self._copies:
                self._ground.request(former, "g_mon0", family)
        if any(self._copies.values()):
            self.registry.provisional({family: dict(entries) for family, entries in self._copies.items()})
        self._forget_remnants()
        self._own.setdefault(GLOBALS, {})[self._id] = None
        self.is_global = True
        self.registry.start(self._own, self._counter + 1)
        for family, entries in before.items():
            self._notify(difference(family, entries, self.items(family)))
        finds, self._finds = self._finds, {}
        for node_id, waiting in finds.items():
            for found in waiting:
                self.find(node_id, found)

    def seed_up(self, node_id: str) -> None:
        """A node that is one of the configured seeds is connected."""
        if not self._ground.may_be_seed(node_id):
            problem = "answers at a seed's address, but its certificate is not marked as a seed's"
            log.warning("%s: %s %s", self._id, node_id, problem)
            return
        self.registry.trusted(node_id)
        self._ground.request(node_id, "g_slave")
        if node_id not in self._seeds:
            self._seeds.append(node_id)
        self._choose_master()

    def node_up(self, node_id: str) -> None:
        """A node is connected, directly or through seeds."""
        self.registry.node_up(node_id)
        if node_id in self._hidden:
            del self._hidden[node_id]
            for family in self._watchers:
                self._notify(Change(family, self._pick(family, self._ports_of(node_id, family)), []))

    def node_down(self, node_id: str, *, ended: bool) -> None:
        """The way to a node is gone, or none was found; `ended`: it left, or its process was seen to end."""
        if node_id in self._seeds:
            self._seeds.remove(node_id)
        shown = {family: list(self._pick(family, self._ports_of(node_id, family))) for family in self._watchers}
        self._hidden[node_id] = self._ground.now()
        for family, keys in shown.items():
            self._notify(Change(family, {}, keys))
        self.registry.node_down(node_id, ended=ended)
        if node_id == self.master:
            self.master = None
            self._choose_master()

    def _ports_of(self, node_id: str, family: str) -> list[str]:
        prefix = node_id + "#"
        return [key for key in self._listed(family) if key.startswith(prefix)]

    def _choose_master(self) -> None:
        if self.is_global or self.master is not None or not self._seeds:
            return
        self.master = master = self._seeds[0]
        shown = for_others_in(self._own, near=self._ground.is_near(master))
        self._counter += 1
        if self._ground.is_gmp(master):
            self._ground.request(master, "gmp.attach", self._ground.incarnation, self._counter, shown)
        else:
            self._ground.request(master, "g_slave", shown)
        for family in self._copies:
            self._ground.request(master, "g_mon1", family)
        for node_id in self._finds:
            self._ground.request(master, "g_find", node_id)

    def wanted(self) -> frozenset[str]:
        """The nodes to which a connection is wanted though nobody sends: other global nodes, and hidden members' nodes.

        Forgets the hidden nodes that are no longer listed.
        """
        globals_ = self.registry.directory.view(GLOBALS) if self.is_global else ()
        wanted = {node_id for node_id in globals_ if node_id != self._id and not self._ground.is_linked(node_id)}
        for node_id, since in list(self._hidden.items()):
            if any(self._ports_of(node_id, family) for family in self._copies):
                wanted.add(node_id)
            elif since + 2 * GRACE < self._ground.now():
                del self._hidden[node_id]
        return frozenset(wanted)

    def stop(self) -> None:
        """The node ends."""
        self._forget_remnants()
        self.registry.stop()

    # ---- changes

    def _poke_about(self, family: str, changed: Family) -> None:
        if family == GLOBALS or (self._hidden and any(_owner(key) in self._hidden for key in changed)):
            self._poke()

    def _notify(self, change: Change) -> None:
        if change.set or change.deleted:
            for watcher in list(self._watchers.get(change.family, ())):
                watcher(change)

    def _registry_changed(self, changes: list[Change]) -> None:
        for family, changed, deleted in changes:
            self._poke_about(family, changed)
            if self._hidden:
                changed = {key: value for key, value in changed.items() if not self._is_hidden(key)}
                deleted = [key for key in deleted if not self._is_hidden(key)]
            self._notify(Change(family, changed, deleted))

    # ---- requests

    def handles(self, name: str) -> bool:
        """Whether `name` is a request of this protocol."""
        return name in self._requests

    def handle(self, sender: str, name: str, args: tuple[Any, ...]) -> None:
        """A request from the node `sender`; one with missing or unusable arguments does nothing."""
        self._requests[name](sender, *args)

    def _g_global(self, sender: str, *_: Any) -> None:
        self.registry.met_global(sender)

    def _g_slave(self, sender: str, database: Any = None, *_: Any) -> None:
        if not self.is_global and not self._may_become_global_for(sender):
            if not self._declined:
                self._declined = True
                problem = "takes this node for a seed, but no seed of this node does, nor its certificate"
                log.warning("%s: %s %s", self._id, sender, problem)
            return
        self.become_global()
        if database is not None:
            self.registry.perl_slave(sender, database)

    def _may_become_global_for(self, sender: str) -> bool:
        """Whether to become global because `sender` asks for it, and not by this node's own settings.

        The seeds of this node would not believe it, if they do not take it for one, and it would know of nothing any more.
        """
        may_be_seed = self._ground.may_be_seed
        return not self._seeds or may_be_seed(self._id) or may_be_seed(sender)

    def _g_found(self, sender: str, node_id: Any, addresses: Any = None, *_: Any) -> None:
        if sender == self.master and isinstance(node_id, str):
            known = for_others(ADDRESSES, {node_id: addresses}, near=self._ground.is_near(sender))[node_id]
            for found in self._finds.pop(node_id, []):
                found(address_list(known))

    def _g_chg1(self, sender: str, family: Any, entries: Any = None, *_: Any) -> None:
        if sender == self.master and family in self._copies:
            before = self.items(family)
            listed = clean_family(entries)
            self._copies[family] = self._keep_remnant(family, listed) | listed
            self._poke_about(family, self._copies[family])
            self._notify(difference(family, before, self.items(family)))

    def _keep_remnant(self, family: str, listed: Family) -> Family:
        """What of a copy stays for now: entries of nodes of which the new master lists nothing, and that are not lost."""
        if family in self._remnants:
            self._remnants.pop(family).timer.cancel()
        decided = {self.master, *self._hidden, *map(_owner, listed)}
        missing = {key: value for key, value in self._copies[family].items() if _owner(key) not in decided}
        if missing:
            timer = self._ground.later(GRACE, lambda: self._end_remnant(family))
            self._remnants[family] = Remnant(set(missing), timer)
        return missing

    def _end_remnant(self, family: str) -> None:
        keys = self._remnants.pop(family).keys
        before = self._pick(family, keys)
        for key in keys:
            self._copies[family].pop(key, None)
        self._notify(difference(family, before, self._pick(family, keys)))

    def _forget_remnants(self) -> None:
        for remnant in self._remnants.values():
            remnant.timer.cancel()
        self._remnants.clear()

    def _g_chg2(self, sender: str, family: Any, changed: Any = None, deleted: Any = None, *_: Any) -> None:
        if sender == self.master and family in self._copies:
            entries, keys = clean_family(changed), clean_keys(deleted)
            before = self._pick(family, [*entries, *keys])
            copy = self._copies[family]
            for key in keys:
                copy.pop(key, None)
            copy.update(entries)
            if family in self._remnants:
                self._remnants[family].keys.difference_update(entries, keys)
            self._poke_about(family, entries)
            self._notify(difference(family, before, self._pick(family, [*entries, *keys])))

    def _g_reply(self, sender: str, *_: Any) -> None:
        """The answer to a ``g_db_*`` query; this node keeps copies and asks none."""


def _owner(key: str) -> str:
    """The node of a port ID; any other key itself."""
    return key.partition("#")[0]
