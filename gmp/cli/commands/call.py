"""`gmp call`."""

from __future__ import annotations

from typing import Any

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_destinations
from gmp.cli.common.output import as_words, parse_arguments, print_json
from gmp.cli.common.targets import destinations, reach

SECTION = "Talk to a network"


@click.command()
@click.argument("destination", shell_complete=complete_destinations)
@click.argument("message", nargs=-1, callback=parse_arguments)
@with_access()
def command(access: Access, destination: str, message: tuple[Any, ...]) -> None:
    """Send a message and print the reply.

    The port finds the ID of a reply port behind the message, and answers there. DESTINATION and MESSAGE are as for
    'gmp send'; of a @GROUP one member is called. Exit code 3: no such port; 4: no reply in time; 1: the port died.

    \b
      gmp call node1 time
      gmp call @echo hello
      gmp call --json worker1#4fQz add '[1, 2]'
    """
    with access.join() as node:
        port_id = destinations(access, node, destination)[0]
        reach(access, node, gmp.node_of(port_id))
        reply = node.call(port_id, *message, timeout=access.left)
    if access.json:
        print_json(reply)
    else:
        click.echo(as_words(reply))
