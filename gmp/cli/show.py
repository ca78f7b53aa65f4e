"""Tables for people: with colours on a terminal, plain text elsewhere.

What other programs named (nodes, groups, reasons) is printed without control characters: they could change the terminal.
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
    """`text` without control characters."""
    found = str(text)
    return found if found.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in found)


def console(*, stderr: bool = False) -> Console:
    """A console for standard output."""
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=None if is_terminal else WIDE)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows below headings. On a terminal columns shrink to its width; elsewhere they are as wide as they must be."""
    headings = list(columns)
    lines = [[safe(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for line in lines:
            table.add_row(*(Text(cell) for cell in line))
        console().print(table)
        return
    widths = [max(len(line[index]) for line in [headings, *lines]) for index in range(len(headings))]
    for line in [headings, *lines]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def duration(seconds: object) -> str:
    """A time for people."""
    if not isinstance(seconds, int | float):
        return "?"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} d"
