"""A process that works: a supervised pool of ports in the group `jobs`."""

from __future__ import annotations

import argparse
import os

import gmp


def primes_between(low: int, high: int) -> int:
    """How many primes there are from `low` to below `high`."""
    sieve = bytearray([1]) * (high - low)
    for factor in range(2, int(high**0.5) + 1):
        first = max(factor * factor, (low + factor - 1) // factor * factor)
        if first < high:
            sieve[first - low :: factor] = bytes(len(range(first - low, high - low, factor)))
    return sum(sieve) - sum(sieve[: max(0, 2 - low)])


def work(port: gmp.Port) -> None:
    """The body of a worker. An error in a job kills this port, and nothing else."""
    gmp.group("jobs").join(port)
    for message in port:
        match message:
            case ("job", number, low, high, boss):
                gmp.send(boss, "done", number, port.id, primes_between(low, high))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="127.0.0.1:4040", help="where the boss listens (default: %(default)s)")
    parser.add_argument("--ports", type=int, default=os.cpu_count() or 1, help="how many jobs at once")
    arguments = parser.parse_args()
    node = gmp.configure(node_id="worker/", seeds=[arguments.seed])
    pool = gmp.supervise([gmp.Child(work, name=f"work {number}") for number in range(arguments.ports)], max_restarts=20)
    gmp.monitor(pool, lambda *reason: print("the pool gave up:", reason))
    print(f"{node.id} works", flush=True)
    gmp.serve_forever()
