"""`gmp family`."""

from __future__ import annotations

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import Unreachable
from gmp.cli.common.output import as_text, print_json
from gmp.cli.common.show import print_table
from gmp.cli.common.survey import known_families
from gmp.cli.common.targets import settle

SECTION = "Look at a network"


@click.command(short_help="List the directory's families, or one's entries.")
@click.argument("name", required=False)
@with_access()
def command(access: Access, name: str | None) -> None:
    """List the families of the network's directory, or the entries of one.

    A family is a network-wide table of keys and values; a group is one whose keys are ports. A Perl seed lists its
    families unless its setting 'secure' is on, which keeps it from evaluating code for others. Exit code 3: the family
    has no entry.
    """
    with access.join() as node:
        if name is None:
            known = known_families(access, node)
            if known.note():
                click.echo(known.note(), err=True)
            found = known.found
            if access.json:
                print_json(found)
            else:
                kinds = ((key, entry.get("entries"), bool(entry.get("group"))) for key, entry in sorted(found.items()))
                rows = [(key, entries, "group" if is_group else "family") for key, entries, is_group in kinds]
                print_table(("FAMILY", "ENTRIES", "KIND"), rows)
            return
        family = node.family(name)
        settle(access, node)
        items = family.items()
    if not items:
        raise Unreachable(f"family {name!r} has no entry")
    if access.json:
        print_json(items)
    else:
        shown = {key: "" if value is None else as_text(value) for key, value in items.items()}
        print_table(("KEY", "VALUE"), sorted(shown.items()))
