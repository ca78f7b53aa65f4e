"""The figures of `gmp top`: two successive answers to ``gmp.stats`` from each node become a row of rates.

States of a node: up → busy (others say that its program does not answer their heartbeats) → silent (it does not answer
us) → lost (no node knows it any more). The row of a lost node stays, so that users see what is missing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import gmp
from gmp.cli.common.survey import NOT_GMP, Answer, ask_all, lasting_nodes
from gmp.durations import added, quantile, since, told
from gmp.wire.requests import STATS

STATES = ("lost", "silent", "busy", "up", "no gmp")


@dataclass
class Row:
    """The figures of one node. Rates are per second, of messages between nodes and calls of services; times in seconds."""

    node_id: str
    state: str = "up"
    problem: str = ""
    ports: int | None = None
    peers: int | None = None
    unix: int | None = None  #: of the peers, those connected by a Unix socket
    queued_bytes: int | None = None
    sent: float | None = None
    received: float | None = None
    calls: float | None = None
    p99: float | None = None
    waiting: int | None = None
    peak: int | None = None
    dropped: int | None = None
    loop_lag: float | None = None
    round_trip: float | None = None
    uptime: float | None = None
    fullest: list[Any] = field(default_factory=list)


class Gauge:
    """Asks the network again and again."""

    def __init__(self, node: gmp.Node, timeout: float) -> None:
        self._node = node
        self._timeout = timeout
        self._seen: set[str] = set()
        self._tell: set[str] = set()  # nodes that have told figures before
        self._last: dict[str, tuple[float, dict[str, Any], dict[str, Any]]] = {}

    def read(self) -> list[Row]:
        """Return the rows of all nodes ever seen, those in trouble first. *Blocks:* up to the timeout."""
        known = lasting_nodes(self._node)
        self._seen.update(known)
        answers = ask_all(self._node, self._seen, STATS, self._timeout, sure=self._tell)
        now = time.monotonic()
        self._tell.update(node_id for node_id, answer in answers.items() if answer.data)
        told = [answer.data for answer in answers.values()] + [self._node.stats()]
        busy, round_trips = _busy(told), _round_trips(told)
        rows = [self._row(answer, now, known, busy) for answer in answers.values()]
        for row in rows:
            if row.node_id in round_trips and row.round_trip is not None:
                row.round_trip = median(round_trips[row.node_id])
        return sorted(rows, key=lambda row: (STATES.index(row.state), row.node_id))

    def _row(self, answer: Answer, now: float, known: list[str], busy: set[str]) -> Row:
        node_id, data = answer.node_id, answer.data
        row = Row(node_id, problem=answer.problem)
        if answer.problem:
            self._last.pop(node_id, None)
            row.state = "no gmp" if answer.problem == NOT_GMP else "silent" if node_id in known else "lost"
            if node_id in busy and row.state == "silent":
                row.state = "busy"
            return row
        peers = {peer: figures for peer, figures in _table(data, "peers").items() if isinstance(figures, dict)}
        row.state = "busy" if node_id in busy else "up"
        row.ports, row.dropped = _int(data, "ports"), _int(data, "dropped")
        row.peers = sum(figures.get("state") == "up" for figures in peers.values())
        row.unix = sum(figures.get("transport") == "unix" for figures in peers.values())
        row.queued_bytes = sum(_int(figures, "queued_bytes") or 0 for figures in peers.values())
        row.waiting, row.peak = _int(data, "waiting"), _int(data, "mailbox_peak")
        row.loop_lag, row.uptime = _float(data, "loop_lag"), _float(data, "uptime")
        row.round_trip = answer.round_trip
        fullest = data.get("fullest")
        row.fullest = list(fullest) if isinstance(fullest, list | tuple) else []
        before = self._last.get(node_id)
        services = _services(data)
        self._last[node_id] = (now, peers, services)
        if before is not None and now > before[0]:
            row.sent = _rate(before[1], peers, "sent_messages", now - before[0])
            row.received = _rate(before[1], peers, "received_messages", now - before[0])
            row.calls = _rate(before[2], services, "calls", now - before[0]) if services else None
            row.p99 = quantile(added(since(told(before[2].get(port)), told(each)) for port, each in services.items()), 0.99)
        return row


def _busy(told: list[dict[str, Any]]) -> set[str]:
    return {
        str(peer)
        for data in told
        for peer, figures in _table(data, "peers").items()
        if isinstance(figures, dict) and figures.get("busy")
    }


def _round_trips(told: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the round trips that each node's peers measured by heartbeats: our own questions come in bursts, and wait."""
    found: dict[str, list[float]] = {}
    for data in told:
        for peer, figures in _table(data, "peers").items():
            seconds = _float(figures, "round_trip") if isinstance(figures, dict) else None
            if seconds is not None:
                found.setdefault(str(peer), []).append(seconds)
    return found


def _rate(before: dict[str, Any], after: dict[str, Any], key: str, seconds: float) -> float:
    """Return how much the peers' counters grew; a new connection counts from zero."""
    total = 0
    for peer, figures in after.items():
        new, old = _int(figures, key) or 0, _int(before.get(peer, {}), key) or 0
        total += new - old if new >= old else new
    return total / seconds


def _services(data: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of each service, by its port."""
    told = data.get("services")
    services = [each for each in told if isinstance(each, dict)] if isinstance(told, list | tuple) else []
    return {str(each.get("port")): each for each in services}


def _table(data: dict[str, Any], key: str) -> dict[Any, Any]:
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _int(data: dict[str, Any], key: str) -> int | None:
    found = data.get(key)
    return found if isinstance(found, int) else None


def _float(data: dict[str, Any], key: str) -> float | None:
    found = data.get(key)
    return float(found) if isinstance(found, int | float) else None
