"""`gmp send`."""

from __future__ import annotations

from typing import Any

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import Unreachable
from gmp.cli.common.network_completion import complete_destinations
from gmp.cli.common.output import parse_arguments, print_json
from gmp.cli.common.targets import Watch, destinations

SECTION = "Talk to a network"


@click.command()
@click.argument("destination", shell_complete=complete_destinations)
@click.argument("message", nargs=-1, required=True, callback=parse_arguments)
@with_access()
def command(access: Access, destination: str, message: tuple[Any, ...]) -> None:
    """Send a message to a port, a node or a group.

    DESTINATION is a port ID (node#name), a node ID, or @GROUP for every member of a group. Each element of MESSAGE is
    text, or JSON if it begins with [, { or ". Put -- before the first element that begins with -.

    Ends when the message was delivered to the node. Exit code 3: there is no such port.

    \b
      gmp send worker1#4fQz hello
      gmp send @words count '{"size": 3}' '[1, 2]' '"5"'
    """
    with access.join() as node:
        watches = [Watch(access, node, port_id) for port_id in destinations(access, node, destination)]
        for watch in watches:
            node.send(watch.port_id, *message)
        for watch in watches:
            watch.confirm()
        absent = [watch.port_id for watch in watches if watch.is_absent]
        if len(absent) == len(watches):
            raise Unreachable(f"there is no port {', '.join(absent)}")
        sent = [watch.port_id for watch in watches if not watch.is_absent]
    if access.json:
        print_json({"sent": sent})
