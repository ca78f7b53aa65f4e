"""The benchmarks run, each of their workloads, and what they print is what was measured."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from gevent import subprocess

from benchmarks.__main__ import chosen_workloads
from benchmarks.contenders import CONTENDERS, ROOT, Contender, gmp_at
from benchmarks.report import tables
from benchmarks.runner import Results, run_once
from benchmarks.workloads import TARGETS, WORKLOADS

GMP = CONTENDERS[0]


def results_of(**figures: dict[str, dict[str, list[float]]]) -> dict[str, object]:
    return {"rounds": 3, "busy before a run": [0.1], "figures": figures, "failures": []}


def test_ratios_are_those_of_the_medians_with_the_spread_of_single_rounds() -> None:
    lines = list(tables(results_of(W1={"msg/s": {"gmp": [1.0, 3.0, 2.0], "erlang": [4.0, 2.0, 4.0]}})))
    assert "| W1 | msg/s | 2 (1 .. 3) | 4 (2 .. 4) |" in lines
    assert "| W1 | msg/s | 0.50 (0.25 .. 1.50) |" in lines


def test_no_ratio_is_between_figures_of_different_rounds() -> None:
    lines = list(tables(results_of(W3={"msg/s": {"gmp": [2.0, 4.0], "erlang": [1.0, 2.0, 3.0]}})))
    assert "| W3 | msg/s | 1.50 |" in lines


def test_targets_are_met_or_missed_in_the_direction_that_their_figure_has() -> None:
    figures = {
        "W1": {"msg/s": {"gmp": [5.0], "erlang": [10.0]}},
        "W7": {"bytes/port": {"gmp": [399.0]}},
        "W8": {"ms": {"gmp": [2.0], "erlang": [1.0]}},
    }
    lines = list(tables(results_of(**figures)))
    assert "| W1 | msg/s | at least 0.6 × erlang | 0.50 × | MISSED |" in lines
    assert "| W7 | bytes/port | at most 400 | 399 | met |" in lines
    assert "| W8 | ms | at most 1 × erlang | 2.00 × | MISSED |" in lines


def test_every_target_names_a_workload_and_a_contender_that_there_is() -> None:
    names = {contender.name for contender in CONTENDERS}
    for target in TARGETS:
        assert {target.workload, target.of or target.workload} <= WORKLOADS.keys()
        assert target.contender in names


def test_a_workload_is_chosen_with_its_variants_or_alone_and_an_unknown_one_is_refused() -> None:
    assert chosen_workloads("W2,W13 remote") == ["W2", "W2 handlers", "W13 remote"]
    with pytest.raises(SystemExit, match="no workload 'W99'"):
        chosen_workloads("W99")


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_gmp_at_an_earlier_commit_is_measured_with_that_commits_sources(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository, so there are no earlier commits")
    earlier, with_tls = gmp_at("HEAD")
    assert (earlier.name, with_tls.name) == ("gmp@HEAD", "gmp@HEAD TLS")
    assert earlier.folder != ROOT
    found = subprocess.run(
        [sys.executable, "-c", "import gmp, benchmarks.programs.measure; print(gmp.__file__)"],
        cwd=earlier.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(earlier.folder / "gmp" / "__init__.py")
    lines = list(tables(results_of(W1={"msg/s": {"gmp": [3.0], "gmp@HEAD": [2.0]}})))
    assert any(line.startswith("Ratios to gmp@HEAD (of the medians") for line in lines)
    assert "| W1 | msg/s | 1.50 (1.50 .. 1.50) |" in lines


@needs_git
def test_a_commit_that_there_is_not_is_refused() -> None:
    with pytest.raises(SystemExit, match="no commit 'no-such'"):
        gmp_at("no-such")


def test_a_run_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    results = Results()
    broken = Contender("broken", {"W1": "benchmarks.no_such_module"})
    problem = run_once(results, "W1", broken, "", tmp_path)
    assert "no_such_module" in problem
    assert results.failures
    assert not results.figures


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("workload", GMP.programs)
def test_each_workload_of_gmp_runs_through_and_counts_its_messages(
    workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMP_BENCH_SCALE", "0.02")
    results = Results()
    assert run_once(results, workload, GMP, "", tmp_path) == ""
    assert results.figures[workload]


@pytest.mark.slow
def test_the_command_measures_prints_and_saves(tmp_path: Path) -> None:
    saved = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--workload", "W1", "--peer", "gmp", "--rounds", "2"]
    run = subprocess.run(
        [*command, "--patience", "0", "--save", str(saved)],
        cwd=ROOT,
        env={**os.environ, "GMP_BENCH_SCALE": "0.02"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| W1 | msg/s |" in run.stdout
    assert len(json.loads(saved.read_text())["figures"]["W1"]["msg/s"]["gmp"]) == 2
