"""Who wants to know of nodes that come, go, or are busy. Callbacks run in pooled greenlets, in the order of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Callback = Callable[..., Any]


class NodeEvents:
    """The callbacks of one node. For each other node, up and down alternate strictly, as do busy and no longer busy.

    A peer that is lost while it is busy is told of as lost only.
    """

    def __init__(self, defer: Callable[..., None]) -> None:
        self._defer = defer
        self._life: list[Callback] = []
        self._busy: list[Callback] = []

    def monitor(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(node_id, up, *reason)` from now on; returns a function that ends it."""
        return _add(self._life, callback)

    def monitor_busy(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(node_id, busy, seconds)` from now on; returns a function that ends it."""
        return _add(self._busy, callback)

    def tell(self, node_id: str, up: bool, *reason: Any) -> None:
        """A node is connected, or lost."""
        for callback in self._life:
            self._defer(callback, node_id, up, *reason)

    def tell_busy(self, node_id: str, busy: bool, seconds: float) -> None:
        """A node has become busy, or is no longer."""
        for callback in self._busy:
            self._defer(callback, node_id, busy, seconds)


def _add(callbacks: list[Callback], callback: Callback) -> Callable[[], None]:
    callbacks.append(callback)
    return lambda: callbacks.remove(callback) if callback in callbacks else None
