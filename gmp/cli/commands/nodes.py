"""`gmp nodes`."""

from __future__ import annotations

import click

from gmp.cli.access import Access, with_access
from gmp.cli.output import print_json
from gmp.cli.show import duration, print_table
from gmp.cli.survey import NOT_GMP, Answer, ask_all, known_nodes

SECTION = "Look at a network"


@click.command()
@with_access(timeout=5.0)
def command(access: Access) -> None:
    """List the nodes of the network.

    Every node is asked for its version, since when it runs, and where it listens. Exit code 1 when one does not answer.
    """
    with access.join() as node:
        names = known_nodes(access, node)
        answers = ask_all(node, names, "gmp.info", access.left)
    if access.json:
        print_json([{"node_id": name, "problem": answer.problem or None, **answer.data} for name, answer in answers.items()])
    else:
        rows = [_row(answer) for answer in answers.values()]
        print_table(("NODE", "STATE", "ROLE", "VERSION", "UP", "CONNECTED", "LISTENS ON"), rows)
    if any(answer.problem not in ("", NOT_GMP) for answer in answers.values()):
        raise SystemExit(1)


def _row(answer: Answer) -> tuple[object, ...]:
    data = answer.data
    if answer.problem:
        state = "up" if answer.problem == NOT_GMP else f"no answer: {answer.problem}"
        return (answer.node_id, state, "no gmp" if answer.problem == NOT_GMP else "?", "", "", "", "")
    binds = data.get("binds")
    return (
        answer.node_id,
        "up",
        "seed" if data.get("seed") else "node",
        data.get("version", "?"),
        duration(data.get("uptime")),
        len(answer.connections),
        " ".join(map(str, binds)) if isinstance(binds, list | tuple) and binds else "nowhere",
    )
