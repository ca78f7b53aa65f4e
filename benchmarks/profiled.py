"""Where the nanoseconds go: ``python -m benchmarks.profiled WORKLOAD`` runs gmp's workload under py-spy.

Prints for each process the functions that were at the top of the stack, in nanoseconds per message (or call, round trip,
port) and in percent, with their busiest lines. It samples, so it costs the measured process little, and time spent in C
is told at the Python line that called it. Needs py-spy (``pip install py-spy``) and the right to trace processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.contenders import CONTENDERS, ROOT

RATE = 500  # samples a second
FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*):(?P<line>\d+)\)$")
NOT_MEASURED = ("_find_and_load", "Far.__init__", "__init__ (benchmarks/programs/measure.py", "_try_wait", "__run_task")


def record(workload: str) -> tuple[str, int]:
    """Run it; the stacks and how many things were counted."""
    profiler = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if profiler is None:
        raise SystemExit("profiles need py-spy: pip install py-spy")
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        program = [sys.executable, "-m", CONTENDERS[0].programs[workload], workload]
        command = [profiler, "record", "-r", str(RATE), "--subprocesses", "-f", "raw", "-o", str(stacks), "--", *program]
        environment = {**os.environ, "GMP_CONFIG": str(Path(folder) / "config.toml")}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        counts = [json.loads(line)["count"] for line in run.stdout.splitlines() if line.startswith('{"count"')]
        if not stacks.exists():
            raise SystemExit(f"{' '.join(command)}:\n{run.stdout}{run.stderr}")
        return stacks.read_text(), counts[0] if counts else 1


def report(stacks: str, count: int) -> None:
    """Print a table for each process."""
    functions: dict[str, Counter[str]] = defaultdict(Counter)
    lines: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for entry in stacks.splitlines():
        stack, _, samples = entry.rpartition(" ")
        if any(mark in stack for mark in NOT_MEASURED):
            continue
        process = "far" if "gmp_far" in stack else "near"
        match = FRAME.match(stack.rpartition(";")[2])
        if match:
            name = f"{match['file']} {match['function']}"
            functions[process][name] += int(samples)
            lines[process][name][match["line"]] += int(samples)
    for process, found in functions.items():
        total = sum(found.values())
        print(f"{process}: {total * 1e9 / RATE / count:,.0f} ns each, {count} of them")
        for name, samples in found.most_common(14):
            busiest = ", ".join(f"{line}: {part * 100 // total} %" for line, part in lines[process][name].most_common(4))
            print(f"  {samples * 1e9 / RATE / count:8.0f} ns  {samples * 100 / total:4.1f} %  {name}   [{busiest}]")


if __name__ == "__main__":
    report(*record(sys.argv[1]))
