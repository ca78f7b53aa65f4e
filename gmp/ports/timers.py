"""A one-shot timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from gmp.errors import GmpError


class Timer:
    """Calls a function once, later, unless `cancel()` is called first; made by `gmp.after`."""

    def __init__(self, seconds: float, action: Callable[[], Any]) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
            raise GmpError(f"after {seconds!r} seconds: expected a number from 0 on")
        self._action: Callable[[], Any] | None = action
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._fire)

    def _fire(self) -> None:
        action, self._action = self._action, None
        self._timer.close()
        if action is not None:
            action()

    def cancel(self) -> None:
        """Cancel the timer. Does nothing if it has fired already. *Blocks:* never."""
        self._action = None
        self._timer.close()

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
