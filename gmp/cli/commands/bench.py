"""`gmp bench`."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

import gmp
from gmp.cli.common.access import Access, with_access
from gmp.cli.common.network_completion import complete_nodes
from gmp.cli.common.output import print_json
from gmp.cli.common.show import amount, print_table
from gmp.cli.common.targets import reach

SECTION = "Try out"


@click.command()
@click.argument("node_id", metavar="[NODE]", required=False, shell_complete=complete_nodes)
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 3600), help="How long, for each size.")
@click.option(
    "--size", "sizes", multiple=True, default=(10, 1000, 100_000), show_default=True, type=click.IntRange(0, 32 << 20),
    help="Bytes of payload in a message; repeatable.",
)
@click.option("--window", default=200, show_default=True, type=click.IntRange(1, 10000), help="Messages under way at once.")
@with_access()
def command(access: Access, node_id: str | None, seconds: float, sizes: tuple[int, ...], window: int) -> None:
    """Measure how fast messages travel to a node and back.

    Without NODE, the command starts a node in another process on this machine and measures that. ROUND TRIP is for one
    message at a time (median and 99th percentile), MESSAGES/S is the rate with --window messages under way; each travels
    there and back.
    """
    from gmp.cli.bench import measure, partner

    results = []
    if node_id is not None:
        with access.join() as node:
            reach(access, node, node_id)
            results = [measure(node, node_id, size, seconds, window) for size in sizes]
    else:
        secret = os.urandom(32).hex()
        with partner(secret) as address, gmp.Node("bench", binds=[], seeds=[address], secret=secret) as node:
            node.wait_up(timeout=access.timeout)
            results = [measure(node, "bench-partner", size, seconds, window) for size in sizes]
    if access.json:
        print_json([asdict(result) for result in results])
        return
    rows = [
        (
            amount(result.size), _microseconds(result.round_trip_median), _microseconds(result.round_trip_p99),
            amount(result.messages_per_second), amount(result.bytes_per_second),
        )
        for result in results
    ]
    print_table(("BYTES", "ROUND TRIP", "P99", "MESSAGES/S", "BYTES/S"), rows)


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us"
