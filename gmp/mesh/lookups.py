"""How a slave finds out where a node listens: it asks its master.

race: the master's program is busy, for long perhaps, though its host answers: after `ASK_OTHERS` seconds without an answer
every other seed is asked too, and the first answer counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gmp.mesh.ground import Cancellable, Ground
from gmp.wire.requests import G_FIND

Found = Callable[[list[str] | None], None]
ASK_OTHERS = 1.0  # seconds


class _Lookup(NamedTuple):
    """A look-up under way: the callbacks that wait for it, and the timer after which other seeds are asked."""

    waiting: list[Found]
    timer: Cancellable


class Lookups:
    """The look-ups of one node. `seeds` returns the seeds that are up, its master among them."""

    def __init__(self, ground: Ground, seeds: Callable[[], Iterable[str]]) -> None:
        self._ground = ground
        self._seeds = seeds
        self._running: dict[str, _Lookup] = {}

    def ask(self, node_id: str, found: Found, master: str | None) -> None:
        """Ask where a node listens; `found` gets its addresses, or None if it is unknown."""
        if node_id in self._running:
            self._running[node_id].waiting.append(found)
            return
        timer = self._ground.later(ASK_OTHERS, lambda: self._ask_others(node_id, master))
        self._running[node_id] = _Lookup([found], timer)
        if master is not None:
            self._ground.request(master, G_FIND, node_id)

    def _ask_others(self, node_id: str, master: str | None) -> None:
        for seed in self._seeds():
            if seed != master:
                self._ground.request(seed, G_FIND, node_id)

    def ask_again(self, master: str) -> None:
        """Ask another master everything that is under way."""
        for node_id in self._running:
            self._ground.request(master, G_FIND, node_id)

    def no_more(self, node_id: str, found: Found) -> None:
        """Drop `found`, which no longer waits for an answer. Does nothing if it has one."""
        lookup = self._running.get(node_id)
        if lookup is not None and found in lookup.waiting:
            lookup.waiting.remove(found)
            if not lookup.waiting:
                self._running.pop(node_id).timer.cancel()

    def answered(self, node_id: str, addresses: list[str] | None) -> None:
        """Handle a seed's answer; later ones are ignored."""
        lookup = self._running.pop(node_id, None)
        if lookup is not None:
            lookup.timer.cancel()
            for found in lookup.waiting:
                found(addresses)

    def end(self) -> list[tuple[str, Found]]:
        """Stop all look-ups; return each node with a callback that waited for it."""
        running, self._running = self._running, {}
        for lookup in running.values():
            lookup.timer.cancel()
        return [(node_id, found) for node_id, lookup in running.items() for found in lookup.waiting]
