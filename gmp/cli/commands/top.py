"""`gmp top`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.output import print_json
from gmp.cli.common.show import amount, console, duration, milliseconds, print_table, safe
from gmp.cli.common.survey import known_nodes
from gmp.later import later

if TYPE_CHECKING:
    import gevent

    from gmp.cli.gauge import Row
else:
    gevent = later("gevent")

SECTION = "Look at a network"
NARROW = 110  # columns below which the less important figures are left out
COLUMNS: tuple[tuple[str, Callable[[Row], Any], bool], ...] = (
    ("STATE", lambda row: row.state, True),
    ("PEERS", lambda row: row.peers, False),
    ("UNIX", lambda row: row.unix, False),
    ("PORTS", lambda row: amount(row.ports), False),
    ("QUEUE", lambda row: amount(row.queued_bytes), True),
    ("OUT/S", lambda row: amount(row.sent), True),
    ("IN/S", lambda row: amount(row.received), True),
    ("CALLS/S", lambda row: amount(row.calls), False),
    ("P99", lambda row: milliseconds(row.p99), False),
    ("WAIT", lambda row: amount(row.waiting), False),
    ("PEAK", lambda row: amount(row.peak), True),
    ("DROPPED", lambda row: amount(row.dropped), False),
    ("LAG", lambda row: milliseconds(row.loop_lag), True),
    ("RTT", lambda row: milliseconds(row.round_trip), True),
    ("UP", lambda row: "" if row.uptime is None else duration(row.uptime), False),
    ("FULLEST PORT OR PROBLEM", lambda row: row.problem or _fullest(row), False),
)
STYLES = {"up": "green", "busy": "bold yellow", "silent": "bold red", "lost": "bold red", "no gmp": "magenta"}


@click.command(short_help="Show what every node is doing, live.")
@click.option("-i", "--interval", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between looks.")
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many looks.  [default: 1 when not on a terminal]")
@with_access()
def command(access: Access, interval: float, count: int | None) -> None:
    """Show what every node of the network is doing, live, until Ctrl-C.

    Asks each node for its figures. STATE: up, busy (its program does not answer its peers' heartbeats), silent (it does
    not answer us), lost, or no gmp (a Perl node has no figures). UNIX: how many of its peers are connected by a Unix
    socket, as they are on its host; QUEUE: bytes waiting to be sent to other nodes; OUT/S and IN/S: messages per second
    to and from other nodes; CALLS/S: calls of its services per second, and P99: how long all but the slowest hundredth
    of them took, within a factor of two; WAIT: messages in mailboxes; PEAK: the most messages that ever waited in one
    mailbox; LAG: how late the event loop was; RTT: the round trip of a heartbeat, as its peers measured it.
    Narrow terminals show fewer columns. With --json: one line for each round of questions.
    """
    live = sys.stdout.isatty() and not access.json
    looks = count or (None if live else 1)
    with access.join() as node:
        known_nodes(access, node)
        if live:
            _live(access, node, interval, looks)
        else:
            _lines(access, node, interval, looks or 1)


def _lines(access: Access, node: gmp.Node, interval: float, looks: int) -> None:
    from gmp.cli.gauge import Gauge

    gauge = Gauge(node, access.timeout)
    gauge.read()
    for _ in range(looks):
        gevent.sleep(interval)
        rows = gauge.read()
        if access.json:
            print_json({"time": time.time(), "nodes": [asdict(row) for row in rows]})
            continue
        print_table(("NODE", *(name for name, _, _ in COLUMNS)), [(row.node_id, *_cells(row)) for row in rows])


def _live(access: Access, node: gmp.Node, interval: float, looks: int | None) -> None:
    from rich.live import Live

    from gmp.cli.gauge import Gauge

    gauge = Gauge(node, min(access.timeout, max(interval, 1.0)))
    screen = console()
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while looks is None or looks >= 0:
            began = time.monotonic()
            rows = gauge.read()
            live.update(_picture(rows, node, screen.width, screen.height), refresh=True)
            if looks is not None:
                looks -= 1
            gevent.sleep(max(interval - (time.monotonic() - began), 0.05))


def _picture(rows: list[Row], node: gmp.Node, width: int, height: int) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    columns = [column for column in COLUMNS if column[2] or width >= NARROW]
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold reverse", expand=True)
    table.add_column("NODE", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    for name, _, _ in columns:
        is_text = name == "STATE" or name.startswith("FULLEST")
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", justify="left" if is_text else "right",
            ratio=2 if name.startswith("FULLEST") else None,
        )
    room = max(height - 4, 1)
    for row in rows[:room]:
        cells = [safe(cell) for cell, column in zip(_cells(row), COLUMNS, strict=True) if column in columns]
        table.add_row(safe(row.node_id), *(Text(cell) for cell in cells), style=_style(row))
    more = Text(f"… and {len(rows) - room} more nodes" if len(rows) > room else "")
    return Group(_summary(rows, node, width), Text(""), table, more)


def _style(row: Row) -> str:
    return "" if row.state == "up" else STYLES[row.state]


def _summary(rows: list[Row], node: gmp.Node, width: int) -> Any:
    from rich.text import Text

    counts = {state: sum(row.state == state for row in rows) for state in STYLES}
    text = Text("gmp top", style="bold")
    for state, count in counts.items():
        if count or state == "up":
            text.append(f"  {count} {state}", style=STYLES[state])
    sent, queued = (sum(getattr(row, name) or 0 for row in rows) for name in ("sent", "queued_bytes"))
    text.append(f"  {amount(sent)} messages/s  {amount(queued)}B queued", style="default")
    clock = time.strftime("%H:%M:%S")
    text.append(clock.rjust(max(width - len(text), len(clock) + 2)))
    text.truncate(width)
    return text


def _cells(row: Row) -> list[Any]:
    return ["" if (value := read(row)) is None else value for _, read, _ in COLUMNS]


def _fullest(row: Row) -> str:
    entry = row.fullest[0] if row.fullest else None
    return f"{entry[0]}: {entry[1]}" if isinstance(entry, list | tuple) and len(entry) == 2 else ""
