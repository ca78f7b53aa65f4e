"""What the shell completes: profiles from the configuration file, node IDs and groups from the network.

Completion must not disturb: what goes wrong is no completion, and it takes two seconds at most.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

import gmp
from gmp.configfile import config_path, read_config


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The profiles of the configuration file."""
    try:
        names = read_config(config_path(os.environ)).profiles
    except gmp.ConfigError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
