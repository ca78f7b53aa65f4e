"""Who wants to know of nodes that come, go, or are busy. Callbacks run in pooled greenlets, in the order of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Callback = Callable[..., Any]


class _Registered:
    """One callback, in the lists of the nodes that call it."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self._lists: list[list[_Registered]] = []

    def join(self, registered: list[_Registered]) -> None:
        """That list's node calls it, too."""
        registered.append(self)
        self._lists.append(registered)

    def leave(self) -> None:
        """Stop calling it."""
        for registered in self._lists:
            registered.remove(self)
        self._lists.clear()


class NodeEvents:
    """The callbacks of one node. For each other node, up and down alternate strictly, as do busy and no longer busy.

    A peer that is lost while it is busy is reported as lost only.
    """

    def __init__(self, defer: Callable[..., object]) -> None:
        self._defer = defer
        self._life: list[_Registered] = []
        self._busy: list[_Registered] = []

    def monitor(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(node_id, up, *reason)` from now on; returns a function that ends it."""
        return _add(self._life, callback)

    def monitor_busy(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(node_id, busy, seconds)` from now on; returns a function that ends it."""
        return _add(self._busy, callback)

    def take_over(self, before: NodeEvents) -> None:
        """Call the callbacks of the node `before` as well."""
        for mine, theirs in ((self._life, before._life), (self._busy, before._busy)):
            for registered in theirs:
                registered.join(mine)

    def tell(self, node_id: str, up: bool, *reason: Any) -> None:
        """A node is connected, or lost."""
        for registered in self._life:
            self._defer(registered.callback, node_id, up, *reason)

    def tell_busy(self, node_id: str, busy: bool, seconds: float) -> None:
        """A node has become busy, or is no longer."""
        for registered in self._busy:
            self._defer(registered.callback, node_id, busy, seconds)


def _add(registered: list[_Registered], callback: Callback) -> Callable[[], None]:
    made = _Registered(callback)
    made.join(registered)
    return made.leave
