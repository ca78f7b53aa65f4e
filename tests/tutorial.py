"""Follows a tutorial page as a reader would, typing only what it says.

A ``python``, ``perl``, ``yaml`` or ``toml`` block that begins with ``# NAME`` is that file, in the home directory. In a
``console`` block ``one$ COMMAND`` types a command in the terminal of that name (what still runs there must have ended); the
lines below it are what appears there. ``one$ ^C`` presses Ctrl-C there and waits for the end, ``one$ kill -9 %1`` kills;
``one: …`` is a line that appears there later.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import gevent
import gevent.subprocess as subprocess

BLOCK = re.compile(r"^```(python|perl|yaml|toml|console)\n(.*?)^```$", re.S | re.M)
FILE = re.compile(r"# ([\w./-]+\.\w+|\.[\w-]+)\n")
COMMAND = re.compile(r"(\w+)(\$|:) ?(.*)")
PROGRAMS = {"python": [sys.executable], "gmp": [str(Path(sys.executable).parent / "gmp")]}
PATIENCE = 50.0


class Terminal:
    """One terminal: what runs in it, and what it has shown."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str) -> None:
        """Type a command."""
        self.wait()
        words = [part for word in command.split() for part in PROGRAMS.get(word, [word])]
        self._process = subprocess.Popen(
            words, cwd=self._folder, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def expect(self, line: str) -> None:
        """The next line shown must be that one, in which ``…`` stands for anything."""
        assert self._process is not None
        with gevent.Timeout(PATIENCE, AssertionError(f"{line!r} did not appear")):
            shown = self._process.stdout.readline().decode().rstrip("\n")
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        rest = ""
        if not re.fullmatch(pattern, shown) and (self._process.poll() is not None or "Traceback" in shown):
            rest = self._process.stdout.read().decode()
        assert re.fullmatch(pattern, shown), f"expected {line!r}, but {shown!r} was shown\n{rest}"

    def wait(self) -> None:
        """Wait for the end of what runs."""
        if self._process is not None:
            with gevent.Timeout(PATIENCE, AssertionError("the command before has not ended")):
                self._process.wait()
            rest = self._process.stdout.read().decode()
            self._process.stdout.close()
            self._process = None
            assert "Traceback" not in rest, rest

    def send_signal(self, number: int) -> None:
        """Press Ctrl-C, or kill."""
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        """End whatever runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


def follow(page: str, folder: Path) -> list[str]:
    """Do all that `page` says in `folder`; return the names of the files that were made."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GMP_")}
    environ |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / ".config"), "PYTHONUNBUFFERED": "1"}
    environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), environ.get("PYTHONPATH", "")])
    terminals: dict[str, Terminal] = {}
    made: list[str] = []
    try:
        for kind, text in BLOCK.findall(page):
            if kind == "console":
                _console(text, terminals, folder, environ)
            elif match := FILE.match(text):
                (folder / match[1]).parent.mkdir(parents=True, exist_ok=True)
                (folder / match[1]).write_text(text)
                made.append(match[1])
        for terminal in terminals.values():
            terminal.close()
    finally:
        for terminal in terminals.values():
            terminal.close()
    return made


def _console(text: str, terminals: dict[str, Terminal], folder: Path, environ: dict[str, str]) -> None:
    terminal: Terminal | None = None
    for line in text.splitlines():
        match = COMMAND.match(line)
        if match and (match[2] == "$" or match[1] in terminals):
            name, sign, rest = match.groups()
            terminal = terminals.setdefault(name, Terminal(folder, environ))
            if sign == ":":
                terminal.expect(rest)
            elif rest == "^C":
                terminal.send_signal(signal.SIGINT)
                terminal.wait()
            elif rest == "kill -9 %1":
                terminal.send_signal(signal.SIGKILL)
                terminal.wait()
            else:
                terminal.run(rest)
        else:
            assert terminal is not None, f"output without a command: {line!r}"
            terminal.expect(line)
