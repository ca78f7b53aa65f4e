"""Shell completion that asks the network: node IDs and groups.

Completion must not disturb: if something goes wrong, nothing is completed; and it takes at most `PATIENCE` seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

import gmp
from gmp.cli.common.access import Access
from gmp.cli.common.completion import matching
from gmp.cli.common.survey import known_groups, known_nodes
from gmp.later import later

if TYPE_CHECKING:
    import gevent
else:
    gevent = later("gevent")

PATIENCE = 2.0  # seconds


def complete_nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the nodes of the network."""
    return matching(_ask(ctx, "nodes"), incomplete)


def complete_groups(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the groups of the network."""
    return matching(_ask(ctx, "groups"), incomplete)


def complete_destinations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete groups after ``@``, else nodes."""
    if incomplete.startswith("@"):
        return matching([f"@{name}" for name in _ask(ctx, "groups")], incomplete)
    return matching(_ask(ctx, "nodes"), incomplete)


def _ask(ctx: click.Context, what: str) -> list[str]:
    access = Access(ctx.params.get("profile"), tuple(ctx.params.get("seeds") or ()), timeout=PATIENCE)
    try:
        with gevent.Timeout(PATIENCE), access.join() as node:
            return known_nodes(access, node) if what == "nodes" else known_groups(access, node)
    except (gmp.GmpError, OSError, click.ClickException, gevent.Timeout):
        return []
