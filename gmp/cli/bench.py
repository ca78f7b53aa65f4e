"""`gmp bench`: measures how fast messages travel to another node and back.

The other node needs nothing for it: its node port's request ``snd`` sends the rest of a message on, here back to us, on gmp
and Perl nodes alike. One message at a time gives the round trip, many under way at once the rate.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gevent
import gevent.subprocess as subprocess

import gmp
from gmp.cli.common.interrupts import held
from gmp.wire.requests import SND

START_TIMEOUT = 30.0
PARTNER = """
import sys, gmp
node = gmp.configure(node_id="bench-partner", binds=["127.0.0.1:0"], seeds=[])
print(node.binds[0], flush=True)
from gevent.os import make_nonblocking, nb_read
make_nonblocking(0)
while nb_read(0, 4096):
    pass
node.close()
"""


@dataclass
class Result:
    """The measurements: round trips in seconds, rates of round trips per second, bytes per second each way."""

    node_id: str
    size: int
    round_trip_median: float
    round_trip_p99: float
    messages_per_second: float
    bytes_per_second: float


def measure(node: gmp.Node, node_id: str, size: int, seconds: float, window: int) -> Result:
    """Measure for `seconds`, half of that time with one message under way.

    *Raises:* `PortDied`, `ReceiveTimeout`. *Blocks:* as long.
    """
    port = node.port()
    payload = b"x" * size
    with node.monitor(node_id, port):
        times: list[float] = []
        until = time.monotonic() + seconds / 2
        while not times or time.monotonic() < until:
            began = time.perf_counter()
            node.send(node_id, SND, port, payload)
            port.receive(timeout=START_TIMEOUT)
            times.append(time.perf_counter() - began)
        count, began = 0, time.monotonic()
        until = began + seconds / 2
        for _ in range(window):
            node.send(node_id, SND, port, payload)
        while not count or time.monotonic() < until:
            port.receive(timeout=START_TIMEOUT)
            count += 1
            node.send(node_id, SND, port, payload)
        took = time.monotonic() - began
    rate = count / took
    p99 = statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]
    return Result(node_id, size, statistics.median(times), p99, rate, rate * size)


@contextmanager
def partner(secret: str) -> Iterator[str]:
    """Start a node in another process on this machine, and yield its address; end the process afterwards."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GMP_") or key == "GMP_CONFIG"}
    process: subprocess.Popen[bytes] | None = None
    try:
        with held():  # race: Ctrl-C between the start of the process and the name it gets here
            process = subprocess.Popen(
                [sys.executable, "-c", PARTNER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C at the terminal is for the parent, which ends it
                env=environ | {"GMP_SECRET": secret},
            )
        assert process.stdout is not None
        with gevent.Timeout(START_TIMEOUT, gmp.GmpError(f"the other process did not start within {START_TIMEOUT:g} s")):
            address = process.stdout.readline().decode().strip()
        if not address:
            raise gmp.GmpError(f"the other process ended while starting, exit code {process.wait()}")
        yield address
    finally:
        if process is not None:
            process.kill()  # it has nothing to lose
            process.communicate()
