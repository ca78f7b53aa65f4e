"""`gmp spawn`."""

from __future__ import annotations

from typing import Any

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import Failure
from gmp.cli.common.network_completion import complete_nodes
from gmp.cli.common.output import as_words, parse_arguments, print_json
from gmp.cli.common.targets import Watch, reach

SECTION = "Talk to a network"


@click.command(short_help="Start a function as a new port on a node.")
@click.argument("node_id", metavar="NODE", shell_complete=complete_nodes)
@click.argument("function")
@click.argument("arguments", nargs=-1, callback=parse_arguments)
@click.option("--wait", is_flag=True, help="Wait until the port ends, and print why (not limited by --timeout).")
@with_access()
def command(access: Access, node_id: str, function: str, arguments: tuple[Any, ...], wait: bool) -> None:
    """Start a function as a new port on a node, and print the port's ID.

    FUNCTION is package.module:function. NODE runs it if it is marked with @gmp.spawnable in a module that is imported
    there, or if its module matches the node's setting 'allow'. Its first argument is the port; ARGUMENTS follow (text, or
    JSON if they begin with [, { or ").

    \b
      gmp spawn worker1 myapp.jobs:resize /srv/pictures '[800, 600]'
    """
    with access.join() as node:
        reach(access, node, node_id)
        port_id = node.spawn(node_id, function, *arguments)
        watch = Watch(access, node, port_id)
        watch.confirm()  # the request has arrived
        if watch.reason is None:
            watch.confirm()  # race: the function is looked up one turn of that node's loop later
        if watch.reason and watch.reason[0] == "not_allowed":
            raise Failure(
                f"node {node_id} refuses: {as_words(watch.reason[1:])}. Mark the function with @gmp.spawnable and import its"
                " module there, or start that node with a setting such as allow = ['myapp.*']"
            )
        if not wait:
            _tell(access, port_id, watch.reason)
            return
        if not access.json:
            click.echo(port_id)
        reason = watch.wait(None)
    if access.json:
        print_json({"port": port_id, "alive": False, "reason": reason})
    else:
        click.echo(f"died: {as_words(reason)}" if reason else "ended normally")
    if reason:
        raise SystemExit(1)


def _tell(access: Access, port_id: str, reason: tuple[Any, ...] | None) -> None:
    if access.json:
        print_json({"port": port_id, "alive": reason is None, "reason": reason})
    else:
        click.echo(port_id)
    if reason:
        raise Failure(f"it died at once: {as_words(reason)}")
