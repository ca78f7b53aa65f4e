"""Tables for people: with colours on a terminal, plain text elsewhere.

Names that come from other programs (nodes, groups, reasons) are printed without control characters, which could change the
terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000  # columns of what is no terminal: nothing is cut off


def safe(text: object) -> str:
    """Return `text` without control characters."""
    found = str(text)
    return found if found.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in found)


def console(*, stderr: bool = False) -> Console:
    """Return a console for standard output."""
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=None if is_terminal else WIDE)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows below headings. On a terminal the last column wraps; elsewhere columns are as wide as needed."""
    headings = list(columns)
    lines = [[safe(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for heading in headings:
            last = heading == headings[-1]
            table.add_column(heading, no_wrap=not last, overflow="fold" if last else "ellipsis")
        for line in lines:
            table.add_row(*(Text(cell) for cell in line))
        console().print(table)
        return
    widths = [max(len(line[index]) for line in [headings, *lines]) for index in range(len(headings))]
    for line in [headings, *lines]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def milliseconds(seconds: object) -> str:
    """Format a short time for people."""
    if not isinstance(seconds, int | float):
        return ""
    return f"{seconds * 1000:.1f}ms" if seconds < 0.1 else f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def amount(number: object) -> str:
    """Format a count or a number of bytes for people: 999, 1.2k, 34M."""
    if not isinstance(number, int | float):
        return ""
    units = ["", "k", "M", "G", "T"]
    while abs(number) >= 999.5 and len(units) > 1:
        number /= 1000
        del units[0]
    return f"{number:.1f}{units[0]}" if units[0] and abs(number) < 9.95 else f"{number:.0f}{units[0]}"


def duration(seconds: object) -> str:
    """Format a long time for people."""
    if not isinstance(seconds, int | float):
        return "?"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} d"
