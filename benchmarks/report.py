"""Tables from figures: medians with their spread, ratios to Erlang, and the targets. In Markdown, for people and docs."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.runner import Figures, Results
from benchmarks.workloads import PUBLISHED, TARGETS, VARIANTS, WORKLOADS, Target, lower_is_better


def as_json(results: Results, rounds: int) -> dict[str, Any]:
    """What is saved: every value, and what it was measured on."""
    return {
        "rounds": rounds,
        "machine": {"processors": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in ("gevent", "greenlet", "msgpack")},
        "commit": _commit(),
        "busy before a run": [round(share, 3) for share in results.busy],
        "figures": results.figures,
        "failures": results.failures,
    }


def _commit() -> str:
    run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return run.stdout.strip()


def short(value: float) -> str:
    """A number with three digits and k or M."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            scaled = value / (1e6 if unit == "M" else 1e3)
            return f"{scaled:.2f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(figures: Figures, workload: str, metric: str, contender: str, to: str, of: str = "") -> list[float]:
    """Per round, the figure of `contender` divided by that of `to`; nothing when one of them has failed in a round."""
    mine = figures.get(workload, {}).get(metric, {}).get(contender, [])
    theirs = figures.get(of or workload, {}).get(metric, {}).get(to, [])
    if len(mine) != len(theirs):
        return []  # which of them belong to the same round is not known
    return [a / b for a, b in zip(mine, theirs, strict=True) if b]


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The lines of the whole report."""
    figures: Figures = results["figures"]
    measured = {name for metrics in figures.values() for values in metrics.values() for name in values}
    contenders = [contender.name for contender in CONTENDERS if contender.name in measured]
    earlier = sorted(name for name in measured if name.startswith("gmp@"))
    contenders[1:1] = earlier
    busy = results["busy before a run"]
    yield f"Medians of {results['rounds']} rounds; before a run the machine was {statistics.median(busy):.0%} busy (median)."
    yield ""
    yield from _medians(figures, contenders)
    if "erlang" in contenders and len(contenders) > 1:
        yield ""
        yield from _against(figures, "erlang", [name for name in contenders if name != "erlang"])
    for name in earlier:
        present = [each for each in contenders if each in ("gmp", "gmp TCP", "gmp TLS")]
        now = [each for each in present if each.endswith(" TLS") == name.endswith(" TLS")]
        if now:
            yield ""
            yield from _against(figures, name, now)
    yield ""
    yield from _targets(figures)
    for failure in results["failures"]:
        yield ""
        yield failure


def _rows(figures: Figures) -> Iterator[tuple[str, str, dict[str, list[float]]]]:
    for workload in WORKLOADS:
        for metric, values in figures.get(workload, {}).items():
            yield workload, metric, values


def _medians(figures: Figures, contenders: Sequence[str]) -> Iterator[str]:
    yield "| workload | figure | " + " | ".join(contenders) + " |"
    yield "|---" * (len(contenders) + 2) + "|"
    for workload, metric, values in _rows(figures):
        cells = [_median(values[name]) if name in values else "-" for name in contenders]
        yield f"| {workload} | {metric} | " + " | ".join(cells) + " |"


def _median(values: Sequence[float]) -> str:
    text = short(statistics.median(values))
    return text if len(values) < 2 else f"{text} ({short(min(values))} .. {short(max(values))})"


def _against(figures: Figures, to: str, others: Sequence[str]) -> Iterator[str]:
    peer = "Erlang" if to == "erlang" else to
    yield f"Ratios to {peer} (of the medians; in brackets the least and most of a single round). More is better, but for *."
    yield ""
    yield "| workload | figure | " + " | ".join(others) + " |"
    yield "|---" * (len(others) + 2) + "|"
    for workload, metric, values in _rows(figures):
        of = workload if to in values else VARIANTS.get(workload, "")
        theirs = figures.get(of, {}).get(metric, {}).get(to)
        if not theirs:
            continue
        cells = []
        for name in others:
            if not values.get(name) or not statistics.median(theirs):
                cells.append("-")
                continue
            cell = f"{statistics.median(values[name]) / statistics.median(theirs):.2f}"
            single = ratio(figures, workload, metric, name, to, of)
            cells.append(f"{cell} ({min(single):.2f} .. {max(single):.2f})" if single else cell)
        mark = " *" if lower_is_better(metric) else ""
        yield f"| {workload} | {metric}{mark} | " + " | ".join(cells) + " |"


def _targets(figures: Figures) -> Iterator[str]:
    yield "| workload | figure | target | reached | |"
    yield "|---|---|---|---|---|"
    for target in TARGETS:
        reached = figures.get(target.workload, {}).get(target.metric, {}).get(target.contender)
        wanted = _wanted(figures, target)
        if reached is None or wanted is None:
            continue
        value = statistics.median(reached)
        met = value <= wanted if lower_is_better(target.metric) else value >= wanted
        own = f" ({target.contender})" if target.contender != "gmp" else ""
        if target.peer:
            # as a multiple of the peer's figure, which is what the target is given in
            text, got = f"{target.factor:g} × {target.peer}", f"{value * target.factor / wanted:.2f} ×"
        else:
            text, got = short(target.factor), short(value)
        bound = "at most" if lower_is_better(target.metric) else "at least"
        yield f"| {target.workload}{own} | {target.metric} | {bound} {text} | {got} | {'met' if met else 'MISSED'} |"


def _wanted(figures: Figures, target: Target) -> float | None:
    """The figure to reach; None when what it is compared with was not measured."""
    if not target.peer:
        return target.factor
    workload = target.of or target.workload
    values = figures.get(workload, {}).get(target.metric, {})
    if target.peer in values:
        return target.factor * statistics.median(values[target.peer])
    published = PUBLISHED.get((target.peer, workload.removesuffix(" bodies"), target.metric))
    erlang = figures.get(workload.removesuffix(" bodies"), {}).get(target.metric, {}).get("erlang")
    if published is None or erlang is None:
        return None
    return target.factor * published * statistics.median(erlang)
