"""A program at a pseudo-terminal, as a user has it: type, see, press Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
from pathlib import Path
from typing import Any

import gevent
import gevent.os
import gevent.subprocess as subprocess

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")
#: colours: Python 3.14's prompt shows itself anew with each key, and nobody sees whether it takes the next line
PLAIN = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "PYTHON_HISTORY": os.devnull, "PYTHON_COLORS": "0"}
CTRL_C, CTRL_D, TAB = "\x03", "\x04", "\t"


class Terminal:
    """Runs `command`; `shown` is everything that came, without escape sequences."""

    def __init__(self, *command: str, columns: int = 120, **environment: str) -> None:
        self.shown = ""
        self._raw = ""
        self._seen = 0
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process: Any = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=_take_terminal,
            env={**os.environ, **PLAIN, **environment},
        )
        os.close(slave)
        gevent.os.make_nonblocking(self._fd)

    def type(self, text: str) -> None:
        """Type `text` as it is."""
        gevent.os.nb_write(self._fd, text.encode())

    def line(self, text: str) -> None:
        """Type `text` and Return."""
        self.type(text + "\r")

    def wait(self, text: str, timeout: float = 30.0) -> str:
        """Wait until `text` is shown after what was waited for before; return what was shown until then."""
        with gevent.Timeout(timeout, _NotShown(self, text)):
            while (at := self.shown.find(text, self._seen)) < 0:
                if not self._read():
                    raise _NotShown(self, text)
        before = self.shown[self._seen : at]
        self._seen = at + len(text)
        return before

    def _read(self) -> bool:
        try:
            data = gevent.os.nb_read(self._fd, 65536)
        except OSError:  # the other side of the terminal is closed
            data = b""
        self._raw += data.decode("utf-8", "replace")
        self.shown = ESCAPES.sub("", self._raw)
        return bool(data)

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal sends it to every process."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_end(self, timeout: float = 30.0) -> int:
        """Read until the program ends; return its exit code."""
        with gevent.Timeout(timeout, AssertionError("the program did not end")):
            while self._read():
                pass
            return int(self.process.wait())

    def processes(self) -> list[int]:
        """The processes of this terminal that are left."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    stat = Path(f"/proc/{name}/stat").read_text()
                    if os.getsid(int(name)) == self.process.pid and stat.rpartition(") ")[2][0] != "Z":
                        found.append(int(name))
                except (OSError, IndexError):
                    continue  # it ended while we looked
        return found

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)


class _NotShown(AssertionError):
    def __init__(self, terminal: Terminal, text: str) -> None:
        super().__init__(text)
        self._terminal = terminal

    def __str__(self) -> str:
        return f"{self.args[0]!r} was not shown, but:\n{self._terminal.shown}"


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
