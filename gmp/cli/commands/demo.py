"""`gmp demo`."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import click

from gmp.cli.common.output import print_json

SECTION = "Try out"


@click.command(short_help="Count words on five processes, one of which dies.")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--workers", default=4, show_default=True, type=click.IntRange(2, 64), help="Worker processes to start.")
@click.option("--kill/--no-kill", default=True, show_default=True, help="Kill a worker with SIGKILL half-way.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(paths: tuple[Path, ...], workers: int, kill: bool, as_json: bool) -> None:
    """Count the words of every text file below PATHS on several processes, one of which is killed half-way.

    Without PATHS, it counts the sources of the running Python's standard library. Exit code 1: the totals differ from a
    count made in one process; 130: Ctrl-C.
    """
    from gmp.cli.demo.network import Demo
    from gmp.cli.demo.report import as_table, report

    roots = list(paths) or [Path(sysconfig.get_paths()["stdlib"])]
    outcome = Demo(roots, workers=workers, kill=kill).run()
    if as_json:
        print_json(as_table(outcome))
    else:
        report(outcome)
    if not outcome.right:
        sys.exit(1)
