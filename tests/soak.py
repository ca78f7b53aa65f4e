"""A node under mixed operations at a fixed pace, and what it keeps: ``python -m tests.soak --minutes 60``.

Two processes: the *tested* node, a seed, which is measured, and its *partner*. Both do the same operations with each other,
chosen at random; the partner besides makes nodes that come and go. 62.5 operations a second are 75,000 in 20 minutes.

Each line of figures: resident memory of the tested process; what Python has allocated of it (tracemalloc); what ``malloc``
has given out (Python's large pieces, and all of the C libraries'), and what it keeps though that is free; objects that the
collector knows; peers, ports, copies of families and subscriptions that the node holds. At the end memory that the
allocator keeps is given back (``malloc_trim``), and the figures are printed once more: what falls then was the allocator's.

It ends with the spread of the resident memory over the second half, and with exit code 1 when that is over `--most`
percent, or when an operation has failed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import logging
import os
import random
import secrets
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import gevent.subprocess as subprocess
import psutil

import gmp

PACE = 62.5  # operations a second, of both processes together
TIMEOUT = 20.0


@gmp.spawnable
def worker(port: gmp.Port, answer: str, number: int) -> None:
    """What is spawned: it answers, then waits for one message that ends it."""
    gmp.node_of(port)
    port.ports.node.send(answer, "started", port.id, number)
    match port.receive(timeout=TIMEOUT):
        case ("fail",):
            raise ValueError("as it was told")


def feed(size: int, stream: Any) -> None:
    """What a stream is opened for."""
    with stream:
        stream.sendall(b"x" * size)


class Operations:
    """What one process does: each operation ends what it has begun."""

    def __init__(self, node: gmp.Node, other: str, seeds: list[str], secret: str, rng: random.Random) -> None:
        self.node, self.other, self.rng = node, other, rng
        self.failures: Counter[str] = Counter()
        self.done = 0
        self._seeds, self._secret = seeds, secret
        self._count = itertools.count()
        self.echo = node.port(lambda port: [node.send(reply, *rest) for *rest, reply in port])
        node.group("echo").join(self.echo)
        self._all: list[tuple[int, Callable[[], None]]] = [
            (30, self.call), (10, self.local_port), (10, self.spawn), (8, self.monitor), (8, self.session),
            (8, self.entry), (5, self.dead), (3, self.slow), (3, self.stream), (3, self.stranger), (5, self.large),
        ]  # fmt: skip

    def with_visitors(self) -> None:
        """Let nodes come and go."""
        self._all += [(6, self.visit), (2, self.crash)]

    def run(self, pace: float, until: float) -> None:
        """Begin operations at that pace, each in a greenlet of its own."""
        weights, operations = zip(*self._all, strict=True)
        pool, due = gevent.pool.Pool(200), time.monotonic()
        while due < until:
            gevent.sleep(max(0.0, due - time.monotonic()))
            pool.spawn(self._one, self.rng.choices(operations, weights)[0])
            due += 1 / pace
        pool.join()

    def _one(self, operation: Callable[[], None]) -> None:
        try:
            operation()
        except Exception as error:
            self.failures[f"{operation.__name__}: {type(error).__name__}: {str(error)[:100]}"] += 1
        self.done += 1

    def _their_echo(self) -> str:
        members = self.node.group("echo").wait(2, timeout=TIMEOUT)
        return next(port_id for port_id in members if gmp.node_of(port_id) == self.other)

    # ---- the operations

    def call(self) -> None:
        number = next(self._count)
        assert self.node.call(self._their_echo(), "tag", number, timeout=TIMEOUT) == ("tag", number)

    def large(self) -> None:
        data = b"x" * self.rng.randrange(200_000)
        assert self.node.call(self._their_echo(), data, timeout=TIMEOUT) == (data,)

    def local_port(self) -> None:
        port = self.node.port(lambda port: [None for _ in port], max_history=5)
        for number in range(10):
            self.node.send(port, "work", number)
        port.kill(*self.rng.choice([(), ("failed", "on purpose")]))
        assert port.join(TIMEOUT)

    def spawn(self) -> None:
        here = self.node.port()
        spawned = self.node.spawn(self.other, worker, here.id, next(self._count))
        assert here.receive("started", timeout=TIMEOUT)[0] == spawned
        self.node.monitor(spawned, here, "died")
        self.node.send(spawned, self.rng.choice(["fail", "end"]))
        here.receive("died", timeout=TIMEOUT)
        here.kill()

    def monitor(self) -> None:
        with self.node.monitor(self._their_echo(), lambda *reason: None):
            self.node.call(self.other, "time", timeout=TIMEOUT)

    def session(self) -> None:
        """A group of its own for a session, joined here, watched and left."""
        name = f"session {self.node.id} {next(self._count)}"
        port, seen = self.node.port(), gevent.event.Event()
        group = self.node.group(name)
        with group.monitor(lambda members, added, *_: seen.set() if added else None):
            group.join(port, {"since": time.time()})
            assert seen.wait(TIMEOUT)
            group.leave(port)
        port.kill()

    def entry(self) -> None:
        family, key = self.node.family("entries"), f"{self.node.id} {self.rng.randrange(500)}"
        family.set(key, self.rng.random())
        family.delete(key)

    def dead(self) -> None:
        try:
            self.node.call(f"{self.other}#nobody{next(self._count)}", "anybody?", timeout=TIMEOUT)
        except gmp.PortDied:
            return
        raise AssertionError("a port that is not there has answered")

    def slow(self) -> None:
        silent = self.node.port()
        try:
            self.node.call(silent, "anybody?", timeout=0.1)
        except gmp.CallTimeout:
            silent.kill()
            return
        raise AssertionError("a silent port has answered")

    def stream(self) -> None:
        with self.node.open_stream(self.other, feed, 10_000, timeout=TIMEOUT) as stream:
            size = 0
            while data := stream.recv(4096):
                size += len(data)
        assert size == 10_000, size

    def stranger(self) -> None:
        """A message to a node that nobody knows."""
        self.node.send(f"stranger{self.node.id}{next(self._count)}#port", "hello")

    def visit(self) -> None:
        with gmp.Node("visitor/", binds=[], seeds=self._seeds, secret=self._secret) as visitor:
            visitor.wait_up(timeout=TIMEOUT)
            visitor.group("visitors").join(visitor.port())
            members = visitor.group("echo").wait(1, timeout=TIMEOUT)
            assert visitor.call(next(iter(members)), "hello", timeout=TIMEOUT) == ("hello",)

    def crash(self) -> None:
        visitor = gmp.Node("crasher/", binds=[], seeds=self._seeds, secret=self._secret).start()
        visitor.wait_up(timeout=TIMEOUT)
        visitor._core.mesh.stop()
        visitor._core.network.close()
        visitor.close()


# ---- figures


def trim() -> None:
    """Give back what the allocator keeps; glibc only."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        print("no malloc_trim here")


class _MallocFigures(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def malloc_figures() -> tuple[float, float]:
    """MiB that malloc has given out, and that it keeps though they are free; 0 where it does not tell."""
    try:
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return 0.0, 0.0
    mallinfo.restype = _MallocFigures
    figures = mallinfo()
    return (figures.uordblks + figures.hblkhd) / 2**20, figures.fordblks / 2**20


class Figures:
    """What the tested process holds."""

    def __init__(self, node: gmp.Node) -> None:
        self.resident: list[float] = []  # MiB, one for each line
        self._node = node
        self._process = psutil.Process()
        print("  time   RSS MiB  Python  malloc    free  objects  peers  ports  copies  subscriptions", flush=True)

    def line(self, at: str) -> None:
        """Print a line of figures."""
        node = self._node
        traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        self.resident.append(self._process.memory_info().rss / 2**20)
        used, free = malloc_figures()
        core = node._core
        backbone = core.mesh.backbone
        subscriptions = sum(map(len, backbone.registry._queries._subscribers.values()))
        print(
            f"{at:>6} {self.resident[-1]:9.1f} {traced / 2**20:7.1f} {used:7.1f} {free:7.1f} {len(gc.get_objects()):8} "
            f"{len(core.network.peers):6} {len(core.ports.by_name):6} {len(backbone._copies.families):7} {subscriptions:14}",
            flush=True,
        )


def spread(values: list[float]) -> float:
    """By how many percent the largest is over the smallest."""
    return (max(values) / min(values) - 1) * 100


def soak(minutes: float, pace: float, every: float, most: float, trace: bool) -> int:
    """Run it; return the exit code."""
    if trace:
        tracemalloc.start()
    secret, rng = secrets.token_hex(16), random.Random(int(minutes * pace))
    node = gmp.Node("tested", binds=["127.0.0.1:0"], seeds=[], secret=secret, allow=["tests.*"]).start()
    arguments = ["--partner-of", node.binds[0], "--minutes", str(minutes), "--pace", str(pace)]
    partner = subprocess.Popen(
        [sys.executable, "-m", "tests.soak", *arguments], env={**os.environ, "GMP_SECRET": secret}, stdout=subprocess.PIPE
    )
    operations = Operations(node, "partner", node.binds, secret, rng)
    node.group("echo").wait(2, timeout=60)
    began = time.monotonic()
    running = gevent.spawn(operations.run, pace / 2, began + minutes * 60)
    figures = Figures(node)
    second, before = -1, None
    while not running.ready():
        running.join(every)
        passed = time.monotonic() - began
        if second < 0 and passed >= minutes * 30:
            second = len(figures.resident)
            before = tracemalloc.take_snapshot() if trace else None
        figures.line(f"{passed / 60:.1f}")
    resident = figures.resident[second:]
    trim()
    figures.line("trim")
    said = partner.communicate()[0].decode()
    print(f"operations: {operations.done} here, {said.strip()} at the partner")
    for failure, count in operations.failures.items():
        print(f"{count} failures of {failure}")
    if before is not None:
        after = tracemalloc.take_snapshot()
        for difference in after.compare_to(before, "lineno")[:12]:
            print(f"   {difference}")
    node.close()
    print(f"second half: {min(resident):.1f} to {max(resident):.1f} MiB resident, {spread(resident):.1f} % apart")
    return 1 if spread(resident) > most or operations.failures or partner.returncode else 0


def accompany(seed: str, minutes: float, pace: float) -> int:
    """The partner: operations with the tested node, and nodes that come and go."""
    secret, rng = os.environ["GMP_SECRET"], random.Random(2)
    with gmp.Node("partner", binds=["127.0.0.1:0"], seeds=[seed], secret=secret, allow=["tests.*"]) as node:
        node.wait_up(timeout=60)
        operations = Operations(node, "tested", [seed], secret, rng)
        operations.with_visitors()
        node.group("echo").wait(2, timeout=60)
        operations.run(pace / 2, time.monotonic() + minutes * 60)
        print(operations.done)
        for failure, count in operations.failures.items():
            print(f"{count} failures of {failure}")
        gevent.sleep(3)  # the tested one may not have done its last operations
    return 1 if operations.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--pace", type=float, default=PACE, help="operations a second")
    parser.add_argument("--every", type=float, default=60, help="seconds between two lines of figures")
    parser.add_argument("--most", type=float, default=5, help="percent that the second half may spread")
    parser.add_argument("--no-trace", action="store_true", help="without tracemalloc, which takes memory itself")
    parser.add_argument("--partner-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    logging.getLogger("gmp").setLevel(logging.CRITICAL)  # ports that die on purpose are no news
    if options.partner_of:
        return accompany(options.partner_of, options.minutes, options.pace)
    return soak(options.minutes, options.pace, options.every, options.most, not options.no_trace)


if __name__ == "__main__":
    sys.exit(main())
