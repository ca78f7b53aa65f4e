"""A monitor: a one-shot notice of a port's (or node's) death.

Its *keeper* holds it until it fires or is cancelled. A monitor that kills a port or sends it a message has that port as its
*watcher*, and is cancelled when the watcher dies. Its *action* is what it does when it fires.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger("gmp")
Reason = tuple[Any, ...]
KILL_CURRENT = object()  #: the action of ``monitor(target)``


class Kind(enum.IntEnum):
    """What a monitor does. When a node is lost, its monitors fire in this order."""

    KILL = 0  #: kills its watcher, whose greenlets end in the next turn
    MESSAGE = 1  #: puts a message, or calls a function of gmp's own
    CALLBACK = 2  #: starts a greenlet, which runs a user's function


class Keeper(Protocol):
    """Holds monitors: a local port, or the table of a remote node's ports."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """Forget `monitor`. Does nothing if it is not there."""


class Watcher(Protocol):
    """The port that a monitor was set for."""

    def watches_no_more(self, monitor: Monitor) -> None:
        """Forget `monitor`. Does nothing if it is not there."""


class Monitor:
    """A monitor that has been set. It fires at most once; `cancel()` ends it, as does leaving its ``with`` block."""

    __slots__ = ("__weakref__", "_action", "_keeper", "_watcher", "kind")

    def __init__(self, action: Callable[[Reason], object], keeper: Keeper, *, kind: Kind = Kind.MESSAGE) -> None:
        self._action: Callable[[Reason], object] | None = action
        self._keeper: Keeper | None = keeper
        self._watcher: Watcher | None = None
        self.kind = kind

    @property
    def active(self) -> bool:
        """True while it can still fire."""
        return self._action is not None

    def watch_for(self, watcher: Watcher) -> bool:
        """Make `watcher` its watcher; return False if it has ended already."""
        if self._action is None:
            return False
        self._watcher = watcher
        return True

    def cancel(self) -> None:
        """Cancel the monitor. Does nothing if it has fired or was cancelled already. *Blocks:* never."""
        keeper = self._keeper
        if keeper is not None:
            keeper.discard_monitor(self)
        self._end()

    def fire(self, reason: Reason) -> None:
        """Run its action, once. If that is interrupted, the monitor can be fired again."""
        action, keeper = self._action, self._keeper
        if action is None:
            return
        self._end()
        try:
            action(reason)
        except Exception:
            log.exception("monitor action failed at the death of %s", keeper)
        except BaseException:  # race: Ctrl-C: the action was not done, or can be done twice; see `gmp.ports.duties`
            self._action = action
            raise

    def _end(self) -> None:
        if self._watcher is not None:
            self._watcher.watches_no_more(self)
        self._watcher = self._keeper = self._action = None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
