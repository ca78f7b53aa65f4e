"""The shell at Python's own prompt: readline, and greenlets that run while it waits (`gmp.repl`).

When a message arrives while the user types, the line is erased, the message printed, and the line drawn again.
"""

from __future__ import annotations

import code
import ctypes
import rlcompleter
import shutil
import sys
from typing import Any

import gmp.repl  # noqa: F401  # installs the hook
from gmp.cli.shell.session import Session

try:
    import readline
except ImportError:  # Python was built without
    readline = None  # type: ignore[assignment]

NAME = "Python's prompt"


class Console(code.InteractiveConsole):
    """One prompt."""

    def __init__(self, session: Session) -> None:
        names = session.namespace()
        super().__init__(names, filename="<gmp shell>")
        self._session = session
        self._prompt: str | None = None  # that waits for a line now
        self._python_completer = rlcompleter.Completer(names)
        self._matches: list[str] = []

    def run(self, banner: str) -> None:
        """Run lines until the end of the input or `exit()`."""
        self._session.show = self._show
        if readline is not None:
            before = readline.get_completer()
            readline.set_completer(self._complete)
            readline.parse_and_bind("tab: complete")
        try:
            self.interact(banner, exitmsg="")
        except SystemExit:
            pass
        finally:
            self._session.show = print
            if readline is not None:
                readline.set_completer(before)

    def raw_input(self, prompt: str = "") -> str:
        """Read a line; the prompt names the node that evaluates it."""
        self._prompt = f"{self._session.at} {prompt}" if self._session.at else prompt
        try:
            return super().raw_input(self._prompt)
        finally:
            self._prompt = None

    def runsource(self, source: str, filename: str = "<input>", symbol: str = "single") -> bool:
        """Run what has been typed so far; return True if it needs more lines."""
        if not self._session.is_ours(source):
            return super().runsource(source, filename, symbol)
        if not self._session.is_complete(source):
            return True
        self._session.take(source)
        return False

    # ---- the line that is being typed

    def _show(self, text: str) -> None:
        if self._prompt is None or not sys.stdout.isatty():
            print(text)
            return
        line = readline.get_line_buffer() if readline is not None else ""
        rows = (len(self._prompt) + len(line)) // max(shutil.get_terminal_size().columns, 1)
        sys.stdout.write("\r" + "\x1b[A" * rows + "\x1b[J" + text + "\n")
        sys.stdout.flush()
        if not _draw_line():
            sys.stdout.write(self._prompt + line)
            sys.stdout.flush()

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            before = readline.get_line_buffer()[: readline.get_endidx()]
            found = self._session.completion.matching(before)
            if found is None:
                return self._python_completer.complete(text, state)
            typed, names = found
            # readline replaces only what stands behind the last character that it splits words at
            self._matches = [name[len(typed) - len(text) :] for name in names]
        elif not self._matches:
            return self._python_completer.complete(text, state)
        if state < len(self._matches):
            return self._matches[state]
        self._matches = []
        return None


def _draw_line() -> bool:
    """Let readline redraw its line and cursor; return False if this readline cannot."""
    if readline is None:
        return False
    try:
        library: Any = ctypes.CDLL(readline.__file__)
        library.rl_on_new_line()
        library.rl_forced_update_display()
    except (AttributeError, OSError):
        return False
    return True
