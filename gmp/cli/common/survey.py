"""Surveys a whole network: its nodes, groups and families, and what each node reports about itself.

All nodes are asked at once, each in a greenlet of its own; one that does not answer does not delay the others. Answers
come from other programs: tables are accepted, anything else is an answer that cannot be used.

Perl nodes are found by ``can``, which every node answers. They know none of these requests, but may evaluate code, as
for ``aemp trace``, unless their setting ``secure`` is on. Then they answer nothing, so ``time`` is asked right after it.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gmp
from gmp.cli.common.access import Access, is_command, seed_nodes
from gmp.cli.common.output import as_text
from gmp.cli.common.show import safe
from gmp.cli.common.targets import settle
from gmp.later import later
from gmp.wire.requests import CAN, FAMILIES, TIME

if TYPE_CHECKING:
    import gevent
else:
    gevent = later("gevent")


@dataclass
class Answer:
    """The answer of one node."""

    node_id: str
    data: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  #: why there is none
    round_trip: float = 0.0  #: seconds
    values: list[str] | None = None  #: what a Perl node has evaluated; None: it is none, or does not do that

    @property
    def connections(self) -> list[str]:
        """The nodes that it is connected to."""
        told = self.data.get("connections")
        entries = told if isinstance(told, list | tuple) else ()
        return [str(entry.get("node_id")) for entry in entries if isinstance(entry, dict)]


NOT_GMP = "is no gmp node: it tells nothing of itself"
PERL_FAMILIES = "keys %AnyEvent::MP::Kernel::GLOBAL_DB"  # the names of all families, on a global node


def known_nodes(access: Access, node: gmp.Node) -> list[str]:
    """Return the IDs of all nodes of the network, except those of commands."""
    node.known_nodes()  # subscribes
    settle(access, node)
    return lasting_nodes(node)


def lasting_nodes(node: gmp.Node) -> list[str]:
    """Return the same as `known_nodes`, without waiting for the directory."""
    return [node_id for node_id in node.known_nodes() if not is_command(node_id)]


def ask_all(
    node: gmp.Node, node_ids: Iterable[str], request: str, timeout: float, *, sure: Container[str] = (), perl: str = ""
) -> dict[str, Answer]:
    """Send a request of `gmp.kernel.inspection` to each node. *Blocks:* at most `timeout` seconds.

    `sure`: nodes that are known to answer it, and need not be asked whether they can. `perl`: the code that Perl nodes
    evaluate instead.
    """
    asked = {node_id: gevent.spawn(ask, node, node_id, request, timeout, node_id in sure, perl) for node_id in node_ids}
    try:
        gevent.joinall(list(asked.values()))
        return {node_id: greenlet.get() for node_id, greenlet in asked.items()}
    finally:
        gevent.killall(list(asked.values()), block=False)


def ask(node: gmp.Node, node_id: str, request: str, timeout: float, sure: bool = False, perl: str = "") -> Answer:
    """Ask one node."""
    try:
        with gevent.Timeout(timeout, gmp.CallTimeout("no answer in time")):
            if not sure and not any(node.call(node_id, CAN, request, timeout=None)[:1]):
                return Answer(node_id, problem=NOT_GMP, values=_evaluated(node, node_id, perl) if perl else None)
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


def _evaluated(node: gmp.Node, node_id: str, source: str) -> list[str] | None:
    """Return the value of `source` on a Perl node; None if it does not evaluate code. *Blocks.* *Raises:* as `Node.call`."""
    port = node.port()
    try:
        node.eval_on(node_id, source, port)
        node.call(node_id, TIME, timeout=None)  # answers keep their order
        error, *values = port.receive() if len(port) else ("no answer",)
        return None if error else [value if isinstance(value, str) else as_text(value) for value in values]
    finally:
        port.kill()


@dataclass
class KnownFamilies:
    """The families of the network and how many entries each has; ``group`` is set for groups."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)  #: seeds that do not tell which families they know

    def note(self) -> str:
        """What a reader should know besides the table; empty if the table is complete."""
        if not self.unlisted:
            return ""
        seeds = ", ".join(safe(seed) for seed in self.unlisted)
        return (
            f"{seeds}: no gmp node, and evaluates nothing for others: only what gmp nodes know is listed."
            " 'gmp family NAME' shows any other."
        )


def known_families(access: Access, node: gmp.Node) -> KnownFamilies:
    """Return all families that the seeds report; if a Perl seed does not, those that the gmp nodes use."""
    node.known_nodes()  # subscribes
    settle(access, node)
    seeds = seed_nodes(node)
    answers = ask_all(node, seeds, FAMILIES, access.left / 2, perl=PERL_FAMILIES)
    known = KnownFamilies()
    known.unlisted += [seed for seed, each in answers.items() if each.problem == NOT_GMP and each.values is None]
    for answer in answers.values():
        for name, entry in answer.data.items():
            if isinstance(entry, dict):
                known.found.setdefault(str(name), entry)
    names = {name for answer in answers.values() for name in answer.values or ()}
    if known.unlisted:
        others = ask_all(node, set(lasting_nodes(node)) - set(seeds), FAMILIES, access.left / 2)
        names.update(str(name) for answer in others.values() for name in answer.data)
    tables = {name: node.family(name) for name in names - known.found.keys() if name and not name.startswith("'")}
    settle(access, node)
    for name, table in tables.items():
        items = table.items()
        if items:
            known.found[name] = {"entries": len(items), "group": all("#" in key for key in items)}
    return known


def known_groups(access: Access, node: gmp.Node) -> list[str]:
    """Return the names of all groups."""
    return sorted(name for name, entry in known_families(access, node).found.items() if entry.get("group"))
