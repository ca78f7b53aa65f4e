"""The check of what may be in the directory, made where an entry comes in: this node sets it, or another one reports it.

An entry travels from node to node, in whatever framing two of them use; one that does not pack would take all others of the
same report with it. So each must travel in every framing that this node offers. When this node sets an unusable entry, that
raises before anything has changed; when others report one, that entry alone is left out, and a log line names its owner.
"""

from __future__ import annotations

from typing import Any

from gmp.errors import MessageError
from gmp.mesh.directory import Database, Family, clean_database, clean_family
from gmp.mesh.ground import Ground


class Entries:
    """Checks entries for one node."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def own(self, family: str, key: str, value: Any) -> Any:
        """Return a value that this node sets, as it is kept. *Raises:* `MessageError`."""
        try:
            return self._ground.portable(key, value)
        except MessageError as error:
            raise MessageError(f"entry of {family!r} cannot be shared: {error}") from error

    def family(self, owner: str, family: str, entries: object) -> Family:
        """Return the entries of a family of `owner`, or that it reports, without those that are unusable."""
        return self._kept(owner, family, clean_family(entries))

    def database(self, owner: str, database: object) -> Database:
        """Return a database of `owner`, or that it reports, without unusable entries."""
        return {family: self._kept(owner, family, entries) for family, entries in clean_database(database).items()}

    def _kept(self, owner: str, family: str, entries: Family) -> Family:
        kept = {}
        for key, value in entries.items():
            try:
                kept[key] = self._ground.portable(key, value)
            except MessageError as error:
                self._log(owner, family, error)
        return kept

    def _log(self, owner: str, family: str, error: MessageError) -> None:
        text = f"an entry of {family!r:.80}, set or reported by {owner}, is left out: {error}"
        self._ground.complain("entry left out", owner, text)
