"""Asking a whole network: which nodes, groups and families there are, and what each node tells of itself.

All nodes are asked at once, each in a greenlet of its own; one that does not answer costs the others nothing. What is
told comes from other programs: tables are taken, everything else is an answer that cannot be used. Perl nodes tell
nothing: they are found by ``can``, which every node answers.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

import gevent

import gmp
from gmp.cli.access import Access, is_command, seed_nodes
from gmp.cli.targets import settle
from gmp.wire.requests import CAN, FAMILIES


@dataclass
class Answer:
    """What one node told."""

    node_id: str
    data: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  #: why there is none
    round_trip: float = 0.0  #: seconds

    @property
    def connections(self) -> list[str]:
        """The nodes that it is connected with."""
        told = self.data.get("connections")
        entries = told if isinstance(told, list | tuple) else ()
        return [str(entry.get("node_id")) for entry in entries if isinstance(entry, dict)]


NOT_GMP = "is no gmp node: it tells nothing of itself"


def known_nodes(access: Access, node: gmp.Node) -> list[str]:
    """The IDs of all nodes of the network, without those of commands."""
    node.known_nodes()  # subscribes
    settle(access, node)
    return lasting_nodes(node)


def lasting_nodes(node: gmp.Node) -> list[str]:
    """As `known_nodes`, without waiting for the directory."""
    return [node_id for node_id in node.known_nodes() if not is_command(node_id)]


def ask_all(
    node: gmp.Node, node_ids: Iterable[str], request: str, timeout: float, *, sure: Container[str] = ()
) -> dict[str, Answer]:
    """Send a request of `gmp.kernel.inspection` to each node; takes `timeout` seconds at most.

    `sure` are nodes that are known to answer it, and need not be asked whether they can.
    """
    asked = {node_id: gevent.spawn(ask, node, node_id, request, timeout, node_id in sure) for node_id in node_ids}
    try:
        gevent.joinall(list(asked.values()))
        return {node_id: greenlet.get() for node_id, greenlet in asked.items()}
    finally:
        gevent.killall(list(asked.values()), block=False)


def ask(node: gmp.Node, node_id: str, request: str, timeout: float, sure: bool = False) -> Answer:
    """Ask one node."""
    try:
        with gevent.Timeout(timeout, gmp.CallTimeout("no answer in time")):
            if not sure and not any(node.call(node_id, CAN, request, timeout=None)[:1]):
                return Answer(node_id, problem=NOT_GMP)
            began = time.monotonic()
            data = next(iter(node.call(node_id, request, timeout=None)), None)
            took = time.monotonic() - began
    except gmp.PortDied as died:
        return Answer(node_id, problem=str(died.reason[2]) if len(died.reason) > 2 else str(died))
    except gmp.GmpError as error:
        return Answer(node_id, problem=str(error))
    if not isinstance(data, dict):
        return Answer(node_id, problem="its answer cannot be used", round_trip=took)
    return Answer(node_id, data, "", took)


def known_families(access: Access, node: gmp.Node) -> dict[str, dict[str, Any]]:
    """All families with their numbers of entries, as the seeds tell; groups have ``group`` set."""
    settle(access, node)
    found: dict[str, dict[str, Any]] = {}
    for answer in ask_all(node, seed_nodes(node), FAMILIES, access.left).values():
        for name, entry in answer.data.items():
            if isinstance(entry, dict):
                found.setdefault(str(name), entry)
    return found


def known_groups(access: Access, node: gmp.Node) -> list[str]:
    """The names of all groups."""
    return sorted(name for name, entry in known_families(access, node).items() if entry.get("group"))
