"""What stands in the place of the system while a simulation runs: its clock, its chance, the machines of its nodes.

It stands there for the simulation's native thread alone; every other thread has the real ones.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, MutableSequence
from random import Random
from typing import Any

from gmp.net import firstother, machine
from gmp.outside import chance, clock
from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulated.host import Host
from gmp.testing.simulated.loop import VirtualLoop, thread_ident

EPOCH = 1_800_000_000.0  # the wall clock when a simulation begins


class World:
    """The outside of simulated nodes."""

    def __init__(self, loop: VirtualLoop, seed: str) -> None:
        self.host: Host | None = None  #: of the node that is being made
        self.monotonic = loop.look
        self._loop = loop
        firstother.import_all()  # or the first nodes of a process would do more than later ones, and no run be as the last
        self._chance = Random(f"{seed}/chance")
        self.random = self._chance.random
        self.randbits = self._chance.getrandbits
        self.token_bytes = self._chance.randbytes

    def time(self) -> float:
        """As `clock.time`."""
        return EPOCH + self._loop.look() + self._jumped()

    def time_ns(self) -> int:
        """As `clock.time_ns`."""
        return int(EPOCH) * 1_000_000_000 + int((self._loop.look() + self._jumped()) * 1e9)

    def _jumped(self) -> float:
        """By how many seconds the clock of the host whose program runs is wrong."""
        host: Host | None = self._loop.running()
        return 0.0 if host is None else host.clock_is_ahead

    def shuffle(self, values: MutableSequence[Any]) -> None:
        """As `chance.shuffle`."""
        self._chance.shuffle(values)

    def token_hex(self, count: int) -> str:
        """As `chance.token_hex`."""
        return self._chance.randbytes(count).hex()

    def secret_to_keep(self, *_: Any) -> str:
        """As `chance.secret_to_keep`. *Raises:* `SimulationError`: whoever knows the seed would know the user's secret."""
        raise SimulationError("a secret file cannot be made in a simulation: give secret, or make it before (gmp secret)")

    def here(self) -> Host:
        """As `machine.here`. *Raises:* `SimulationError` when a node is made that has no host here."""
        if self.host is None:
            raise SimulationError("a node in a simulation needs a host of its own: start it by Simulation.node")
        return self.host


_NAMES: dict[Any, tuple[str, ...]] = {
    clock: ("monotonic", "time", "time_ns"),
    chance: ("random", "shuffle", "randbits", "token_bytes", "token_hex", "secret_to_keep"),
    machine: ("here",),
}
_worlds: dict[int, World] = {}  # by native thread
_real: dict[tuple[Any, str], Any] = {}  # what the names were before
_lock = _thread.RLock()


def enter(world: World) -> None:
    """Put `world` in the system's place for this thread. *Raises:* `SimulationError` if one is there already."""
    with _lock:
        if thread_ident() in _worlds:
            raise SimulationError("a simulation runs in this thread already")
        if not _worlds:
            for module, names in _NAMES.items():
                for name in names:
                    _real[module, name] = getattr(module, name)
                    setattr(module, name, _chooser(name, _real[module, name]))
        _worlds[thread_ident()] = world


def leave(world: World) -> None:
    """Give this thread the system back, if it has `world`, also in part: Ctrl-C may have struck `enter`."""
    with _lock:
        if _worlds.get(thread_ident()) is world:
            del _worlds[thread_ident()]
        if not _worlds:
            for (module, name), real in _real.items():
                setattr(module, name, real)
            _real.clear()


def _chooser(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `real` or, in the thread of a simulation, its world's method of that name."""
    find = _worlds.get

    def choose(*args: Any) -> Any:
        world = find(thread_ident())
        return real(*args) if world is None else getattr(world, name)(*args)

    return choose
