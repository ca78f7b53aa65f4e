"""`gmp completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SECTION = "Set up"


@click.command(short_help="Print what makes a shell complete gmp's commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete gmp's commands and their arguments.

    It completes options, subcommands, profiles and settings, and the node IDs and groups of the network that the
    configuration (or --seed and --profile on the line) leads to; asking the network takes at most two seconds. Write the
    script to a file once:

    \b
      bash (4.4 or newer)  gmp completion bash > ~/.local/share/bash-completion/completions/gmp
      zsh                  gmp completion zsh > "${fpath[1]}/_gmp"
      fish                 gmp completion fish > ~/.config/fish/completions/gmp.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "gmp", "_GMP_COMPLETE").source())
