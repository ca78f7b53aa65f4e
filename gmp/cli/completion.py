"""What the shell completes: profiles from the configuration file, node IDs and groups from the network.

Completion must not disturb: what goes wrong is no completion, and it takes two seconds at most.
"""

from __future__ import annotations

import os

import click
import gevent
from click.shell_completion import CompletionItem

import gmp
from gmp.config import defaults
from gmp.configfile import config_path, read_config

PATIENCE = 2.0  # seconds


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The profiles of the configuration file."""
    try:
        names = read_config(config_path(os.environ)).profiles
    except gmp.ConfigError:
        return []
    return _matching(list(names), incomplete)


def complete_nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The nodes of the network."""
    return _matching(_ask(ctx, "nodes"), incomplete)


def complete_groups(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The groups of the network."""
    return _matching(_ask(ctx, "groups"), incomplete)


def complete_destinations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """With ``@`` groups, else nodes."""
    if incomplete.startswith("@"):
        return _matching([f"@{name}" for name in _ask(ctx, "groups")], incomplete)
    return _matching(_ask(ctx, "nodes"), incomplete)


def _matching(names: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _ask(ctx: click.Context, what: str) -> list[str]:
    from gmp.cli.access import Access
    from gmp.cli.survey import known_groups, known_nodes

    access = Access(ctx.params.get("profile"), tuple(ctx.params.get("seeds") or ()), timeout=PATIENCE)
    try:
        with gevent.Timeout(PATIENCE), access.join() as node:
            return known_nodes(access, node) if what == "nodes" else known_groups(access, node)
    except (gmp.GmpError, OSError, click.ClickException, gevent.Timeout):
        return []


def complete_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of settings."""
    return _matching(list(defaults()), incomplete)
