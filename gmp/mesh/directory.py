"""The database of the network: family → key → value, every entry owned by the node that set it. Pure.

It is kept as *shards*: what each neighbour reported, the own node's entries among them. A global node has a shard
for each of its slaves and for each other global node; the merged view is what readers see. No vote is taken: where
several shards have the same key, the own node's wins, else that of the smallest node ID, so that all choose alike.

Changes are returned, not announced: whoever calls tells the subscribers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Family = dict[str, Any]
Database = dict[str, Family]


class Change(NamedTuple):
    """How the merged view of a family changed: keys set with their values, and keys deleted."""

    family: str
    set: Family
    deleted: list[str]


def difference(family: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """What leads from `before` to `after`."""
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return Change(family, changed, [key for key in before if key not in after])


def clean_database(value: object) -> Database:
    """A two-level hash as a peer sent it, with everything left out that is not of that shape."""
    if not isinstance(value, dict):
        return {}
    return {
        family: {key: item for key, item in entries.items() if isinstance(key, str)}
        for family, entries in value.items()
        if isinstance(family, str) and isinstance(entries, dict)
    }


class Directory:
    """Shards and their merged view."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._shards: dict[str, Database] = {}

    def view(self, family: str) -> Family:
        """The merged entries of a family."""
        merged: Family = {}
        for owner in sorted(self._shards, key=self._rank, reverse=True):
            merged.update(self._shards[owner].get(family, {}))
        return merged

    def _rank(self, owner: str) -> tuple[bool, bytes]:
        return owner != self._own_id, owner.encode()

    def lookup(self, family: str, key: str) -> Any:
        """The value of one key, None without one."""
        for owner in sorted(self._shards, key=self._rank):
            entries = self._shards[owner].get(family)
            if entries is not None and key in entries:
                return entries[key]
        return None

    def families(self) -> set[str]:
        """The names of all families that have entries."""
        return {family for shard in self._shards.values() for family, entries in shard.items() if entries}

    def merged(self, owners: Iterable[str]) -> Database:
        """The entries of the shards of `owners`, merged."""
        result: Database = {}
        for owner in sorted(owners, key=self._rank, reverse=True):
            for family, entries in self._shards.get(owner, {}).items():
                result.setdefault(family, {}).update(entries)
        return result

    def replace(self, owner: str, database: Database) -> list[Change]:
        """`owner` reported everything it has: that is its shard now."""
        families = set(database) | set(self._shards.get(owner, {}))
        before = {family: self.view(family) for family in families}
        self._shards[owner] = {family: dict(entries) for family, entries in database.items()}
        return self._changes(before)

    def update(self, owner: str, family: str, changed: Mapping[str, Any], deleted: Iterable[str]) -> list[Change]:
        """`owner` reported a change of its entries in one family."""
        before = {family: self.view(family)}
        entries = self._shards.setdefault(owner, {}).setdefault(family, {})
        for key in deleted:
            entries.pop(key, None)
        entries.update(changed)
        return self._changes(before)

    def drop(self, owner: str) -> list[Change]:
        """`owner` is gone: its shard goes with it."""
        changes = self.replace(owner, {})
        del self._shards[owner]
        return changes

    def shard(self, owner: str) -> Database:
        """What `owner` reported."""
        return self._shards.get(owner, {})

    def _changes(self, before: Database) -> list[Change]:
        changes = (difference(family, entries, self.view(family)) for family, entries in before.items())
        return [change for change in changes if change.set or change.deleted]
