"""Completion inside strings: live nodes, groups and ports.

The names are gathered by a greenlet, every few seconds, and kept as one tuple: prompts complete in threads of their own,
where the node must not be called.
"""

from __future__ import annotations

from typing import Any

import gevent

import gmp
from gmp.wire.requests import FAMILIES

REFRESH = 2.0  # seconds
MOST_GROUPS, MOST_NAMES = 50, 5000
PATIENCE = 5.0  # seconds to wait for a seed's answer


class Names:
    """The names of one network; `names` is kept fresh until `close` or the end of the node."""

    def __init__(self, node: gmp.Node) -> None:
        self.names: tuple[str, ...] = (node.id,)
        self.nodes: tuple[str, ...] = (node.id,)
        self._node = node
        self._port = node.port(self._gather)

    def close(self) -> None:
        """Gather no more."""
        self._port.kill()

    def _gather(self, port: gmp.Port) -> None:
        while True:
            groups = self._groups()
            nodes = self._node.known_nodes()
            ports = [member for group in groups for member in self._node.group(group).members()]
            self.nodes = tuple(nodes)
            self.names = tuple(dict.fromkeys([*nodes, *groups, *sorted(ports)]))[:MOST_NAMES]
            gevent.sleep(REFRESH)

    def _groups(self) -> list[str]:
        """The groups that a seed knows; without a seed, this node."""
        seeds = [seed["node_id"] for seed in self._node.stats()["seeds"] if seed["up"]] or [self._node.id]
        try:
            (found,) = self._node.call(seeds[0], FAMILIES, timeout=PATIENCE)
        except (gmp.GmpError, ValueError):
            return []
        if not isinstance(found, dict):
            return []
        return sorted(name for name, entry in found.items() if _is_group(name, entry))[:MOST_GROUPS]

    def matching(self, before: str) -> tuple[str, list[str]] | None:
        """For the text of a line up to the cursor: what is typed of a name, and the names that it can become.

        None: the cursor is in no string. May be called in any thread.
        """
        if before.startswith("="):
            typed: str | None = before[1:].lstrip()
            names = self.nodes
        else:
            typed, names = open_string(before), self.names
        if typed is None:
            return None
        found = [name for name in names if name.startswith(typed) and name != typed]
        if "#" not in typed:  # ports come last: each begins like its node
            found = [name for name in found if "#" not in name] or found
        return typed, found


def _is_group(name: Any, entry: Any) -> bool:
    return isinstance(name, str) and not name.startswith("'") and isinstance(entry, dict) and bool(entry.get("group"))


def open_string(text: str) -> str | None:
    """What stands behind the quote of a string that is not closed; None: there is no such string.

    >>> open_string("gmp.send('cli/host")
    'cli/host'
    >>> open_string("gmp.send('x', ") is None
    True
    """
    start, quote, escaped = 0, "", False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            start, quote = index + 1, char
        elif char == "#":
            return None
    return text[start:] if quote else None
