"""Faults of a simulation: each has an end; and faults at random, each drawn from the seed and its own number.

As each is drawn for itself, one can be left out and the others stay as they were: `gmp.testing.shrink` relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random
from types import TracebackType
from typing import Any, Protocol

import gevent

KINDS = (
    "partition", "one way", "delay", "throttle", "reset", "half close", "stop", "clock", "crash", "vanish", "restart"
)  # fmt: skip
AT_ONCE = ("reset", "half close", "clock")  # kinds that have no end
MOST_DELAY = 2.0  # seconds
MOST_JUMP = 3600.0  # seconds, either way
RATES = 5_000.0, 500_000.0  # bytes a second
PAUSE = 0.5  # seconds, at most, between a crash and a restart


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

    def throttle(self, some: str | Iterable[str], others: str | Iterable[str], bytes_per_second: float) -> Fault:
        """Slow down."""

    def half_close(self, one: str, other: str) -> None:
        """Half-close."""

    def stop(self, node_id: str) -> Fault:
        """Stop."""

    def jump_clock(self, node_id: str, seconds: float) -> None:
        """Set the clock."""

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
        for name, seconds in (("every", every), ("lasting", lasting)):
            if seconds <= 0:
                raise ValueError(f"{name}={seconds!r}: expected a number of seconds above 0")
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
        kind, seconds = lots.choice(self._kinds), lots.expovariate(1 / self._lasting)
        amount = lots.random()
        living = self._network.living()
        victims = [node_id for node_id in living if node_id not in self._spare]
        if not victims or len(living) < 2:
            return
        one = lots.choice(victims)
        other = lots.choice([node_id for node_id in living if node_id != one])
        if kind == "restart":
            seconds = amount * PAUSE
        what = f"{kind} {one}" + (f" | {other}" if kind in ("delay", "throttle", "reset", "half close") else "")
        self._happened(number, what if kind in AT_ONCE else f"{what}, for {seconds:.1f} s")
        end = self._do(kind, one, other, amount)
        if end is not None:
            self._ends[end] = None
            gevent.spawn_later(seconds, self._over, end)

    def _do(self, kind: str, one: str, other: str, amount: float) -> Callable[[], Any] | None:
        """Do a fault, of which `amount` from 0 to 1 says how much; return what ends it, None if it has no end."""
        network = self._network
        match kind:
            case "reset":
                network.reset(one, other)
                return None
            case "half close":
                network.half_close(one, other)
                return None
            case "clock":
                network.jump_clock(one, (2 * amount - 1) * MOST_JUMP)
                return None
            case "partition" | "one way":
                return network.partition(one, one_way=kind == "one way").end
            case "delay":
                return network.delay(one, other, amount * MOST_DELAY).end
            case "throttle":
                return network.throttle(one, other, RATES[0] * (RATES[1] / RATES[0]) ** amount).end
            case "stop":
                return network.stop(one).end
        (network.vanish if kind == "vanish" else network.crash)(one)
        return lambda: None if one in network.living() else network.restart(one)  # the program may have started it

    def _over(self, end: Callable[[], Any]) -> None:
        if end in self._ends:
            del self._ends[end]
            end()
