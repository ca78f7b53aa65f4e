"""Running the command `gmp` as users do: as a process, against a network of processes, with a configuration of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess as subprocess

GMP = str(Path(sys.executable).parent / "gmp")
PATIENCE = 40.0  # seconds
KEPT = "GMP_UNIX_SOCKETS"  # of what stands in the environment, for a run of all tests by TCP


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Commands:
    """Runs `gmp` with the configuration file in `folder`; ends what it started."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GMP_") or key == KEPT}
        own = {"GMP_CONFIG": str(self.config), "PYTHONPATH": str(Path(__file__).parent.parent)}
        self.environ = {**inherited, **own, **environ}
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Result:
        """Run to the end."""
        process = self.start(*arguments, **environ)
        out, err = process.communicate(stdin.encode(), timeout=PATIENCE)
        self._started.remove(process)
        assert "Traceback" not in err.decode(), err.decode()
        return Result(process.returncode, out.decode(), err.decode())

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start in a session of its own."""
        process = subprocess.Popen(
            [GMP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environ, **environ},
            cwd=self.folder,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def node(self, *arguments: str, **environ: str) -> tuple[subprocess.Popen[bytes], str]:
        """`gmp run`; returns the process, and where it listens."""
        process = self.start("run", "--bind", "127.0.0.1:0", *arguments, **environ)
        line = wait_for(process, rb"listens on ")
        found = re.search(r"listens on (\S+);", line)
        assert found, line
        return process, found[1]

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> Result:
        """Signal it, and wait for its end."""
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        if process in self._started:
            self._started.remove(process)
        return Result(process.returncode, out.decode(), err.decode())

    def close(self) -> None:
        """End everything."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def wait_for(process: subprocess.Popen[bytes], words: bytes, *, stdout: bool = False) -> str:
    """The first line that has `words`."""
    stream = process.stdout if stdout else process.stderr
    with gevent.Timeout(PATIENCE, AssertionError(f"{words!r} was not said")):
        seen = b""
        while words not in seen:
            seen = stream.readline()
            assert seen, f"it ended before it said {words!r}"
    return seen.decode()


def processes_of_session(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == session and Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2][0] != "Z":
                    found.append(int(name))
            except (OSError, IndexError):
                continue  # it ended while we looked
    return found
