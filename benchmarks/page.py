"""The page of figures in the documentation, from a saved run: its tables, and the figures from which its plots are drawn."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

from benchmarks.plots import OVERVIEW, overview, plot
from benchmarks.report import tables
from benchmarks.workloads import WORKLOADS

HEAD = """\
# Figures

This page was written by `python -m benchmarks --from FIGURES.json --page docs/figures.md`, from one run of `python -m
benchmarks --peer {peers} --rounds {rounds} --save FIGURES.json`. {{doc}}`performance` tells how it is measured and
what the figures mean; they compare programs on one machine at one time, and do not carry over to others.
"""


def write_page(results: dict[str, Any], page: Path) -> list[Path]:
    """Write the page, the figures beside it as JSON, the README's plot, and those of the page; returns what was written.

    The page's are not kept in the repository: `docs/conf.py` draws them from the JSON whenever the documentation is built.
    """
    folder = page.parent / "pictures" / page.stem
    plots = plot(results, folder)
    workloads = results["figures"].values()
    contenders = {name for metrics in workloads for values in metrics.values() for name in values}
    rounds = max(len(each) for metrics in workloads for values in metrics.values() for each in values.values())
    peers = shlex.quote(",".join(sorted(name for name in contenders if not name.endswith(" TLS"))))
    lines = [HEAD.format(peers=peers + (" --tls" if "gmp TLS" in contenders else ""), rounds=rounds)]
    lines += [line.replace("### ", "## ") for line in tables(results)]
    lines.append("\n## Plots\n")
    lines += ["| workload | what |", "|---|---|", *(f"| {name} | {what} |" for name, what in WORKLOADS.items()), ""]
    lines += [f"![{path.stem}]({os.path.relpath(path, page.parent)})\n" for path in plots]
    page.write_text("\n".join(lines), encoding="utf-8")
    saved = page.with_suffix(".json")
    saved.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if all(metric in results["figures"].get(workload, {}) for workload, metric, _told in OVERVIEW):
        plots.append(page.parent / "pictures" / "overview.svg")
        overview(results, plots[-1])
    return [page, saved, *plots]
