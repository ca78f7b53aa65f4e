"""The seed manager: a greenlet that keeps a connection to every configured seed, for ever, also while others are up.

A seed is a name or a numeric address. A name is resolved anew at each try and may stand for several addresses (a host
with several, a DNS SRV name, a headless service), each a *target* of its own with its own delay: 0.3 s doubling to 30 s,
with jitter, reset when it was connected for `STABLE` seconds (one that refuses us may do so when we are up). Names whose
targets are all up are looked up again each `REFRESH` seconds. A target that DNS no longer has is not dialled any more, but
its connection stays.

A target that turns out to be this node itself is dropped, and makes this node global. The same greenlet dials the nodes
that are wanted by ID: other global nodes, and those of members that are listed but lost (`Backbone.wanted`).

Each look-up and dial runs in a greenlet of its own, so that a seed that does not answer holds up no other.

A warning is logged about a seed that was not reached for `PATIENCE` seconds, and again when the reason changes, at most
every `INTERVAL` seconds. (Nodes that start together find each other before.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import gevent
import gevent.event

from gmp.config import Address
from gmp.errors import GmpError
from gmp.mesh.failures import INTERVAL, PATIENCE, explain
from gmp.mesh.ground import Ground
from gmp.outside import chance

log = logging.getLogger("gmp.mesh")
FIRST_DELAY, MOST_DELAY, REFRESH = 0.3, 30.0, 30.0
Running: TypeAlias = "gevent.Greenlet[..., Any]"
STABLE = 5.0  # seconds after which a connection counts as a success


class Retry:
    """When to try next. Pure."""

    def __init__(self) -> None:
        self.delay = FIRST_DELAY
        self.due = 0.0  #: monotonic seconds

    def failed(self, now: float, jitter: float) -> None:
        """Wait longer before the next try, as one failed or began. `jitter` is between 0 and 1."""
        self.due = now + self.delay * (0.5 + jitter / 2)
        self.delay = min(self.delay * 2, MOST_DELAY)

    def connected(self) -> None:
        """Note that it is connected; the delay stays until that has lasted."""
        self.due = 0.0

    def cut(self, now: float, jitter: float) -> None:
        """Note that the connection was cut, which is no reason to wait longer each time."""
        self.succeeded()
        self.due = now + self.delay * (0.5 + jitter / 2)

    def succeeded(self) -> None:
        """Reset the delay, as the connection has lasted."""
        self.delay = FIRST_DELAY
        self.due = 0.0


class Target:
    """One numeric address of a seed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.retry = Retry()
        self.node_id = ""  #: who answered there last
        self.dialling: Running | None = None  #: false as well when it has ended
        self.is_self = False
        self.settling: object = None  #: while it is connected, but not for long


class Seed:
    """One configured seed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.targets: dict[Address, Target] = {}
        self.retry = Retry()  #: of the look-up
        self.looking: Running | None = None  #: false as well when it has ended
        self.refresh = 0.0  #: when to look a name up again whose targets are all up
        self.error = ""  #: why the last try failed
        self.unsteady = False  #: whether its last connection did not last
        self._trying_since: float | None = None
        self._warned = float("-inf")
        self._told = ""

    def meet(self, addresses: Sequence[Address], is_up: Callable[[str], bool]) -> None:
        """Take `addresses` for those that the seed stands for now."""
        for address in addresses:
            self.targets.setdefault(address, Target(address))
        for address, target in list(self.targets.items()):
            if address not in addresses and not target.dialling and not is_up(target.node_id):
                del self.targets[address]

    def begins(self, now: float) -> None:
        """Note that it is being looked up or dialled."""
        if self._trying_since is None:
            self._trying_since = now

    def failed(self, error: str, now: float) -> bool:
        """Note that a try failed; return whether to warn now."""
        self.error = error
        since = now if self._trying_since is None else self._trying_since
        if error == self._told or now - since < PATIENCE or now - self._warned < INTERVAL:
            return False
        self._told, self._warned = error, now
        return True

    def succeeded(self) -> bool:
        """Note that the connection has lasted; return whether there was a warning before."""
        warned = bool(self._told)
        self.error = self._told = ""
        self.unsteady = False
        self._trying_since = None
        return warned

    @property
    def problem(self) -> str:
        """`error`, without the seed's own address."""
        return self.error.removeprefix(f"{self}: ")

    def to_dial(self, is_up: Callable[[str], bool]) -> list[Target]:
        """Return the targets that should be connected and are not, without those being dialled now."""
        targets = self.targets.values()
        return [each for each in targets if not (each.is_self or each.dialling or is_up(each.node_id))]

    def due(self, is_up: Callable[[str], bool]) -> float:
        """Return when to look it up or dial it, in monotonic seconds."""
        if not self.targets or self.retry.due:
            return self.retry.due
        waiting = [target.retry.due for target in self.to_dial(is_up)]
        return min(waiting, default=self.refresh)

    def __str__(self) -> str:
        host, port = self.address
        return f"{host}:{port}" if port else host


class SeedManager:
    """Keeps the configured seeds connected, and the nodes that are wanted."""

    def __init__(
        self,
        ground: Ground,
        addresses: Iterable[Address],
        *,
        seed_up: Callable[[str], None],
        found_self: Callable[[], None],
        wanted: Callable[[], list[str]],
        self_dial: type[GmpError],
    ) -> None:
        self.seeds = [Seed(address) for address in addresses]
        self._ground = ground
        self._seed_up = seed_up
        self._found_self = found_self
        self._wanted = wanted
        self._self_dial = self_dial
        self._links: dict[str, Retry] = {}
        self._changed = gevent.event.Event()
        self._running: dict[Running, None] = {}
        self._greenlet: Running | None = None  # there between `start` and `stop`

    def start(self) -> None:
        """Start the greenlet."""
        chance.shuffle(self.seeds)  # so that many nodes with the same seeds do not all take the same master
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End the greenlet and its dials. *Blocks:* until they have ended."""
        gevent.killall([greenlet for greenlet in self._take_all() if greenlet is not gevent.getcurrent()])

    def forked(self) -> None:
        """In a child of `fork`: as `stop`, without waiting."""
        gevent.killall(self._take_all(), block=False)

    def _take_all(self) -> list[Running]:
        greenlets = [*self._running, *([] if self._greenlet is None else [self._greenlet])]
        self._greenlet = None
        return greenlets

    def mend(self) -> None:
        """Begin the greenlet again when Ctrl-C has struck it."""
        if self._greenlet is not None and self._greenlet.ready():
            self._greenlet = gevent.spawn(self._run)

    def stats(self) -> list[dict[str, Any]]:
        """Return for each seed its address, the nodes that answered there, whether it is up, and why the last try failed."""
        figures = []
        for seed in self.seeds:
            targets = [target for target in seed.targets.values() if not target.is_self]
            node_ids = [target.node_id for target in targets if target.node_id]
            up = bool(targets) and not seed.to_dial(self._is_up) and not any(target.dialling for target in targets)
            figures.append({"address": str(seed), "node_id": ", ".join(node_ids), "up": up, "error": seed.error})
        return figures

    def trouble(self, *, joined: bool) -> str:
        """Return why seeds are not connected; if `joined`, only those whose connections do not last."""
        failing = [seed for seed in self.seeds if seed.unsteady or not (joined or self._is_connected(seed))]
        return "; ".join(f"seed {seed} is not connected: {seed.problem or 'no answer yet'}" for seed in failing)

    def _is_connected(self, seed: Seed) -> bool:
        return any(self._is_up(target.node_id) for target in seed.targets.values())

    def is_seed(self, node_id: str) -> bool:
        """Return whether a configured seed was this node ID when it was last dialled."""
        return any(target.node_id == node_id for seed in self.seeds for target in seed.targets.values())

    def poke(self) -> None:
        """Look at everything again, as something has changed."""
        self._changed.set()

    def look_again(self) -> None:
        """Look every seed up again at once, as what a name stands for has changed."""
        for seed in self.seeds:
            seed.retry.succeeded()
            seed.refresh = 0.0
        self.poke()

    def _is_up(self, node_id: str) -> bool:
        return bool(node_id) and self._ground.is_linked(node_id)

    def _run(self) -> None:
        while True:
            self._changed.clear()
            now = self._ground.now()
            dues = [self._look_if_due(seed, now) for seed in self.seeds if not seed.looking]
            dues += self._connect_wanted(now)
            wait = min(dues, default=float("inf")) - now
            self._changed.wait(None if wait == float("inf") else max(wait, 0.0))

    def _look_if_due(self, seed: Seed, now: float) -> float:
        due = seed.due(self._is_up)
        if due > now:
            return due
        seed.looking = self._start(self._look, seed)
        return float("inf")  # the end of the look-up wakes the manager

    def _connect_wanted(self, now: float) -> list[float]:
        wanted = self._wanted()
        self._links = {node_id: self._links.get(node_id) or Retry() for node_id in wanted}
        for node_id, retry in self._links.items():
            if retry.due <= now:
                retry.failed(now, chance.random())
                self._ground.connect(node_id)
        return [retry.due for retry in self._links.values()]

    def _start(self, function: Callable[..., None], *args: Any) -> Running:
        greenlet: Running = gevent.spawn(function, *args)
        self._running[greenlet] = None
        greenlet.rawlink(self._ended)
        return greenlet

    def _ended(self, greenlet: Running) -> None:
        self._running.pop(greenlet, None)
        self._changed.set()  # race: Ctrl-C has struck where it began

    def _look(self, seed: Seed) -> None:
        if not seed.targets or seed.to_dial(self._is_up):
            seed.begins(self._ground.now())
        try:
            addresses = self._ground.resolve(seed.address)
            seed.retry.succeeded()
            seed.refresh = float("inf") if addresses == [seed.address] else self._ground.now() + REFRESH
            seed.meet(addresses, self._is_up)
            for target in seed.to_dial(self._is_up):
                if target.retry.due <= self._ground.now():
                    target.dialling = self._start(self._dial, seed, target)
        except (GmpError, OSError) as error:
            seed.retry.failed(self._ground.now(), chance.random())
            self._failed(seed, explain(error))
        finally:
            seed.looking = None
            self._changed.set()

    def _dial(self, seed: Seed, target: Target) -> None:
        try:
            target.node_id = self._ground.dial(target.address)
        except self._self_dial:
            log.info("%s: seed %s is this node itself", self._ground.id, seed)
            target.is_self = True
            if target.address == seed.address and seed in self.seeds:
                self.seeds.remove(seed)
            self._found_self()
        except (GmpError, OSError) as error:
            target.retry.failed(self._ground.now(), chance.random())
            self._failed(seed, explain(error, target.address))
        else:
            if self._ground.is_linked(target.node_id):
                self._connected(seed, target)
                self._seed_up(target.node_id)
            else:  # race: it was lost before this greenlet went on
                target.retry.cut(self._ground.now(), chance.random())
                seed.unsteady = True
                self._failed(seed, "the connection was lost at once")
        finally:
            target.dialling = None
            self._changed.set()

    def connected(self, node_id: str) -> None:
        """Note that a seed is connected, whichever side dialled."""
        for seed in self.seeds:
            for target in seed.targets.values():
                if target.node_id == node_id:
                    self._connected(seed, target)

    def _connected(self, seed: Seed, target: Target) -> None:
        target.retry.connected()
        if not seed.unsteady:
            seed.error = ""
        target.settling = mark = object()
        self._start(self._settle, seed, target, mark)

    def _settle(self, seed: Seed, target: Target, mark: object) -> None:
        """Wait until the connection has lasted."""
        gevent.sleep(STABLE)
        if target.settling is mark:
            target.settling = None
            target.retry.succeeded()
            if seed.succeeded():
                log.warning("%s: seed %s is connected now", self._ground.id, seed)

    def lost(self, node_id: str, why: str, *, refused: bool) -> None:
        """Handle the loss of a node. One whose connection did not last is not dialled again at once.

        `refused`: the other side has ended it, and said so; that counts as a failure.
        """
        for seed in self.seeds:
            for target in seed.targets.values():
                if target.node_id == node_id and target.settling is not None:
                    delay = target.retry.failed if refused else target.retry.cut
                    delay(self._ground.now(), chance.random())
                    seed.unsteady = True
                    self._failed(seed, why)
                    target.settling = None  # at last: interrupted, all of it is done again

    def _failed(self, seed: Seed, error: str) -> None:
        new = error != seed.error
        if seed.failed(error, self._ground.now()):
            log.warning("%s: seed %s cannot be reached: %s; trying on", self._ground.id, seed, seed.problem)
        elif new:
            log.info("%s: seed %s is not reached yet: %s; trying on", self._ground.id, seed, seed.problem)
