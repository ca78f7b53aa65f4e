"""Prints the report at the end of `gmp demo`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gmp.cli.demo.network import Outcome
from gmp.cli.graph import Graph, tree


def report(outcome: Outcome) -> None:
    """Print tables and the tree of connections, as plain text if the output is not a terminal."""
    console = Console(highlight=False)
    console.print(_words(outcome))
    console.print(_figures(outcome))
    console.print(_connections(outcome))
    if outcome.right:
        console.print("The totals equal those of a count in one process.")
    else:
        console.print("[bold red]The totals DIFFER from those of a count in one process.[/]")


def _words(outcome: Outcome) -> Table:
    table = Table("word", "times", title="The ten commonest words")
    table.columns[1].justify = "right"
    for word, count in outcome.counts.most_common(10):
        table.add_row(word, f"{count:,}")
    return table


def _figures(outcome: Outcome) -> Table:
    table = Table("what", "how much", title="The run")
    table.columns[1].justify = "right"
    table.add_row("files", f"{outcome.files:,}")
    table.add_row("MB", f"{outcome.megabytes:,.1f}")
    table.add_row("seconds", f"{outcome.seconds:.2f}")
    table.add_row("messages per second", f"{outcome.messages / max(outcome.seconds, 1e-9):,.0f}")
    if outcome.killed:
        table.add_row("killed with SIGKILL", outcome.killed)
        table.add_row("its monitor said", " ".join(str(part) for part in outcome.kill_reason))
        table.add_row("files lost with it and sent again", f"{outcome.lost}")
    return table


def _connections(outcome: Outcome) -> Group:
    graph = Graph({node_id: "seed" if node_id == outcome.seed else "node" for node_id in outcome.connections})
    for node_id, others in outcome.connections.items():
        for other in others:
            graph.kinds.setdefault(other, "?")
            graph.connect(node_id, other)
    return Group("", Text("Who is connected to whom", style="italic"), *map(Text, tree(graph, 1000)))


def as_table(outcome: Outcome) -> dict[str, Any]:
    """Return the report as plain data."""
    told = {**asdict(outcome), "commonest": outcome.counts.most_common(10)}
    del told["counts"]
    return told
