"""Plots for the docs: one file for each figure, a bar for each contender, and one of four figures for the README.

They need matplotlib (the extra ``bench``).
"""

from __future__ import annotations

import re
import statistics
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.report import short
from benchmarks.workloads import WORKLOADS, lower_is_better

# What the README shows: workload, metric, and how it is told there.
OVERVIEW = (
    ("W3", "msg/s", "tiny messages one way, a second"),
    ("W4b", "MB/s", "messages of 1 MiB one way, MB/s"),
    ("W5", "p50 us", "round trip, µs (less is better)"),
    ("W6", "call/s", "calls by 100 callers, a second"),
)


def drawing(folder: Path) -> Any:
    """Make the folder, and return matplotlib's pyplot, set up for plots there. *Raises:* `SystemExit` when it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("plots need matplotlib: pip install -e '.[bench]'") from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "gmp", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    return pyplot


def plot(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write the plots; returns where. *Raises:* `SystemExit` when matplotlib is missing."""
    pyplot = drawing(folder)
    written = []
    for workload, metrics in results["figures"].items():
        for metric, values in metrics.items():
            if len(values) < 2:
                continue
            names = sorted(values, key=lambda name: statistics.median(values[name]), reverse=lower_is_better(metric))
            medians = [statistics.median(values[name]) for name in names]
            spread = [
                [median - min(values[name]) for name, median in zip(names, medians, strict=True)],
                [max(values[name]) - median for name, median in zip(names, medians, strict=True)],
            ]
            figure, axes = pyplot.subplots(figsize=(6.4, 0.6 + 0.35 * len(names)))
            colours = ["#c0392b" if name.startswith("gmp") else "#7f8c8d" for name in names]
            axes.barh(names, medians, xerr=spread, color=colours, ecolor="#2c3e50", capsize=2)
            if max(medians) > 50 * min(medians):
                axes.set_xscale("log")
            axes.set_title(textwrap.fill(f"{workload}: {WORKLOADS[workload]}", 90), fontsize=8, loc="left")
            axes.set_xlabel(metric + (", less is better" if lower_is_better(metric) else ""))
            figure.tight_layout()
            path = folder / (re.sub(r"\W+", "-", f"{workload}-{metric}".lower()).strip("-") + ".svg")
            figure.savefig(path, metadata={"Date": None})
            pyplot.close(figure)
            written.append(path)
    return written


def overview(results: dict[str, Any], path: Path) -> None:
    """Draw the figures of `OVERVIEW` side by side. *Raises:* `SystemExit` when matplotlib is missing."""
    pyplot = drawing(path.parent)
    figure, panels = pyplot.subplots(2, 2, figsize=(8.0, 3.4))
    for axes, (workload, metric, told) in zip(panels.flat, OVERVIEW, strict=True):
        values = results["figures"][workload][metric]
        names = [name for name in reversed(values) if not name.endswith(" TLS")]
        medians = [statistics.median(values[name]) for name in names]
        axes.barh(names, medians, color=["#c0392b" if name == "gmp" else "#7f8c8d" for name in names])
        axes.bar_label(axes.containers[0], [short(median) for median in medians], padding=3, fontsize=8)
        axes.margins(x=0.18)
        axes.set_title(told, fontsize=9, loc="left")
        axes.set_xticks([])
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
