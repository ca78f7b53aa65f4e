"""More programs for `python -m tests.simulated --program NAME`: nodes of several versions, ways that change, supervisors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import gmp
from gmp.net import handshakes
from gmp.testing import Simulation
from gmp.wire.beside import LEAST, WORTH
from gmp.wire.requests import CHUNKS, FRAMES, RUNS
from tests import senders
from tests.simulated import PRIVATE, QUICK, SETTLED, Players, check, history

NODES: dict[str, dict[str, Any]] = {"seed0": {}, "seed1": {}, "node0": {}, "private0": PRIVATE, "private1": PRIVATE}
#: of a greeting, which older nodes do not say
LATER_KEYS = (RUNS.name, CHUNKS.name, FRAMES.name, "heartbeat", "keepalive")


@contextmanager
def older(names: set[str]) -> Iterator[None]:
    """Let nodes of these names greet as a former version does; `names` may change meanwhile."""
    real = handshakes.Session

    def session(*, node_id: str, keys: dict[str, str], **settings: Any) -> Any:
        if node_id in names:
            keys = {key: value for key, value in keys.items() if key not in LATER_KEYS}
        return real(node_id=node_id, keys=keys, **settings)

    handshakes.Session = session  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        handshakes.Session = real  # type: ignore[misc]


def upgrade(sim: Simulation, *, seconds: float = 15.0) -> set[tuple[bool, bool]]:
    """Nodes of a former version are restarted one by one as nodes of this one, while all go on sending.

    Return which kinds were connected: whether a node is a former one, and whether the other was seen to know of batches.
    """
    lots, players, names = Random(f"{sim.seed}/upgrade"), Players(sim.seed), set(NODES)
    wrong, met = players.history.wrong, set()
    with older(names):
        for name, settings in NODES.items():
            sim.node(name, players.start, **QUICK, **settings)
        sim.settle()
        order = list(NODES)
        lots.shuffle(order)
        for name in order:
            until = sim.now + lots.uniform(0.5, 2) * seconds / len(order)
            sim.run_until(lambda until=until: wrong or sim.now >= until, timeout=seconds)
            for node in sim:
                for peer in linked(node):
                    knows = peer.admits(RUNS.name)
                    assert knows is (peer.node_id not in names)
                    met.add((node.id in names, knows))
            if lots.random() < 0.5:
                sim.crash(name)
                sim.run(lots.uniform(0, 1.5))
            else:
                sim[name].close()
            names.discard(name)
            sim.restart(name)
        check(sim, players)
    return met


def large(sim: Simulation, *, seconds: float = 15.0) -> None:
    """As `history`, but some messages hold octets that travel beside them: few, as there are senders that never wait."""
    usual, senders.SIZES = senders.SIZES, (0, 10, 10, 10, 1000) * 16 + (WORTH, 5 * LEAST)
    try:
        history(sim, seconds=seconds)
    finally:
        senders.SIZES = usual


def linked(node: gmp.Node) -> list[Any]:
    """The peers that a node has a direct connection with."""
    return [] if node.closed else [peer for peer in node._core.network.up_peers() if peer.is_linked]


def handover(sim: Simulation, *, seconds: float = 15.0) -> tuple[int, int]:
    """Pairs of nodes that cannot reach each other any more go on through seeds, and directly again when they can.

    Return how often a pair was seen to go through seeds, and how often directly after that.
    """
    lots, players = Random(f"{sim.seed}/handover"), Players(sim.seed)
    wrong = players.history.wrong
    for name in ("seed0", "seed1", "node0", "node1", "node2"):
        sim.node(name, players.start, **QUICK)
    relayed = direct = 0
    until = sim.now + seconds
    while sim.now < until and not wrong:
        pair = lots.sample(["node0", "node1", "node2"], 2)
        with sim.partition(*pair):
            for one, other in (pair, pair[::-1]):
                if lots.random() < 0.8:
                    sim.reset(one, other)
            sim.run(lots.uniform(2, 8))
            was = is_relayed(sim, *pair)
            relayed += was
            if lots.random() < 0.2:
                sim.restart(lots.choice(["seed0", "seed1"]))
                sim.run(lots.uniform(0, 0.5))
        sim.run(lots.uniform(0.5, 6))
        direct += was and not is_relayed(sim, *pair)
    check(sim, players)
    return relayed, direct


def is_relayed(sim: Simulation, one: str, other: str) -> bool:
    """Whether a node's way to another goes through seeds."""
    return bool(sim[one].stats()["peers"].get(other, {}).get("relayed"))


CHILDREN = "first", "second", "third"


def child(port: gmp.Port, name: str) -> None:
    """A child of a supervisor: a member of a group, which answers."""
    node = port.ports.node
    node.group("children").join(port, name)
    port.on("who", lambda reply: node.send(reply, name))


def supervisors(sim: Simulation, *, seconds: float = 15.0) -> None:
    """A supervisor keeps a port on each of three nodes, while they and its own node crash and lose each other."""

    def boss(node: gmp.Node) -> None:
        children = [
            gmp.Child("tests.simulated_programs:child", name, node=f"node{number}", name=name)
            for number, name in enumerate(CHILDREN)
        ]
        node.supervise(children, max_restarts=100_000, period=1.0)

    sim.node("seed0", **QUICK)
    sim.node("seed1", **QUICK)
    for number in range(len(CHILDREN)):
        sim.node(f"node{number}", allow=["tests.simulated_programs"], **QUICK)
    sim.node("boss", boss, **QUICK)
    sim.settle()
    sim.trouble(every=1.0, lasting=2.0)
    sim.run(seconds)
    sim.heal()

    def each_once() -> bool:
        views = [node.group("children").members() for node in sim]
        return all(sorted(view.values()) == sorted(CHILDREN) and dict(view) == dict(views[0]) for view in views)

    sim.run_until(each_once, timeout=SETTLED)
    sim.run(5)
    assert each_once(), "a child was not there any more"
    for port_id, name in dict(sim["boss"].group("children").members()).items():
        assert sim["seed0"].call(port_id, "who", timeout=5) == (name,)


AT = {"private0": "seed0", "private1": "seed1", "private2": "seed1"}  # the one seed that each private node knows
SIDES = [("private0", "private1"), ("private0", "private2")]  # what these send each other goes through both seeds
LOSSES = "reset", "crash", "vanish", "partition"  # of a private node and its seed
TOLD = 3 * float(QUICK["lost_after"])  # virtual seconds within which each must know that another one is lost
SEED_TELLS = {**QUICK, "busy_after": None, "hung_after": None}  # no silence tells of a loss


def hops(sim: Simulation, *, seconds: float = 15.0) -> int:
    """Private nodes talk through two seeds. One loses its seed: who is at the other seed, and it itself, must soon know.

    Return how many such losses there were.
    """
    lots, players = Random(f"{sim.seed}/hops"), Players(sim.seed)
    wrong = players.history.wrong
    for name in ("seed0", "seed1"):
        sim.node(name, **SEED_TELLS)  # without receivers: nobody connects with the other seed for their sake
    for name, seed in AT.items():
        sim.node(name, players.start, seeds=sim[seed].binds, **SEED_TELLS, **PRIVATE)
    losses, until = 0, sim.now + seconds
    while sim.now < until and not wrong:
        sim.run_until(lambda: wrong or all(is_relayed(sim, *pair) for pair in SIDES), timeout=SETTLED)
        sim.run(lots.uniform(0, 2))
        victim = lots.choice([*AT])
        lose_seed(sim, players, victim, lots.choice(LOSSES))
        losses += 1
        sim.heal()
        if sim[victim].closed:
            sim.restart(victim)
    check(sim, players)
    return losses


def lose_seed(sim: Simulation, players: Players, victim: str, how: str) -> None:
    """Let a private node and its seed lose each other. *Raises:* `AssertionError` if somebody is not told in time."""
    untold: set[tuple[str, str]] = set()  # who watches, and whom

    def watch(one: str, other: str) -> None:
        untold.add((one, other))
        sim[one].monitor(players.receivers(other)[0], lambda *reason: untold.discard((one, other)))

    for pair in SIDES:
        if victim in pair and is_relayed(sim, *pair) and is_relayed(sim, *pair[::-1]):
            other = pair[pair[0] == victim]
            watch(other, victim)
            if how in ("reset", "partition"):
                watch(victim, other)
    if how in ("crash", "vanish"):
        getattr(sim, how)(victim)
    else:
        getattr(sim, how)(victim, AT[victim])
    until = sim.now + TOLD
    sim.run_until(lambda: players.history.wrong or not untold or sim.now >= until, timeout=2 * TOLD)
    assert not untold, f"{how} of {victim} and {AT[victim]}: after {TOLD:g} s not told, and of whom: {sorted(untold)}"
