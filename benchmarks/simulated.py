"""What a network costs as it grows, in virtual time: ``python -m benchmarks.simulated [--nodes 10,100,1000]``.

Each size is measured in a process of its own, so that its memory is its own. All nodes start at once, and all watch one
group, in which `MEMBERS` nodes have a port: so what an ordinary node pays should not depend on how many nodes there are.
The network is *whole* when every node is connected with every seed and knows exactly the ports that live. The stages, one
behind the other:

- *join*: until it is whole.
- *idle*: a minute in which nobody talks.
- *herd*: all seeds crash and are back after a second; until the network is whole.
- *rolling*: every node crashes and is back at once, one after the other within a minute; then until it is whole.
- *split*: two halves that do not hear each other for a minute; then until it is whole.

Bytes and packets are those that nodes sent and that arrived (a packet is what a program wrote at once). Of bytes both
directions count; of the seeds, the one with the most is shown. Times are virtual, so they do not depend on the machine;
CPU and memory do. Memory is what the process has grown by: of a stage with crashes, what is left of former lives is in it.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gmp
from benchmarks.plots import drawing
from gmp.testing import Simulation

ROOT = Path(__file__).parent.parent
GROUP, MEMBERS = "some", 10
STAGES = ("join", "idle", "herd", "rolling", "split")
MINUTE = 60.0
LOOK = 0.05  # virtual seconds between two looks at whether the network is whole
PATIENCE = 600.0  # virtual seconds for it to become that
PAGE = 4096 / 2**20  # MiB
HEADS = {
    "nodes": "nodes",
    "seeds": "seeds",
    "stage": "stage",
    "seconds": "whole after s",
    "bytes": "bytes/node",
    "packets": "packets/node",
    "seed_bytes": "worst seed, bytes",
    "seed_bytes_per_node": "the same/node",
    "connections": "connections/node",
    "seed_connections": "/seed",
    "memory": "MiB/node",
    "cpu": "CPU s",
}


class Counted(Simulation):
    """A simulation that counts what arrives, by sender and receiver."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, keep=1, **settings)
        self.sent: Counter[str] = Counter()  #: bytes, by the node
        self.packets: Counter[str] = Counter()  #: that it sent
        self.received: Counter[str] = Counter()  #: bytes

    def note(self, text: str) -> None:
        """Count it, and write it into the trace."""
        if text.endswith(" bytes"):
            path, _, count, _ = text.split(" ")
            sender, _, receiver = path.partition(">")
            self.sent[sender] += int(count)
            self.packets[sender] += 1
            self.received[receiver] += int(count)
        super().note(text)


class Growth:
    """A network of `nodes` nodes, of which the first `seeds` are seeds, and what each stage costs it."""

    def __init__(self, sim: Counted, nodes: int, seeds: int) -> None:
        self._sim = sim
        self._names = [f"node{number}" for number in range(nodes)]
        self._seeds = self._names[:seeds]
        self._with_port = set(self._names[-MEMBERS:])
        self._ports: dict[str, str] = {}  # of the members, by node
        self._memory = resident()

    def stages(self) -> dict[str, Callable[[], Any]]:
        """What each stage does until it waits for the network to be whole."""
        return {"join": self._join, "idle": self._idle, "herd": self._herd, "rolling": self._roll, "split": self._split}

    def measure(self, stage: str) -> dict[str, Any]:
        """Play a stage, and return its figures."""
        sim, ordinary = self._sim, self._names[len(self._seeds) :]
        before = sim.sent.copy(), sim.packets.copy(), sim.received.copy()
        cpu = time.process_time()
        self.stages()[stage]()
        began = sim.now
        self._until_whole()
        after = sim.sent, sim.packets, sim.received
        sent, packets, received = (now - then for now, then in zip(after, before, strict=True))
        worst = max(sent[seed] + received[seed] for seed in self._seeds)
        return {
            "nodes": len(self._names),
            "seeds": len(self._seeds),
            "stage": stage,
            "seconds": round(sim.now - began, 2),
            "bytes": round(sum(sent[name] + received[name] for name in ordinary) / len(ordinary)),
            "packets": round(sum(packets[name] for name in ordinary) / len(ordinary), 1),
            "seed_bytes": worst,
            "seed_bytes_per_node": round(worst / len(self._names)),
            "connections": round(sum(len(sim[name].up_nodes()) for name in ordinary) / len(ordinary), 1),
            "seed_connections": max(len(sim[name].up_nodes()) for name in self._seeds),
            "memory": round((resident() - self._memory) / len(self._names), 2),
            "cpu": round(time.process_time() - cpu, 1),
        }

    def _program(self, node: gmp.Node) -> None:
        group = node.group(GROUP)
        if node.id in self._with_port:
            port = node.port()
            group.join(port)
            self._ports[node.id] = port.id

    def _join(self) -> None:
        for name in self._names:
            self._sim.node(name, self._program)

    def _idle(self) -> None:
        self._sim.run(MINUTE)

    def _herd(self) -> None:
        for name in self._seeds:
            self._sim.crash(name)
        self._sim.run(1.0)
        for name in self._seeds:
            self._sim.restart(name)

    def _roll(self) -> None:
        for name in self._names:
            self._sim.restart(name)
            self._sim.run(MINUTE / len(self._names))

    def _split(self) -> None:
        with self._sim.partition(self._names[::2], self._names[1::2]):  # half of the seeds on each side
            self._sim.run(MINUTE)

    def _until_whole(self) -> None:
        waiting = list(self._names)  # those that are not as they should be; they stay that way once they are
        until = self._sim.now + PATIENCE
        while waiting or not all(map(self._is_whole, self._names)):
            if self._sim.now > until:
                raise SystemExit(f"after {PATIENCE:g} s of virtual time not whole: {waiting[:10]}")
            while waiting and self._is_whole(waiting[-1]):
                waiting.pop()
            if waiting:
                self._sim.run(LOOK)
            else:
                waiting = [name for name in self._names if not self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        node = self._sim[name]
        known = {str(member) for member in node.group(GROUP).members()}
        return known == set(self._ports.values()) and {*self._seeds} - {name} <= set(node.up_nodes())


def resident() -> float:
    """The memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def seeds_for(nodes: int) -> int:
    """How many seeds a network of that size has here; few for the largest, all of whose connections one process holds."""
    return 10 if 100 < nodes <= 3000 else 3


def measure(nodes: int, seed: int, stages: Sequence[str]) -> None:
    """Measure one size in this process, and print its figures as lines of JSON."""
    logging.disable(logging.ERROR)
    with Counted(seed, seeds=seeds_for(nodes)) as sim:
        growth = Growth(sim, nodes, seeds_for(nodes))
        for stage in stages:
            print(json.dumps(growth.measure(stage)), flush=True)
        for name in sim.living():  # or thousands would leave in order, which takes longer than all the stages
            sim.crash(name)


def in_process(nodes: int, seed: int, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Measure one size in a process of its own. *Raises:* `SystemExit` if that fails."""
    command = [sys.executable, "-m", "benchmarks.simulated", "--one", str(nodes), "--seed", str(seed)]
    command += ["--stages", ",".join(stages)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        raise SystemExit(f"{nodes} nodes: the process ended with {ended.returncode}")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table of Markdown."""
    lines = ["| " + " | ".join(HEADS.values()) + " |", "|---" * len(HEADS) + "|"]
    for stage in STAGES:
        for row in rows:
            if row["stage"] == stage:
                cells = [f"{row[name]:,}" if isinstance(row[name], int | float) else row[name] for name in HEADS]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write a plot for each of three figures; returns where. *Raises:* `SystemExit` when matplotlib is missing."""
    pyplot = drawing(folder)
    written = []
    for name in ("bytes", "seed_bytes", "seconds"):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.2))
        for number, stage in enumerate(STAGES):
            points = [(row["nodes"], row[name]) for row in rows if row["stage"] == stage]
            if points and any(value for _, value in points):
                axes.plot(*zip(*points, strict=True), marker="o", label=stage, color=f"C{number}")
        axes.set_xscale("log")
        axes.set_yscale("log" if name != "seconds" else "linear")
        axes.set_xlabel("nodes")
        axes.set_title(HEADS[name], fontsize=9, loc="left")
        axes.legend(fontsize=7)
        figure.tight_layout()
        path = folder / f"simulated-{name.replace('_', '-')}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        written.append(path)
    return written


def main(given: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulated", description="What a network costs as it grows.")
    parser.add_argument("--nodes", default="10,100,1000", help="sizes of networks, 10 at least")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation")
    parser.add_argument("--stages", default=",".join(STAGES), help="some of these, in this order")
    parser.add_argument("--save", metavar="FILE", type=Path, help="write all figures as JSON")
    parser.add_argument("--from", metavar="FILE", type=Path, dest="saved", help="do not measure, show a saved file")
    parser.add_argument("--plot", metavar="DIR", type=Path, help="write plots (needs the extra 'bench')")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    stages = options.stages.split(",")
    if unknown := [stage for stage in stages if stage not in STAGES]:
        raise SystemExit(f"there is no stage {unknown[0]!r}: expected some of {', '.join(STAGES)}")
    if options.one is not None:
        measure(options.one, options.seed, stages)
        return
    rows: list[dict[str, Any]] = []
    if options.saved is not None:
        rows = json.loads(options.saved.read_text(encoding="utf-8"))
    else:
        for nodes in options.nodes.split(","):
            rows += in_process(int(nodes), options.seed, stages)
    if options.save is not None:
        options.save.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
