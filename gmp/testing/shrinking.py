"""Shrinking: which of the faults at random of a failed simulation are needed to make it fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulation import Simulation

RUNS = 200  # at most, unless told otherwise


@dataclass(frozen=True)
class Shrunk:
    """What is left of a failure. ``Simulation(seed, only_faults=shrunk.only_faults)`` shows it again."""

    seed: int | str
    only_faults: tuple[int, ...]  #: the numbers of the faults that are needed
    faults: tuple[str, ...]  #: what they are
    error: Exception  #: how it fails then, with the last events as its note

    def __str__(self) -> str:
        lines = [f"seed {self.seed!r}, only_faults={list(self.only_faults)!r}, fails: {self.error!r}", *self.faults]
        return "\n".join(lines)


def shrink(program: Callable[[Simulation], Any], seed: int | str, *, most: int = RUNS, **settings: Any) -> Shrunk:
    """Leave out faults at random (`Simulation.trouble`) of a simulation that fails, as long as it still fails.

    `program(simulation)` is run within ``with Simulation(seed, **settings)`` again and again, at most `most` times; it must
    keep nothing from one run to the next.

    *Raises:* `SimulationError` if it does not fail at all. *Blocks:* for so many runs of the program, in real time.
    """
    runs = 0

    def fails(only: Iterable[int] | None) -> Shrunk | None:
        nonlocal runs
        runs += 1
        simulation = Simulation(seed, only_faults=None if only is None else tuple(only), **settings)
        try:
            with simulation:
                program(simulation)
        except Exception as error:  # whatever it is: that is how the program fails
            numbers = tuple(simulation.faults)
            return Shrunk(seed, numbers, tuple(simulation.faults.values()), error)
        return None

    found = fails(None)
    if found is None:
        raise SimulationError(f"the program does not fail with seed {seed!r}: there is nothing to shrink")
    found = fails(()) or found
    size = len(found.only_faults)
    while found.only_faults and runs < most:
        size = max(1, min(size, len(found.only_faults)))
        smaller = None
        for start in range(0, len(found.only_faults), size):
            smaller = fails((*found.only_faults[:start], *found.only_faults[start + size :]))
            if smaller is not None or runs >= most:
                break
        if smaller is not None:
            found = smaller
        elif size == 1:
            break
        else:
            size //= 2
    return found
