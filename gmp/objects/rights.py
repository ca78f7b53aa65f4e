"""Which nodes may call a service: a key for each, given to a node that asks for it and is allowed.

A message to a port does not say which node it is from, and a reply port may be any node's. A request to a node port does: it
comes over a connection whose other end has proved its name. So a node asks for the key of a service there, once, and sends
it along with its calls. The key goes to a port of that node only, and is forgotten when the node is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from gmp.errors import ConfigError
from gmp.objects.faults import NOT_ALLOWED
from gmp.objects.forms import KEY, REFUSED
from gmp.outside import chance
from gmp.showing import show_typed


class Rights:
    """The nodes that may call one service. *Raises:* `ConfigError`."""

    def __init__(self, node_id: str, allow_nodes: Iterable[str]) -> None:
        if isinstance(allow_nodes, str) or not isinstance(allow_nodes, Iterable):
            raise ConfigError(f"allow_nodes {show_typed(allow_nodes)}: expected a list of node IDs and patterns")
        self._patterns = tuple(allow_nodes)
        for pattern in self._patterns:
            if not isinstance(pattern, str) or not pattern:
                raise ConfigError(f"allow_nodes: {show_typed(pattern)}: expected a node ID, or a pattern such as 'web-*'")
        self._node_id = node_id
        self._keys: dict[str, str] = {}
        self._given: set[str] = set()

    def allows(self, node_id: str) -> bool:
        """Return True if that node may call; the own one may."""
        return node_id == self._node_id or any(fnmatchcase(node_id, pattern) for pattern in self._patterns)

    def answer(self, node_id: str) -> tuple[Any, ...]:
        """Return the reply to that node's request for a key."""
        if not self.allows(node_id):
            return REFUSED, NOT_ALLOWED, f"node {node_id} may not call it: its allow_nodes are {', '.join(self._patterns)}"
        key = self._keys.get(node_id)
        if key is None:
            key = self._keys[node_id] = chance.token_hex(16)
            self._given.add(key)
        return KEY, key

    def admits(self, key: object) -> bool:
        """Return True if `key` is one of those that were given."""
        return isinstance(key, str) and key in self._given

    def forget(self, node_id: str) -> None:
        """That node is lost."""
        self._given.discard(self._keys.pop(node_id, ""))
