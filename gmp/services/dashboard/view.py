"""What the dashboard knows of one node, and how it is told to a browser. Pure: `now` and what nodes answered come in.

A node is *up* while it answers, *busy* when an answer is overdue, *lost* when its connection ended, *left* when it said so
before; it comes back by an answer. A Perl node tells nothing: it is *no-gmp* while it is connected. What a node says of
itself is data: it is made `plain` when it comes, bounded and of the kinds that JSON has, so that nothing fails over it
later; it is shown as text, never as markup.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from gmp.durations import quantile, since, told
from gmp.showing import show, show_reason

OVERDUE = 3.0  # seconds without an answer after which a node is shown as busy
LONGEST, MOST = 4000, 2000  #: characters of a text, and items of a table or list, that are kept of what a node says
LARGEST = 1e300  #: a number beyond it is none
RECENT, STEP = 60.0, 10.0  #: seconds over which durations of calls are shown, and between two that are remembered for that
RATES = {"messages": ("sent_messages", "received_messages"), "bytes": ("sent_bytes", "received_bytes")}


class NodeView:
    """One node as the dashboard sees it. Times are in seconds."""

    def __init__(self, node_id: str, now: float) -> None:
        self.node_id = node_id
        self.info: dict[str, Any] = {}
        self.stats: dict[str, Any] = {}
        self.rates: dict[str, dict[str, float]] = {}  #: of each peer
        self.call_rates: dict[str, float] = {}  #: of each service, by its port
        self.durations: dict[str, dict[str, float | None]] = {}  #: the same: how long its calls of the last minute took
        self.lost_at: float | None = None
        self.left = False  #: whether it was lost by leaving in order
        self.is_gmp = True  #: no other node tells anything of itself
        self.reason = ""
        self._answered = now
        self._counted: tuple[float, str, dict[str, dict[str, float]], dict[str, float]] | None = None
        self._buckets: deque[tuple[float, dict[str, list[int]]]] = deque()  # of each service, by when it was told

    def told(self, stats: dict[str, Any], now: float) -> None:
        """The node answered with its figures."""
        self.stats = stats
        self.is_gmp = True
        self.back(now)
        counts = {
            peer: {rate: sum(number(figures.get(name)) for name in names) for rate, names in RATES.items()}
            for peer, figures in table(stats.get("peers")).items()
            if isinstance(figures, dict)
        }
        services = {
            text(service.get("port")): service
            for service in several(stats.get("services"))
            if isinstance(service, dict)
        }
        calls = {port: number(service.get("calls")) for port, service in services.items()}
        before, self._counted = self._counted, (now, text(self.info.get("incarnation", "")), counts, calls)
        if before is None or before[1] != self._counted[1]:
            self._buckets.clear()
        self._time({port: told(service) for port, service in services.items()}, now)
        if before is not None and before[1] == self._counted[1] and now > before[0]:
            self.call_rates = {
                port: max(0.0, count - before[3].get(port, 0.0)) / (now - before[0]) for port, count in calls.items()
            }
            self.rates = {
                peer: {rate: max(0.0, count - before[2].get(peer, {}).get(rate, 0.0)) / (now - before[0])
                       for rate, count in each.items()}
                for peer, each in counts.items()
            }  # fmt: skip

    def _time(self, buckets: dict[str, list[int]], now: float) -> None:
        """Take in how long calls took, as counted since each service began."""
        looks = self._buckets
        if not looks or now >= looks[-1][0] + STEP:
            looks.append((now, buckets))
        while len(looks) > 1 and looks[1][0] <= now - RECENT:
            looks.popleft()
        self.durations = {}
        for port, counts in buckets.items():
            recent = since(looks[0][1].get(port, []), counts)
            self.durations[port] = {"median": quantile(recent, 0.5), "p99": quantile(recent, 0.99)}

    def lost(self, reason: tuple[Any, ...], now: float) -> None:
        """The way to the node is gone."""
        if self.lost_at is None:
            self.lost_at, self.reason = now, text(show_reason(reason[:MOST]))
            self.left = reason[:1] == ("leaving",)
        self.rates = {}
        self.call_rates = {}
        self.durations = {}

    def back(self, now: float) -> None:
        """It is there (again)."""
        self.lost_at, self.reason, self.left = None, "", False
        self._answered = now

    def state(self, now: float) -> str:
        """Such as ``up``."""
        if self.lost_at is not None:
            return "left" if self.left else "lost"
        if not self.is_gmp:
            return "no-gmp"
        if not self.stats:
            return "asked"
        return "busy" if now - self._answered > OVERDUE else "up"

    def summary(self, now: float) -> dict[str, Any]:
        """What the picture shows of it."""
        info, stats = self.info, self.stats
        peers = [figures for figures in table(stats.get("peers")).values() if isinstance(figures, dict)]
        return {
            "id": self.node_id,
            "state": self.state(now),
            "silent": round(now - self._answered, 1),
            "reason": self.reason,
            "seed": info.get("seed") is True,
            "private": bool(info) and not info.get("binds"),
            "master": text(info.get("master") or ""),
            "ports": number(stats.get("ports")),
            "waiting": number(stats.get("waiting")),
            "peak": number(stats.get("mailbox_peak")),
            "queue": sum(number(figures.get("queued_bytes")) for figures in peers),
            "lag": number(stats.get("loop_lag")),
            "messages": sum(rates["messages"] for rates in self.rates.values()),
            "bytes": sum(rates["bytes"] for rates in self.rates.values()),
        }

    def links(self) -> list[dict[str, Any]]:
        """The connections it has, with the traffic over each."""
        found = []
        for connection in several(self.info.get("connections")):
            if not isinstance(connection, dict) or not isinstance(connection.get("node_id"), str):
                continue
            peer = connection["node_id"]
            figures = table(table(self.stats.get("peers")).get(peer))
            rates = self.rates.get(peer, {})
            found.append(
                {
                    "a": self.node_id,
                    "b": peer,
                    "bytes": rates.get("bytes", 0.0),
                    "messages": rates.get("messages", 0.0),
                    "round_trip": number(figures.get("round_trip")) if "round_trip" in figures else None,
                    "queue": number(figures.get("queued_bytes")),
                    "busy": figures.get("busy") is True,
                    "relay": text(connection.get("relay") or ""),
                    "tls": text(connection.get("tls") or ""),
                    "unix": connection.get("transport") == "unix",
                }
            )
        return found


def merge_links(views: list[NodeView]) -> list[dict[str, Any]]:
    """Each connection once, although both its ends tell of it: the busier report counts. Lost nodes have none."""
    links: dict[tuple[str, str], dict[str, Any]] = {}
    lost = {view.node_id for view in views if view.lost_at is not None}
    for view in views:
        for link in view.links():
            if lost & {link["a"], link["b"]}:
                continue
            key = (min(link["a"], link["b"]), max(link["a"], link["b"]))
            if key not in links or link["bytes"] > links[key]["bytes"]:
                links[key] = link
    return list(links.values())


def table(value: Any) -> dict[Any, Any]:
    """`value` if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}


def several(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any) -> float:
    """`value` if it is a number that can be worked with, else 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        return 0
    return value


def text(value: Any) -> str:
    """`value` as text, of bounded length."""
    try:
        return str(value)[:LONGEST]
    except ValueError:  # it is, or holds, an integer of thousands of digits
        return f"<{type(value).__name__}>"


def plain(value: Any) -> Any:
    """What a node said, as JSON can carry it; whatever else it may be becomes its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, dict):
        return {text(key): plain(item) for key, item in islice(value.items(), MOST)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in islice(value, MOST)]
    return text(show(value))
