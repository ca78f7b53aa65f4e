"""Hosts and the paths between them, each direction for itself: how long a packet takes, and whether it gets through.

What cannot get through waits, as its kernel sends it again and again, and goes on some time after the path is free; a
packet that its kernel sends only once (a reset) is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Protocol

WITHIN_A_HOST = 2e-5  # seconds that a packet takes
RETRY = 0.2, 1.0  # seconds from the end of a fault to the next try of a kernel
FIRST_DESCRIPTOR = 1_000_000  # above all that the system gives
JITTER = 0.3  # of the latency, at most, that a packet takes more


class EventLoop(Protocol):
    """What the network needs of the loop."""

    time: float

    def call_at(self, due: float, function: Callable[..., Any], *args: Any) -> None:
        """Call it then."""

    def run_callback_of(self, host: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Call it in the next pass as a part of the program of `host`."""


class Path:
    """One direction between two hosts."""

    __slots__ = ("_network", "_resuming", "base", "blocked", "delay", "rate", "rates", "since", "slowed", "where")

    def __init__(self, network: Network, where: str, base: float) -> None:
        self._network = network
        self._resuming: dict[Callable[[], None], None] = {}
        self.where = where  #: ``from>to``, in the trace
        self.base = base  #: the latency in seconds
        self.delay = 0.0  #: what a fault adds to it
        self.rate = 0.0  #: bytes a second of each connection; 0: as many as there are
        self.rates: list[float] = []  # what each fault leaves of it
        self.slowed: dict[Callable[[], None], None] = {}  #: what to call when it is as fast as ever again
        self.blocked = 0  #: by how many faults
        self.since = 0.0  #: when it was blocked last

    def takes(self) -> float:
        """Return how many seconds the next packet takes."""
        return self.base + self.delay + self._network.random() * JITTER * self.base

    def block(self) -> None:
        """Let nothing through."""
        self.blocked += 1
        if self.blocked == 1:
            self.since = self._network.loop.time

    def free(self) -> None:
        """Take back one `block`."""
        self.blocked -= 1
        if not self.blocked:
            resuming, self._resuming = self._resuming, {}
            loop, low, high = self._network.loop, *RETRY
            for resume in resuming:
                loop.call_at(loop.time + low + self._network.random() * (high - low), resume)

    def throttle(self, rate: float) -> None:
        """Let so many bytes a second through, or less if another fault says so."""
        self.rates.append(rate)
        self.rate = min(self.rates)

    def unthrottle(self, rate: float) -> None:
        """Take back one `throttle`."""
        self.rates.remove(rate)
        self.rate = min(self.rates, default=0.0)
        if not self.rate:
            slowed, self.slowed = self.slowed, {}
            for hurry in slowed:
                hurry()

    def when_free(self, resume: Callable[[], None]) -> None:
        """Call `resume` some time after the path is free again."""
        self._resuming[resume] = None


class Cut:
    """What lets nothing through between two groups of hosts, by their names; `one_way`: from the first to the second."""

    __slots__ = ("_far", "_near", "_one_way")

    def __init__(self, near: Iterable[str], far: Iterable[str], one_way: bool = False) -> None:
        self._near = {name: rank for rank, name in enumerate(near)}
        self._far = {name: rank for rank, name in enumerate(far)}
        self._one_way = one_way

    def rank(self, pair: tuple[str, str]) -> tuple[int, int, int] | None:
        """Return what to order the ways by that are cut, from the first host to the second; None for one that is not."""
        source, target = pair
        if source in self._near and target in self._far:
            return 0, self._near[source], self._far[target]
        if not self._one_way and target in self._near and source in self._far:
            return 1, self._near[target], self._far[source]
        return None


class Network:
    """All hosts. `latency`: the bounds between which the latency of each pair of hosts is drawn, in seconds."""

    def __init__(self, loop: EventLoop, seed: str, latency: tuple[float, float], note: Callable[[str], None]) -> None:
        self.loop = loop
        self.random = Random(f"{seed}/packets").random
        self.note = note  #: writes a line of the trace
        self.descriptors = itertools.count(FIRST_DESCRIPTOR)
        self.hosts: dict[str, Any] = {}  #: by each of their addresses and names
        self._seed, self._latency = seed, latency
        self._paths: dict[tuple[str, str], Path] = {}  # those asked for: of a large network few of all
        self._cuts: dict[Cut, None] = {}

    def path(self, source: str, target: str) -> Path:
        """Return the way of packets from one host to another, by their names."""
        path = self._paths.get((source, target))
        if path is None:
            base = WITHIN_A_HOST
            if source != target:  # drawn by names, so that it does not depend on who asks first; the same both ways
                pair = "/".join(sorted((source, target)))
                base = Random(f"{self._seed}/latency/{pair}").uniform(*self._latency)
            path = self._paths[source, target] = Path(self, f"{source}>{target}", base)
            for cut in self._cuts:
                if cut.rank((source, target)) is not None:
                    path.block()
        return path

    def block(self, cut: Cut) -> None:
        """Let nothing through there."""
        self._cuts[cut] = None
        for path in self._between(cut):
            path.block()

    def free(self, cut: Cut) -> None:
        """Take back one `block`."""
        del self._cuts[cut]
        for path in self._between(cut):
            path.free()

    def _between(self, cut: Cut) -> list[Path]:
        """Return the paths that are cut, in an order that does not depend on who asked for which first."""
        ranked = [(rank, path) for pair, path in self._paths.items() if (rank := cut.rank(pair)) is not None]
        return [path for _, path in sorted(ranked, key=lambda each: each[0])]
