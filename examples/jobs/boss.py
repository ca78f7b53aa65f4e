"""Counts primes with every worker there is, shows how far it is, and gives a dead worker's jobs to others."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, deque

import gmp

UNDER_WAY = 2  # jobs that one worker has: the next one is there when one is done
MOST_TRIES = 3


class Boss:
    def __init__(self, port: gmp.Port, ranges: list[tuple[int, int]]) -> None:
        self.port = port
        self.ranges = ranges
        self.waiting = deque(range(len(ranges)))
        self.workers: dict[str, set[int]] = {}  # a worker's port → its jobs
        self.results: dict[int, int] = {}
        self.tries: Counter[int] = Counter()
        self.given_up: list[int] = []
        self.again = 0

    def run(self) -> int:
        watch = gmp.group("jobs").monitor(lambda members, *_: gmp.send(self.port, "workers", sorted(members)))
        with watch:
            while len(self.results) + len(self.given_up) < len(self.ranges):
                self.step(self.port.receive())
                self.show()
        return sum(self.results.values())

    def step(self, message: tuple) -> None:
        match message:
            case ("workers", members):
                for worker in members:
                    if worker not in self.workers:
                        self.workers[worker] = set()
                        gmp.monitor(worker, self.port, "died", worker)
                        self.feed(worker)
            case ("done", number, worker, result):
                self.results[number] = result
                if worker in self.workers:
                    self.workers[worker].discard(number)
                    self.feed(worker)
            case ("died", worker, *reason):
                self.died(worker, reason)

    def feed(self, worker: str) -> None:
        jobs = self.workers[worker]
        while self.waiting and len(jobs) < UNDER_WAY:
            number = self.waiting.popleft()
            jobs.add(number)
            gmp.send(worker, "job", number, *self.ranges[number], self.port)

    def died(self, worker: str, reason: list) -> None:
        """What it had under way goes to others; what was lost with its host has not failed."""
        lost = sorted(self.workers.pop(worker) - self.results.keys())
        say(f"{worker} died of {reason[:2]}; {len(lost)} jobs go to others")
        for number in lost:
            self.tries[number] += bool(reason) and reason[0] == "die"
            if self.tries[number] >= MOST_TRIES:
                self.given_up.append(number)
            else:
                self.again += 1
                self.waiting.appendleft(number)
        for other in self.workers:
            self.feed(other)

    def show(self) -> None:
        done, count = len(self.results), len(self.ranges)
        if sys.stdout.isatty():
            print(f"\r[{'#' * (40 * done // count):40}] {done} of {count}, {len(self.workers)} workers ", end="", flush=True)
        elif done * 10 % count < 10:
            print(f"{done} of {count} done by {len(self.workers)} workers", flush=True)


def say(text: str) -> None:
    print(("\n" if sys.stdout.isatty() else "") + text, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("below", type=int, nargs="?", default=3_000_000)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--bind", default="127.0.0.1:4040", help="where to listen (default: %(default)s)")
    arguments = parser.parse_args()
    step = -(-arguments.below // arguments.jobs)
    ranges = [(low, min(low + step, arguments.below)) for low in range(0, arguments.below, step)]
    with gmp.configure(node_id="boss", binds=[arguments.bind]) as node:
        say(f"waiting for workers at {node.binds[0]}")
        boss = Boss(gmp.port(), ranges)
        gmp.group("jobs").wait()
        began = time.monotonic()
        found = boss.run()
        took = time.monotonic() - began
        say(f"{found} primes below {arguments.below}, in {took:.1f} s; {boss.again} jobs were sent again")
        if boss.given_up:
            sys.exit(f"given up: {[ranges[number] for number in boss.given_up]}")
