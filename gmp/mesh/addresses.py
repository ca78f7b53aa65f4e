"""Listen addresses as they travel in the directory: lists of ``host:port``. Pure.

Loopback addresses mean something on one machine only. They cross a connection only when that connection is on loopback
itself, so that whoever has one got it over a chain of neighbours on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmp.mesh.directory import Database, Family

ADDRESSES = "'l"


def is_loopback(address: str) -> bool:
    """Whether `address`, a ``host:port`` with a numeric host, is on loopback."""
    host = address.rpartition(":")[0].strip("[]").lower()
    return host.startswith(("127.", "::ffff:127.")) or host in ("::1", "localhost")


def address_list(value: object) -> list[str] | None:
    """Addresses as a peer reported them; None when it knows none."""
    if not isinstance(value, list | tuple):
        return None
    return [item for item in value if isinstance(item, str)]


def for_others(family: str, entries: Mapping[str, Any], *, near: bool) -> Family:
    """The entries of a family as they may cross a connection; `near`: it is on loopback."""
    if near or family != ADDRESSES:
        return dict(entries)
    return {key: _without_loopback(value) for key, value in entries.items()}


def for_others_in(database: Database, *, near: bool) -> Database:
    """`for_others` for each family of a database."""
    return {family: for_others(family, entries, near=near) for family, entries in database.items()}


def _without_loopback(value: Any) -> Any:
    addresses = address_list(value)
    return value if addresses is None else [address for address in addresses if not is_loopback(address)]
