"""A job farm with a boss and workers, as `docs/guides/testing.md` shows it, and its test in virtual time.

The boss loses a job when a worker dies between two messages; a `careful` one does not.
"""

from __future__ import annotations

import gevent

import gmp
from gmp.testing import Simulation

JOBS = range(60)


def worker(node: gmp.Node) -> None:
    """Take jobs, work two seconds on each, and tell the boss."""

    def body(port: gmp.Port) -> None:
        for _, job, boss in port:
            node.send(boss, "taken", job, port.id)
            gevent.sleep(2)
            node.send(boss, "done", job, port.id)

    node.group("farm").join(node.port(body))


def boss(node: gmp.Node, done: set[int], *, careful: bool = False) -> None:
    """Hand each job to a worker that has none, and those of workers that died to others."""

    def body(port: gmp.Port) -> None:
        waiting, taken, busy = list(JOBS), {}, set()
        while len(done) < len(JOBS):
            for chosen in node.group("farm").members():
                if waiting and chosen not in busy:
                    busy.add(chosen)
                    node.monitor(chosen, port, "died", chosen)
                    job = waiting.pop()
                    node.send(chosen, "job", job, port.id)
                    if careful:
                        taken[chosen] = job
            try:
                message = port.receive(timeout=0.5)
            except gmp.ReceiveTimeout:
                continue
            match message:
                case "taken", job, chosen:
                    taken[chosen] = job
                case "done", job, chosen:
                    done.add(job)
                    taken.pop(chosen, None)
                    busy.discard(chosen)
                case "died", chosen, *_:
                    if chosen in taken:
                        waiting.append(taken.pop(chosen))

    node.port(body)


def every_job_is_done(sim: Simulation, *, careful: bool = False) -> None:
    """The test: whatever happens to workers, every job is done at last."""
    done: set[int] = set()
    sim.node("office", lambda node: boss(node, done, careful=careful))
    for number in range(3):
        sim.node(f"worker{number}", worker)
    sim.trouble(kinds=["crash"], every=4, lasting=2, spare=["office"])
    sim.run_until(lambda: len(done) == len(JOBS), timeout=150)
