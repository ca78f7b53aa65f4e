"""The wall clock jumps, both ways, between two lives of a node and in one: nothing depends on it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

import gmp
from gmp.ids import make_incarnation
from gmp.net.peer import Peer
from gmp.outside import clock
from gmp.testing import Simulation
from tests.conftest import Recorder, eventually
from tests.test_mesh import crash
from tests.test_nodes import echo

MakeNode = Callable[..., gmp.Node]
SHIFTS = [0.0, -5.0, 0.0, 3600.0, -3600.0]  # seconds, of one life after the other


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock by which nodes that start from now on name their incarnation."""

    def set_clock(seconds: float) -> None:
        monkeypatch.setattr(
            "gmp.kernel.core.make_incarnation", lambda now, bits: make_incarnation(now + int(seconds * 1e9), bits)
        )

    return set_clock


def check_reached(watcher: gmp.Node, node: gmp.Node, port: gmp.Port, timeout: float = 10.0) -> None:
    """What is sent arrives at this life of `node`, and its group shows this life's port alone."""
    eventually(lambda: list(watcher.group("workers").members()) == [port.id], timeout)
    assert watcher.call(port.id, "hi", timeout=timeout) == ("echo", "hi")


def test_a_node_that_left_and_comes_back_earlier_is_taken_in_at_once(
    make_node: MakeNode, set_clock: Callable[[float], None]
) -> None:
    seed = make_node("seed", seeds=[])
    watcher = make_node("watcher", binds=[], seeds=seed.binds)
    for shift in SHIFTS:
        set_clock(shift)
        worker = make_node("worker", binds=[], seeds=seed.binds)
        worker.group("workers").join(port := echo(worker))
        check_reached(seed, worker, port)
        check_reached(watcher, worker, port)
        worker.close()


def test_so_is_one_that_was_killed(make_node: MakeNode, set_clock: Callable[[float], None]) -> None:
    seed = make_node("seed", seeds=[])
    for shift in SHIFTS:
        set_clock(shift)
        worker = make_node("worker", binds=[], seeds=seed.binds)
        worker.group("workers").join(port := echo(worker))
        check_reached(seed, worker, port)
        crash(worker)


def test_so_is_a_seed_and_what_it_tells_other_seeds(
    make_node: MakeNode, set_clock: Callable[[float], None]
) -> None:
    first = make_node("seed1", seeds=[])
    address: list[str] = ["127.0.0.1:0"]
    for shift in SHIFTS:
        set_clock(shift)
        second = make_node("seed2", binds=address, seeds=first.binds)
        address = second.binds
        second._core.mesh.backbone.become_global()
        second.group("workers").join(port := echo(second))
        check_reached(first, second, port)
        set_clock(0)
        watcher = make_node("watcher", binds=[], seeds=second.binds)
        check_reached(watcher, second, port)
        watcher.close()
        second.close()


def test_so_is_one_that_attaches_to_another_seed_than_before(
    make_node: MakeNode, set_clock: Callable[[float], None]
) -> None:
    seeds = [make_node("seed1", seeds=[])]
    seeds.append(make_node("seed2", seeds=seeds[0].binds))
    seeds[1]._core.mesh.backbone.become_global()
    eventually(lambda: seeds[0].is_up("seed2"))
    for number, shift in enumerate(SHIFTS):
        set_clock(shift)
        worker = make_node("worker", binds=[], seeds=seeds[number % 2].binds)
        worker.group("workers").join(port := echo(worker))
        for seed in seeds:
            check_reached(seed, worker, port)
        worker.close()


def test_so_is_one_that_is_reached_through_a_seed(make_node: MakeNode, set_clock: Callable[[float], None]) -> None:
    seed = make_node("seed", seeds=[])
    watchers = [make_node(name, binds=[], seeds=seed.binds) for name in ("alice", "zoe")]  # who opens, and who asks
    for shift in SHIFTS:
        set_clock(shift)
        worker = make_node("worker", binds=[], seeds=seed.binds)
        worker.group("workers").join(port := echo(worker))
        for watcher in watchers:
            check_reached(watcher, worker, port, timeout=20.0)
            assert not watcher._core.ground.is_linked("worker")
        worker.close()


def test_what_is_late_of_a_former_incarnation_is_refused_by_relay_for_a_while() -> None:
    peer = Peer("node", None, max_message=1, high_mark=1, low_mark=1)  # type: ignore[arg-type]  # tells nobody here
    peer.link.met("i2", 1)
    peer.rests(time.monotonic(), was_up=True)
    assert peer.is_former("i1")
    assert not peer.is_former("i2")
    assert not peer.is_former("i3")
    peer.rests(time.monotonic() - 31.0, was_up=True)
    assert not peer.is_former("i1"), "time makes room"
    peer.rests(time.monotonic(), was_up=True)
    peer.ended = True
    assert not peer.is_former("i1"), "a leave makes room"


def test_jumps_of_the_wall_clock_change_nothing_in_a_running_network(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, real_ns, shift = time.time, time.time_ns, 0.0
    monkeypatch.setattr(clock, "time", lambda: real() + shift)
    monkeypatch.setattr(clock, "time_ns", lambda: real_ns() + int(shift * 1e9))
    rng = random.Random(1)
    seed = make_node("seed", seeds=[])
    node = make_node("node", binds=[], seeds=seed.binds)
    port = echo(node)
    node.group("workers").join(port)
    seed.group("workers").wait(timeout=10)
    seed.monitor_nodes(recorder)
    fired: list[Any] = []
    for number in range(20):
        shift = rng.choice([-1, 1]) * rng.random() * 10**7
        node.after(0.01, lambda number=number: fired.append(number))
        assert seed.call(port.id, number, timeout=5) == ("echo", number)
    eventually(lambda: len(fired) == 20)
    with pytest.raises(gmp.CallTimeout):
        seed.call(seed.port(), "anybody?", timeout=0.1)
    assert recorder.calls == []
    assert list(seed.group("workers").members()) == [port.id]


@pytest.mark.parametrize("seed", range(8))
def test_a_node_with_its_clock_set_back_is_seen_by_a_seed_that_saw_its_end(seed: int) -> None:
    """It attaches to one of the seeds; the first has been restarted, and knows nothing of the former life."""
    with Simulation(seed, seeds=2) as sim:
        for name in ("seed0", "seed1"):
            sim.node(name)
        sim.node("node", lambda node: node.group("them").join(node.port()))
        sim.settle()
        sim.run(1)
        sim.crash("node")
        sim.crash("seed0")
        sim.run(1)
        sim.restart("seed0")
        sim.run_until(lambda: sim["seed0"].is_up("seed1"))
        sim.jump_clock("node", -3600)
        sim.restart("node")
        for node in sim:
            sim.run_until(node.group("them").members, timeout=3)
