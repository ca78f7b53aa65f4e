"""What all measuring programs in Python share: the result lines, the clock, and the far process.

A program is run as ``python -m benchmarks.programs.NAME WORKLOAD``. It starts its far side by itself, warms the link up,
measures, prints one line of JSON for each figure and ends. Nothing here needs gmp: peers run in environments of their own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

now = time.perf_counter
KIB, MIB = 1 << 10, 1 << 20
LARGE = {  # how many messages, and their size
    "W4b": (1_000, MIB),
    "W4b 64 KiB": (16_000, 64 * KIB),
    "W4b 256 KiB": (4_000, 256 * KIB),
    "W4b 4 MiB": (250, 4 * MIB),
    "W4b 16 MiB": (60, 16 * MIB),
    "W4b 64 MiB": (16, 64 * MIB),
}
PACE = 1000  # messages that W1's sender sends before it lets others run: as much as AnyEvent::MP's figure was measured with


def emit(metric: str, value: float) -> None:
    """Report one figure."""
    print(json.dumps({"metric": metric, "value": value}), flush=True)


def emit_rate(count: int, seconds: float, size: int = 0, unit: str = "msg/s") -> None:
    """Report `count` things in `seconds`, each with `size` bytes of payload."""
    print(json.dumps({"count": count}))
    emit(unit, count / seconds)
    if size:
        emit("MB/s", count * size / seconds / 1e6)


def emit_round_trips(seconds: Iterable[float]) -> None:
    """Report the rate and the quantiles of round trips that took `seconds`."""
    ordered = sorted(seconds)
    print(json.dumps({"count": len(ordered)}))
    emit("rtt/s", len(ordered) / sum(ordered))
    emit("p50 us", 1e6 * ordered[len(ordered) // 2])
    emit("p99 us", 1e6 * ordered[len(ordered) * 99 // 100])


def scaled(count: int, least: int = 1) -> int:
    """`count`, or less for a quick trial (``GMP_BENCH_SCALE``, a factor)."""
    return max(least, int(count * float(os.environ.get("GMP_BENCH_SCALE", "1"))))


def resident() -> int:
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
    return number


class Far:
    """A far process: a module of this package that prints one line of JSON when it is ready and ends with its stdin."""

    def __init__(self, module: str, *args: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.programs.{module}", *args]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(command)} did not start")
        self.ready: Any = json.loads(line)

    def __enter__(self) -> Far:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def ready(value: Any) -> None:
    """Tell the near side, from a far process, that we are ready, and where."""
    print(json.dumps(value), flush=True)


def main(workloads: Mapping[str, Callable[[], None]], far: Callable[..., None] | None = None) -> None:
    """Run the workload, or the far side, that the command line names."""
    what = sys.argv[1]
    if what == "far":
        assert far is not None
        far(*sys.argv[2:])
    else:
        workloads[what]()
    sys.stdout.flush()
    os._exit(0)  # what threads and loops a library leaves behind is not measured
