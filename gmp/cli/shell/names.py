"""Completion inside strings: live nodes, groups and ports.

A greenlet gathers the names every few seconds, and keeps them as one tuple: prompts complete in threads of their own,
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
    """The names of one network; `names` is kept up to date until `close` or the end of the node."""

    def __init__(self, node: gmp.Node) -> None:
        self.names: tuple[str, ...] = (node.id,)
        self.nodes: tuple[str, ...] = (node.id,)
        self._node = node
        self._port = node.port(self._gather)

    def close(self) -> None:
        """Stop gathering names."""
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
        """Return the groups that a seed knows or, without a seed, this node."""
        seeds = [seed["node_id"] for seed in self._node.stats()["seeds"] if seed["up"]] or [self._node.id]
        try:
            (found,) = self._node.call(seeds[0], FAMILIES, timeout=PATIENCE)
        except (gmp.GmpError, ValueError):
            return []
        if not isinstance(found, dict):
            return []
        return sorted(name for name, entry in found.items() if _is_group(name, entry))[:MOST_GROUPS]

    def matching(self, before: str) -> tuple[str, list[str]] | None:
        """Return the part of a name that ends at the cursor, and the names that it can become; None outside strings.

        The argument is the line up to the cursor. May be called in any thread.
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
    """Return the text after the quote of an unclosed string; None if there is no such string.

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
