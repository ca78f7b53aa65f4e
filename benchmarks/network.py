"""How a network grows: ``python -m benchmarks.network [--nodes 10,50,100,200] [--processes 10,20] [--seeds 3]``.

For each size: the seconds until every node knows the member that every other node has put into one group; then, while nobody
talks, the connections of an ordinary node and of a seed, and the bytes that all of them wrote, per node. Nodes are in one
process, or each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import gevent
import gevent.subprocess as subprocess

import gmp

GROUP = "all"
QUIET = 5.0  # seconds for which the idle traffic is measured


class Figures(NamedTuple):
    """What was measured of a network of one size."""

    where: str
    nodes: int
    joined: float  # seconds from the first start until every node knows all
    ordinary: float  # connections of an ordinary node, on average
    seed: float  # connections of a seed
    joining_bytes: int  # written by all nodes until then, per node
    idle_bytes: float  # written per node and second while nobody talks


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback that are free now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return found


def start(number: int, seeds: list[str], secret: str) -> gmp.Node:
    """Node `number` of a network; the first ones are the seeds."""
    binds = [seeds[number]] if number < len(seeds) else ["127.0.0.1:0"]
    node = gmp.Node(f"node{number}", binds=binds, seeds=seeds, secret=secret).start()
    node.group(GROUP).join(node.port())
    return node


def counts(node: gmp.Node) -> tuple[int, int]:
    """A node's connections, and the bytes that it has written over them."""
    peers = [peer for peer in node.stats()["peers"].values() if peer["state"] == "up"]
    return len(peers), sum(peer["sent_bytes"] for peer in peers)


def figures(
    where: str, seeds: int, joined: float, before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]
) -> Figures:
    """Averages of what the nodes counted when all had joined, and `QUIET` seconds later."""
    ordinary = [connections for connections, _ in after[seeds:]] or [0]
    at_seeds = [connections for connections, _ in after[:seeds]]
    written = [sum(sent for _, sent in each) for each in (before, after)]
    count = len(before)
    return Figures(
        where,
        count,
        joined,
        sum(ordinary) / len(ordinary),
        sum(at_seeds) / len(at_seeds),
        written[0] // count,
        (written[1] - written[0]) / count / QUIET,
    )


def in_one_process(count: int, seeds: int) -> Figures:
    """Measure a network of `count` nodes in this process."""
    addresses, secret = free_addresses(seeds), secrets.token_hex(16)
    nodes: list[gmp.Node] = []
    began = time.monotonic()
    try:
        for number in range(count):
            nodes.append(start(number, addresses, secret))
            gevent.sleep(0)
        for node in nodes:
            node.group(GROUP).wait(count, timeout=300)
        joined = time.monotonic() - began
        gevent.sleep(1.0)  # what is still on its way to seeds that are dialled again
        before = [counts(node) for node in nodes]
        gevent.sleep(QUIET)
        return figures("one process", seeds, joined, before, [counts(node) for node in nodes])
    finally:
        gevent.joinall([gevent.spawn(node.close) for node in nodes])


def in_processes(count: int, seeds: int) -> Figures:
    """Measure a network of `count` processes with a node each."""
    addresses = free_addresses(seeds)
    environment = {**os.environ, "GMP_SECRET": secrets.token_hex(16)}
    began = time.monotonic()
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.network", "--child", str(number), str(count), *addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for number in range(count)
    ]

    def ask(child: Any) -> tuple[int, int]:
        child.stdin.write(b"count\n")
        child.stdin.flush()
        connections, sent = json.loads(child.stdout.readline())
        return connections, sent

    try:
        for child in children:
            child.stdout.readline()
        joined = time.monotonic() - began
        gevent.sleep(1.0)
        before = [ask(child) for child in children]
        gevent.sleep(QUIET)
        return figures("processes", seeds, joined, before, [ask(child) for child in children])
    finally:
        for child in children:
            child.stdin.close()
        for child in children:
            child.wait()
            child.stdout.close()


def child(number: int, count: int, addresses: list[str]) -> None:
    """One node: a line when it knows all others, then an answer to each line of the standard input."""
    node = start(number, addresses, os.environ["GMP_SECRET"])
    node.group(GROUP).wait(count, timeout=300)
    print("joined", flush=True)
    while gevent.get_hub().threadpool.apply(sys.stdin.readline):
        print(json.dumps(counts(node)), flush=True)
    node.close()


def table(rows: Sequence[Figures]) -> str:
    """The figures as text."""
    heads = ("where", "nodes", "all known s", "conns/node", "conns/seed", "B/node to join", "idle B/node/s")
    lines = [heads] + [
        (
            row.where,
            str(row.nodes),
            f"{row.joined:.2f}",
            f"{row.ordinary:.1f}",
            f"{row.seed:.1f}",
            str(row.joining_bytes),
            f"{row.idle_bytes:.0f}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main(given: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print the table."""
    given = sys.argv[1:] if given is None else given
    if given[:1] == ["--child"]:
        child(int(given[1]), int(given[2]), list(given[3:]))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description="How a network grows.")
    parser.add_argument("--nodes", default="10,50,100,200", help="sizes in one process")
    parser.add_argument("--processes", default="10,20", help="sizes with a process for each node; empty: none")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(given)
    rows = [in_one_process(int(count), options.seeds) for count in options.nodes.split(",") if count]
    rows += [in_processes(int(count), options.seeds) for count in options.processes.split(",") if count]
    print(table(rows))


if __name__ == "__main__":
    main()
