"""The command `gmp`: finds its subcommands as the files of `gmp.cli.commands`, and turns errors into exit codes.

A subcommand is imported when it is used, so that one with heavy imports does not slow down the others.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import click

import gmp
from gmp.cli import commands
from gmp.cli.common.failures import EXIT_CODES, as_click, hide_logs
from gmp.cli.common.interrupts import INTERRUPTED, interruptible

SECTIONS = ("Run nodes", "Talk to a network", "Look at a network", "Set up", "Try out")


class Commands(click.Group):
    """The subcommands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands."""
        names = (module.name for module in pkgutil.iter_modules(commands.__path__))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand and return it."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = _module(cmd_name).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the subcommands by section."""
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        width = formatter.width - 6 - max(map(len, self.list_commands(ctx)))
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows[_module(name).SECTION].append((name, command.get_short_help_str(width)))
        for section, entries in rows.items():
            if entries:
                with formatter.section(section):
                    formatter.write_dl(entries)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; turn every error that is not a bug into a line and an exit code."""
        hide_logs()
        with interruptible():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                raise click.exceptions.Exit(INTERRUPTED) from None
            except BrokenPipeError:
                raise
            except (gmp.GmpError, OSError) as error:
                raise as_click(error) from error


def _module(name: str) -> Any:
    return importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(gmp.__version__, prog_name="gmp")
def cli() -> None:
    """Erlang-style message passing for Python on gevent: run nodes, talk to them and look at their network."""
