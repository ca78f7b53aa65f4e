"""What this node's own program has set: entries, and members of groups. One node may have so much and no more."""

from __future__ import annotations

from typing import Any

from gmp.errors import GmpError
from gmp.mesh.border import Border
from gmp.mesh.directory import Database, Family, is_same
from gmp.mesh.ground import Cancellable
from gmp.mesh.quota import Limits, Quota
from gmp.mesh.registry import GLOBALS


class OwnEntries:
    """The entries of the own node `owner`, by family; `members` are those of its ports that are in a group."""

    def __init__(self, owner: str, border: Border, limits: Limits) -> None:
        self.families: Database = {}
        self.members: dict[tuple[str, str], Cancellable] = {}  #: by family and port ID: what watches the port's death
        self._owner = owner
        self._border = border
        self._quota = Quota(limits)

    def of(self, family: str) -> Family:
        """Return the entries of a family; not to be changed."""
        return self.families.get(family, {})

    def admit(self, family: str, key: str, value: Any) -> Family:
        """Return what is to be changed so that `key` has `value`, with room taken for it; empty if it has it already.

        *Raises:* `MessageError`; `GmpError` when the node has as much as one node may have.
        """
        value = self._border.own(family, key, value)  # raises before anything has changed
        before = self.of(family)
        if key in before and is_same(before[key], value):
            return {}
        if key in before:
            self._quota.remove(self._owner, family, key)
        if not self._quota.add(self._owner, family, key, value):
            if key in before:
                self._quota.add(self._owner, family, key, before[key], bounded=False)
            raise GmpError(
                f"{family!r}: there is no room for {key!r}: one node may have {self._quota.limits} in groups and families"
            )
        return {key: value}

    def change(self, family: str, changed: Family, deleted: list[str]) -> None:
        """Change a family: `changed` was admitted, `deleted` are keys that it has."""
        entries = self.families.setdefault(family, {})
        entries.update(changed)
        for key in deleted:
            del entries[key]
            self._quota.remove(self._owner, family, key)
        if not entries:
            del self.families[family]

    def recount(self) -> None:
        """Count anew what there is: Ctrl-C has struck a change, so it may be counted and not there, or the other way."""
        quota = Quota(self._quota.limits)
        for family, entries in self.families.items():
            for key, value in entries.items() if family != GLOBALS else ():  # that it is a global node was not set here
                quota.add(self._owner, family, key, value, bounded=False)
        self._quota = quota

    def watch(self, family: str, port_id: str, monitor: Cancellable) -> None:
        """Keep `monitor`, which watches a member's death, in the place of the one before."""
        self.unwatch(family, port_id)
        self.members[family, port_id] = monitor

    def unwatch(self, family: str, port_id: str) -> None:
        """Cancel the monitor of a member; does nothing if it has none."""
        monitor = self.members.pop((family, port_id), None)
        if monitor is not None:
            monitor.cancel()
