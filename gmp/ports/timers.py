"""A one-shot timer.

The loop's callback is a generator, as in `gmp.ports.workers`: a function cannot catch what a signal handler raises just
where it begins. So Ctrl-C that strikes when a timer is due is raised in a callback of its own, and the timer fires all the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent

from gmp.errors import GmpError
from gmp.ports.duties import pass_on


class Timer:
    """Calls a function once, later, unless `cancel()` is called first; made by `gmp.after`."""

    def __init__(self, seconds: float, action: Callable[[], Any], *, again: bool = False) -> None:
        """`again`: `action` is called again if it is interrupted, so it can be."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
            raise GmpError(f"after {seconds!r} seconds: expected a number from 0 on")
        self._action: Callable[[], Any] | None = action
        self._again = again
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(next, self._firing(), None)

    def _firing(self) -> Iterator[None]:
        turns = self._fire()
        next(turns)
        return turns

    def _fire(self) -> Iterator[None]:
        try:
            yield
            action = self._action
            if action is not None:
                if not self._again:
                    self._action = None
                action()
                self._action = None
            self._timer.close()
        except GeneratorExit:
            raise
        except Exception:
            self.cancel()
            raise
        except BaseException as error:  # race: Ctrl-C
            hub = gevent.get_hub()
            if self._action is not None:
                hub.loop.run_callback(next, self._firing(), None)
            else:
                self._timer.close()
            pass_on(hub, error)

    def cancel(self) -> None:
        """Cancel the timer. Does nothing if it has fired already. *Blocks:* never."""
        self._action = None
        self._timer.close()

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
