"""Shell completion that needs no network: the profiles and settings of the configuration file."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

import gmp
from gmp.config import defaults
from gmp.configfile import config_path, read_config


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the profiles of the configuration file."""
    try:
        names = read_config(config_path(os.environ)).profiles
    except gmp.ConfigError:
        return []
    return matching(list(names), incomplete)


def matching(names: list[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin with what was typed."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of settings."""
    return matching(list(defaults()), incomplete)
