"""How a command takes part in a network: a private node with a name of its own that knows the seeds.

The node never takes the profile's node ID, binds or services, only what it takes to get in (seeds, secret, certificate
and the like). Without seeds the profile's own binds are dialled: that is the profile of a seed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any

import click

import gmp
from gmp.cli.common.completion import complete_profiles
from gmp.cli.common.failures import USAGE, Failure, Unreachable
from gmp.config import load_settings, own_name, parse_bind

COMMANDS = "cli/"  # what the node IDs of commands begin with
EAGER_COMMANDS = "0cli/"  # those of `gmp doctor`
LEAVE = 1.0  # seconds for what is queued: a node that hangs must not hold up a command that is done
LOOK_AGAIN = 0.1  # seconds after which it is asked what became of the dials


def is_command(node_id: str) -> bool:
    """True if the node belongs to a command like this one: those come and go, and lists of nodes omit them."""
    return node_id.startswith((COMMANDS, EAGER_COMMANDS))


def seed_nodes(node: gmp.Node) -> list[str]:
    """Return the IDs of the connected seeds."""
    told = (seed["node_id"] for seed in node.stats()["seeds"])
    return [node_id for ids in told for node_id in ids.split(", ") if node_id and node.is_up(node_id)]


@dataclass
class Access:
    """The options of every command that talks to a network."""

    profile: str | None = None
    seeds: tuple[str, ...] = ()
    timeout: float = 10.0
    json: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Return the seconds until the time is up, at least a little."""
        return max(self.started + self.timeout - time.monotonic(), 0.001)

    def restart_clock(self) -> None:
        """Count the timeout from now on."""
        self.started = time.monotonic()

    @contextmanager
    def join(self, **settings: Any) -> Iterator[gmp.Node]:
        """Start a node and connect it to a seed; it leaves when the block ends.

        *Raises:* `ConfigError`; `Unreachable`, with the reason for each seed.
        """
        settings.setdefault("node_id", f"{COMMANDS}{own_name(os.environ)}/")
        settings.setdefault("binds", [])
        settings.setdefault("services", [])
        settings.setdefault("leave_timeout", LEAVE)
        with gmp.Node(profile=self.profile, seeds=self.seed_addresses(), **settings) as node:
            self._wait_up(node)
            yield node

    def seed_addresses(self) -> list[str]:
        """Return the seeds to dial. *Raises:* `Failure` if none is known."""
        if self.seeds:
            return list(self.seeds)
        settings = load_settings(self.profile, {}, os.environ)
        if settings.seeds:
            return list(settings.seeds)
        own = [parse_bind(bind) for bind in settings.binds or ()]
        addresses = [("127.0.0.1" if bind.host == "*" else bind.host, bind.port) for bind in own if bind.port]
        if not addresses:
            raise Failure(
                "no seed is known: give --seed HOST:PORT, set GMP_SEEDS, or put it into the configuration file"
                " (gmp config set seeds HOST:PORT)",
                USAGE,
            )
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses]

    def _wait_up(self, node: gmp.Node) -> None:
        """Wait for the first seed that is up. race: one may fail before another is up: give up only when all have failed."""
        while True:
            try:
                node.wait_up(timeout=min(LOOK_AGAIN, self.left))
                return
            except gmp.WaitTimeout:
                seeds = node.stats()["seeds"]
                if all(seed["error"] for seed in seeds) or self.left <= 0.001:
                    told = "; ".join(map(_why, seeds))
                    raise Unreachable(f"no seed can be reached: {told}. 'gmp doctor' finds out more.") from None


def _why(seed: dict[str, Any]) -> str:
    return f"{seed['address']}: {_error(seed) or 'no answer yet'}"


def _error(seed: dict[str, Any]) -> str:
    return str(seed["error"]).removeprefix(seed["address"] + ": ")


def why_not_up(node: gmp.Node) -> str:
    """Return what went wrong with each seed; nothing until that is known for all of them."""
    errors = [_error(seed) for seed in node.stats()["seeds"]]
    return "; ".join(errors) if all(errors) else ""


def with_access(*, timeout: float | None = 10.0, json: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options ``--profile --seed --timeout --json``, and an `Access` as its first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(profile: str | None, seeds: tuple[str, ...], timeout: float, **rest: Any) -> Any:
            return function(Access(profile, seeds, timeout, rest.pop("as_json", False)), **rest)

        decorated: Callable[..., Any] = update_wrapper(call, function)
        if json:
            decorated = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(decorated)
        decorated = click.option(
            "-t", "--timeout", default=timeout, show_default=True, type=click.FloatRange(0, min_open=True),
            metavar="SECONDS", help="How long to wait, for the network and for answers.",
        )(decorated)
        decorated = click.option(
            "-s", "--seed", "seeds", multiple=True, metavar="HOST:PORT", help="A node to join through; repeatable.",
        )(decorated)
        return click.option(
            "-p", "--profile", metavar="NAME", shell_complete=complete_profiles, help="Profile of the configuration file.",
        )(decorated)

    return decorate
