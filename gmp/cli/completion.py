"""What the shell completes: profiles from the configuration file, node IDs and groups from the network.

Completion must not disturb: what goes wrong is no completion, and it takes two seconds at most.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

import gmp
from gmp.config import config_path, read_profiles

if TYPE_CHECKING:
    from gmp.cli.access import Access


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The profiles of the configuration file."""
    try:
        names = read_profiles(config_path(os.environ))
    except gmp.ConfigError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
