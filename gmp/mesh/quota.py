"""How much one node may keep in groups and families: a bound on what a peer can make others remember. Pure.

Each owner's entries are counted, and roughly the memory that they take. What is over the bound is left out, and what was
there before stays; the own node's entries are refused where they are set. All that other nodes have is bounded too, as one
seed speaks for many owners.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ENTRY_SIZE, VALUE_SIZE = 512, 64  # bytes that an entry takes in the tables that it is in, and a value beside its characters
ALL = 20  #: how many times as much as one node all nodes together may have


class Limits(NamedTuple):
    """How much one node may have."""

    entries: int = 100_000
    size: int = 64 << 20  #: bytes

    def __str__(self) -> str:
        return f"max_entries {self.entries}, max_entries_size {self.size} bytes"


USUAL = Limits()


class Quota:
    """How much each owner has."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._used: dict[str, tuple[int, int]] = {}  # entries and bytes
        self._sizes: dict[str, dict[tuple[str, str], int]] = {}  # of entries with a value, as the value may be altered
        self._entries = self._size = 0

    def add(self, owner: str, family: str, key: str, value: Any, *, bounded: bool = True) -> bool:
        """Count a new entry of `owner`; return False if it may not have it."""
        size = entry_size(key, value)
        entries, sizes = self._used.get(owner, (0, 0))
        limits = self.limits
        if bounded and (
            entries >= limits.entries
            or sizes + size > limits.size
            or self._entries >= ALL * limits.entries
            or self._size + size > ALL * limits.size
        ):
            return False
        self._change(owner, entries + 1, sizes + size, 1, size)
        if value is not None:
            self._sizes.setdefault(owner, {})[family, key] = size
        return True

    def remove(self, owner: str, family: str, key: str) -> None:
        """Stop counting an entry of `owner`."""
        if owner not in self._used:
            return  # race: Ctrl-C: it was counted no longer already
        sizes = self._sizes.get(owner)
        size = None if sizes is None else sizes.pop((family, key), None)
        if size is None:
            size = entry_size(key, None)
        elif not sizes:
            del self._sizes[owner]
        entries, used = self._used[owner]
        self._change(owner, entries - 1, used - size, -1, -size)

    def _change(self, owner: str, entries: int, used: int, more: int, size: int) -> None:
        self._entries, self._size = self._entries + more, self._size + size
        if entries:
            self._used[owner] = entries, used
        else:
            del self._used[owner]


def entry_size(key: str, value: Any) -> int:
    """Return about how many bytes of memory an entry takes."""
    total, stack = ENTRY_SIZE + len(key), [] if value is None else [value]
    while stack:
        item = stack.pop()
        total += VALUE_SIZE
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, dict):
            stack += item
            stack += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            stack += item
    return total
