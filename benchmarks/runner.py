"""Runs contenders in turn, round by round, so that a disturbance of the machine does not fall on one of them alone.

Order: round, workload, contender: what is compared with each other runs one right after the other. Before each run
the runner waits (a while at most) until the machine is idle, and notes how busy it was.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.workloads import ONE_CORE, SECONDS

IDLE = 0.15  # share of the processors that may be busy
Figures = dict[str, dict[str, dict[str, list[float]]]]  # workload -> metric -> contender -> one value a round


class Results:
    """Figures as they come in."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.failures: list[str] = []
        self.busy: list[float] = []  #: share of busy processors before each run

    def add(self, workload: str, contender: str, lines: Sequence[str]) -> int:
        """Take the lines of one run; return how many figures they had."""
        count = 0
        for line in lines:
            if line.startswith('{"metric"'):
                figure = json.loads(line)
                of_metric = self.figures.setdefault(workload, {}).setdefault(figure["metric"], {})
                of_metric.setdefault(contender, []).append(figure["value"])
                count += 1
        return count


def run_rounds(
    rounds: int,
    workloads: Sequence[str],
    contenders: Sequence[Contender],
    python: str,
    folder: Path,
    *,
    patience: float,
    tell: Callable[[str], None],
    keep: Callable[[Results, int], None],
) -> Results:
    """Measure. `patience`: seconds to wait for an idle machine before each run. `folder`: for what runs need.

    `keep` gets what is known after each round, so that a long run that is interrupted was not for nothing.
    """
    results = Results()
    for number in range(rounds):
        for workload in workloads:
            for contender in contenders:
                if workload in contender.programs:
                    results.busy.append(wait_until_idle(patience))
                    problem = run_once(results, workload, contender, python, folder)
                    tell(f"round {number + 1}: {workload} {contender.name} {problem or 'done'}")
        keep(results, number + 1)
    return results


def run_once(results: Results, workload: str, contender: Contender, python: str, folder: Path) -> str:
    """One run of one workload; returns what went wrong with it."""
    environment: dict[str, str] = {**os.environ, **dict(contender.variables), "PYTHONUNBUFFERED": "1"}
    environment["GMP_CONFIG"] = str(folder / "config.toml")
    if contender.tls:
        environment["GMP_BENCH_TLS"] = str(folder)
    command = contender.command(workload, python)
    if ONE_CORE in workload:
        command = ["taskset", "-c", "0", *command]
    process = subprocess.Popen(
        command,
        cwd=contender.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
        status: Any = process.returncode
    except subprocess.TimeoutExpired:
        output, status = "", f"no end within {SECONDS:.0f} s"
    finally:
        end_session(process)
    if results.add(workload, contender.name, output.splitlines()) and status == 0:
        return ""
    problem = f"FAILED ({status}): {output.strip()[-400:]}"
    results.failures.append(f"{workload} {contender.name} {problem}")
    return problem


def end_session(process: subprocess.Popen[str]) -> None:
    """End all that a run has started, whatever became of it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def wait_until_idle(patience: float) -> float:
    """Wait until others leave the machine alone; return how busy it was at the end."""
    deadline = time.monotonic() + patience
    while True:
        share = busy_share(0.15)
        if share < IDLE or time.monotonic() > deadline:
            return share
        time.sleep(0.1)


def busy_share(seconds: float) -> float:
    """How much of all processors is in use, measured for `seconds`."""

    def read() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(text) for text in file.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1.0 - (idle_after - idle) / max(1, total_after - total)
