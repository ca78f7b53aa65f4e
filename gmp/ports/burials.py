"""The burials of dead ports: one for each callback of the loop, in the order of the deaths.

A generator, as the turns of the workers: what a signal handler raises where a function begins cannot be caught in it. A port
whose burial is interrupted stays the first, and is gone on with in the next turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Protocol

from greenlet import GreenletExit

from gmp.ports.workers import pass_on


class Mortal(Protocol):
    """What is buried: a dead port."""

    def bury(self) -> None:
        """End its greenlets and fire its monitors; called again when it was interrupted."""


class Burials:
    """Those of one node."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._queue: deque[Mortal] = deque()
        turns = self._turns()
        next(turns)
        self._begin: Callable[[], Any] = turns.__next__

    def add(self, port: Mortal) -> None:
        """Bury `port` in the next turn of the loop."""
        try:
            self._queue.append(port)
        finally:
            self._hub.loop.run_callback(self._begin)

    def _turns(self) -> Iterator[None]:
        queue = self._queue
        while True:
            try:
                for _ in repeat(None):  # going back is in the `try`, too
                    yield
                    if queue:
                        queue[0].bury()
                        del queue[0]
            except (GreenletExit, GeneratorExit):
                raise
            except Exception as error:  # it would fail again
                del queue[0]
                pass_on(self._hub, error)
            except BaseException as error:  # race: Ctrl-C
                self._hub.loop.run_callback(self._begin)
                pass_on(self._hub, error)
