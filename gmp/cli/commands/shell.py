"""`gmp shell`."""

from __future__ import annotations

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import UNREACHABLE, Failure
from gmp.cli.common.network_completion import complete_nodes

SECTION = "Talk to a network"
PROMPTS = ("ptpython", "ipython", "python")


@click.command(short_help="A Python prompt with a node.")
@click.argument("node_id", metavar="[NODE]", required=False, shell_complete=complete_nodes)
@click.option("--with", "prompt", type=click.Choice(PROMPTS), help="The prompt; else the first that is installed.")
@click.option("--node-id", "own_id", metavar="ID", help="This node's ID; one that ends in / gets a random part.")
@click.option("-b", "--bind", "binds", multiple=True, metavar="HOST:PORT", help="Where to listen; else nowhere.")
@with_access(json=False)
def command(access: Access, node_id: str | None, prompt: str | None, own_id: str | None, binds: tuple[str, ...]) -> None:
    """Start a Python prompt with a node that has joined the network and keeps running while the prompt waits.

    gmp's names are imported; 'me' is a port, and messages to it appear above the prompt while you type. Tab completes node
    IDs, groups and ports in strings. After a line =NODE, the following lines are evaluated on that node, if it allows that
    (allow_eval); = lists the nodes, =. returns to this one. With NODE, the shell starts there.

    The prompt is ptpython's or IPython's if installed (extra repl), else Python's own. Without a seed the node is alone,
    and listens on this host.

    \b
      gmp shell
      gmp shell --seed 10.0.0.1:4040 worker1
    """
    from gmp.cli.shell.start import Shell

    shell = Shell(access, prompt, own_id, list(binds))
    problem = shell.run(node_id)
    if problem:
        raise Failure(problem, UNREACHABLE)


