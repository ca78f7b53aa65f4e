"""Whole networks in virtual time: many nodes in one process, the same way each time for the same seed.

The nodes are real ones, with all their greenlets, timers, connections and handshakes; what is simulated is what lies outside
of them: the event loop and the clock (`gmp.testing.simulated.loop`), chance, hosts and the network between them
(`gmp.testing.simulated.host`). When nobody has anything to do, it is later: an hour of a small network takes seconds.

The ``with`` block runs in the simulation too: ``gevent.sleep`` in it sleeps in virtual time, and calls on nodes wait in it.
"""

from __future__ import annotations

import gc
import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Any

import gevent
from gevent import GreenletExit
from gevent.hub import get_hub, set_hub  # type: ignore[attr-defined]
from greenlet import greenlet

import gmp
from gmp.testing.simulated import world as worlds
from gmp.testing.simulated.breaking import Breakable
from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulated.faults import KINDS, Trouble
from gmp.testing.simulated.host import Host
from gmp.testing.simulated.loop import VirtualHub, VirtualLoop
from gmp.testing.simulated.paths import Cut, Network
from gmp.testing.simulated.world import World

Program = Callable[[gmp.Node], Any]
SHOWN = 20  # events that a failure shows
DAY = 86_400.0
COLLECT = 60.0  # virtual seconds between two collections of garbage
SWEEPS = 5  # attempts to end what is left
STEP = 0.01  # virtual seconds between two looks at a condition
_NOT_SIMULATED = {
    "cert": "TLS draws its own random numbers, so that no run would be like another: leave cert away",
    "lan": "seeds there are found by real sockets (mDNS), with a secret from a real file: leave lan away",
}
BEGINS_WITH = 1000  # more objects than Python itself has frozen at its start: 375 in 3.12, none in others


class Simulation(Breakable):
    """A network in virtual time, used in ``with``; see the guide on testing.

    `seed` decides everything that is left to chance: latencies, the nodes' own lots, faults at random. The first `seeds`
    nodes are seeds for all others. `latency` gives the bounds, in seconds, between which the latency of each pair of hosts
    is drawn. `limit` is the virtual time in seconds after which something waits for ever. `only_faults`: the numbers of the
    faults at random (`trouble`) that happen; None: all. Further settings are those of `gmp.configure`, for every node.

    If the block ends by an exception, that tells the seed, the virtual time and the last events.

    >>> with Simulation(seed=1) as sim:
    ...     here, there = sim.node("here"), sim.node("there")
    ...     echo = there.port(lambda port: [there.send(reply, "you said", text) for text, reply in port])
    ...     answer = here.call(echo.id, "hello")
    ...     sim.run(3600)
    >>> answer
    ('you said', 'hello')
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        seeds: int = 1,
        latency: tuple[float, float] = (0.0005, 0.02),
        limit: float = 30 * DAY,
        keep: int = 10_000,
        only_faults: Collection[int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        _check_settings(settings)
        self.seed = seed
        self.trace: deque[str] = deque(maxlen=keep)  #: the last `keep` events, a line each
        self._digest = hashlib.sha256()
        self._seed_count = seeds
        self._settings = settings
        self._latency, self._limit = latency, limit
        self._nodes: dict[str, gmp.Node] = {}
        self._own: dict[str, dict[str, Any]] = {}
        self._programs: dict[str, Program | None] = {}
        self._addresses = (f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in count(1))
        self.faults: dict[int, str] = {}  #: the faults at random that have happened, by their numbers
        self._only_faults = only_faults
        self._dark: dict[str, Cut] = {}  # of hosts that have no power
        self._trouble: Trouble | None = None
        self._world: World
        self._undo: ExitStack  # what is to be done at the end

    # ---- beginning and end

    def __enter__(self) -> Simulation:
        loop = self._loop = VirtualLoop(self._limit)
        self._network = Network(loop, str(self.seed), self._latency, self.note)
        self._world = World(loop, str(self.seed))
        outer = get_hub()
        frozen = gc.get_freeze_count() > BEGINS_WITH  # by the program; that stays so
        undo = self._undo = ExitStack()
        try:  # race: Ctrl-C: each step is taken back by what stands there before it; nothing is called behind the block
            if gc.isenabled():
                undo.callback(gc.enable)
            if not frozen:
                undo.callback(gc.unfreeze)
            undo.callback(worlds.leave, self._world)
            worlds.enter(self._world)
            self._hub = VirtualHub(loop)
            undo.callback(set_hub, outer)
            undo.callback(self._hub.destroy, destroy_loop=True)
            set_hub(self._hub)
            gc.disable()  # garbage is collected at times of the simulation: it may close things
            gc.collect()
            gc.freeze()  # what was there before, however much, is not looked at again each time
            loop.call_at(COLLECT, self._collect)
        except BaseException:
            undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.report())
        try:
            if self._trouble is not None:
                self._trouble.stop()
            for fault in list(self._lasting):
                fault.end()
            for node in reversed(list(self._nodes.values())):
                if error is None:
                    node.close()
                else:
                    self._kill(node)
            self._sweep()
        finally:
            self._undo.close()

    def _sweep(self) -> None:
        """End the greenlets that are left, most of them of crashed nodes: one that hangs is never garbage."""
        self._hub.exception_stream = None  # what they say about it is no news
        me = gevent.getcurrent()
        for _ in range(SWEEPS):
            left = [each for each in gc.get_objects() if isinstance(each, greenlet) and each.parent is self._hub]
            left = [each for each in left if each and each is not me]
            for each in left:
                self._loop.run_callback(greenlet.throw, each, GreenletExit)
            if not left:
                return
            gevent.sleep(STEP)

    def _collect(self) -> None:
        gc.collect()
        self._loop.call_at(self._loop.time + COLLECT, self._collect)

    # ---- time

    @property
    def now(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._loop.time

    def run(self, seconds: float) -> None:
        """Let `seconds` of virtual time go by. *Blocks:* in virtual time, as everything here does."""
        gevent.sleep(seconds)

    def run_until(self, condition: Callable[[], Any], timeout: float = 60.0) -> Any:
        """Run until `condition()` is true, and return what it returned.

        *Raises:* `SimulationError` when it is not within `timeout` seconds of virtual time.
        """
        until = self.now + timeout
        while not (found := condition()):
            if self.now >= until:
                name = getattr(condition, "__qualname__", condition)
                raise SimulationError(f"not within {timeout:g} s of virtual time: {name}")
            gevent.sleep(STEP)
        return found

    # ---- what happened

    def note(self, text: str) -> None:
        """Write a line into the trace, with the time in front."""
        line = f"{self._loop.time:.6f} {text}"
        self.trace.append(line)
        self._digest.update(line.encode())
        self._digest.update(b"\n")

    @property
    def digest(self) -> str:
        """A hash of all events so far, those that are no longer kept too: two runs are the same when theirs are."""
        return self._digest.hexdigest()

    def report(self) -> str:
        """Return the seed, the time and the last events, as a failure shows them."""
        last = list(self.trace)[-SHOWN:]
        return "\n".join([f"Simulation(seed={self.seed!r}) at {self.now:.6f} s of virtual time; the last events:", *last])

    # ---- nodes

    def node(self, node_id: str, program: Program | None = None, **settings: Any) -> gmp.Node:
        """Start a node of that name on a host of its own, and return it; `settings` go before those of the simulation.

        `program(node)` is called each time that it has been started, restarts included: it makes the ports, and returns.

        *Blocks:* never; it joins underneath. *Raises:* `gmp.ConfigError`; `SimulationError` for what cannot be simulated.
        """
        _check_settings(settings)
        if node_id in self._hosts:
            raise SimulationError(f"node {node_id!r} is in this simulation already: restart it, or choose another name")
        host = Host(self._network, self._loop.pollables, node_id, next(self._addresses))
        defaults = {
            "binds": [f"{host.address}:4040"],
            "seeds": [f"{each.address}:4040" for each in list(self._hosts.values())[: self._seed_count]],
            "secret": "of the simulation",
        }
        self._hosts[node_id], self._programs[node_id] = host, program
        self._own[node_id] = {**defaults, **self._settings, **settings}
        try:
            return self._start(node_id)
        finally:
            if node_id not in self._nodes:  # it could not be made
                del self._hosts[node_id]
                host.remove()

    def _start(self, node_id: str) -> gmp.Node:
        self._world.host = self._hosts[node_id]
        try:
            with self._loop.acting_for(self._hosts[node_id]):
                node = gmp.Node(node_id, **self._own[node_id])
        finally:
            self._world.host = None
        found = {name: getattr(node._core.settings, name) for name in _NOT_SIMULATED}
        _check_settings(found)  # they may come from the environment or a profile
        self._nodes[node_id] = node
        self.note(f"{node_id} starts")
        with self._loop.acting_for(self._hosts[node_id]):
            node.start()
            program = self._programs[node_id]
            if program is not None:
                program(node)
        return node

    def living(self) -> list[str]:
        """Return the IDs of the nodes that live, in the order in which they were added."""
        return [node_id for node_id, node in self._nodes.items() if not node.closed]

    def __getitem__(self, node_id: str) -> gmp.Node:
        return self._nodes[self._host(node_id).host_name]

    def __iter__(self) -> Iterator[gmp.Node]:
        return iter(list(self._nodes.values()))

    def settle(self, timeout: float = 60.0) -> None:
        """Run until every node that lives is in the network. *Raises:* `gmp.WaitTimeout`."""
        for node in self:
            if not node.closed:
                node.wait_up(timeout=timeout)

    # ---- faults: nodes

    def crash(self, node_id: str) -> None:
        """Kill a node, as SIGKILL does: no ``finally`` of its ports runs; its kernel ends its connections."""
        host = self._host(node_id)
        self.note(f"{node_id} crashes")
        self._kill(self._nodes[node_id])
        host.close_all()
        self._go_on(node_id)

    def vanish(self, node_id: str) -> None:
        """Take the power from a node's host: nobody is told anything, and no packet gets out or in until `restart`."""
        host = self._host(node_id)
        self.note(f"{node_id} vanishes")
        if not host.is_down:
            host.is_down = True
            self._dark[node_id] = Cut([node_id], self._others([node_id]))
            self._block(self._dark[node_id])
        host.vanish()
        self._kill(self._nodes[node_id])
        self._go_on(node_id)

    def restart(self, node_id: str) -> gmp.Node:
        """Start a node again on its host, with the same settings and addresses; crash it first if it lives."""
        host = self._host(node_id)
        if not self._nodes[node_id].closed:
            self.crash(node_id)
        if host.is_down:
            host.is_down = False
            self._network.free(self._dark.pop(node_id))
        return self._start(node_id)

    def _kill(self, node: gmp.Node) -> None:
        """End a node without a word, as in a child of `fork`, where it must do nothing more either."""
        core = node._core
        if core.life.state not in ("closed", "forked"):
            core.life.forked()
            core.ports.closed_because = "has crashed in the simulation"

    # ---- faults: all of them

    def heal(self) -> None:
        """End every fault that lasts, and all trouble; nodes that trouble has crashed are started again."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            trouble.end()
        if self._lasting or trouble is not None:
            self.note("heal")
        for fault in list(self._lasting):
            fault.end()

    def trouble(
        self,
        *,
        every: float = 20.0,
        lasting: float = 10.0,
        kinds: Collection[str] = KINDS,
        spare: Collection[str] = (),
    ) -> None:
        """Let things go wrong at random from now on until `heal`; the seed decides what, when and for how long.

        A fault begins after `every` seconds in the mean, and lasts `lasting` seconds in the mean. `kinds` are some of
        "partition" (of a node from all others), "one way", "delay", "throttle", "reset", "half close", "stop", "clock" (it
        jumps), "crash" and "vanish" (of a node, which is started again) and "restart" (a crash of less than half a second).
        `spare`: nodes to which no fault is done.
        """
        if self._trouble is not None:
            raise SimulationError("there is trouble already: heal ends it")
        spare = self._names(spare)
        only, happened = self._only_faults, self._happened
        self._trouble = Trouble(
            self, every=every, lasting=lasting, kinds=kinds, spare=spare, only=only, happened=happened
        )

    def _happened(self, number: int, text: str) -> None:
        self.faults[number] = f"{number}: at {self.now:.3f} s, {text}"
        self.note(f"fault {number}")


def _check_settings(settings: dict[str, Any]) -> None:
    for name, why in _NOT_SIMULATED.items():
        if settings.get(name) is not None:
            raise SimulationError(f"{name} cannot be simulated: {why}")
    if "secret" in settings and settings["secret"] is None:
        raise SimulationError("secret=None: the user's secret file is a real one: give a secret, or leave secret away")
