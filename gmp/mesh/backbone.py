"""One node's part in the global protocol (PROTOCOL.md section 12; what gmp adds is in `gmp.mesh.registry`).

*Global* nodes (the seeds) keep the directory and tell each other of changes: `Registry`. Every other node is the *slave*
of one of them, its *master*: it reports its own entries, subscribes to the families it watches and asks where a node is.
A node becomes global if it has no seeds, if another node asks it by ``g_slave``, or if one of its seeds is itself.

A slave is connected to all of its seeds, so that another one takes over in the moment when its master is lost. Its copies
stay meanwhile and are compared with the next master's contents: a change of master shows only what really changed.
race: ``g_chg*`` from a former master is ignored. race: the master still reports an own key that is deleted (`echoes`).

The ports of a lost peer are *hidden* from the loss on, and shown again once it is up, if they are still listed; as long as
they are, `wanted` has that node, so that it is dialled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain, takewhile
from typing import Any
from weakref import WeakValueDictionary

from gmp.mesh.addresses import ADDRESSES, address_list
from gmp.mesh.border import Border
from gmp.mesh.copies import Copies, Interest, owner_of
from gmp.mesh.directory import Change, Database, Family, PortIndex, clean_keys, difference
from gmp.mesh.echoes import Echoes
from gmp.mesh.ground import Cancellable, Ground
from gmp.mesh.lookups import Found, Lookups
from gmp.mesh.ownentries import OwnEntries
from gmp.mesh.promotion import Promotion
from gmp.mesh.quota import USUAL, Limits
from gmp.mesh.registry import GLOBALS, Registry
from gmp.mesh.whole import Whole
from gmp.wire.requests import ATTACH, G_CHG1, G_CHG2, G_FIND, G_FOUND, G_GLOBAL, G_MON0, G_MON1, G_SLAVE, G_UPD, UPDATE, WANT

log = logging.getLogger("gmp.mesh")
Watcher = Callable[[Change], None]
TIDY = 10.0  #: seconds for which a family is kept, or a lost node remembered, that is not needed any more


class Backbone:
    """What one node keeps in the directory, and what it sees of it. `poke()` is called when `wanted` may have changed."""

    def __init__(self, ground: Ground, poke: Callable[[], None], limits: Limits = USUAL) -> None:
        self.master: str | None = None
        self.is_global = False
        self.border = Border(ground)
        self.registry = Registry(ground, self._registry_changed, limits, self.border)
        self._promotion = Promotion(ground)
        self._ground = ground
        self._poke = poke  # what `wanted` returns may have changed
        self._id = ground.id
        self._prefix = ground.id + "#"  # of the own ports
        self._own = OwnEntries(ground.id, self.border, limits)
        self._counter = 0
        self._seeds: list[str] = []  # seed nodes that are up, in the order they came
        self._copies = Copies(ground, self._change_copy)
        self._watchers: dict[str, list[Watcher]] = {}
        self._interests: WeakValueDictionary[str, Interest] = WeakValueDictionary()
        self._doubtful: dict[str, float] = {}  # families that may be given up, since when; the oldest first
        self._tidying: Cancellable | None = None
        self._lookups = Lookups(ground, lambda: self._seeds)
        self._echoes = Echoes(self._ask_for_echoes)
        self._hidden: dict[str, float] = {}  # the oldest first
        self.whole = Whole(ground, self.again)
        self._requests: dict[str, Callable[..., None]] = {
            **self.registry.requests,
            G_GLOBAL: self._g_global,
            G_SLAVE: self._g_slave,
            G_FOUND: self._g_found,
            G_CHG1: self._g_chg1,
            G_CHG2: self._g_chg2,
            WANT: self._want,
        }

    # ---- what the own node does

    def set(self, family: str, key: str, value: Any) -> None:
        """Set an entry of this node. *Raises:* `MessageError`; `GmpError` if it has as much as one node may have."""
        self.whole.do(lambda: self._change_own(family, self._own.admit(family, key, value), []))

    def delete(self, family: str, key: str) -> None:
        """Delete an entry of this node. Does nothing if it has none."""
        if key in self._own.of(family):
            self.whole.do(self._change_own, family, {}, [key])

    def join(self, family: str, port_id: str, value: Any, monitor: Cancellable) -> None:
        """Add a port of this node to a group, or change its value there; `monitor` calls `leave` at its death."""
        try:
            self.set(family, port_id, value)
            self._own.watch(family, port_id, monitor)
        except Exception:
            monitor.cancel()
            raise
        except BaseException:  # race: Ctrl-C: it may be a member already
            self._own.watch(family, port_id, monitor)
            raise

    def leave(self, family: str, port_id: str) -> None:
        """Remove a port of this node from a group. Does nothing if it is no member."""
        self.delete(family, port_id)
        self._own.unwatch(family, port_id)  # at last: interrupted, its death is still seen

    def _change_own(self, family: str, changed: Family, deleted: list[str]) -> None:
        keys = [*changed, *deleted]
        if not keys:
            return
        before = self.pick(family, keys)
        self._own.change(family, changed, deleted)
        if self.is_global:
            self.registry.set_own(family, changed, deleted)
            return  # the registry tells of what changed in the merged view
        self._counter += 1
        self._hide_echoes(family, deleted)
        if self.master is not None:
            shown = self.border.shown(self.master, family, changed)
            if self._ground.admits(self.master, UPDATE):
                self._ground.request(self.master, UPDATE, self._counter, family, shown, deleted)
            else:
                self._ground.request(self.master, G_UPD, family, shown, deleted)
        self._notify(difference(family, before, self.pick(family, keys)))
        self._echoes.ask()

    def own_entries(self) -> Database:
        """Return what this node's program has set, by family."""
        return {family: dict(entries) for family, entries in self._own.families.items() if not family.startswith("'")}

    def items(self, family: str) -> Family:
        """Return the entries of a family as this node knows them, with its own and without those of lost nodes."""
        items = dict(self._listed(family))
        for node_id in self._hidden.keys() & self._ports.nodes():
            for key in self._ports.of(node_id).get(family, ()):
                del items[key]
        for key in self._echoes.of(family):
            items.pop(key, None)
        items.update(self._own.of(family))
        return items

    def _listed(self, family: str) -> Mapping[str, Any]:
        return self.registry.directory.view(family) if self.is_global else self._copies.families.get(family, {})

    @property
    def _ports(self) -> PortIndex:
        """The index of the ports that are listed."""
        return self.registry.directory.ports if self.is_global else self._copies.ports

    def pick(self, family: str, keys: Iterable[str]) -> Family:
        """Return those of `items` that have these keys."""
        known, own, echoes = self._listed(family), self._own.of(family), self._echoes.of(family)
        result: Family = {}
        for key in keys:
            if key in own:
                result[key] = own[key]
            elif key in known and not self._is_hidden(key) and key not in echoes:
                result[key] = known[key]
        return result

    def _is_hidden(self, key: str) -> bool:
        """Return whether an entry is a port of a lost node."""
        node_id, sharp, _ = key.partition("#")
        return bool(sharp) and node_id in self._hidden

    def families(self) -> list[str]:
        """Return the names of the families that are known here; only a global node knows them all."""
        known = self.registry.directory.families() if self.is_global else self._copies.families
        return list(dict.fromkeys((*known, *self._own.families)))

    def watch(self, family: str, watcher: Watcher) -> None:
        """Call `watcher` with each change of a family from now on."""
        self._watchers.setdefault(family, []).append(watcher)
        self.subscribe(family)

    def unwatch(self, family: str, watcher: Watcher) -> None:
        """No longer call `watcher`."""
        watchers = self._watchers.get(family, [])
        if watcher in watchers:
            watchers.remove(watcher)
            if not watchers:
                del self._watchers[family]
            self._doubt(family)

    def subscribe(self, family: str) -> Interest:
        """Keep a copy of a family from now on, even if it is empty as long as the returned object is kept."""
        if family not in self._copies:
            self._copies.families[family] = {}
            if not self.is_global and self.master is not None:
                self._ground.request(self.master, G_MON1, family)
            self._doubt(family)
        return self._interests.setdefault(family, Interest())

    def find(self, node_id: str, found: Found) -> None:
        """Ask where a node listens; `found` gets its addresses, or None if it is unknown."""
        if self.is_global:
            found(address_list(self.registry.directory.lookup(ADDRESSES, node_id)))
            return
        self._lookups.ask(node_id, found, self.master)

    def find_no_more(self, node_id: str, found: Found) -> None:
        """Drop `found`, which no longer waits for an answer. Does nothing if it has one."""
        self._lookups.no_more(node_id, found)

    def announce(self) -> None:
        """Tell where this node listens, which it does now."""
        self.set(ADDRESSES, self._id, list(self._ground.addresses()))

    # ---- roles

    def become_global(self) -> None:
        """Keep the directory from now on, as a global node."""
        if self.is_global:
            return
        families = {*self._copies, *self._watchers}
        before = {family: self.items(family) for family in families}
        former, self.master = self.master, None
        if former is not None:
            for family in self._copies:
                self._ground.request(former, G_MON0, family)
        copies = self._copies.give_away()
        if any(copies.values()):
            self.registry.provisional(copies)
        self._echoes.clear()
        self._own.families.setdefault(GLOBALS, {})[self._id] = None
        self.is_global = True
        self.registry.start(self._own.families, self._counter + 1)
        for family, entries in before.items():
            self._notify(difference(family, entries, self.items(family)))
        for node_id, found in self._lookups.end():
            self.find(node_id, found)

    def seed_up(self, node_id: str) -> None:
        """Handle the connection of a configured seed."""
        if not self._ground.may_be_seed(node_id):
            problem = "answers at a seed's address, but its certificate is not marked as a seed's"
            log.warning("%s: %s %s", self._id, node_id, problem)
            return
        self.registry.trusted(node_id)
        self._ground.request(node_id, G_SLAVE)
        if node_id not in self._seeds:
            self._seeds.append(node_id)
        self._choose_master()

    def node_up(self, node_id: str) -> None:
        """Handle the connection of a node, direct or through seeds."""
        self.registry.node_up(node_id)
        if node_id in self._hidden:
            del self._hidden[node_id]
            for family, keys in list(self._ports.of(node_id).items()):
                self._notify(Change(family, self.pick(family, keys), []))

    def node_down(self, node_id: str, *, ended: bool) -> None:
        """Handle the loss of a node, or that no way was found; `ended`: it left, or its process was seen to end."""
        if node_id in self._seeds:
            self._seeds.remove(node_id)
        shown = {family: list(self.pick(family, keys)) for family, keys in self._ports.of(node_id).items()}
        for family, keys in shown.items():
            self._notify(Change(family, {}, keys))
        self._hidden.pop(node_id, None)
        self._hidden[node_id] = self._ground.now()
        self._tidy_later()
        self.registry.node_down(node_id, ended=ended)
        if node_id == self.master:
            self.master = None
            self._choose_master()

    def _choose_master(self) -> None:
        if self.is_global or self.master is not None or not self._seeds:
            return
        self.master = master = self._seeds[0]
        self._report_all(master)
        for family in self._copies:
            self._ground.request(master, G_MON1, family)
        self._lookups.ask_again(master)
        self._echoes.new_master()

    def _report_all(self, master: str) -> None:
        """Tell the master all that this node has."""
        shown = self.border.shown_database(master, self._own.families)
        self._counter += 1
        if self._ground.admits(master, ATTACH):
            self._ground.request(master, ATTACH, self._ground.incarnation, self._counter, shown)
        else:  # Perl passes families on in any order: let nobody hear of an entry before he can find its node
            self._ground.request(master, G_SLAVE, {ADDRESSES: shown.pop(ADDRESSES, {})})
            for family, entries in shown.items():
                self._ground.request(master, G_UPD, family, entries, [])

    def wanted(self) -> list[str]:
        """Return the nodes to connect with though nothing is sent: other global nodes, and those of hidden members."""
        seeds, have_ports = self.registry.directory.view(GLOBALS) if self.is_global else (), self._ports.nodes().__contains__
        wanted = [node_id for node_id in seeds if node_id != self._id and not self._ground.is_linked(node_id)]
        return list(dict.fromkeys([*wanted, *filter(self._is_listed, filter(have_ports, self._hidden))]))

    def _is_listed(self, node_id: str) -> bool:
        """Return whether a family that is copied here has ports of a node."""
        return any(family in self._copies for family in self._ports.of(node_id))

    # ---- what is not needed any more

    def _doubt(self, family: str) -> None:
        """Note that a family may be needed no longer: it is looked at in a while."""
        if family in self._copies:
            self._doubtful.setdefault(family, self._ground.now())
            self._tidy_later()

    def _tidy_later(self) -> None:
        if self._tidying is None:
            self._tidying = self._ground.later(TIDY, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        due = self._ground.now() - TIDY
        for family in list(takewhile(lambda family: self._doubtful[family] <= due, self._doubtful)):
            del self._doubtful[family]
            if self._listed(family) or family in self._watchers:
                continue  # it will be looked at when that is over
            if family in self._interests or family in self._own.families:
                self._doubt(family)
            else:
                self._give_up(family)
        for node_id in list(takewhile(lambda node_id: self._hidden[node_id] <= due, self._hidden)):
            if not self._is_listed(node_id):
                del self._hidden[node_id]
        if self._doubtful or self._hidden:
            self._tidy_later()

    def _give_up(self, family: str) -> None:  # a name may have been used for one session only
        del self._copies.families[family]
        if self.master is not None:
            self._ground.request(self.master, G_MON0, family)

    def _hide_echoes(self, family: str, deleted: list[str]) -> None:
        copy = self._copies.families.get(family)
        echoes = [key for key in deleted if not key.startswith(self._prefix)]
        if self.master is None:  # none is on its way
            echoes = [key for key in echoes if copy and key in copy]
        if copy is not None:
            self._echoes.hide(family, echoes)

    def _ask_for_echoes(self) -> bool:
        if self.master is not None:
            self._ground.request(self.master, G_FIND, self._id)
        return self.master is not None

    def again(self) -> None:
        """Put all in order that is kept here, and tell it again: Ctrl-C has struck a change (`gmp.mesh.whole`)."""
        self._own.recount()
        if self.is_global:
            self.registry.again(self._own.families)
        elif self.master is not None:
            self.master = None
            self._choose_master()
        self._tidy_later()
        for watcher in list(chain(*self._watchers.values())):
            watcher(Change("", {}, []))  # an empty one: look at everything

    def stop(self) -> None:
        """Stop, as this node ends."""
        self._copies.stop()
        for _, found in self._lookups.end():
            found(None)  # the callers wait for nothing more
        self._tidy_later()  # whatever is struck behind this begins no other
        if self._tidying is not None:
            self._tidying.cancel()
        self.registry.stop()

    # ---- changes

    def _poke_about(self, family: str, changed: Family) -> None:
        if family == GLOBALS or (self._hidden and any(owner_of(key) in self._hidden for key in changed)):
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
            if deleted and not self._listed(family):
                self._doubt(family)

    # ---- requests

    def handles(self, name: str) -> bool:
        """Return whether `name` is a request of this protocol."""
        return name in self._requests

    def handle(self, sender: str, name: str, args: tuple[Any, ...]) -> None:
        """Handle a request from the node `sender`; one with missing or unusable arguments does nothing."""
        self.whole.do(self._requests[name], sender, *args)

    def _g_global(self, sender: str, *_: Any) -> None:
        self.registry.met_global(sender)

    def _g_slave(self, sender: str, database: Any = None, *_: Any) -> None:
        if not self.is_global and not self._promotion.allows(sender, seeds=self._seeds):
            return
        self.become_global()
        self.registry.perl_client(sender)
        if database is not None:
            self.registry.perl_slave(sender, database)

    def _want(self, sender: str, owner: Any, *_: Any) -> None:
        if self.is_global:
            self.registry.want(sender, owner)
        elif sender == self.master and owner == self._id:
            self._report_all(sender)

    def _g_found(self, sender: str, node_id: Any, addresses: Any = None, *_: Any) -> None:
        if sender == self.master and node_id == self._id:
            for family, keys in self._echoes.answered().items():
                self._notify(Change(family, self.pick(family, keys), []))  # another node has such a key as well
        if sender in self._seeds and isinstance(node_id, str):
            self._lookups.answered(node_id, self.border.heard_addresses(sender, addresses))

    def _g_chg1(self, sender: str, family: Any, entries: Any = None, *_: Any) -> None:
        if sender == self.master and family in self._copies:
            before = self.items(family)
            listed = self.border.heard(sender, sender, family, entries)
            self._copies.replace(family, self._copies.of_others(listed), {sender, *self._hidden})
            self._copy_changed(family, self._copies.families[family])
            self._notify(difference(family, before, self.items(family)))

    def _g_chg2(self, sender: str, family: Any, changed: Any = None, deleted: Any = None, *_: Any) -> None:
        if sender == self.master and family in self._copies:
            entries = self._copies.of_others(self.border.heard(sender, sender, family, changed))
            keys = clean_keys(deleted)
            before = self.pick(family, [*entries, *keys])
            self._copies.change(family, entries, keys)
            self._copy_changed(family, entries)
            self._notify(difference(family, before, self.pick(family, [*entries, *keys])))

    def _change_copy(self, family: str, gone: Collection[str]) -> None:
        """Remove what is left of a remnant, as its time is up."""
        before = self.pick(family, gone)
        self._copies.change(family, {}, gone)
        self._copy_changed(family, {})
        self._notify(difference(family, before, self.pick(family, gone)))

    def _copy_changed(self, family: str, changed: Family) -> None:
        self._poke_about(family, changed)
        if not self._copies.families[family]:
            self._doubt(family)
