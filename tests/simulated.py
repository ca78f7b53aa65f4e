"""gmp's promises in virtual time: `python -m tests.simulated --seeds 0:1000`.

Each seed is a history (`tests.history`): a small network on simulated hosts, ports that send in every way and learn of
losses in every way, faults at random; the log of all events is checked, and in the end everything is healed: all must see
all receivers, and be able to talk to all.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import gmp
from gmp.testing import Simulation, shrink
from tests.history import History
from tests.senders import Sender, Stage, combinations

SENDERS = 2  # of each node
SPARSE = 0.9  # of the histories: senders rest after each step, so that more seeds run in the same time
PRIVATE: dict[str, Any] = {"binds": []}  # two that nobody can dial: what they send each other goes through seeds
KNOWN = Path(__file__).with_name("simulated_seeds.txt")  # every seed that ever failed
# Virtual seconds after the end of all faults within which each node sees exactly the receivers that live; mostly it takes
# less than five.
SETTLED = 20.0
slowest = [0.0]  # virtual seconds that this took
QUICK = {
    "address_timeout": 0.5, "connect_timeout": 3.0, "leave_timeout": 0.5, "handshake_timeout": 2.0, "lost_after": 4.0,
    "busy_after": 3.0, "hung_after": 8.0,
}  # fmt: skip


class Players:
    """What runs on the nodes of one history: receivers, and senders that know each other's receivers by a group."""

    def __init__(self, seed: int | str, *, calm: bool = False) -> None:
        self.history = History()
        self._random = random.Random(f"{seed}/history")
        self._calm = calm
        self._combinations = combinations(self._random)
        self._stages: dict[str, Stage] = {}
        self._receivers: dict[str, set[str]] = {}  # by node

    def start(self, node: gmp.Node) -> None:
        """Start the ports of one node; those of its former life are no more."""
        before = self._stages.pop(node.id, None)
        if before is not None:
            before.close()
        receivers = [node.port(lambda port: [self._received(node, port.id, *message) for message in port]), node.port()]
        receivers[1].on(None, lambda *message: self._received(node, receivers[1].id, *message))
        for receiver in receivers:
            node.group("receivers").join(receiver)
        self._receivers[node.id] = {receiver.id for receiver in receivers}
        stage = self._stages[node.id] = Stage(node, self.history, self._random)
        stage.calm = self._calm
        for _ in range(SENDERS):
            Sender(stage, *next(self._combinations))

    def _received(self, node: gmp.Node, port_id: str, sender: str, target: str, number: int, _: bytes, *reply: str) -> None:
        self.history.append(("receive", port_id, sender, target, number))
        for caller in reply:
            node.send(caller, "got it")

    def receivers(self, node_id: str) -> list[str]:
        """The receivers of a node."""
        return sorted(self._receivers[node_id])

    def gone(self, node_id: str) -> None:
        """A node has ended, and is not started again."""
        self._stages.pop(node_id).close()
        del self._receivers[node_id]

    def unseen(self, sim: Simulation) -> str:
        """What the first node misses, or has too many, of the receivers that live; "" if all see exactly those."""
        living = set().union(*self._receivers.values())
        for node in map(sim.__getitem__, sim.living()):
            seen = set(node.group("receivers").members())
            if seen != living:
                return f"{node.id} misses {sorted(living - seen)}, has besides {sorted(seen - living)}"
        return ""

    def be_calm(self) -> None:
        """Let the senders leave time for everything else."""
        for stage in self._stages.values():
            stage.calm = True

    def close(self) -> None:
        """Nobody sends any more."""
        for stage in self._stages.values():
            stage.close()


def history(sim: Simulation, *, seconds: float = 15.0) -> History:
    """Run one history. *Raises:* `AssertionError` when a promise is broken."""
    players = Players(sim.seed, calm=random.Random(f"{sim.seed}/pace").random() < SPARSE)
    wrong = players.history.wrong
    for name, settings in (("seed0", {}), ("seed1", {}), ("node0", {}), ("private0", PRIVATE), ("private1", PRIVATE)):
        sim.node(name, players.start, **QUICK, **settings)
    lots = random.Random(f"{sim.seed}/end")
    ends = lots.choice([None, "seed1", "node0", "private0"])  # for good, while other things go wrong
    sim.trouble(every=0.7, lasting=1.5, spare=[] if ends is None else [ends])
    until = sim.now + seconds
    if ends is not None:
        at = sim.now + lots.uniform(0.3, 1) * seconds
        sim.run_until(lambda: wrong or sim.now >= at, timeout=2 * seconds)
        lots.choice([sim.crash, sim.vanish])(ends)
        players.gone(ends)
    sim.run_until(lambda: wrong or sim.now >= until, timeout=2 * seconds)
    check(sim, players)
    return players.history


def check(sim: Simulation, players: Players) -> None:
    """Heal everything, and see that all is well soon. *Raises:* `AssertionError` when not, or if a promise was broken."""
    wrong = players.history.wrong
    sim.heal()
    players.be_calm()
    healed = sim.now
    while not wrong and (unseen := players.unseen(sim)):
        assert sim.now < healed + SETTLED, f"{SETTLED:g} s after all was healed, {unseen}"
        sim.run(0.1)
    slowest[0] = max(slowest[0], sim.now - healed)
    living = [sim[node_id] for node_id in sim.living()]
    for node in living:
        for other in living:
            if not wrong and other is not node:
                sim.run_until(lambda node=node, other=other: wrong or answers(node, other.id), timeout=60)
    players.close()
    assert not wrong, wrong


def answers(node: gmp.Node, other: str) -> bool:
    """Whether a node can talk to another one."""
    try:
        return bool(node.call(other, "time", timeout=5))
    except gmp.GmpError:
        return False


def run(seed: int, seconds: float = 15.0, program: Callable[..., Any] = history) -> Simulation:
    """Run the history of one seed, or another program, with faults for so many seconds of virtual time."""
    with Simulation(seed, seeds=2) as sim:
        program(sim, seconds=seconds)
    return sim


def programs() -> dict[str, Callable[..., Any]]:
    """Every program that takes a simulation and seconds, by its name."""
    from tests import simulated_programs as others  # which are made of what is here

    more = (others.upgrade, others.handover, others.supervisors, others.hops, others.large)
    return {"history": history, **{program.__name__: program for program in more}}


def known() -> list[tuple[str, int, float]]:
    """The seeds that have failed once, each with its program, and the virtual seconds of faults with which it did."""
    lines = [line.partition("#")[0].split() for line in KNOWN.read_text().splitlines()]
    return [(program, int(seed), float(seconds)) for program, seed, seconds in filter(None, lines)]


def chosen_seeds(chosen: Any) -> Iterator[tuple[str, int, float]]:
    """The programs and seeds to run, and for how many virtual seconds each."""
    names = [*programs()] if chosen.program == "all" else [chosen.program]
    if chosen.known:
        yield from known()
    first, _, end = chosen.seeds.partition(":")
    begin = random.randrange(10**9) if first == "any" else int(first)
    if first == "any":
        print(f"seeds from {begin} on", flush=True)
    last = begin + int(end) if first == "any" and end else int(end) if end else None
    for seed in count(begin):
        if seed == last:
            return
        yield names[seed % len(names)], seed, chosen.seconds


def main(arguments: list[str]) -> int:
    """The command; returns how many seeds have failed, 99 at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = "which; any:COUNT: from a random one on; without an end: until --minutes are over"
    parser.add_argument("--seeds", default="0:20", metavar="FIRST:END", help=which)
    parser.add_argument("--known", action="store_true", help=f"before these, those that once failed ({KNOWN.name})")
    parser.add_argument("--program", choices=[*programs(), "all"], default="history", help="what runs; all: in turn")
    parser.add_argument("--seconds", type=float, default=15.0, help="virtual time with faults")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="real time after which no other seed begins")
    parser.add_argument("--first", action="store_true", help="end with the first seed that fails")
    parser.add_argument("--shrink", action="store_true", help="leave out faults that a failure does not need")
    chosen: Any = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    failed: list[int] = []
    began, virtual, ran = time.monotonic(), 0.0, 0
    for name, seed, seconds in chosen_seeds(chosen):
        if time.monotonic() - began > 60 * chosen.minutes or (failed and chosen.first):
            break
        ran += 1
        program = programs()[name]
        try:
            virtual += run(seed, seconds, program).now
        except Exception:
            failed.append(seed)
            print(f"seed {seed} failed, the {ran}th:", flush=True)
            print(f"--program {name} --seeds {seed}:{seed + 1} --seconds {seconds:g}", flush=True)
            traceback.print_exc(file=sys.stdout)
            if chosen.shrink:
                print(shrink(partial(program, seconds=seconds), seed, seeds=2))
    took = f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of the processor"
    print(f"all is well at most {slowest[0]:.1f} virtual seconds after the end of the faults")
    print(f"failed: {failed or 'none'}; {ran} seeds, {virtual:.0f} s of virtual time in {took}")
    return min(len(failed), 99)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
