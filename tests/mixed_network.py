"""A network of gmp nodes and Perl nodes that are killed and restarted, for `tests.test_mixed_network`.

Two gmp nodes and one Perl node are the seeds of all nine; three more of each kind have seeds alone. Each is a process, and
each of its starts joins the same groups with a new port. `Network.trouble` ends processes at random, by ``kill -9`` and in
order, the seeds too, and starts them again; `Network.settle` then waits until every node sees in every group the ports of
the present starts, and nothing else.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess as subprocess

from .addresses import free_addresses

SEEDS = ("gmp seed 1", "gmp seed 2", "Perl seed")
NODES = (*SEEDS, "gmp 1", "gmp 2", "gmp 3", "Perl 1", "Perl 2", "Perl 3")
FRAMINGS = {"Perl seed": "cbor", "Perl 1": "json", "Perl 2": "cbor", "Perl 3": "json"}
MOST_GONE = 3  # at once
SETTLED = 90.0  # seconds after which everybody must have seen everything


def groups_of(name: str) -> list[str]:
    """The groups that a node is in: one of all, one of its kind, one of its own."""
    return ["all", name.split()[0], f"of {name}"]


WATCHED = sorted({group for name in NODES for group in groups_of(name)})


class Member:
    """One node, with its present process if there is one."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.port = ""
        self._command = command
        self._log = log
        self._process: Any = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start it; it is in its groups as soon as the others know."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "GMP_SECRET": "geheim", "PERL_ANYEVENT_VERBOSE": "8"},
            )
        setup = {"groups": groups_of(self.name), "watched": WATCHED, "framing": FRAMINGS.get(self.name)}
        self.port = self._ask(setup)

    def view(self) -> dict[str, list[str]]:
        """The groups as it sees them."""
        seen: dict[str, list[str]] = self._ask(None)
        return seen

    def _ask(self, question: Any, timeout: float = 30.0) -> Any:
        with gevent.Timeout(timeout, AssertionError(f"{self.name} does not answer")):
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, f"{self.name} has ended by itself: {self.log()}"
        return json.loads(answer)

    def stop(self, *, in_order: bool) -> None:
        """End its process: with the end of its input, or with ``kill -9``."""
        process, self._process = self._process, None
        if not in_order:
            process.kill()
        process.stdin.close()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def log(self) -> str:
        """The end of what it has written to standard error."""
        return self._log.read_text(errors="replace")[-3000:]


class Network:
    """All of them. `commands`: the program for gmp nodes, and the one for Perl nodes. `seed`: of what happens at random."""

    def __init__(self, commands: dict[str, Sequence[str]], logs: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        addresses = dict(zip(NODES, free_addresses(len(NODES)), strict=True))
        self._seeds = [addresses[name] for name in SEEDS]
        self.restarts = 0
        self.members = []
        for name, address in addresses.items():
            command = [*commands[name.split()[0]], name.replace(" ", "-"), address, *self._seeds]
            self.members.append(Member(name, command, logs / f"{name}.log"))

    def start(self) -> None:
        """Start whoever does not run."""
        for member in self.members:
            if not member.runs:
                member.start()

    def trouble(self, seconds: float) -> None:
        """End nodes and start them again, for so long."""
        rng, end = self._rng, time.monotonic() + seconds
        while time.monotonic() < end:
            running = [member for member in self.members if member.runs]
            gone = [member for member in self.members if not member.runs]
            if gone and (len(gone) >= MOST_GONE or rng.random() < 0.5):
                rng.choice(gone).start()
                self.restarts += 1
            else:
                rng.choice(running).stop(in_order=rng.random() < 0.4)
            gevent.sleep(rng.choice((0.05, 0.3, 1.0, 3.0)))
        self.start()

    def settle(self) -> float:
        """Wait until everybody sees every group; returns how many seconds it took."""
        expected = {
            group: sorted(member.port for member in self.members if group in groups_of(member.name)) for group in WATCHED
        }
        start = time.monotonic()
        while wrong := self._wrong(expected):
            assert time.monotonic() < start + SETTLED, "\n".join(wrong)
            gevent.sleep(0.2)
        return time.monotonic() - start

    def _wrong(self, expected: dict[str, list[str]]) -> list[str]:
        lines = []
        for member in self.members:
            view = member.view()
            for group, ports in expected.items():
                seen = set(view.get(group, ()))
                if seen != set(ports):
                    lines.append(f"{member.name}, {group!r}: missing {set(ports) - seen}, too many {seen - set(ports)}")
        return lines

    def close(self) -> None:
        """End all."""
        for member in self.members:
            if member.runs:
                member.stop(in_order=False)
