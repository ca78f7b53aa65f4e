"""Guards: what Perl's `mon`, `db_set` and others return where somebody wants the result.

Perl tells by the calling context whether a guard is wanted, and a guard acts when its last reference goes. Python has no
such context: ``mon(port, callback)`` as a statement would end at once. So a guard here acts when it is told to, and
`guard` makes one that also acts when nobody refers to it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gmp


class Guard:
    """Undoes something, once: by `cancel()`, or at the end of its ``with`` block."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Undo it; nothing when that was done. *Blocks:* never."""
        action, self._action = self._action, None
        if action is not None:
            action()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class ScopedGuard(Guard):
    """A `Guard` that also acts when the last reference to it goes, as in Perl."""

    def __del__(self) -> None:
        with suppress(gmp.GmpError):  # race: the node has left the network, and nothing is left to undo
            self.cancel()


def guard(what: Any) -> ScopedGuard:
    """Let something end with the last reference to it: ``kept = guard(mon(port, callback))`` is ``my $kept = mon …``.

    `what` has a `cancel` method, or is a function to call then. *Raises:* `GmpError` for what is neither. *Blocks:* never.

    >>> from gmp.compat import aemp
    >>> kept = aemp.guard(lambda: print("gone"))
    >>> del kept
    gone
    """
    action = getattr(what, "cancel", what)
    if not callable(action):
        raise gmp.GmpError(f"guard: expected a guard, a timer or a function, not {what!r}")
    return ScopedGuard(action)
