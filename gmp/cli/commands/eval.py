"""`gmp eval`."""

from __future__ import annotations

import sys

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import Failure
from gmp.cli.common.network_completion import complete_nodes
from gmp.cli.common.output import as_text, print_json
from gmp.cli.common.targets import reach
from gmp.wire.requests import EVAL

SECTION = "Talk to a network"


@click.command()
@click.argument("node_id", metavar="NODE", shell_complete=complete_nodes)
@click.argument("source")
@with_access()
def command(access: Access, node_id: str, source: str) -> None:
    """Evaluate an expression on a node, and print its value.

    SOURCE is Python for a gmp node (an expression, or statements; 'node' is that node), and Perl for a Perl node; with -
    it is read from standard input. The node must allow it: allow_eval = true in its profile, or GMP_ALLOW_EVAL=1.

    \b
      gmp eval node1 'node.stats()'
    """
    if source == "-":
        source = sys.stdin.read()
    with access.join() as node:
        reach(access, node, node_id)
        error, *results = node.call(node_id, EVAL, source, timeout=access.left) or ("it sent an empty answer",)
    if error == "eval is not allowed on this node":
        raise Failure(
            f"node {node_id} does not allow eval: start it with the setting allow_eval = true"
            " (gmp run --set allow_eval=true, or GMP_ALLOW_EVAL=1)"
        )
    if error:
        raise Failure(as_text(error))
    if access.json:
        print_json(results[0] if len(results) == 1 else results)
    elif any(result is not None for result in results):
        for result in results:
            click.echo(as_text(result))
