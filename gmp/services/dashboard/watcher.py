"""The greenlets that ask every node of the network for its figures, once a second, and catch its log lines.

Each node has a greenlet of its own, so one that does not answer, or oddly, holds up no other. A node is asked as long as
the directory lists it, and for `FORGET` seconds after it was lost, so that its loss is seen; one that left in order is
shown for `FORGET_LEFT` seconds. race: an answer that comes after the loss was noticed is that of the node that is back, and
counts.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import gevent
import gevent.event

import gmp
from gmp.outside import clock
from gmp.services.dashboard.view import NodeView, merge_links, plain, table, text
from gmp.services.logcatcher import LogCatcher
from gmp.services.logline import LogLine
from gmp.showing import show
from gmp.wire.requests import FAMILIES, INFO, PORTS, STATS

HISTORY = 600  # points, one a second: ten minutes
LINES = 300
FORGET, FORGET_LEFT = 120.0, 5.0
MOST_NODES = 1000  # that are watched: who lists more does not mean it
ANSWER = 20.0  # seconds for one answer; a node that only computes is not asked again meanwhile
FIRST_RETRY, LAST_RETRY = 1.0, 10.0
MOST_FAMILIES, ENTRIES = 200, 100  # that are shown at most


class Watcher:
    """Watches the network of `node` until `close`, or until the node ends. *Blocks:* never, but `detail`."""

    def __init__(self, node: gmp.Node, *, interval: float = 1.0) -> None:
        self.node = node
        self.tick = 0  #: grows with each look
        self.history: deque[dict[str, float]] = deque(maxlen=HISTORY)
        self.lines: deque[tuple[int, LogLine]] = deque(maxlen=LINES)
        self._views: dict[str, NodeView] = {}
        self._families: dict[str, dict[str, Any]] = {}
        self._interval = interval
        self._looked = gevent.event.Event()
        self._numbers = itertools.count(1)
        self._port = node.port()  # whose greenlets these are: they end with it, and it with the node
        self._catcher = LogCatcher(self._caught, level="INFO", node=node)
        self._port.own(self._catcher)
        self._port.spawn(self._look)
        stop = (node.monitor_known_nodes(self._known), node.monitor_nodes(self._event))
        self._stop = stop

    def close(self) -> None:
        """Watch no more. Idempotent."""
        for stop in self._stop:
            stop()
        self._port.kill()
        self._looked.set()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return not self._port.alive

    def wait(self, tick: int, timeout: float) -> bool:
        """Wait for a look after `tick`; return whether there was one. *Blocks:* up to `timeout` seconds."""
        while self.tick <= tick and not self.closed:
            self._looked.clear()
            if not self._looked.wait(timeout):
                return False
        return not self.closed

    # ---- which nodes

    def _known(self, known: list[str], added: list[str], removed: list[str]) -> None:
        for node_id in added:
            self._watch(node_id)

    def _event(self, node_id: str, up: bool, *reason: Any) -> None:
        if up:
            self._watch(node_id)
            if node_id in self._views:
                self._views[node_id].back(clock.monotonic())
        elif node_id in self._views:
            self._views[node_id].lost(reason, clock.monotonic())

    def _watch(self, node_id: str) -> None:
        if node_id not in self._views and self._port.alive and len(self._views) < MOST_NODES:
            view = self._views[node_id] = NodeView(node_id, clock.monotonic())
            self._port.spawn(self._ask, view)

    def _ask(self, view: NodeView) -> None:
        retry = FIRST_RETRY
        while self._is_shown(view):
            if view.left:
                gevent.sleep(self._interval)  # to ask would be to look for a way to it
                continue
            try:
                view.info = self._call(view.node_id, INFO)
                view.told(self._call(view.node_id, STATS), clock.monotonic())
            except gmp.CallTimeout:
                continue  # it is shown as busy, from how long ago it answered
            except gmp.MessageError:  # it is connected, and does not know the request
                view.is_gmp = False
                gevent.sleep(self._interval)
            except gmp.GmpError as error:
                view.lost(error.reason if isinstance(error, gmp.PortDied) else (str(error),), clock.monotonic())
                gevent.sleep(retry)
                retry = min(retry * 2, LAST_RETRY)
            else:
                retry = FIRST_RETRY
                gevent.sleep(self._interval)
        del self._views[view.node_id]

    def _call(self, node_id: str, request: str, timeout: float = ANSWER) -> dict[Any, Any]:
        """The table that a node answers with; an empty one for any other answer. *Blocks.* *Raises:* as `Node.call`."""
        return table(plain(next(iter(self.node.call(node_id, request, timeout=timeout)), None)))

    def _is_shown(self, view: NodeView) -> bool:
        if view.lost_at is None:
            return True
        if view.left:
            return clock.monotonic() - view.lost_at < FORGET_LEFT
        return clock.monotonic() - view.lost_at < FORGET or self._is_listed(view.node_id)

    def _is_listed(self, node_id: str) -> bool:
        return node_id in self.node.known_nodes()

    # ---- what is seen

    def _caught(self, line: LogLine) -> None:
        self.lines.append((next(self._numbers), line))

    def _look(self) -> None:
        while True:
            if self.tick % 3 == 0:
                self._port.spawn(self._ask_families)
            nodes = [view.summary(clock.monotonic()) for view in self._views.values()]
            self.history.append(
                {
                    "time": clock.time(),
                    "messages": sum(node["messages"] for node in nodes) / 2,  # each is told by both its ends
                    "bytes": sum(node["bytes"] for node in nodes) / 2,
                    "queue": sum(node["queue"] for node in nodes),
                    "lag": max((node["lag"] for node in nodes), default=0.0),
                }
            )
            self.tick += 1
            self._looked.set()
            gevent.sleep(self._interval)

    def _ask_families(self) -> None:
        """A seed knows all families; what is in them comes from this node's own copies."""
        now = clock.monotonic()
        seeds = [view.node_id for view in self._views.values() if view.info.get("seed") and view.state(now) == "up"]
        if not seeds:
            return
        try:
            families = self._call(seeds[0], FAMILIES)
        except gmp.GmpError:
            return  # it is asked again, or another one is
        self._families = {
            name: {**table(families[name]), "items": self._items(name)}
            for name in sorted(filter(is_name, families))[:MOST_FAMILIES]
        }

    def _items(self, name: str) -> list[list[str]]:
        return [[text(key), "" if value is None else text(show(value, 200))]
                for key, value in itertools.islice(self.node.family(name).items().items(), ENTRIES)]  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """The network now."""
        now = clock.monotonic()
        views = list(self._views.values())
        return {
            "time": clock.time(),
            "own": self.node.id,
            "observer": is_observer(self.node.id),
            "nodes": [view.summary(now) for view in views],
            "links": merge_links(views),
            "families": self._families,
            "point": self.history[-1] if self.history else None,
        }

    def detail(self, node_id: str) -> dict[str, Any] | None:
        """All that is known of a node, and its ports; None when it is not known. *Blocks:* until it has answered."""
        view = self._views.get(node_id)
        if view is None:
            return None
        ports: dict[str, Any] = {}
        if view.state(clock.monotonic()) == "up":
            try:
                ports = self._call(node_id, PORTS, 2.0)
            except gmp.GmpError:
                ports = {}  # an older node does not know the question, or this one has become busy or lost
        return {
            **view.summary(clock.monotonic()),
            "info": view.info,
            "stats": view.stats,
            "call_rates": view.call_rates,
            "durations": view.durations,
            "links": view.links(),
            "ports_list": ports,
            "lines": [line_of(number, line) for number, line in self.lines if line.node == node_id][-50:],
        }


def is_observer(node_id: str) -> bool:
    """Whether that node is there only to look: one of a `gmp` command."""
    return node_id.startswith(("cli/", "0cli/"))


def is_name(name: str) -> bool:
    """Whether a group or family may have that name."""
    return bool(name) and not name.startswith("'")


def line_of(number: int, line: LogLine) -> dict[str, Any]:
    """A log line as it is sent to the browser."""
    return {"number": number, **line._asdict()}
