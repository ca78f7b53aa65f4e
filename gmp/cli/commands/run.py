"""`gmp run`."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from gmp.cli.common.completion import complete_profiles
from gmp.cli.common.failures import USAGE, Failure
from gmp.cli.common.output import parse_argument

SECTION = "Run nodes"
LEVELS = ("debug", "info", "warning", "error", "critical")


def _settings(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r}: expected KEY=VALUE")
        if key == "secret":
            raise Failure("a secret on the command line can be seen by others: use 'gmp secret', or set GMP_SECRET", USAGE)
        found[key] = parse_argument(value)
    return found


@click.command(short_help="Run a node until SIGTERM or Ctrl-C.")
@click.argument("profile", required=False, shell_complete=complete_profiles)
@click.option("--node-id", metavar="ID", help="The node's ID; one that ends in / gets a random part.")
@click.option("-b", "--bind", "binds", multiple=True, metavar="HOST:PORT", help="Where to listen (*: all, or any).")
@click.option("--private", is_flag=True, help="Listen nowhere.")
@click.option("-s", "--seed", "seeds", multiple=True, metavar="HOST:PORT", help="A node to join through.")
@click.option("--service", "services", multiple=True, metavar="MODULE:FUNCTION[=JSON]", help="A function to start.")
@click.option("--set", "others", multiple=True, metavar="KEY=VALUE", callback=_settings, help="Any other setting.")
@click.option("--keep-going", is_flag=True, help="Go on when a service ends.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LEVELS), help="What is logged on stderr.")
def command(
    profile: str | None,
    node_id: str | None,
    binds: tuple[str, ...],
    private: bool,
    seeds: tuple[str, ...],
    services: tuple[str, ...],
    others: dict[str, Any],
    keep_going: bool,
    log_level: str,
) -> None:
    """Run a node, with the settings of PROFILE and those given here, until SIGTERM or Ctrl-C.

    --bind, --seed, --service and --set can be given several times. Each --service is a function in a module that is
    installed, or found from the current directory. It runs in a port of its own, as function(port, ...): JSON after = gives
    its arguments ([...]), its keyword arguments ({...}) or its only argument. MODULE: alone just imports the module. The
    services start in the order given, and replace the profile's. When one ends, the node logs that and ends: with exit
    code 1 if the service died of an error, else 0.

    The first signal makes the node leave the network: it writes what it has queued and notifies its peers; exit code 0. A
    second one ends the process at once. Under systemd (Type=notify) the node reports readiness and stopping, and feeds
    the watchdog.

    \b
      gmp run --node-id seed1 --bind '*:4040'
      gmp run worker --service 'myapp.jobs:start=["fast", 4]'
    """
    logging.basicConfig(
        stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    if private and binds:
        raise click.UsageError("--private and --bind exclude each other")
    sys.path.insert(0, "")
    from gmp.cli.runner import Runner

    given = {"node_id": node_id, "seeds": list(seeds) or None, "services": list(services) or None, **others}
    given["binds"] = [] if private else list(binds) or None
    code = Runner(keep_going=keep_going).run(profile, given)
    raise SystemExit(code)
