"""The database of the network: family → key → value, every entry owned by the node that set it. Pure.

It is kept as *shards*, one for each owner: the own node, a gmp node, a Perl slave, a Perl global node with all that it
reports. Readers see the merged view, which is kept up to date key by key. If several shards have the same key, the own
node's wins, else that of the smallest node ID, so that all nodes choose alike.

Changes are returned, not announced: the caller tells the subscribers. What one owner may have is
bounded (`gmp.mesh.quota`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from typing import Any, NamedTuple

from gmp.mesh.quota import USUAL, Limits, Quota

Family = dict[str, Any]
Database = dict[str, Family]
LeftOut = Callable[[str, str, int], None]  #: owner, family, and how many entries had no room


class Change(NamedTuple):
    """How the merged view of a family changed: keys set with their values, and keys deleted."""

    family: str
    set: Family
    deleted: list[str]


def is_same(value: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same types, within containers and keys too: 1, 1.0 and True differ."""
    kind = type(value)
    if kind is not type(other) or value != other:
        return False
    if kind is list or kind is tuple:
        return all(map(is_same, value, other))
    if kind is dict:
        return _has_same_items(value, other) and all(is_same(item, other[key]) for key, item in value.items())
    return _has_same_items(value, other) if kind is set or kind is frozenset else True


def _has_same_items(items: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether two equal sets, or the keys of two equal dicts, are of the same types."""
    counterparts = {other: other for other in others}
    return all(is_same(item, counterparts[item]) for item in items)


def difference(family: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return the change from `before` to `after`."""
    changed = {key: value for key, value in after.items() if key not in before or not is_same(before[key], value)}
    return Change(family, changed, [key for key in before if key not in after])


def families_of(*databases: Database) -> list[str]:
    """Return the families of all databases, the network's own first.

    A node that hears of an entry asks at once where its node listens, which is in the family ``'l``.
    """
    families = dict.fromkeys(family for database in databases for family in database)
    return sorted(families, key=lambda family: not family.startswith("'"))


def differences(before: Database, after: Database) -> list[Change]:
    """Return the changes from one database to another, without families that did not change."""
    changes = (difference(name, before.get(name, {}), after.get(name, {})) for name in families_of(before, after))
    return [change for change in changes if change.set or change.deleted]


def clean_family(value: object) -> Family:
    """Return the entries of a family as a peer sent them, without what cannot be an entry."""
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, dict) else {}


def clean_database(value: object) -> Database:
    """Return a database as a peer sent it, without what is not of that shape."""
    if not isinstance(value, dict):
        return {}
    return {
        family: clean_family(entries)
        for family, entries in value.items()
        if isinstance(family, str) and isinstance(entries, dict)
    }


def clean_keys(value: object) -> list[str]:
    """Return a list of keys as a peer sent it, without what cannot be a key."""
    return [key for key in value if isinstance(key, str)] if isinstance(value, list | tuple) else []


class PortIndex:
    """Which entries of a database are ports of which node, so that whole families need not be searched for them."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, dict[str, None]]] = {}

    def add(self, family: str, key: str) -> None:
        """Add an entry. Does nothing if its key is no port ID."""
        node_id, sharp, _ = key.partition("#")
        if sharp:
            self._keys.setdefault(node_id, {}).setdefault(family, {})[key] = None

    def remove(self, family: str, key: str) -> None:
        """Remove an entry."""
        node_id, sharp, _ = key.partition("#")
        if sharp:
            families = self._keys[node_id]
            del families[family][key]
            if not families[family]:
                del families[family]
                if not families:
                    del self._keys[node_id]

    def of(self, node_id: str) -> Mapping[str, Collection[str]]:
        """Return family → keys of the ports of a node; not to be changed or kept."""
        return self._keys.get(node_id, {})

    def nodes(self) -> Set[str]:
        """Return the nodes that have ports."""
        return self._keys.keys()


class Directory:
    """Shards and their merged view."""

    def __init__(self, own_id: str, limits: Limits = USUAL, left_out: LeftOut = lambda *_: None) -> None:
        self._own_id = own_id
        self._quota = Quota(limits)
        self._left_out = left_out
        self._shards: dict[str, Database] = {}
        self._owners: dict[str, dict[str, set[str]]] = {}  # family → key → the owners that have it
        self._views: dict[str, Family] = {}
        self.ports = PortIndex()  #: of the merged view

    def view(self, family: str) -> Mapping[str, Any]:
        """Return the merged entries of a family; not to be changed or kept."""
        return self._views.get(family, {})

    def families(self) -> list[str]:
        """Return the names of all families that have entries."""
        return list(self._views)

    def shard(self, owner: str) -> Database:
        """Return what `owner` has; not to be changed."""
        return self._shards.get(owner, {})

    def lookup(self, family: str, key: str) -> Any:
        """Return the value of a key, or None; the entry of the node with that ID comes first, as it knows itself best."""
        own = self._shards.get(key, {}).get(family, {})
        return own[key] if key in own else self._views.get(family, {}).get(key)

    def owner(self, family: str, key: str) -> str | None:
        """Return the node whose entry the merged view has under that key, None without one."""
        return min(self._owners.get(family, {}).get(key, ()), key=self._rank, default=None)

    def merged(self, family: str, owners: Iterable[str]) -> Family:
        """Return the entries of the shards of `owners` in one family, merged."""
        result: Family = {}
        for owner in sorted(owners, key=self._rank, reverse=True):
            result.update(self._shards.get(owner, {}).get(family, {}))
        return result

    def picked(self, family: str, keys: Iterable[str], counts: Callable[[str], bool]) -> Family:
        """Return the entries of a family with these keys, merged from the shards of the owners that count."""
        owners, result = self._owners.get(family, {}), {}
        for key in keys:
            having = [owner for owner in owners.get(key, ()) if counts(owner)]
            if having:
                result[key] = self._shards[min(having, key=self._rank)][family][key]
        return result

    def merged_database(self, owners: Iterable[str]) -> Database:
        """Return the entries of the shards of `owners`, merged."""
        owners = list(owners)
        families = families_of(*(self._shards.get(owner, {}) for owner in owners))
        return {family: self.merged(family, owners) for family in families}

    def replace(self, owner: str, database: Database) -> list[Change]:
        """Replace the shard of `owner`; return the changes."""
        return [
            change
            for family, changed, deleted in differences(self._shards.get(owner, {}), database)
            for change in self.update(owner, family, changed, deleted)
        ]

    def drop(self, owner: str) -> list[Change]:
        """Drop the shard of an owner that is gone; return the changes."""
        return self.replace(owner, {})

    def rebuild(self, owners: Collection[str], own: Database, *, noted: Collection[str]) -> None:
        """Make everything anew of the shards of `owners`, as an interrupted change may be half made.

        The own node has `own`, and in the families `noted` what else its shard has.
        """
        new = Directory(self._own_id, self._quota.limits, self._left_out)
        for owner, database in list(self._shards.items()):
            if owner in owners:
                new.replace(owner, database)
        for family in families_of(new.shard(self._own_id), own):
            before, now = new.shard(self._own_id).get(family, {}), own.get(family, {})
            new.update(self._own_id, family, now, [] if family in noted else [key for key in before if key not in now])
        # in one step, without a call
        self._quota, self._shards, self._owners, self._views, self.ports = (
            new._quota, new._shards, new._owners, new._views, new.ports,
        )  # fmt: skip

    def update(self, owner: str, family: str, changed: Mapping[str, Any], deleted: Iterable[str]) -> list[Change]:
        """Change the shard of `owner` in one family; return the changes of the merged view."""
        shard = self._shards.setdefault(owner, {})
        entries = shard.setdefault(family, {})
        owners = self._owners.setdefault(family, {})
        touched = []
        for key in deleted:
            if key in entries and key not in changed:
                del entries[key]
                self._quota.remove(owner, family, key)
                owners[key].discard(owner)
                touched.append(key)
        left_out = 0
        for key, value in changed.items():
            if not self._has_room(owner, family, key, value, entries):
                left_out += 1
                continue
            entries[key] = value
            owners.setdefault(key, set()).add(owner)
            touched.append(key)
        if not entries:
            del shard[family]
            if not shard:
                del self._shards[owner]
        if left_out:
            self._left_out(owner, family, left_out)
        return self._settle(family, touched)

    def _has_room(self, owner: str, family: str, key: str, value: Any, entries: Family) -> bool:
        """Count an entry that `owner` is about to have. The own node's were checked where they were set."""
        bounded = owner != self._own_id
        if key not in entries:
            return self._quota.add(owner, family, key, value, bounded=bounded)
        self._quota.remove(owner, family, key)
        if self._quota.add(owner, family, key, value, bounded=bounded):
            return True
        self._quota.add(owner, family, key, entries[key], bounded=False)
        return False

    def _settle(self, family: str, keys: Iterable[str]) -> list[Change]:
        owners, view = self._owners[family], self._views.setdefault(family, {})
        change = Change(family, {}, [])
        for key in keys:
            having = owners.get(key)
            if having:
                value = self._shards[min(having, key=self._rank)][family][key]
                if key not in view:
                    self.ports.add(family, key)
                if key not in view or not is_same(view[key], value):
                    view[key] = change.set[key] = value
            else:
                owners.pop(key, None)
                if key in view:
                    del view[key]
                    self.ports.remove(family, key)
                    change.deleted.append(key)
        if not view:
            del self._views[family], self._owners[family]
        return [change] if change.set or change.deleted else []

    def _rank(self, owner: str) -> tuple[bool, bytes]:
        return owner != self._own_id, owner.encode("utf-8", "surrogatepass")
