"""`gmp nodes`."""

from __future__ import annotations

import click

from gmp.cli.common.access import Access, is_command, with_access
from gmp.cli.common.output import print_json
from gmp.cli.common.show import duration, print_table, safe
from gmp.cli.common.survey import NOT_GMP, Answer, ask_all, known_nodes
from gmp.wire.requests import INFO

SECTION = "Look at a network"


@click.command()
@with_access(timeout=5.0)
def command(access: Access) -> None:
    """List the nodes of the network.

    Asks every node for its version, how long it has been running, and where it listens. Exit code 1: one does not answer.
    """
    with access.join() as node:
        names = known_nodes(access, node)
        answers = ask_all(node, names, INFO, access.left)
    if access.json:
        print_json([{"node_id": name, "problem": answer.problem or None, **answer.data} for name, answer in answers.items()])
    else:
        rows = [_row(answer) for answer in answers.values()]
        print_table(("NODE", "STATE", "ROLE", "VERSION", "UP", "CONNECTED", "LISTENS ON"), rows)
    silent = {name: answer.problem for name, answer in answers.items() if answer.problem not in ("", NOT_GMP)}
    if silent:
        for name, problem in silent.items():
            click.echo(f"{safe(name)} does not answer: {safe(problem)}", err=True)
        raise SystemExit(1)


def _row(answer: Answer) -> tuple[object, ...]:
    data = answer.data
    if answer.problem:
        known = answer.problem == NOT_GMP
        return (answer.node_id, "up" if known else "no answer", "no gmp" if known else "", "", "", "", "")
    binds = data.get("binds")
    return (
        answer.node_id,
        "up",
        "seed" if data.get("seed") else "node",
        data.get("version", "?"),
        duration(data.get("uptime")),
        sum(not is_command(other) for other in answer.connections),
        " ".join(map(str, binds)) if isinstance(binds, list | tuple) and binds else "nowhere",
    )
