"""A monitor: one-shot notice of a port's (or node's) death.

Who keeps it until then is its *keeper*. When it was set for a port (to kill it, or to send it a message) that port is its
*watcher*, and the monitor goes when the watcher dies. What it does is its action.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger("gmp")
Reason = tuple[Any, ...]


class Kind(enum.IntEnum):
    """What a monitor does, in the order in which those of a lost node do it."""

    KILL = 0  #: it kills its watcher, whose greenlets end in the next turn
    MESSAGE = 1  #: it puts a message, or tells somebody inside
    CALLBACK = 2  #: it only starts a greenlet, which then runs a user's function


class Keeper(Protocol):
    """Whoever keeps monitors: a local port, or the table of a remote node's ports."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """Forget a monitor; nothing when it is not there."""


class Watcher(Protocol):
    """Whoever a monitor was set for."""

    def watches_no_more(self, monitor: Monitor) -> None:
        """Forget a monitor; nothing when it is not there."""


class Monitor:
    """A set monitor. `cancel()` ends it, as does leaving its ``with`` block; it fires at most once."""

    __slots__ = ("__weakref__", "_action", "_keeper", "_watcher", "kind")

    def __init__(self, action: Callable[[Reason], None], keeper: Keeper, *, kind: Kind = Kind.MESSAGE) -> None:
        self._action: Callable[[Reason], None] | None = action
        self._keeper: Keeper | None = keeper
        self._watcher: Watcher | None = None
        self.kind = kind

    @property
    def active(self) -> bool:
        """Whether it can still fire."""
        return self._action is not None

    def watch_for(self, watcher: Watcher) -> bool:
        """Tell `watcher` when it ends; False when it has."""
        if self._action is None:
            return False
        self._watcher = watcher
        return True

    def cancel(self) -> None:
        """End it; nothing when it has fired or was cancelled. *Blocks:* never."""
        keeper = self._keeper
        if keeper is not None:
            keeper.discard_monitor(self)
        self._end()

    def fire(self, reason: Reason) -> None:
        """Do what it is for, once. Interrupted before that is done, it can be fired again."""
        action, keeper = self._action, self._keeper
        if action is None:
            return
        self._end()
        try:
            action(reason)
        except Exception:
            log.exception("the action of a monitor of %s failed", keeper)
        except BaseException:  # race: Ctrl-C: what it is for is not done, or can be done twice: see `gmp.ports.duties`
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
