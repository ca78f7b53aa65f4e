"""What may cross a connection, in either direction: the one place where that is decided for the directory and for relays.

Loopback addresses mean something on one machine only: they cross a connection only when that is on loopback itself. Whatever
another node reports passes `heard…` before it is believed, and whatever another node is told passes `shown…`
(`tests/test_border.py` sees that nothing passes by). A forgotten filter would leak loopback addresses, or make this node
dial itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmp.mesh.addresses import ADDRESSES, address_list, dialable, for_others
from gmp.mesh.directory import Database, Family
from gmp.mesh.entries import Entries
from gmp.mesh.ground import Ground


class Border:
    """The filter of one node."""

    def __init__(self, ground: Ground) -> None:
        self._is_near = ground.is_near
        self._entries = Entries(ground)

    # ---- what a node may be told

    def shown(self, receiver: str, family: str, entries: Mapping[str, Any]) -> Family:
        """Return the entries of a family as `receiver` may be told them."""
        return for_others(family, entries, near=self._is_near(receiver))

    def shown_database(self, receiver: str, database: Database) -> Database:
        """Return a database as `receiver` may be told it."""
        near = self._is_near(receiver)
        return {family: for_others(family, entries, near=near) for family, entries in database.items()}

    def shown_addresses(self, receiver: str, addresses: Any) -> Any:
        """Return where a node listens as `receiver` may be told it; what is no list is returned as it is."""
        return self.shown(receiver, ADDRESSES, {"": addresses})[""]

    # ---- what a node may tell

    def heard(self, sender: str, owner: str, family: str, entries: object) -> Family:
        """Return what `sender` may report of the entries of `owner` in a family; log what is left out as unusable."""
        return for_others(family, self._entries.family(owner, family, entries), near=self._is_near(sender))

    def heard_database(self, sender: str, owner: str, database: object) -> Database:
        """Return what `sender` may report of the whole of `owner`, as `heard` does of one family."""
        near = self._is_near(sender)
        return {
            family: for_others(family, entries, near=near)
            for family, entries in self._entries.database(owner, database).items()
        }

    def heard_addresses(self, sender: str, addresses: object) -> list[str] | None:
        """Return what `sender` may report of where a node listens; None when it knows no addresses."""
        return address_list(for_others(ADDRESSES, {"": addresses}, near=self._is_near(sender))[""])

    def dialable(self, sender: str, addresses: object) -> list[str]:
        """Return those of the addresses that `sender` asks this node to dial that it may dial, as `addresses.dialable`."""
        return dialable(addresses, near=self._is_near(sender))

    # ---- what this node sets itself

    def own(self, family: str, key: str, value: Any) -> Any:
        """Return a value that this node sets, as it is kept. *Raises:* `MessageError`."""
        return self._entries.own(family, key, value)
