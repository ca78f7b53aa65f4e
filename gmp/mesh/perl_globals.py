"""What a global node tells Perl global nodes: all that it and its slaves have, merged, as if it were this node's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from gmp.mesh.border import Border
from gmp.mesh.directory import Change, Database, Directory, difference, families_of
from gmp.mesh.ground import Ground
from gmp.wire.requests import CHANGE, G_SET, G_UPD


class PerlGlobals:
    """Those of `nodes`, the connected global nodes, that are no gmp nodes. They are told of what `owners()` have: those that
    `is_told` says.
    """

    def __init__(
        self,
        ground: Ground,
        border: Border,
        directory: Directory,
        nodes: Collection[str],
        owners: Callable[[], list[str]],
        is_told: Callable[[str], bool],
    ) -> None:
        self._ground = ground
        self._border = border
        self._directory = directory
        self._nodes = nodes
        self._owners, self._is_told = owners, is_told
        self._told: Database = {}  # what they know

    def _here(self) -> list[str]:
        return [node_id for node_id in sorted(self._nodes) if not self._ground.admits(node_id, CHANGE)]

    def meet(self, node_id: str) -> None:
        """Tell a new one everything, and the others what they do not know yet."""
        now = self._directory.merged_database(self._owners())
        others = [other for other in self._here() if other != node_id]
        for family in families_of(self._told, now):
            self._tell(others, difference(family, self._told.get(family, {}), now.get(family, {})))
        self._ground.request(node_id, G_SET, self._border.shown_database(node_id, self._told))

    def sync_about(self, owner: str) -> None:
        """As `sync`, for what `owner` has, which they may or may not be told from now on."""
        if self._here():
            shard = self._directory.shard(owner)
            for family in families_of(shard):
                self.sync(family, shard[family])

    def sync(self, family: str, keys: Iterable[str]) -> None:
        """Tell them what has changed in these entries, as far as they are told of them."""
        here = self._here()
        if here:
            known = self._told.get(family, {})
            before = {key: known[key] for key in keys if key in known}
            self._tell(here, difference(family, before, self._directory.picked(family, keys, self._is_told)))

    def _tell(self, here: list[str], change: Change) -> None:
        family, changed, deleted = change
        if not changed and not deleted:
            return
        known = self._told.setdefault(family, {})
        known.update(changed)
        for key in deleted:
            del known[key]
        if not known:
            del self._told[family]
        for node_id in here:
            self._ground.request(node_id, G_UPD, family, self._border.shown(node_id, family, changed), deleted)
