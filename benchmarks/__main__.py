"""The command ``python -m benchmarks``: gmp and each installed peer in turn, interleaved, in one run."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender, gmp_at, install, make_certificate, missing, peers_python
from benchmarks.page import write_page
from benchmarks.plots import plot
from benchmarks.report import as_json, tables
from benchmarks.runner import run_rounds
from benchmarks.workloads import WORKLOADS


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure gmp side by side with its peers.")
    parser.add_argument("--workload", metavar="W1,W3", help="only these, with all their variants; an exact name: only it")
    parser.add_argument("--peer", metavar="gmp,erlang", help="only these; gmp@COMMIT: gmp as it was then")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tls", action="store_true", help="gmp and the floor with TLS as well")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to wait for an idle machine before a run")
    parser.add_argument("--save", metavar="FILE", type=Path, help="write all figures as JSON")
    parser.add_argument("--from", metavar="FILE", type=Path, dest="saved", help="do not measure, show a saved file")
    parser.add_argument("--plot", metavar="DIR", type=Path, help="write plots (needs the extra 'bench')")
    parser.add_argument("--page", metavar="FILE", type=Path, help="write the documentation's page, with plots")
    parser.add_argument("--install", action="store_true", help="make the environment of the Python peers, and end")
    parser.add_argument("--list", action="store_true", help="list workloads and peers, and end")
    return parser.parse_args(given)


def chosen_workloads(text: str | None) -> list[str]:
    """The workloads that ``--workload`` names. *Raises:* `SystemExit` for one that there is not."""
    if text is None:
        return list(WORKLOADS)
    chosen = []
    for name in text.split(","):
        found = [workload for workload in WORKLOADS if workload.partition(" ")[0] == name]
        chosen += found or [workload for workload in WORKLOADS if workload == name]
        if not found and name not in WORKLOADS:
            raise SystemExit(f"there is no workload {name!r}: expected some of {', '.join(WORKLOADS)}")
    return list(dict.fromkeys(chosen))


def chosen_contenders(text: str | None, *, tls: bool, python: str) -> list[Contender]:
    """The contenders that can be measured, of those that ``--peer`` names. *Raises:* `SystemExit` for an unknown name."""
    names = None if text is None else text.split(",")
    earlier = [contender for name in names or () if name.startswith("gmp@") for contender in gmp_at(name[4:])]
    known = [*CONTENDERS, *earlier]
    for name in names or ():
        if name not in [contender.name for contender in known]:
            expected = ", ".join(contender.name for contender in CONTENDERS)
            raise SystemExit(f"there is no peer {name!r}: expected some of {expected}, gmp@COMMIT")
    chosen = []
    for contender in known:
        wanted = names is None or contender.name in names or contender.name.removesuffix(" TLS") in names
        wanted = wanted and (tls or not contender.tls or contender.name in (names or ()))
        reason = missing(contender, python) if wanted else ""
        if reason:
            print(f"without {contender.name}: {reason}", file=sys.stderr)
        elif wanted:
            chosen.append(contender)
    return chosen


def save(path: Path | None, results: dict[str, object]) -> None:
    """Write the figures."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All rounds."""
    python = peers_python()
    workloads = chosen_workloads(options.workload)
    contenders = chosen_contenders(options.peer, tls=options.tls, python=python)
    with tempfile.TemporaryDirectory() as folder:
        if any(contender.tls for contender in contenders):
            make_certificate(Path(folder))
        results = run_rounds(
            options.rounds,
            workloads,
            contenders,
            python,
            Path(folder),
            patience=options.patience,
            tell=lambda line: print(line, file=sys.stderr),
            keep=lambda results, rounds: save(options.save, as_json(results, rounds)),
        )
    return as_json(results, options.rounds)


def main(given: Sequence[str]) -> None:
    """Measure or load, print, save, plot."""
    options = arguments(given)
    if options.install:
        install()
        return
    if options.list:
        for workload, what in WORKLOADS.items():
            peers = [contender.name for contender in CONTENDERS if workload in contender.programs]
            print(f"{workload}: {what} ({', '.join(peers)})")
        return
    results = json.loads(options.saved.read_text()) if options.saved else measure(options)
    print("\n".join(tables(results)))
    save(options.save, results)
    if options.plot:
        for path in plot(results, options.plot):
            print(path)
    if options.page:
        for path in write_page(results, options.page):
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
