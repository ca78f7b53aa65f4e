"""What was begun and must be done to its end, whatever strikes meanwhile: the burials of dead ports, the losses of nodes.

A *duty* is a function that can be called again: each of its steps is done once, or does nothing the second time. One stands
in the queue until it has returned; when it was interrupted it is called again in the next callback of the loop. The callback
is a generator, as in `gmp.ports.workers`: what a signal handler raises where a function begins cannot be caught in it.

What cannot be done twice is a *telling*: a message that is put (`Mailbox.put_once`), a greenlet that is begun
(`Workers.spawn`). Each is one call of C code, and there is no saying in general whether that was before the interrupt or
behind it: so these two look, and when it was done the interrupt goes on in a callback of its own (`pass_on`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from greenlet import GreenletExit

Duty = Callable[[], object]


def pass_on(hub: Any, error: BaseException) -> None:
    """Tell of what was raised in a callback of the loop that must go on, as gevent tells of what escapes from one."""
    hub.loop.run_callback(hub.handle_error, "gmp", type(error), error, error.__traceback__)


class Duties:
    """Those of one node."""

    __slots__ = ("_hub", "begin", "due", "run_callback")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self.run_callback: Callable[..., Any] = hub.loop.run_callback
        self.due: deque[Duty] = deque()  #: in the order in which they are done
        turns = self._turns()
        next(turns)
        self.begin: Duty = turns.__next__  #: the callback of the loop that does what is due

    def add(self, duty: Duty) -> None:
        """Do it in the next turn of the loop, behind those that are due."""
        try:
            self.due.append(duty)
        finally:
            self.run_callback(self.begin)

    def run(self, duty: Duty) -> None:
        """Do it now; when it is interrupted, go on with it in the next turn of the loop. *Raises:* what interrupts it."""
        try:
            duty()
        except Exception:
            raise
        except BaseException:  # race: Ctrl-C
            self.add(duty)
            raise

    def _turns(self) -> Iterator[None]:
        due = self.due
        while True:
            try:
                for _ in repeat(None):  # going back is in the `try`, too
                    yield
                    while due:
                        due[0]()
                        del due[0]
            except (GreenletExit, GeneratorExit):
                raise
            except BaseException as error:
                if isinstance(error, Exception):
                    del due[0]  # it would fail again
                self.run_callback(self.begin)
                pass_on(self._hub, error)
