"""`gmp demo`: a word count on several processes, one of which is killed half-way.

The parent starts a seed and workers as processes, finds the workers through the group ``words``, and keeps a few files under
way to each. A monitor on each worker's port reports its death: files that were under way there are sent again, to others or
to the worker that replaces it. A result that arrives twice is counted once (files are numbered).
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import gevent
import gevent.subprocess
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import gmp
from gmp.cli.common.interrupts import held
from gmp.cli.demo.worker import count_words

WINDOW = 4  # files under way to one worker
SUFFIXES = {".py", ".txt", ".md", ".rst", ".c", ".h", ".toml", ".cfg", ".ini", ".html", ".css", ".js", ".json", ".pyi"}
START_TIMEOUT = 30.0
SILENCE = 60.0  # seconds without any message after which the demo gives up


@dataclass
class Outcome:
    """The results of the demo."""

    counts: Counter[str]
    right: bool
    files: int
    megabytes: float
    seconds: float
    messages: int
    killed: str = ""
    kill_reason: tuple[Any, ...] = ()
    lost: int = 0
    connections: dict[str, list[str]] = field(default_factory=dict)
    seed: str = ""


class Child:
    """A process of the demo."""

    def __init__(self, role: str, node_id: str, *seeds: str) -> None:
        self.node_id = node_id
        self.process = gevent.subprocess.Popen(
            [sys.executable, "-m", "gmp.cli.demo.worker", role, node_id, *seeds],
            stdin=gevent.subprocess.PIPE,
            stdout=gevent.subprocess.PIPE,
            process_group=0,  # Ctrl-C at the terminal is for the parent, which ends them in order
            env={key: value for key, value in os.environ.items() if key not in ("GMP_SEEDS", "GMP_BINDS", "GMP_NODE_ID")},
        )
        self.bind = ""

    def wait_ready(self) -> None:
        """Wait until the process listens. *Raises:* `GmpError` if it ends or hangs instead."""
        assert self.process.stdout is not None
        with gevent.Timeout(START_TIMEOUT, gmp.GmpError(f"{self.node_id} did not start within {START_TIMEOUT} s")):
            self.bind = self.process.stdout.readline().decode().strip()
        if not self.bind:
            raise gmp.GmpError(f"{self.node_id} ended while starting, exit code {self.process.wait()}")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Let it leave the network; kill it if it does not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        with gevent.Timeout(5, False):  # type: ignore[arg-type]  # False: end the block in silence
            self.process.wait()
        self.kill()
        self.process.wait()
        self.process.stdout.close()


class Processes:
    """The processes of one demo; none is left when the block ends."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self._count = 0

    def start(self, role: str, *seeds: str) -> Child:
        """Start one more process."""
        self._count += role != "seed"
        node_id = f"demo-{role}" if role == "seed" else f"demo-{role}-{self._count}"
        with held():  # race: Ctrl-C between the start of the process and its entry here
            child = self.children[node_id] = Child(role, node_id, *seeds)
        return child

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for child in self.children.values():
                child.kill()
        gevent.joinall([gevent.spawn(child.end) for child in self.children.values()])


class Demo:
    """One run."""

    def __init__(self, roots: list[Path], *, workers: int, kill: bool) -> None:
        self._files = list(text_files(roots))
        if not self._files:
            raise gmp.GmpError(f"no text file below {', '.join(map(str, roots))}")
        self._workers = workers
        self._kill = kill
        self._todo = deque(range(len(self._files)))
        self._done: set[int] = set()
        self._under_way: dict[str, set[int]] = {}
        self._counts: Counter[str] = Counter()
        self._messages = 0
        self._bytes = 0
        self._killed = ""
        self._kill_reason: tuple[Any, ...] = ()
        self._lost = 0

    def run(self) -> Outcome:
        """Run the demo. *Raises:* `GmpError`, `OSError`, `KeyboardInterrupt`; no process is left in any case."""
        os.environ["GMP_SECRET"] = secrets.token_hex(32)  # of this run alone; never in an argument list
        with Processes() as processes:
            seed = processes.start("seed")
            seed.wait_ready()
            workers = [processes.start("worker", seed.bind) for _ in range(self._workers)]
            for worker in workers:
                worker.wait_ready()
            node = gmp.configure(node_id="demo-parent", binds=["127.0.0.1:0"], seeds=[seed.bind])
            try:
                return self._work(processes, seed)
            finally:
                node.close()

    def _work(self, processes: Processes, seed: Child) -> Outcome:
        port = gmp.port()
        group = gmp.group("words")
        group.wait(self._workers, timeout=START_TIMEOUT)
        started = time.monotonic()

        def tell(members: object, added: list[str], *_: object) -> None:
            for worker in added:
                gmp.send(port, "joined", worker)

        with group.monitor(tell):
            with progress_bar() as progress:
                bar = progress.add_task("files", total=len(self._files))
                while len(self._done) < len(self._files):
                    self._step(port, processes, seed)
                    progress.update(bar, completed=len(self._done))
            seconds = time.monotonic() - started
            if self._kill:
                self._await_replacement(port)
            connections = ask_connections(port, [*self._under_way, *gmp.group("seeds").wait(timeout=10)])
        return Outcome(
            counts=self._counts,
            right=self._counts == self._count_alone(),
            files=len(self._files),
            megabytes=self._bytes / 1e6,
            seconds=seconds,
            messages=self._messages,
            killed=self._killed,
            kill_reason=self._kill_reason,
            lost=self._lost,
            connections=connections,
            seed=seed.node_id,
        )

    def _step(self, port: gmp.Port, processes: Processes, seed: Child) -> None:
        """Receive one message and act on it."""
        message = port.receive(timeout=SILENCE)
        self._messages += 1
        match message:
            case ("joined", worker):
                self._joined(port, worker)
            case ("counted", number, worker, words):
                if number not in self._done:
                    self._done.add(number)
                    self._counts.update(words)
                if worker in self._under_way:
                    self._under_way[worker].discard(number)
                    self._fill(port, worker)
                if self._kill and not self._killed and len(self._done) * 2 >= len(self._files):
                    self._kill_one(processes)
            case ("down", worker, *reason):
                self._died(worker, tuple(reason))
                processes.start("worker", seed.bind)
                for other in self._under_way:
                    self._fill(port, other)

    def _joined(self, port: gmp.Port, worker: str) -> None:
        if worker not in self._under_way:
            self._under_way[worker] = set()
            gmp.monitor(worker, port, "down", worker)
            self._fill(port, worker)

    def _fill(self, port: gmp.Port, worker: str) -> None:
        """Keep `WINDOW` files under way to a worker."""
        under_way = self._under_way[worker]
        while self._todo and len(under_way) < WINDOW:
            number = self._todo.popleft()
            data = self._files[number].read_bytes()
            under_way.add(number)
            self._messages += 1
            gmp.send(worker, "count", number, data, port)

    def _kill_one(self, processes: Processes) -> None:
        worker = max(self._under_way, key=lambda worker: len(self._under_way[worker]))
        self._killed = gmp.node_of(worker)
        processes.children[self._killed].kill()

    def _died(self, worker: str, reason: tuple[Any, ...]) -> None:
        lost = self._under_way.pop(worker, set()) - self._done
        self._lost += len(lost)
        self._kill_reason = reason
        self._todo.extendleft(sorted(lost))

    def _await_replacement(self, port: gmp.Port) -> None:
        """Wait for the new worker: with few files it may join after the last one is counted."""
        while len(self._under_way) < self._workers:
            match port.receive(timeout=SILENCE):
                case ("joined", worker):
                    self._joined(port, worker)
                case ("down", worker, *reason):
                    raise gmp.GmpError(f"{worker} died: {reason}")

    def _count_alone(self) -> Counter[str]:
        """Count the words of all files in this process."""
        counts: Counter[str] = Counter()
        for path in self._files:
            data = path.read_bytes()
            self._bytes += len(data)
            counts.update(count_words(data))
        return counts


def ask_connections(port: gmp.Port, others: list[str]) -> dict[str, list[str]]:
    """Ask each node which nodes it is connected to."""
    for other in others:
        gmp.send(other, "who", port)
    found = {gmp.node().id: gmp.node().up_nodes()}
    for _ in others:
        node_id, up = port.receive("who", timeout=10)
        found[node_id] = up
    return found


def text_files(roots: list[Path]) -> list[Path]:
    """Return every text file below `roots`, without caches and installed packages."""
    found: list[Path] = []
    for root in roots:
        if root.is_file():
            found.append(root)
            continue
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(set(folders) - {"__pycache__", "site-packages", ".git", ".venv", "node_modules"})
            found += [Path(folder, name) for name in sorted(names) if Path(name).suffix in SUFFIXES]
    return [path for path in found if path.is_file() and os.access(path, os.R_OK)]


def progress_bar() -> Progress:
    """Show a progress bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        auto_refresh=False,
    )
