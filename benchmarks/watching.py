"""What watching costs: ``python -m benchmarks.watching [--rounds 5]``.

Two processes send tiny messages one way and make calls, unwatched, with a dashboard that looks at both each second, with
Prometheus scraping both each second, and with OpenTelemetry tracing every message (a provider without exporter). The
modes take turns within each round, and the table shows medians and ratios to the unwatched ones of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event

import gmp

ONE_WAY, CALLS, CALLERS = 100_000, 10_000, 20
MODES = ("unwatched", "dashboard", "metrics", "tracing")


@gmp.spawnable
def receiver(port: gmp.Port) -> None:
    """Counts messages and answers calls."""
    count = 0
    for message in port:
        match message:
            case ("tag", _):
                count += 1
            case ("count", reply):
                gmp.send(reply, count)
                count = 0
            case ("call", reply):
                gmp.send(reply, "done")


def near(mode: str) -> None:
    """The process that sends: measures, and prints figures as JSON."""
    node = gmp.configure(node_id="near", binds=["127.0.0.1:0"])
    command = [sys.executable, "-m", "benchmarks.watching", "--far", mode, node.binds[0]]
    far = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        (there,) = node.group("receivers").wait(timeout=30)
        stop = watch(mode, node)
        node.call(there, "call")
        print(json.dumps({"one way msg/s": one_way(node, there), "calls/s": calls(node, there)}), flush=True)
        stop()
    finally:
        assert far.stdin is not None
        far.stdin.close()
        far.wait()
        node.close()


def watch(mode: str, node: gmp.Node) -> Callable[[], Any]:
    """Switch on what is measured; returns what switches it off."""
    if mode == "dashboard":
        from gmp.services.dashboard import Dashboard

        app = Dashboard(node=node)
        assert app.watcher.wait(3, 10)
        return app.close
    if mode == "metrics":
        from prometheus_client import CollectorRegistry, generate_latest

        from gmp.services.metrics import register

        registry = CollectorRegistry()
        register(registry, node)

        def scrape() -> None:
            while True:
                generate_latest(registry)
                gevent.sleep(1)

        return gevent.spawn(scrape).kill
    if mode == "tracing":
        from opentelemetry.sdk.trace import TracerProvider

        from gmp.services.tracing import instrument

        instrument(node, tracer_provider=TracerProvider())
    return lambda: None


def one_way(node: gmp.Node, there: str) -> float:
    """Messages per second, from the first send to the receiver's count of the last."""
    began = time.perf_counter()
    for number in range(ONE_WAY):
        node.send(there, "tag", number)
        if number % 500 == 499:
            gevent.sleep(0)
    (count,) = node.call(there, "count", timeout=120)
    assert count == ONE_WAY, count
    return ONE_WAY / (time.perf_counter() - began)


def calls(node: gmp.Node, there: str) -> float:
    """Calls per second of some callers at once."""

    def caller() -> None:
        for _ in range(CALLS // CALLERS):
            node.call(there, "call", timeout=120)

    began = time.perf_counter()
    gevent.joinall([gevent.spawn(caller) for _ in range(CALLERS)], raise_error=True)
    return CALLS / (time.perf_counter() - began)


def far(mode: str, seed: str) -> None:
    """The process that receives, until its standard input ends."""
    node = gmp.configure(node_id="far", binds=["127.0.0.1:0"], seeds=[seed])
    stop = watch(mode, node) if mode != "dashboard" else lambda: None  # one dashboard looks at both
    node.group("receivers").join(node.port(receiver))
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    stop()
    node.close()


def main() -> None:
    """Run the rounds, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching", description="Measure what watching costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--near", metavar="MODE", help=argparse.SUPPRESS)
    parser.add_argument("--far", nargs=2, metavar=("MODE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.near:
        near(options.near)
        return
    if options.far:
        far(*options.far)
        return
    results: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    environ = {**os.environ, "GMP_SECRET": os.urandom(16).hex()}
    for _ in range(options.rounds):
        for mode in MODES:
            command = [sys.executable, "-m", "benchmarks.watching", "--near", mode]
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True, timeout=300)
            results[mode].append(json.loads(done.stdout))
    print(f"{'':12}" + "".join(f"{name:>16}{'ratio':>8}{'spread':>18}" for name in results["unwatched"][0]))
    for mode, rounds in results.items():
        row = f"{mode:12}"
        for name in rounds[0]:
            figures = sorted(each[name] for each in rounds)
            plain = statistics.median(each[name] for each in results["unwatched"])
            median = statistics.median(figures)
            row += f"{median:16,.0f}{median / plain:8.2f}{figures[0]:>9,.0f}..{figures[-1]:,.0f}"
        print(row)


if __name__ == "__main__":
    main()
