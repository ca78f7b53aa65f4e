"""What this node has deleted and its master may still list for a moment.

Several nodes may set a key of a family, so one that was deleted here may be in the copy rightly. Requests are answered in
order: so a deleted key is *hidden*, the master is asked something after the deletion, and once that is answered the copy
is right. One question is under way at a time; what is deleted meanwhile waits for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping


class Echoes:
    """The hidden keys of one node. `ask` asks the master, and returns False if there is none."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._next: dict[str, dict[str, None]] = {}  # family → keys, in their order
        self._asked: dict[str, dict[str, None]] = {}  # those that the question under way is about

    def hide(self, family: str, keys: Iterable[str]) -> None:
        """Hide keys that were deleted; call `ask` once the master has been told."""
        new = dict.fromkeys(keys)
        if new:
            self._next.setdefault(family, {}).update(new)

    def ask(self) -> None:
        """Ask the master, unless nothing is hidden or a question is under way."""
        if self._next and not self._asked and self._ask():
            self._asked, self._next = self._next, {}

    def new_master(self) -> None:
        """Ask another master, which has been told what this node has now."""
        if self._asked:
            self._ask()
        self.ask()

    def answered(self) -> Mapping[str, Collection[str]]:
        """Handle the master's answer: return the keys that are no longer hidden."""
        shown, self._asked = self._asked, {}
        self.ask()
        return shown

    def of(self, family: str) -> set[str]:
        """Return the hidden keys of a family."""
        return self._next.get(family, {}).keys() | self._asked.get(family, {}).keys()

    def clear(self) -> None:
        """Hide nothing any more."""
        self._next, self._asked = {}, {}
