"""Ctrl-C and SIGTERM while a command runs raise in the main greenlet, and nowhere else.

Python's own handler raises in whatever runs just then, in the hub too, which prints a traceback. Here the handler only
raises when the main greenlet runs; else it has the loop throw into it. In `held` blocks (a process is being started and
is in no list yet) it waits until the block ends. What is raised where it can go no further (in a ``__del__``, in a callback
of a weak reference or of the garbage collector) Python prints and forgets: the loop throws it once more. Outside of commands
the signals have their default action: they end the process in silence.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from gmp.later import later

if TYPE_CHECKING:
    import gevent
    import greenlet
else:
    gevent, greenlet = later("gevent"), later("greenlet")

INTERRUPTED, TERMINATED = 130, 143


class _Interrupts:
    """The state of one `interruptible` block."""

    def __init__(self) -> None:
        self.main = greenlet.getcurrent()
        self.holds = 0
        self.waiting: BaseException | None = None
        self.over = False
        self._raised: BaseException | None = None  # the last one, in the main greenlet
        self._hook: Callable[[Any], object] = sys.unraisablehook

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)
        if self.holds:
            self.waiting = error
        elif greenlet.getcurrent() is self.main:
            self._raised = error
            raise error
        else:
            self._throw_soon(error)

    def unraisable(self, what: Any) -> None:
        """Handle an exception that Python has caught where it cannot propagate (`sys.unraisablehook`)."""
        raised = self._raised
        if raised is not None and what.exc_value is raised:
            self._throw_soon(raised.with_traceback(None))
        else:
            self._hook(what)

    def _throw_soon(self, error: BaseException) -> None:
        gevent.get_hub().loop.run_callback(self._throw, error)

    def _throw(self, error: BaseException) -> None:
        if self.over:  # race: the command has ended meanwhile
            signal.raise_signal(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
        elif self.holds:  # race: the main greenlet has begun such a block meanwhile
            self.waiting = error
        else:
            self.main.throw(error)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt and SIGTERM SystemExit(143) in the calling greenlet while the block runs."""
    state, hook = _Interrupts(), sys.unraisablehook
    sys.unraisablehook = state.unraisable
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, state.handle)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        state.over = True
        sys.unraisablehook = hook


@contextmanager
def held() -> Iterator[None]:
    """Delay signals that arrive while the block runs until its end; then raise, whatever else it raises."""
    state = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if not isinstance(state, _Interrupts):
        yield
        return
    state.holds += 1
    try:
        yield
    finally:
        state.holds -= 1
        if state.waiting is not None and not state.holds:
            error, state.waiting = state.waiting, None
            raise error
