"""Logs of all nodes in one place, after AnyEvent::MP's LogCatcher; Perl nodes take part in both directions.

`LogSender` is switched on where logs are to be seen from elsewhere, `LogCatcher` where they are looked at. The catcher
visits every node that it knows of, or those it is told to, and again whenever one comes back.

A visit of a node: *asking* (it is dialled and asked whether it has the service on) → *catching* (its lines come to a port
of this visit alone, which is how one knows whose they are) or *off* → *lost* (again after a pause that grows) … A gmp node
is asked again and again; a Perl node always has the service, and must not be asked twice, or it sends each line twice.

Lines go through a queue of `MOST_WAITING` for each node to the callback, which may block; what is over is counted, and one
line tells how many there were. What the callback itself logs is not sent anywhere (`catching`).

race: an answer or line of an earlier visit that arrives after a loss finds its port dead and is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import gmp
from gmp.outside import chance, clock
from gmp.services.logline import SERVICE, LogLine, catching, level_name, parse_level, parse_line, to_perl
from gmp.services.logsender import LogSender, send_logs
from gmp.wire.requests import CAN, LEAVING

MOST_WAITING = 1000  # lines of one node that wait for the callback
ASK_AGAIN = 5.0  # seconds between two questions whether a gmp node has the service on
FIRST_RETRY, LAST_RETRY = 0.3, 30.0  # seconds before a lost node is dialled again
GIVE_UP = 600.0  # seconds after which a node that nobody named is given up

log = logging.getLogger("gmp.services")
Action = Callable[[LogLine], Any] | gmp.Port | str


class LogCatcher:
    """Catches what is logged on other nodes, until `close` or the end of the node.

    `action` is called with each `LogLine` in turn, in the greenlet of the port `self.port`; or it is a port, which gets
    ``("log", node, time, level, logger, text)``. `level` is the least level wanted, a number or name of `logging`. `nodes`
    are the IDs of the nodes to visit (None: every node that the directory lists or that is connected, but this one).
    `node` is the default node unless given. What `action` raises ends the catcher and its port. Usable in ``with``.
    *Raises:* `ConfigError` for a level that is none. *Blocks:* never.
    """

    def __init__(
        self,
        action: Action,
        *,
        level: int | str = logging.INFO,
        nodes: Iterable[str] | None = None,
        node: gmp.Node | None = None,
    ) -> None:
        self.node = node or gmp.node()
        self.level = parse_level(level)
        self._action = action
        self._named = None if nodes is None else set(nodes)
        self._visits: dict[str, _Visit] = {}
        self.port = self.node.port(self._work)  #: dies with the catcher
        self.port.own(self)
        self._closed = False
        self._stop = [self.node.monitor_nodes(self._node_event)]
        if self._named is None:
            self._stop.append(self.node.monitor_known_nodes(self._known))
            for node_id in self.node.up_nodes():
                self._visit(node_id)
        for node_id in self._named or ():
            self._visit(node_id)

    @property
    def catching(self) -> list[str]:
        """The IDs of the nodes that send their lines now."""
        return sorted(node_id for node_id, visit in self._visits.items() if visit.state == "catching")

    def states(self) -> dict[str, str]:
        """Of each node that is visited: ``asking``, ``catching``, ``off`` (it has the service off) or ``lost``.

        *Blocks:* never.
        """
        return {node_id: visit.state for node_id, visit in self._visits.items()}

    def close(self) -> None:
        """Catch no more. Idempotent. *Blocks:* never."""
        if self._closed:
            return
        self._closed = True
        for stop in self._stop:
            stop()
        for visit in self._visits.values():
            visit.close()
        self._visits.clear()
        self.port.kill()

    def __enter__(self) -> LogCatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- which nodes

    def _known(self, known: list[str], added: list[str], removed: list[str]) -> None:
        for node_id in added:
            self._visit(node_id)

    def _node_event(self, node_id: str, up: bool, *_: Any) -> None:
        if up and (self._named is None or node_id in self._named):
            self._visit(node_id)

    def _visit(self, node_id: str) -> None:
        if self._closed or (node_id == self.node.id and self._named is None):
            return
        visit = self._visits.get(node_id)
        if visit is None:
            visit = self._visits[node_id] = _Visit(self, node_id, named=self._named is not None)
        visit.start()

    def forget(self, node_id: str) -> None:
        """Visit that node no more, until it is seen again. *Blocks:* never."""
        visit = self._visits.pop(node_id, None)
        if visit is not None:
            visit.close()

    # ---- lines

    def _deliver(self, line: LogLine) -> bool:
        """Give the line to the action; False when there was no room for it."""
        action = self._action
        if not isinstance(action, gmp.Port | str):
            action(line)
            return True
        if isinstance(action, gmp.Port) and len(action) >= MOST_WAITING:
            return False
        self.node.send(action, "log", *line)
        return True

    def _work(self, port: gmp.Port) -> None:
        catching.set(True)
        for visit, line in port:
            visit.waiting -= 1
            if line.level >= self.level and not self._deliver(line):
                visit.missed += 1
            if visit.waiting == 0 and visit.missed:
                text = f"{visit.missed} lines were dropped where they were caught"
                if self._deliver(LogLine(visit.node_id, clock.time(), logging.WARNING, log.name, text)):
                    visit.missed = 0


class _Visit:
    """One node that is visited."""

    def __init__(self, catcher: LogCatcher, node_id: str, *, named: bool) -> None:
        self.node_id = node_id
        self.state = "asking"
        self.waiting = 0
        self.missed = 0
        self._catcher = catcher
        self._node = catcher.node
        self._named = named
        self._port: gmp.Port | None = None
        self._monitor: gmp.Monitor | None = None
        self._timer: gmp.Timer | None = None
        self._is_gmp = False
        self._pause = FIRST_RETRY
        self._seen = clock.monotonic()

    def start(self) -> None:
        """Go there now; nothing when that is under way."""
        if self._port is not None:
            return
        self._cancel_timer()
        self.state = "asking"
        self._port = self._node.port()
        self._port.on("can it", self._answered)
        self._port.on(None, self._line)
        self._monitor = self._node.monitor(self.node_id, self._lost)
        self._ask()

    def close(self) -> None:
        """End it."""
        self.state = "lost"
        self._is_gmp = False
        self._cancel_timer()
        if self._monitor is not None:
            self._monitor.cancel()
        if self._port is not None:
            self._port.kill()
            self._port = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self) -> None:
        if self._port is not None:
            if not self._is_gmp:
                self._node.try_send(self.node_id, CAN, LEAVING, self._port, "can it", "gmp")
            self._node.try_send(self.node_id, CAN, SERVICE, self._port, "can it", "log")
            # the service may be switched on, or off and on again, at any time; an answer may have been too slow
            self._timer = self._node.after(ASK_AGAIN, self._ask)

    def _answered(self, what: Any = None, yes: Any = None, *_: Any) -> None:
        if what == "gmp":
            self._is_gmp = bool(yes)
            return
        if self.state == "catching" and not self._is_gmp:
            return
        self._pause = FIRST_RETRY
        self._seen = clock.monotonic()
        self.state = "catching" if yes or not self._is_gmp else "off"
        if self.state == "catching":
            self._node.try_send(self.node_id, SERVICE, 0, self._port, to_perl(self._catcher.level))
        if not self._is_gmp:
            self._cancel_timer()

    def _line(self, *message: Any) -> None:
        line = parse_line(self.node_id, message)
        if line is None:
            return
        if self.waiting >= MOST_WAITING:
            self.missed += 1
            return
        self.waiting += 1
        self._node.send(self._catcher.port, self, line)

    def _lost(self, *reason: Any) -> None:
        self.close()
        left = bool(reason) and reason[0] == "leaving"
        if not self._named and (left or clock.monotonic() - self._seen > GIVE_UP):
            self._catcher.forget(self.node_id)
            return
        self._timer = self._node.after(self._pause * (0.7 + 0.3 * chance.random()), self.start)
        self._pause = min(self._pause * 2, LAST_RETRY)


def relog(line: LogLine) -> None:
    """Log a caught line here, under its own logger's name and time and with the attribute `node`; an action for a
    `LogCatcher`. It is not sent on. *Blocks:* as this process' logging handlers do."""
    logger = logging.getLogger("gmp.caught")
    if logger.isEnabledFor(line.level):
        logger.handle(
            logging.makeLogRecord(
                {
                    "name": line.logger,
                    "levelno": line.level,
                    "levelname": level_name(line.level),
                    "msg": line.text,
                    "created": line.time,
                    "node": line.node,
                    "gmp_caught": True,
                }
            )
        )


__all__ = ["LogCatcher", "LogLine", "LogSender", "level_name", "parse_level", "relog", "send_logs"]
