"""Work that must be completed once it has begun, even if it is interrupted: burials of dead ports, losses of nodes.

A *duty* is a function that can be called again: each of its steps either happens once or does nothing the second time. It
stays in the queue until it has returned; if it is interrupted, the next callback of the loop calls it again. That callback
is a generator, as in `gmp.ports.workers`: a function cannot catch what a signal handler raises just where it begins.

Two steps cannot be repeated: putting a message (`Mailbox.put_once`) and starting a greenlet (`Workers.spawn`). Each is one
call of C code, and in general nothing shows whether the interrupt came before or after it. So these two check, and if the
step was done, they raise the interrupt in a callback of its own (`pass_on`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from greenlet import GreenletExit

Duty = Callable[[], object]


def pass_on(hub: Any, error: BaseException) -> None:
    """Report `error`, raised in a callback of the loop that must go on, as gevent reports what escapes from a callback."""
    hub.loop.run_callback(hub.handle_error, "gmp", type(error), error, error.__traceback__)


class Duties:
    """The duties of one node."""

    __slots__ = ("_hub", "begin", "due", "run_callback")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self.run_callback: Callable[..., Any] = hub.loop.run_callback
        self.due: deque[Duty] = deque()  #: in the order in which they will run
        turns = self._turns()
        next(turns)
        self.begin: Duty = turns.__next__  #: the loop's callback: runs what is due

    def add(self, duty: Duty) -> None:
        """Run `duty` in the next turn of the loop, after those that are due already."""
        try:
            self.due.append(duty)
        finally:
            self.run_callback(self.begin)

    def run(self, duty: Duty) -> None:
        """Run `duty` now; if it is interrupted, run it again in the next turn of the loop. *Raises:* the interrupt."""
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
                for _ in repeat(None):  # so that the jump back is inside the `try`, too
                    yield
                    while due:
                        due[0]()
                        del due[0]
            except (GreenletExit, GeneratorExit):
                raise
            except BaseException as error:
                if isinstance(error, Exception):
                    del due[0]  # it would only fail again
                self.run_callback(self.begin)
                pass_on(self._hub, error)
