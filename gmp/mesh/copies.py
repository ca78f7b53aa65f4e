"""What a slave keeps of the directory: copies of families, as its master reports them.

No copy has ports of this node, which knows best what it has. race: the master echoes a port that has left here meanwhile.

race: all seeds were restarted, and the new master does not know yet what still exists: what it misses is a *remnant*, kept
for the time of grace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from gmp.mesh.claims import GRACE
from gmp.mesh.directory import Database, Family, PortIndex

if TYPE_CHECKING:
    from gmp.mesh.ground import Cancellable, Ground


class Remnant(NamedTuple):
    """What a new master does not list of a family, and the timer that removes it."""

    keys: dict[str, None]
    timer: Cancellable


class Interest:
    """A hold on a family: its copy is kept as long as this object is."""

    __slots__ = ("__weakref__",)


class Copies:
    """The copies of one node. `over(family, keys)` is called when the time of a remnant is up, and has to `change` them."""

    def __init__(self, ground: Ground, over: Callable[[str, Collection[str]], None]) -> None:
        self.families: Database = {}
        self.ports = PortIndex()
        self._ground = ground
        self._over = over
        self._prefix = ground.id + "#"  # of the own ports
        self._remnants: dict[str, Remnant] = {}

    def __contains__(self, family: str) -> bool:
        return family in self.families

    def __iter__(self) -> Iterator[str]:
        return iter(self.families)

    def of_others(self, entries: Family) -> Family:
        """Return the entries that belong in a copy."""
        return {key: value for key, value in entries.items() if not key.startswith(self._prefix)}

    def change(self, family: str, changed: Family, deleted: Iterable[str]) -> None:
        """Apply a change that the master reports; nothing in it is this node's."""
        copy = self.families[family]
        for key in deleted:
            if key in copy and key not in changed:
                del copy[key]
                self.ports.remove(family, key)
        for key, value in changed.items():
            if key not in copy:
                self.ports.add(family, key)
            copy[key] = value
        if family in self._remnants:
            for key in (*changed, *deleted):
                self._remnants[family].keys.pop(key, None)

    def replace(self, family: str, listed: Family, lost: Collection[str]) -> None:
        """Apply all that the master lists; keep for now what it misses of unlisted nodes that are not `lost`."""
        if family in self._remnants:
            self._remnants.pop(family).timer.cancel()
        decided = {*lost, *map(owner_of, listed)}
        copy = self.families[family]
        missing = dict.fromkeys(key for key in copy if owner_of(key) not in decided)
        self.change(family, listed, [key for key in copy if key not in listed and key not in missing])
        if missing:
            timer = self._ground.later(GRACE, lambda: self._end_remnant(family))
            self._remnants[family] = Remnant(missing, timer)

    def _end_remnant(self, family: str) -> None:
        self._over(family, self._remnants.pop(family).keys)

    def give_away(self) -> Database:
        """Keep only the names, as this node is global now; return what there was."""
        self.stop()
        before, self.families = self.families, {family: {} for family in self.families}
        self.ports = PortIndex()
        return before

    def stop(self) -> None:
        """Cancel all timers."""
        for remnant in self._remnants.values():
            remnant.timer.cancel()
        self._remnants.clear()


def owner_of(key: str) -> str:
    """Return the node of a port ID; any other key itself."""
    return key.partition("#")[0]
