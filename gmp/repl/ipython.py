"""IPython's place for work while it waits for a key: an input hook of its terminal, under the name ``gmp``.

IPython is not imported: where it runs, it has been. ``%gui gmp`` puts the hook back after another one was switched on.

The prompt, which is prompt_toolkit's, reads Ctrl-C as a key, and so would never see it while a greenlet computes. Hence the
terminal makes a signal of it as long as the hook runs. The greenlet that computes gets it; and the prompt gets the key.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any, Protocol

from gmp.repl.turns import computes, run_turns

NAME = "gmp"


class Context(Protocol):
    """What prompt_toolkit hands to the hook."""

    def fileno(self) -> int:
        """Readable when the prompt wants to go on."""

    def input_is_ready(self) -> bool:
        """Whether it wants to already."""


def hook(context: Context) -> None:
    """Let greenlets run until the prompt wants to go on. *Blocks:* so long."""
    if context.input_is_ready():
        return
    try:
        with _signals():
            run_turns(context.fileno(), None)
    except KeyboardInterrupt:  # it was raised in a greenlet, and has come here by way of the event loop
        pass


@contextmanager
def _signals() -> Iterator[None]:
    """Within the block Ctrl-C at the terminal is a signal: for the greenlet that computes, and then for the prompt."""
    interrupted = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        again, interrupted = interrupted, True
        _press_ctrl_c()
        if computes(again=again):
            signal.default_int_handler(number, frame)

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not the main thread: signals are not for this prompt
        yield
        return
    wakeup = signal.set_wakeup_fd(-1)  # or asyncio would press it too
    stdin = sys.__stdin__
    fd = stdin.fileno() if stdin is not None and not stdin.closed and os.isatty(stdin.fileno()) else None
    attributes = None if fd is None else termios.tcgetattr(fd)
    try:
        if fd is not None and attributes is not None:
            ours = [*attributes[:6], list(attributes[6])]
            ours[3] |= termios.ISIG
            ours[6][termios.VQUIT] = ours[6][termios.VSUSP] = b"\0"  # these stay keys
            termios.tcsetattr(fd, termios.TCSANOW, ours)
        yield
    finally:
        if fd is not None and attributes is not None:
            termios.tcsetattr(fd, termios.TCSANOW, attributes)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, before)


def _press_ctrl_c() -> None:
    """Let the prompt that waits now have the key, which also ends its wait."""
    app: Any = import_module("prompt_toolkit.application.current").get_app_or_none()
    if app is None or app.loop is None:
        return
    control_c: Any = import_module("prompt_toolkit.keys").Keys.ControlC
    key: Any = import_module("prompt_toolkit.key_binding.key_processor").KeyPress(control_c, "\x03")

    def press() -> None:
        if not app.is_done:
            app.key_processor.feed(key)
            app.key_processor.process_keys()

    app.loop.call_soon_threadsafe(press)


def running_shell(modules: Mapping[str, ModuleType]) -> Any:
    """The IPython shell of this process with a prompt of its own, or None."""
    ipython = modules.get("IPython")
    shell: Any = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "pt_app") else None


def install(modules: Mapping[str, ModuleType] = sys.modules) -> None:
    """Register the hook and switch it on, when this process is an IPython."""
    shell = running_shell(modules)
    if shell is None or shell.pt_app is None:  # the simple prompt calls `input`
        return
    import_module("IPython.terminal.pt_inputhooks").register(NAME, hook)
    if shell.active_eventloop != NAME:
        if shell.active_eventloop is not None:
            shell.enable_gui(None)
        shell.enable_gui(NAME)


def uninstall(modules: Mapping[str, ModuleType] = sys.modules) -> None:
    """Switch it off."""
    shell = running_shell(modules)
    if shell is not None and shell.active_eventloop == NAME:
        shell.enable_gui(None)
