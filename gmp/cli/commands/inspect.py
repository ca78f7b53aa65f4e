"""`gmp inspect`."""

from __future__ import annotations

from typing import Any

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_destinations
from gmp.cli.common.output import print_json
from gmp.cli.common.show import safe
from gmp.cli.common.targets import destinations, reach

SECTION = "Look at a network"
FIGURES = ("running", "waiting", "open_streams", "calls", "errors", "refused", "stopped", "late", "streams")


@click.command()
@click.argument("destination", shell_complete=complete_destinations)
@with_access()
def command(access: Access, destination: str) -> None:
    """Show the methods of a service, and what each of its members has done.

    DESTINATION is a service's port, or @GROUP for every member of a group.

    \b
      gmp inspect @jobs
      gmp inspect node1#4fQz --json
    """
    from gmp.exposing import describe, signature_of

    found: dict[str, dict[str, Any]] = {}
    with access.join() as node:
        for port_id in destinations(access, node, destination):
            reach(access, node, gmp.node_of(port_id))
            found[port_id] = describe(gmp.remote(port_id, node=node), access.left)
    if access.json:
        print_json(found)
        return
    for port_id, told in found.items():
        click.echo(safe(f"{port_id} {told.get('name', '')}"))
        click.echo(safe("  " + " ".join(f"{name}={told.get(name, '?')}" for name in FIGURES)))
    told = next(iter(found.values()))
    methods = told.get("methods")
    for name, method in methods.items() if isinstance(methods, dict) else ():
        click.echo(safe(f"\n{name}{signature_of(method) or '(…)'}{_marks(method)}"))
        doc = method.get("doc") if isinstance(method, dict) else ""
        for line in str(doc or "").splitlines():
            click.echo(safe(f"    {line}"))


def _marks(method: Any) -> str:
    if not isinstance(method, dict):
        return ""
    found = [mark for mark in ("streams", "finish", "idempotent") if method.get(mark)]
    return f"  [{', '.join(found)}]" if found else ""
