"""`gmp trace`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_destinations
from gmp.cli.common.output import print_json
from gmp.cli.common.show import WIDE, console, safe
from gmp.cli.common.survey import NOT_GMP, ask_all, known_nodes
from gmp.wire.requests import INFO, UP_NODES

SECTION = "Look at a network"


@click.command(short_help="Show the connections of the network as a tree.")
@click.option("--dot", "drawing", flag_value="dot", help="Print it in the language of Graphviz.")
@click.option("--svg", "drawing", flag_value="svg", help="Print it as a picture (SVG).")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file instead.")
@click.option("--messages", "port", metavar="PORT", shell_complete=complete_destinations, help="Follow a port's messages.")
@click.option("--for", "seconds", default=10.0, show_default=True, type=click.FloatRange(0, 3600, min_open=True),
              metavar="SECONDS", help="How long to follow them.")  # fmt: skip
@click.option("--mermaid", is_flag=True, help="Print the messages as a sequence diagram (Mermaid).")
@with_access(timeout=5.0)
def command(
    access: Access, drawing: str | None, output: Path | None, port: str | None, seconds: float, mermaid: bool
) -> None:
    """Show the connections of the network as a tree or, with --messages, the messages that a port receives and sends.

    Asks every node which nodes it is connected to. The tree begins at a seed; a connection outside the tree is shown as
    'also' behind the later of its two nodes, and 'unix' that a node and the one above it are connected by a Unix socket.
    Perl nodes whose setting 'secure' is on are known only from the others' answers. Exit code 1: a node does not answer.

    \b
      gmp trace --svg -o network.svg
      gmp trace --dot | dot -Tpng > network.png
      gmp trace --messages 'web#0x1' --for 5 --mermaid

    A node shows its messages only if its setting allow_follow is on.
    """
    if port is not None:
        from gmp.cli.follow import follow

        follow(access, port, seconds, mermaid=mermaid, output=output)
        return
    from gmp.cli.graph import DRAWINGS, make_graph, tree

    with access.join() as node:
        answers = ask_all(node, known_nodes(access, node), INFO, access.left, perl=UP_NODES)
        graph = make_graph(answers)
    silent = {node_id: answer.problem for node_id, answer in answers.items() if answer.problem not in ("", NOT_GMP)}
    if access.json:
        nodes = {node_id: {"kind": kind, "busy": node_id in graph.busy} for node_id, kind in sorted(graph.kinds.items())}
        text = None
        print_json({"nodes": nodes, "connections": sorted(graph.edges), "unix": sorted(graph.unix), "problems": silent})
    elif drawing:
        text = DRAWINGS[drawing](graph)
    else:
        width = console().width if sys.stdout.isatty() and output is None else WIDE
        ascii_only = "utf" not in (sys.stdout.encoding or "").lower() and output is None
        text = "\n".join(safe(line) for line in tree(graph, width, ascii_only=ascii_only))
    if text is not None and output is not None:
        _write(output, text + "\n")
    elif text is not None:
        click.echo(text)
    untold = sorted(safe(node_id) for node_id, each in answers.items() if each.problem == NOT_GMP and each.values is None)
    if untold:
        others = "only those connections are known of it that others tell of"
        click.echo(f"{', '.join(untold)}: no gmp node, and evaluates nothing for others: {others}", err=True)
    for node_id, problem in silent.items():
        click.echo(f"{safe(node_id)} does not answer: {safe(problem)}", err=True)
    if silent:
        raise SystemExit(1)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise gmp.GmpError(f"{path}: {error}") from error
