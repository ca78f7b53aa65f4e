"""Ctrl-C and SIGTERM while a command runs: they raise in the main greenlet, and nowhere else.

Python's own handler raises in whatever runs just then, in the hub too, which prints a traceback. Here the handler only
raises when the main greenlet runs; else it has the loop throw into it. In `held` blocks (a process is being started and
is in no list yet) it waits until the block ends. In a callback of the garbage collector, where what is raised is lost,
it has the loop throw, too. Outside of commands the signals have their default action: they end
the process in silence.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import gevent
from greenlet import getcurrent

INTERRUPTED, TERMINATED = 130, 143


class _Interrupts:
    """The state of one `interruptible` block."""

    def __init__(self) -> None:
        self.main = getcurrent()
        self.holds = 0
        self.waiting: BaseException | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal came."""
        error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)
        if self.holds:
            self.waiting = error
        elif getcurrent() is self.main and not _swallows(frame):
            raise error
        else:
            gevent.get_hub().loop.run_callback(self.main.throw, error)


def _swallows(frame: FrameType | None) -> bool:
    """Return whether what is raised there is printed and goes no further: in a callback of the garbage collector."""
    for callback in gc.callbacks:
        called = getattr(callback, "__call__", None)  # noqa: B004  # to see its code, not whether there is one
        if frame is not None and frame.f_code in (getattr(callback, "__code__", None), getattr(called, "__code__", None)):
            return True
    return False


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt and SIGTERM SystemExit(143) in the calling greenlet while the block runs."""
    state = _Interrupts()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, state.handle)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def held() -> Iterator[None]:
    """What comes while the block runs is raised at its end."""
    state = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if not isinstance(state, _Interrupts):
        yield
        return
    state.holds += 1
    try:
        yield
    finally:
        state.holds -= 1
    error, state.waiting = state.waiting, None
    if error is not None:
        raise error
