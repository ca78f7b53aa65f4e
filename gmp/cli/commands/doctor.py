"""`gmp doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.output import print_json
from gmp.cli.common.show import console, safe

SECTION = "Look at a network"


@click.command(short_help="Find what is wrong, and what cures it.")
@with_access(timeout=5.0)
def command(access: Access) -> None:
    """Find faults in the configuration and the network, and name a cure for each.

    It checks the configuration, the secret (its fingerprint, to compare with 'gmp secret' elsewhere), and certificates and
    their dates; for every seed, whether its name resolves, whether it answers and lets us in, its version, the addresses
    it announces, the address from which it sees us, its clock and the lag of its event loop; and whether every node of
    the network answers and all seeds see the same network.

    Prints one line for each finding: ok, note, or FAULT with its cure. Exit code 1: there is a fault.
    """
    from gmp.cli.doctor import Doctor

    findings = Doctor(access).examine()
    if access.json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            text = safe(f"{finding.level:<6}{finding.text}" + (f" -> {finding.cure}" if finding.cure else ""))
            if sys.stdout.isatty():
                _tell(text, finding.level)
            else:
                click.echo(text)
    if any(finding.level == "FAULT" for finding in findings):
        raise SystemExit(1)


def _tell(text: str, level: str) -> None:
    from rich.table import Table
    from rich.text import Text

    line = Table.grid()
    line.add_column(width=6)
    line.add_column(overflow="fold")
    line.add_row(Text(text[:6], style={"ok": "green", "note": "yellow", "FAULT": "bold red"}[level]), Text(text[6:]))
    console().print(line)
