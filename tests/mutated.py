"""Whether the histories in virtual time find a broken rule: `python -m tests.mutated`.

Each mutation breaks one rule, in a temporary copy of the sources; then seed after seed is run until one fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST = 1000  # seeds


@dataclass(frozen=True)
class Mutation:
    """A rule that is broken: `before`, which stands once in `file`, becomes `after`."""

    name: str
    file: str
    before: str
    after: str
    program: str = "history"  #: of `tests.simulated`
    seed: int = 0  #: that found it, of those from 0 on, when that was last tried with 6 s; the search begins there

    def apply(self, folder: Path) -> None:
        """Break it in the sources in `folder`. *Raises:* `ValueError` when the sources do not have that any more."""
        path = folder / self.file
        source = path.read_text()
        times = source.count(self.before)
        if times != 1:
            raise ValueError(f"{self.name}: {self.before!r} stands {times} times in {self.file}, expected once")
        path.write_text(source.replace(self.before, self.after))


MUTATIONS = (
    Mutation(
        "mesh: the entries of a node that no seed claims any more are kept for ever",
        "gmp/mesh/claims.py",
        "self._orphans[owner] = now",
        "pass",
        seed=1,
    ),
    Mutation(
        "peer: what is sent between a loss and the last telling of it goes over the next connection",
        "gmp/net/peer.py",
        "self._send_by(self._lose_message)",
        "self._send_by(self._queue_message)",
        seed=196,
    ),
    Mutation(
        "relay: what is sent directly does not wait until what went through seeds before has arrived",
        "gmp/net/peer.py",
        "        self._send_by(self._queue_message)\n        hand_over.begin()",
        "        self._send_by(connection.send)\n        hand_over.begin()",
        "handover",
        seed=8,
    ),
    Mutation(
        "directory: of two incarnations of a node the later one by the clock is taken for the newer",
        "gmp/mesh/claims.py",
        'newest = max(ranks, default="")',
        "return incarnation",
        seed=26,
    ),
    Mutation(
        "seed: it tells nobody that it has lost the next hop of a relayed pair",
        "gmp/mesh/mesh.py",
        "self.router.node_down(node_id)",
        "pass",
        "hops",
    ),
)


@dataclass(frozen=True)
class Found:
    """What the seeds said: `after` how many one failed, None if none did, and how."""

    after: int | None
    text: str


def find(mutation: Mutation, *, first: int | None = None, most: int = MOST, seconds: float = 6.0) -> Found:
    """Run seeds from `first` on (None: from the one that found it before) with the rule broken, until one fails.

    *Raises:* `RuntimeError` when the run itself failed.
    """
    first = mutation.seed if first is None else first
    with tempfile.TemporaryDirectory(prefix="gmp-mutated-") as name:
        folder = Path(name)
        for package in ("gmp", "tests"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "gmp_command.py", folder)
        mutation.apply(folder)
        program = [sys.executable, "-m", "tests.simulated", "--first"]
        program += ["--seeds", f"{first}:{first + most}", "--seconds", str(seconds), "--program", mutation.program]
        environment = {**os.environ, "PYTHONPATH": name}
        ended = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return Found(None, "")
    failed = re.search(r"^seed \d+ failed, the (\d+)th:$", ended.stdout, re.MULTILINE)
    if failed is None:
        raise RuntimeError(ended.stdout + ended.stderr)
    errors = [line for line in ended.stdout.splitlines() if re.match(r"\w[\w.]*(Error|Timeout)\b", line)]
    return Found(int(failed[1]), errors[-1] if errors else "")


def main(arguments: list[str]) -> int:
    """The command; returns how many mutations were not found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=MOST, help="seeds for each mutation")
    parser.add_argument("--first", type=int, help="the first seed; left out: for each the one that found it before")
    parser.add_argument("--only", default="", metavar="WORD", help="mutations whose name begins so")
    chosen = parser.parse_args(arguments)
    missed = 0
    for mutation in MUTATIONS:
        if mutation.name.startswith(chosen.only):
            found = find(mutation, first=chosen.first, most=chosen.most)
            missed += found.after is None
            outcome = f"not found by {chosen.most} seeds"
            if found.after is not None:
                outcome = f"found after {found.after} seeds: {found.text:.200}"
            print(f"{mutation.name}\n    {outcome}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
