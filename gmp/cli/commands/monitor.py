"""`gmp monitor`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import FAILED, NO_ANSWER, UNREACHABLE, Failure
from gmp.cli.common.network_completion import complete_destinations
from gmp.cli.common.output import as_words, print_json
from gmp.cli.common.targets import destinations, reach

SECTION = "Talk to a network"


@click.command()
@click.argument("targets", nargs=-1, required=True, shell_complete=complete_destinations)
@click.option("--for", "duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Give up after so long.")
@with_access()
def command(access: Access, targets: tuple[str, ...], duration: float | None) -> None:
    """Watch ports, nodes or groups, and print what happens to them.

    Ends when every port and node (node#name, node) is dead or lost. A @GROUP is watched until Ctrl-C or --for: + marks a
    new member, - one that left, ~ one whose value changed.

    Exit code 0: all ended normally; 1: one died abnormally; 3: one did not exist; 4: the time of --for is up.
    """
    with access.join() as node:
        port = node.port()
        waiting = _watch_all(access, node, port, targets)
        deadline = None if duration is None else time.monotonic() + duration
        code = 0
        while waiting:
            try:
                event = port.receive(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.001))
            except gmp.ReceiveTimeout:
                raise Failure(f"still alive: {', '.join(sorted(waiting))}", NO_ANSWER) from None
            kind, target, *rest = event
            if kind == "died":
                waiting.discard(target)
                code = max(code, _code(rest))
            _tell(access, kind, target, rest)
    raise SystemExit(code)


def _watch_all(access: Access, node: gmp.Node, port: gmp.Port, targets: tuple[str, ...]) -> set[str]:
    """Monitor each target; `port` receives what happens."""
    waiting = set()
    for target in targets:
        waiting.add(target)
        if not target.startswith("@"):
            for port_id in destinations(access, node, target):
                reach(access, node, gmp.node_of(port_id))
                node.monitor(port_id, port, "died", port_id)
            continue

        def changed(
            members: Mapping[str, Any], added: list[str], changed: list[str], removed: list[str], group: str = target
        ) -> None:
            for member in added:
                node.send(port, "+", group, member, members[member])
            for member in changed:
                node.send(port, "~", group, member, members[member])
            for member in removed:
                node.send(port, "-", group, member)

        node.group(target[1:]).monitor(changed)
    return waiting


def _code(reason: list[Any]) -> int:
    if not reason:
        return 0
    return UNREACHABLE if reason[0] == "no_such_port" else FAILED


def _tell(access: Access, kind: str, target: str, rest: list[Any]) -> None:
    if access.json:
        print_json({"event": kind, "target": target, "rest" if kind != "died" else "reason": rest})
    elif kind == "died":
        click.echo(f"{target} {'died: ' + as_words(rest) if rest else 'ended normally'}")
    else:
        shown = [item for item in rest if item is not None]
        click.echo(f"{kind} {target} {as_words(shown)}")
