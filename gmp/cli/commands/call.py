"""`gmp call`."""

from __future__ import annotations

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_destinations
from gmp.cli.common.output import as_words, parse_argument, print_json
from gmp.cli.common.service_calls import call_method, is_service
from gmp.cli.common.targets import destinations, members, reach

SECTION = "Talk to a network"


@click.command()
@click.argument("destination", shell_complete=complete_destinations)
@click.argument("message", nargs=-1)
@click.option("-m", "--method", is_flag=True, help="DESTINATION is a service's port.")
@with_access()
def command(access: Access, destination: str, message: tuple[str, ...], method: bool) -> None:
    """Send a message and print the reply, or call a method of a service.

    The message ends with the ID of a reply port, to which the port sends its answer. DESTINATION and MESSAGE are as for
    'gmp send'; with @GROUP, one member of the group is called.

    If the members of the group are services, or with --method, MESSAGE is the name of a method and its arguments:
    NAME=VALUE is a keyword argument, what parses as JSON is JSON, everything else is text. The items of a stream are
    printed one per line.

    Exit code 3: no such port; 4: no reply in time; 1: the port died, or the method raised.

    \b
      gmp call node1 time
      gmp call @echo hello
      gmp call --json worker1#4fQz add '[1, 2]'
      gmp call @jobs add 1 b=2
    """
    with access.join() as node:
        port_id = destinations(access, node, destination)[0]
        if method or (destination.startswith("@") and is_service(members(access, node, destination[1:]).get(port_id))):
            reach(access, node, gmp.node_of(port_id))
            call_method(gmp.remote(port_id, node=node), message, access.left, as_json=access.json)
            return
        parsed = tuple(map(parse_argument, message))
        reach(access, node, gmp.node_of(port_id))
        reply = node.call(port_id, *parsed, timeout=access.left)
    if access.json:
        print_json(reply)
    else:
        click.echo(as_words(reply))
