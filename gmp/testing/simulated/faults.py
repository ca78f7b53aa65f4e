"""Faults of a simulation: each has an end; and faults at random, each drawn from the seed and its own number.

As each is drawn for itself, one can be left out and the others stay as they were: `gmp.testing.shrink` relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random
from types import TracebackType
from typing import Any, Protocol

import gevent

KINDS = ("partition", "one way", "delay", "reset", "crash", "vanish")
MOST_DELAY = 2.0  # seconds


class Fault:
    """Something that is wrong until its `end`; a context manager too."""

    def __init__(self, end: Callable[[], Any], ended: Callable[[Fault], Any]) -> None:
        self._end: Callable[[], Any] | None = end
        self._ended = ended

    def end(self) -> None:
        """Make it good again. Idempotent."""
        end, self._end = self._end, None
        if end is not None:
            self._ended(self)
            end()

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Network(Protocol):
    """What faults are made of; `gmp.testing.Simulation` says what each does."""

    seed: int | str

    def living(self) -> list[str]:
        """Return the nodes that live, in the order in which they were added."""

    def partition(self, some: str | Iterable[str], *, one_way: bool = False) -> Fault:
        """Cut off."""

    def delay(self, some: str | Iterable[str], others: str | Iterable[str], seconds: float) -> Fault:
        """Delay."""

    def reset(self, one: str, other: str) -> None:
        """Reset."""

    def crash(self, node_id: str) -> None:
        """Crash."""

    def vanish(self, node_id: str) -> None:
        """Take the power away."""

    def restart(self, node_id: str) -> Any:
        """Start again."""


class Trouble:
    """Faults at random, one after `every` seconds in the mean, each lasting `lasting` seconds in the mean.

    `only`: the numbers of those that happen; None: all.
    """

    def __init__(
        self,
        network: Network,
        *,
        every: float,
        lasting: float,
        kinds: Collection[str],
        spare: Collection[str],
        only: Collection[int] | None,
        happened: Callable[[int, str], None],
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"kinds={list(kinds)!r}: expected some of {', '.join(KINDS)}")
        self._network = network
        self._every, self._lasting = every, lasting
        self._kinds, self._spare, self._only = list(kinds), spare, only
        self._happened = happened
        self._ends: dict[Callable[[], Any], None] = {}  # of faults that last
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Let nothing happen any more, not even the end of what is wrong."""
        self._greenlet.kill()
        self._ends.clear()

    def end(self) -> None:
        """Let nothing more go wrong, and make good what is."""
        self._greenlet.kill()
        while self._ends:
            self._ends.popitem()[0]()

    def _run(self) -> None:
        number = 0
        while True:
            lots = Random(f"{self._network.seed}/fault/{number}")
            gevent.sleep(lots.expovariate(1 / self._every))
            if self._only is None or number in self._only:
                self._begin(number, lots)
            number += 1

    def _begin(self, number: int, lots: Random) -> None:
        kind, seconds, delay = lots.choice(self._kinds), lots.expovariate(1 / self._lasting), lots.uniform(0, MOST_DELAY)
        victims = [node_id for node_id in self._network.living() if node_id not in self._spare]
        others = self._network.living()
        if not victims or len(others) < 2:
            return
        one = lots.choice(victims)
        other = lots.choice([node_id for node_id in others if node_id != one])
        what = f"{kind} {one}" + (f" | {other}" if kind in ("delay", "reset") else "")
        self._happened(number, f"{what}, for {seconds:.1f} s" if kind != "reset" else what)
        if kind == "reset":
            self._network.reset(one, other)
            return
        end = self._do(kind, one, other, delay)
        self._ends[end] = None
        gevent.spawn_later(seconds, self._over, end)

    def _do(self, kind: str, one: str, other: str, delay: float) -> Callable[[], Any]:
        """Begin a fault, and return what ends it."""
        network = self._network
        if kind in ("partition", "one way"):
            return network.partition(one, one_way=kind == "one way").end
        if kind == "delay":
            return network.delay(one, other, delay).end
        (network.crash if kind == "crash" else network.vanish)(one)
        return lambda: None if one in network.living() else network.restart(one)  # the program may have started it

    def _over(self, end: Callable[[], Any]) -> None:
        if end in self._ends:
            del self._ends[end]
            end()
