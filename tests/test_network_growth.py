"""What a node pays does not depend on how many others there are, and what a seed pays grows by the same for each of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from gevent import subprocess

from benchmarks import simulated

SMALL, LARGE = 20, 80


@pytest.fixture(scope="module")
def figures() -> dict[tuple[str, int], dict[str, Any]]:
    rows = [row for nodes in (SMALL, LARGE) for row in simulated.in_process(nodes, 1, ["join", "idle", "herd"])]
    return {(row["stage"], row["nodes"]): row for row in rows}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stage", ["join", "idle", "herd"])
def test_an_ordinary_node_pays_the_same_in_a_larger_network(figures: Any, stage: str) -> None:
    small, large = (figures[stage, nodes] for nodes in (SMALL, LARGE))
    assert small["connections"] == large["connections"] == simulated.seeds_for(SMALL)
    assert 500 < large["bytes"] < 1.1 * small["bytes"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stage", ["join", "idle", "herd"])
def test_a_seed_pays_the_same_for_each_node_of_a_larger_network(figures: Any, stage: str) -> None:
    small, large = (figures[stage, nodes] for nodes in (SMALL, LARGE))
    assert 500 < large["seed_bytes_per_node"] < 1.2 * small["seed_bytes_per_node"]


@pytest.mark.timeout(120)
def test_the_command_prints_and_saves_what_it_measured(tmp_path: Path) -> None:
    saved = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.simulated", "--nodes", "13", "--save", str(saved)]
    ended = subprocess.run(command, cwd=simulated.ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(saved.read_text(encoding="utf-8"))
    assert [row["stage"] for row in rows] == list(simulated.STAGES)
    assert f"| 13 | 3 | join | {rows[0]['seconds']} | {rows[0]['bytes']:,} |" in ended.stdout


def test_the_page_has_the_figures_that_were_saved() -> None:
    docs = simulated.ROOT / "docs"
    table = simulated.table(json.loads((docs / "growth.json").read_text(encoding="utf-8")))
    assert f"\n{table}\n" in (docs / "growth.md").read_text(encoding="utf-8")
