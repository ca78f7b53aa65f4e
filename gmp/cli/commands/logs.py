"""`gmp logs`."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_nodes
from gmp.cli.common.output import print_json
from gmp.cli.common.show import safe
from gmp.cli.common.targets import reach, settle

SECTION = "Look at a network"
ASKING = 1.0  # seconds for nodes to tell whether they have the service on
COLOURS = ((50, "magenta"), (40, "red"), (30, "yellow"), (20, "green"))


@click.command(short_help="Print what is logged on all nodes, live.")
@click.option("-l", "--level", default="INFO", show_default=True, help="The least level: a name or number of logging.")
@click.option(
    "-n", "--node", "nodes", multiple=True, metavar="NODE", shell_complete=complete_nodes, help="Only this; repeatable."
)
@click.option("--for", "duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="End after so long.")
@with_access()
def command(access: Access, level: str, nodes: tuple[str, ...], duration: float | None) -> None:
    """Print the log lines of all nodes, live, until Ctrl-C.

    Nodes that join later, or come back, are included. A node shows its log if it runs the service for it (gmp run
    --service gmp.services.logcatcher:send_logs, or LogSender() of that module in a program); Perl nodes always do.
    Each node filters its own lines by level: CRITICAL, ERROR, WARNING, NOTE, INFO, DEBUG, TRACE or a number.

    \b
      gmp logs --level WARNING
      gmp logs --node web1 --node web2 --json
    """
    from gmp.services.logcatcher import LogCatcher, LogLine, parse_level

    least = parse_level(level)
    ports = [name for name in nodes if "#" in name]
    if ports:
        raise click.BadParameter(f"{ports[0]!r} is a port: expected a node ID", param_hint="--node")
    with access.join() as node:
        for node_id in nodes:
            reach(access, node, node_id)
        port = node.port()
        with LogCatcher(port, level=least, nodes=nodes or None, node=node) as catcher:
            node.after(ASKING, port, "told")
            settle(access, node)
            ends = None if duration is None else time.monotonic() + duration
            while True:
                try:
                    match port.receive(timeout=None if ends is None else max(ends - time.monotonic(), 0)):
                        case ("told",):
                            _tell_off(catcher.states())
                        case ("log", *fields):
                            _print(access, LogLine(*fields))
                except gmp.ReceiveTimeout:
                    return


def _tell_off(states: dict[str, str]) -> None:
    """Name the nodes whose logs cannot be seen, and say what helps."""
    off = sorted(safe(node_id) for node_id, state in states.items() if state == "off" and not node_id.startswith("cli/"))
    if off:
        click.echo(
            f"gmp logs: not seen, as they have the service off: {', '.join(off)}"
            " (gmp run --service gmp.services.logcatcher:send_logs, or LogSender() in a program)",
            err=True,
        )
    elif "catching" not in states.values():
        click.echo("gmp logs: no other node is there yet", err=True)


def _print(access: Access, line: Any) -> None:
    from gmp.services.logcatcher import level_name

    name = level_name(line.level)
    if access.json:
        print_json({**line._asdict(), "level_name": name})
        return
    when = datetime.fromtimestamp(line.time).isoformat(" ", "milliseconds") if 0 <= line.time < 2**35 else str(line.time)
    colour = next((colour for level, colour in COLOURS if line.level >= level), None)
    first, *rest = line.text.splitlines() or [""]
    click.echo(
        f"{when} {click.style(f'{name:<8}', fg=colour)} {safe(line.node)} {safe(line.logger)}: {safe(first)}"
        + "".join(f"\n    {safe(part)}" for part in rest)
    )
