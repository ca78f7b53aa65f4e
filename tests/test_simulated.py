"""Promises 1 and 2 over whole histories in virtual time (`tests.simulated`), and that a broken rule is found."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gmp.kernel.losing import Loss
from gmp.testing import Simulation
from gmp.wire.beside import Frame
from tests import mutated, simulated, simulated_programs

FIRST = int(os.environ.get("GMP_SIMULATED_SEED", str(random.randrange(10**9))))


@pytest.mark.parametrize("seed", [0, FIRST], ids=["always the same", "another one"])
def test_a_history_in_virtual_time_is_right(seed: int) -> None:
    sim = simulated.run(seed, 6.0)
    assert len(sim.faults) > 2


def test_a_history_with_large_octets_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = 0, Frame.__init__

    def noted(frame: Frame, *args: Any) -> None:
        nonlocal begun
        begun += 1
        begin(frame, *args)

    monkeypatch.setattr(Frame, "__init__", noted)
    simulated.run(1, 6.0, simulated_programs.large)
    assert begun > 10


def test_nodes_of_a_former_version_are_replaced_one_by_one() -> None:
    with Simulation(0, seeds=2) as sim:
        met = simulated_programs.upgrade(sim, seconds=6.0)
    assert met == {(False, False), (False, True), (True, False), (True, True)}


def test_pairs_that_cannot_reach_each_other_go_through_seeds_and_directly_again() -> None:
    with Simulation(0, seeds=2) as sim:
        relayed, direct = simulated_programs.handover(sim, seconds=4.0)
    assert relayed >= direct > 0


@pytest.mark.parametrize("seed", [0, FIRST], ids=["always the same", "another one"])
def test_who_talks_through_seeds_is_told_when_the_other_one_is_lost_at_the_far_seed(seed: int) -> None:
    with Simulation(seed, seeds=2) as sim:
        assert simulated_programs.hops(sim, seconds=10.0) > 0


@pytest.mark.parametrize("seed", [0, FIRST], ids=["always the same", "another one"])
def test_a_supervisor_has_each_child_once_after_everything_has_crashed(seed: int) -> None:
    simulated.run(seed, 10.0, simulated_programs.supervisors)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_more_histories_of_other_seeds_are_right() -> None:
    for seed in range(FIRST + 1, FIRST + 16):
        simulated.run(seed)


def found(seeds: int) -> str:
    """What the first of so many seeds that fails has found."""
    for seed in range(seeds):
        try:
            simulated.run(seed)
        except AssertionError as error:
            return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_monitors_that_a_loss_does_not_fire_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loss, "_take", lambda self: None)
    assert "were lost, never told" in found(20)


@pytest.mark.parametrize("mutation", mutated.MUTATIONS, ids=lambda mutation: mutation.name.partition(":")[0])
def test_the_rules_that_mutations_break_stand_where_they_say(mutation: mutated.Mutation, tmp_path: Path) -> None:
    copy = tmp_path / mutation.file
    copy.parent.mkdir(parents=True)
    shutil.copy(mutated.ROOT / mutation.file, copy)
    mutation.apply(tmp_path)
    assert mutation.after in copy.read_text()
    with pytest.raises(ValueError, match="stands 0 times"):
        mutation.apply(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutation", mutated.MUTATIONS, ids=lambda mutation: mutation.name.partition(":")[0])
def test_mutations_are_found(mutation: mutated.Mutation) -> None:
    assert mutated.find(mutation, most=200).after is not None


def test_seeds_that_failed_once_can_be_read() -> None:
    assert all(seconds > 0 and program in simulated.programs() for program, _, seconds in simulated.known())
    assert ("history", 21, 6.0) in simulated.known()


def test_the_command_runs_seeds_and_tells_which_have_failed() -> None:
    program = [sys.executable, "-m", "tests.simulated", "--seeds", "5:6", "--seconds", "1"]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0
    assert "failed: none; " in ended.stdout


def test_a_history_is_the_same_in_every_process() -> None:
    program = [sys.executable, "-c", "from tests import simulated; print(simulated.run(7, 3.0).digest)"]
    ended = [
        subprocess.run(program, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=120)
        for seed in ("1", "2")
    ]
    assert ended[0].stdout == ended[1].stdout != ""
