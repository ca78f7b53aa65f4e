"""Python's own place for work while it waits for a key: the C variable ``PyOS_InputHook``.

Python calls the hook about every 0.1 s while it waits, in whatever greenlet called `input`. The hook runs the event loop
and returns when a key is there, after `TURN` at the latest: the prompt of Python 3.13 keeps keys of its own, and would not
take them while the hook waits for the terminal. Without readline the hook is called once for a whole line, and stays until
there is one.

Ctrl-C is for the prompt. readline looks for signals only after it has called the hook, in which Python handles them, so that
a KeyboardInterrupt always ends in here, and nothing of it comes back. Hence a SIGINT handler of our own in the place of
Python's: within the hook it only notes the signal; then a C function that does nothing takes the place of the hook, Python
gets its own handler back, and a thread sends the signal again when the prompt waits.
race: Ctrl-C between the call of the hook and its first line: the handler knows the hook by its code.

While a greenlet computes the prompt cannot answer: then Ctrl-C is for that greenlet, as in any program with gevent. What it
raises there ends the port, comes to the prompt's own greenlet, that is into the hook, and goes on from there as above.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from types import FrameType
from typing import Any

import gevent
from gevent.hub import get_thread_ident  # type: ignore[attr-defined]

from gmp import GmpError
from gmp.repl.turns import computes, run_turns

TURN = 0.02  # seconds
SEND_AGAIN = 0.01  # seconds after which the prompt waits again
HANDLED = 0.2  # seconds after which the prompt has surely handled the signal
_Hook = ctypes.PYFUNCTYPE(ctypes.c_int)


class InputHook:
    """The hook of this process; there is one C variable, hence one of these."""

    def __init__(self) -> None:
        self._function = _Hook(self._call)  # C keeps no reference
        self._address = ctypes.cast(self._function, ctypes.c_void_p).value
        self._before: int | None = None
        self._thread = 0
        self._running = False
        self._interrupted = False
        # not NULL: while there is none, readline waits for a key without end
        self._nothing = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value

    def install(self) -> None:
        """Take the place, whoever has it; who had it before gets it back by `uninstall`.

        *Raises:* `GmpError` outside the main thread, or when this Python has no such place.
        """
        place = self._place()
        try:
            self._take_interrupts()
        except ValueError as error:
            raise GmpError(f"the prompt is in the main thread, and this is another one: {error}") from error
        self._thread = get_thread_ident()
        if place.value != self._address:
            self._before = place.value
            place.value = self._address

    def uninstall(self) -> None:
        """Give the place back, unless somebody else has taken it meanwhile."""
        place = self._place()
        if place.value in (self._address, self._nothing):
            place.value = self._before
        if signal.getsignal(signal.SIGINT) == self._on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @staticmethod
    def _place() -> Any:
        try:
            return ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
        except (AttributeError, ValueError) as error:
            raise GmpError(f"this Python has no PyOS_InputHook, so its prompt cannot let greenlets run: {error}") from error

    def _call(self) -> int:
        """Called by Python."""
        if self._running or get_thread_ident() != self._thread:
            return 0
        self._running = True
        try:
            self._take_interrupts()  # asyncio leaves Python's own handler behind
            self._turns()
        except KeyboardInterrupt:
            self._interrupted = True
        finally:
            self._running = False
        if self._interrupted:
            self._interrupted = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._place().value = self._nothing
            gevent.get_hub().threadpool.spawn(self._send_again)
        return 0

    def _turns(self) -> None:
        stdin = sys.__stdin__
        if stdin is None or stdin.closed:
            return
        asked_again = bool(stdin.isatty()) and not sys.modules.keys().isdisjoint(("readline", "_pyrepl"))
        while not run_turns(stdin.fileno(), TURN) and not asked_again and not self._interrupted:
            pass

    # ---- Ctrl-C

    def _take_interrupts(self) -> None:
        """*Raises:* `ValueError` outside the main thread."""
        now = signal.getsignal(signal.SIGINT)
        if now is not None:  # else C code has set it
            signal.signal(signal.SIGINT, self._on_interrupt if now is signal.default_int_handler else now)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._running and computes(again=self._interrupted):
            self._interrupted = True
        elif self._running or (frame is not None and frame.f_code is InputHook._call.__code__):
            self._interrupted = True
            return
        signal.default_int_handler(number, frame)

    def _send_again(self) -> None:
        """In a thread. `sigtimedwait` sleeps, also in a patched program, where `time.sleep` is for greenlets alone."""
        signal.sigtimedwait([], SEND_AGAIN)
        signal.pthread_kill(self._thread, signal.SIGINT)
        signal.sigtimedwait([], HANDLED)
        place = self._place()
        if place.value == self._nothing:
            place.value = self._address


_hook = InputHook()
install = _hook.install
uninstall = _hook.uninstall
