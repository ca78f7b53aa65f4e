"""`gmp groups`."""

from __future__ import annotations

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_groups
from gmp.cli.common.output import as_text, print_json
from gmp.cli.common.show import print_table
from gmp.cli.common.survey import known_families
from gmp.cli.common.targets import members

SECTION = "Look at a network"


@click.command(short_help="List the groups, or the members of one.")
@click.argument("group", required=False, shell_complete=complete_groups)
@with_access()
def command(access: Access, group: str | None) -> None:
    """List the groups of the network, or the members of one.

    A Perl seed lists them unless its setting 'secure' is on, which keeps it from evaluating code for others. GROUP may be
    written with or without @. Exit code 3: the group has no member. 'gmp monitor @GROUP' shows its changes.
    """
    with access.join() as node:
        if group is None:
            known = known_families(access, node)
            if known.note():
                click.echo(known.note(), err=True)
            found = {name: entry.get("entries", 0) for name, entry in known.found.items() if entry.get("group")}
            if access.json:
                print_json(found)
            else:
                print_table(("GROUP", "MEMBERS"), sorted(found.items()))
            return
        items = members(access, node, group.removeprefix("@"))
    if access.json:
        print_json(items)
    else:
        rows = [(gmp.node_of(port), port, "" if value is None else as_text(value)) for port, value in sorted(items.items())]
        print_table(("NODE", "PORT", "VALUE"), rows)
