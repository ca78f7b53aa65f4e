"""gunicorns that serve an example, each as on a host of its own: on an address of its own, in its own process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gevent.subprocess as subprocess

from .addresses import free_address


class Gunicorns:
    """Those of one test. `example` is the folder with the ``gunicorn.conf.py``, `logs` one for what they log."""

    def __init__(self, example: Path, logs: Path, **environ: str) -> None:
        self.environ = {**os.environ, **environ}
        self._example = example
        self._logs = logs
        self._started: list[subprocess.Popen[bytes]] = []

    def __len__(self) -> int:
        return len(self._started)

    def start(self) -> str:
        """Start one more; return the ``host:port`` on which it will listen."""
        address = free_address()
        with open(self._logs / f"gunicorn-{len(self._started)}.log", "wb") as log:
            self._started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
                    cwd=self._example,
                    env=self.environ | {"BIND": address},
                    stderr=log,
                )
            )
        return address

    def close(self) -> None:
        """End all of them; none may have logged a traceback."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(timeout=30)
        for path in self._logs.glob("gunicorn-*.log"):
            assert "Traceback" not in path.read_text(), path.read_text()
