"""gmp nodes in processes of their own, for tests: `tests.child` or the like, started, killed, and gone at the test's end."""

from __future__ import annotations

import os
import signal
import sys

import gevent.subprocess as subprocess


class Child:
    """One process with a node; `program` prints where that listens, and ends when its standard input does."""

    def __init__(self, node_id: str, *seeds: str, secret: str = "geheim", program: str = "tests.child") -> None:
        self.node_id = node_id
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, node_id, *seeds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "GMP_SECRET": secret},
        )
        self.pid = self._process.pid
        self.bind = self._process.stdout.readline().decode().strip()

    def kill(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it, however it stands."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


class Processes:
    """The processes of one test."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, node_id: str, *seeds: str, program: str = "tests.child") -> Child:
        """Start one, and wait until it listens."""
        self.children.append(Child(node_id, *seeds, program=program))
        return self.children[-1]

    def close(self) -> None:
        """End all of them."""
        for child in self.children:
            child.close()
