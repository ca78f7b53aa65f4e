"""A notebook's kernel (ipykernel): greenlets run whenever its asyncio loop would only wait.

asyncio waits for the descriptor of gevent's loop among its own, and calls `Guest.turn` when something is there for a
greenlet. That descriptor says nothing of timers, and libev does not tell when the next one is due. So there is a turn
after a nap too: a short one while greenlets find something to do, twice as long each time when they do not, up to
`LONGEST`. A cell that computes or waits runs in the main greenlet as it does without this, and its ``gmp.call`` runs the
event loop itself.

SIGINT is ipykernel's: between cells it is ignored, and an ``await`` is cancelled by it. A greenlet that computes in a turn
for long would hold up the whole kernel, which could not be interrupted; so then the signal is for that greenlet.

IPython is not imported: in its kernel, it has been.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

import gevent

from gmp import GmpError
from gmp.outside import clock
from gmp.repl.turns import Found, computes, run_ready

log = logging.getLogger("gmp.repl")
TURN = 0.02  # seconds that greenlets may take before asyncio has its turn again
SHORTEST, LONGEST = 0.001, 0.05  # seconds of a nap
HELD_UP = 0.3  # seconds since a turn began, after which what runs in it holds up the kernel


class Guest:
    """gevent's loop of this thread, as a guest of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._fd: int | None = gevent.get_hub().loop.fileno()  # None: this backend of libev has none
        self._nap = SHORTEST
        self._next: asyncio.Handle | None = None
        self._stopped = False

    def start(self) -> None:
        """Have the first turn when asyncio is next."""
        if self._fd is not None:
            self.loop.add_reader(self._fd, self.turn)
        self.wake()

    def wake(self) -> None:
        """Have a turn when asyncio is next."""
        if self._next is not None:
            self._next.cancel()
        self._next = self.loop.call_soon(self.turn)

    def stop(self) -> None:
        """Have no more turns."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
        if self._fd is not None and not self.loop.is_closed():
            self.loop.remove_reader(self._fd)

    def turn(self) -> None:
        """Called by asyncio, in the main greenlet."""
        if self._next is not None:
            self._next.cancel()
        found = Found.MORE
        try:
            with _interrupts():
                found = run_ready(TURN)
        except KeyboardInterrupt:
            pass  # it was raised in a greenlet, and has come here by way of the event loop
        except SystemExit as error:  # as in a cell, which does not end the kernel either
            log.warning("a greenlet has raised SystemExit(%r); to end a notebook's kernel, shut it down", error.code)
        finally:
            if not self._stopped:  # in this turn
                self._plan(found)

    def _plan(self, found: Found) -> None:
        if found is Found.MORE:
            self.wake()
        else:
            self._nap = min(2 * self._nap, LONGEST) if found is Found.NOTHING else SHORTEST
            self._next = self.loop.call_later(self._nap, self.turn)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Within the block SIGINT is for the greenlet that computes for long; behind it, for whoever had it before."""
    interrupted, began = False, clock.monotonic()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        again, interrupted = interrupted, True
        if clock.monotonic() - began > HELD_UP and computes(again=again):
            signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupted:
            signal.raise_signal(signal.SIGINT)


_guest: Guest | None = None


def running_kernel(modules: Mapping[str, ModuleType]) -> Any:
    """The IPython shell of this process if it is a notebook's, or None."""
    ipython = modules.get("IPython")
    shell: Any = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


def attach() -> None:
    """Be a guest of the asyncio loop of the main thread: called before each cell, as none runs yet in a startup file."""
    global _guest
    if threading.current_thread() is not threading.main_thread():
        return  # a cell of a subshell
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # there is none yet
    if _guest is None or _guest.loop is not loop:
        _detach()
        _guest = Guest(loop)
        _guest.start()


def _wake() -> None:
    """Let what a cell has sent or started begin at once: called behind each cell."""
    if _guest is not None and threading.current_thread() is threading.main_thread():
        _guest.wake()


def _detach() -> None:
    global _guest
    if _guest is not None:
        _guest.stop()
        _guest = None


def _check_loop() -> None:
    try:
        gevent.get_hub().loop.prepare().close()
    except TypeError as error:
        text = "greenlets cannot run between a notebook's cells by gevent's loop on libuv: leave GEVENT_LOOP unset (libev)"
        raise GmpError(text) from error


_EVENTS = (("pre_execute", attach), ("post_execute", _wake))


def install(modules: Mapping[str, ModuleType]) -> None:
    """Let greenlets run between cells, when this process is a notebook's kernel. *Raises:* `GmpError` with libuv."""
    shell = running_kernel(modules)
    if shell is not None:
        _check_loop()
        for event, function in _EVENTS:
            shell.events.register(event, function)  # twice is once
        attach()


def uninstall(modules: Mapping[str, ModuleType]) -> None:
    """Let them rest again."""
    shell = running_kernel(modules)
    for event, function in _EVENTS if shell is not None else ():
        if function in shell.events.callbacks[event]:
            shell.events.unregister(event, function)
    _detach()
