"""The pytest fixture `simulation`, in runs of pytest of their own; and that it costs those nothing who do not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def pytest_of(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in `source`, with the plugin and none of gmp's own settings."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (folder / "test_it.py").write_text(source)
    program = [sys.executable, "-m", "pytest", "-p", "gmp_pytest", "-p", "no:xdist", "-v", *options, "test_it.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("CI", "BUILD_NUMBER"):  # where one is set, pytest's summary tells each failure whole a second time
        environment.pop(name, None)
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_a_test_gets_a_network_in_virtual_time(tmp_path: Path) -> None:
    ended = pytest_of(
        tmp_path,
        """
import pytest

def test_an_hour(simulation):
    here, there = simulation.node("here"), simulation.node("there")
    port = there.port(lambda port: [there.send(reply, text) for text, reply in port])
    assert here.call(port.id, "hello") == ("hello",)
    simulation.run(3600)
    assert simulation.seed == 0

@pytest.mark.simulation(seed=7, lost_after=5.0)
def test_arguments(simulation):
    assert simulation.seed == 7
    assert simulation.node("one")._core.settings.lost_after == 5.0

@pytest.mark.simulation(seeds=2)
@pytest.mark.parametrize("simulation", [3, 4], indirect=True)
def test_seeds(simulation):
    nodes = [simulation.node(f"node{number}") for number in range(3)]
    simulation.settle()
    assert simulation.seed in (3, 4)
    simulation.run_until(lambda: len(nodes[2].up_nodes()) == 2)
""",
    )
    assert "4 passed" in ended.stdout, ended.stdout


def test_a_failure_tells_seed_and_events_and_the_next_test_has_a_network_of_its_own(tmp_path: Path) -> None:
    ended = pytest_of(
        tmp_path,
        """
import pytest

@pytest.mark.simulation(seed=42)
def test_fails(simulation):
    simulation.node("one")
    simulation.run(12)
    simulation.note("something happens")
    assert simulation.now < 1

def test_passes(simulation):
    assert simulation.now == 0
    simulation.node("one")
    simulation.settle()

def test_uses_none():
    assert False, "another one"
""",
    )
    assert "2 failed, 1 passed" in ended.stdout, ended.stdout
    assert ended.stdout.count("Simulation(seed=42) at 12.0") == 1
    assert "something happens" in ended.stdout


def test_who_does_not_use_it_imports_nothing_of_gmp(tmp_path: Path) -> None:
    ended = pytest_of(
        tmp_path,
        """
import sys

def test_nothing():
    assert [name for name in sys.modules if name.partition(".")[0] in ("gmp", "gevent", "msgpack")] == []
""",
        "-p", "no:gevent",
    )  # fmt: skip
    assert "1 passed" in ended.stdout, ended.stdout


def test_pytest_finds_it_by_its_entry_point() -> None:
    settings = (ROOT / "setup.cfg").read_text()
    assert "pytest11 =\n    gmp_pytest = gmp_pytest\n" in settings
    assert "    gmp_pytest\n" in settings.partition("py_modules =")[2].partition("python_requires")[0]
