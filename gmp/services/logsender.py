"""The sending side of logs: a `logging.Handler` that tells other nodes what is logged here, when they ask.

A catcher, gmp's or Perl's, calls ``AnyEvent::MP::LogCatcher::connect`` with 0, its port and the highest Perl level it
wants; from then on ``time, context, level, text`` go to that port, until it dies or its node is lost.

Walk of a record: `emit`, in any greenlet or thread, puts a line into a bounded queue → `_flush`, in the hub of the node's
thread, offers it to each catcher → `try_send`. Nothing here blocks. A flood is counted: a full queue, a catcher that has
had its lines for this second, a connection over its high mark each drop the line, and one line tells how many there were.

It never feeds on its own lines: not sent are records that arise while lines are sent, that were caught from another node
(`LogLine.relog`), or that are logged by whoever works on a caught line (`catching`).

race: another thread appends while `_flush` empties the queue: the flag that a flush is under way is taken back before.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import get_thread_ident  # type: ignore[attr-defined]  # the native one, also in patched programs

import gmp
from gmp.outside import clock
from gmp.services.logline import MOST_TEXT, SERVICE, as_text, catching, parse_level, to_perl

MOST_WAITING = 2000  # lines that wait for the next turn of the loop
LINES_A_TURN = 500
LINES_A_SECOND = 1000  # to one catcher, and as many at once after a pause
MOST_CATCHERS = 100
TELL_DROPPED = 1.0  # seconds after which a catcher is told what it missed

log = logging.getLogger("gmp.services")
Line = tuple[float, str, int, str]


class LogSender(logging.Handler):
    """Tells other nodes what is logged in this process, from now until `close` or the end of the node.

    `node` is the default node unless given; `level` the least level that is told whatever a catcher asks for, a number
    or name; `logger` the name of the logger to listen at, the root logger by default. The loggers' own levels stay as they
    are: what they filter out nobody sees. Usable in ``with``.
    *Raises:* `ConfigError`, also when the node has one already. *Blocks:* never.
    """

    def __init__(self, node: gmp.Node | None = None, *, level: int | str = 0, logger: str = "") -> None:
        super().__init__(parse_level(level))
        self.node = node or gmp.node()
        self.dropped = 0  #: lines that no catcher got because too many waited
        self._catchers: dict[str, _Catcher] = {}
        self._wanted = 0  # the highest Perl level that any of them wants
        self._waiting: deque[Line] = deque()
        self._told_dropped = 0
        self._scheduled = False
        self._sending = False
        self._thread = get_thread_ident()
        self._loop = gevent.get_hub().loop
        self._logger = logging.getLogger(logger)
        self._withdraw = self.node.offer(SERVICE, self._connect)
        self._port = self.node.port()
        self._port.own(self)
        self._ended = False
        self._logger.addHandler(self)

    def createLock(self) -> None:  # noqa: N802  # the name is logging's
        """There is none to wait for: a deque takes lines from many threads."""
        self.lock = None

    @property
    def catchers(self) -> list[str]:
        """The IDs of the ports that get lines now."""
        return list(self._catchers)

    def close(self) -> None:
        """Send no more. Idempotent. *Blocks:* never."""
        super().close()
        self._logger.removeHandler(self)
        if self._ended:
            return
        self._ended = True
        self._withdraw()
        for port_id in self.catchers:
            self._forget(port_id)
        self._port.kill()

    def __enter__(self) -> LogSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- who catches

    def _connect(self, asker: str, version: Any = None, port_id: Any = None, level: Any = None, *_: Any) -> None:
        """A node asks for lines. The same port again: its level counts from now on."""
        try:
            most, port_id = int(as_text(level)), as_text(port_id)
            if int(as_text(version)) != 0 or not port_id.partition("#")[2]:
                raise ValueError("expected 0, a port and a level")
            gmp.node_of(port_id)
        except (ValueError, gmp.GmpError) as error:
            self._refuse(asker, f"{version!r:.80}, {port_id!r:.300}, {level!r:.80}: {error}")
            return
        if self._ended:
            return
        if port_id in self._catchers:
            self._catchers[port_id].level = most
            self._look_what_is_wanted()
            return
        if len(self._catchers) >= MOST_CATCHERS:
            self._refuse(asker, f"{MOST_CATCHERS} ports get them already")
            return
        self._catchers[port_id] = _Catcher(self.node, port_id, most, lambda: self._forget(port_id))
        self._look_what_is_wanted()

    def _refuse(self, asker: str, why: str) -> None:
        self.node.complain(asker, "logs refused", f"{asker} asks for logs in vain: {why}")

    def _forget(self, port_id: str) -> None:
        catcher = self._catchers.pop(port_id, None)
        if catcher is not None:
            catcher.close()
            self._look_what_is_wanted()

    def _look_what_is_wanted(self) -> None:
        self._wanted = max((catcher.level for catcher in self._catchers.values()), default=0)

    # ---- records come in

    def handle(self, record: logging.LogRecord) -> bool:
        """`logging.Handler.handle`, without a lock."""
        self._show_here(record)
        if to_perl(record.levelno) > self._wanted or catching.get() or getattr(record, "gmp_caught", False):
            return False
        if self._sending and get_thread_ident() == self._thread:
            return False
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)  # a filter may give another record
        return bool(passed)

    def _show_here(self, record: logging.LogRecord) -> None:
        """A record that no other handler gets goes to stderr, as it would without this one: `logging.lastResort`."""
        last = logging.lastResort
        if last is None or record.levelno < last.level:
            return
        handlers: list[logging.Handler] = []
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            handlers += logger.handlers
            logger = logger.parent if logger.propagate else None
        if handlers and handlers[0] is self and all(isinstance(handler, LogSender) for handler in handlers):
            last.handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """`logging.Handler.emit`: put the line into the queue, or count it. *Blocks:* never, in any thread."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._waiting.append((record.created, sendable(record.name), to_perl(record.levelno), sendable(text[:MOST_TEXT])))
        if not self._scheduled:
            self._scheduled = True
            mine = get_thread_ident() == self._thread
            schedule = self._loop.run_callback if mine else self._loop.run_callback_threadsafe
            schedule(self._flush)

    def _flush(self) -> None:
        """In the hub: offer what waits to every catcher; when there is much, go on in the next turn."""
        self._scheduled = False
        if self.node.closed:
            self._waiting.clear()
            return
        self._sending = True
        try:
            catchers = list(self._catchers.values())
            dropped = self.dropped - self._told_dropped
            self._told_dropped = self.dropped
            for catcher in catchers:
                catcher.miss(dropped)
            for _ in range(min(len(self._waiting), LINES_A_TURN)):
                line = self._waiting.popleft()
                for catcher in catchers:
                    catcher.offer(line)
        finally:
            self._sending = False
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._flush)


class _Catcher:
    """A port that gets lines, and how many it may get now."""

    def __init__(self, node: gmp.Node, port_id: str, level: int, gone: Callable[[], None]) -> None:
        self.level = level
        self._node = node
        self._port_id = port_id
        self._on_node = gmp.node_of(port_id)
        self._room = float(LINES_A_SECOND)
        self._filled = clock.monotonic()
        self._missed = 0
        self._timer: gmp.Timer | None = None
        self._monitor = node.monitor(port_id, lambda *_: gone())

    def close(self) -> None:
        """It is gone."""
        self._monitor.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def offer(self, line: Line) -> None:
        """Send the line if it is wanted and there is room, else count it."""
        if line[2] > self.level:
            return
        if not (self._has_room() and self._send(line)):
            self.miss(1)

    def _has_room(self) -> bool:
        now = clock.monotonic()
        self._room = min(LINES_A_SECOND, self._room + (now - self._filled) * LINES_A_SECOND)
        self._filled = now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _send(self, line: Line) -> bool:
        # race: the node was lost and the monitor's callback is still to run: a send would dial it again
        try:
            return self._node.is_up(self._on_node) and self._node.try_send(self._port_id, *line)
        except gmp.MessageError:  # longer than this node's setting `max_message`
            return False

    def miss(self, count: int) -> None:
        """So many lines were not sent; it is told before long."""
        self._missed += count
        if self._missed and self._timer is None:
            self._timer = self._node.after(TELL_DROPPED, self._tell)

    def _tell(self) -> None:
        missed, self._missed, self._timer = self._missed, 0, None
        if not self._send((clock.time(), log.name, to_perl(logging.WARNING), f"{missed} lines were dropped here")):
            self.miss(missed)


def sendable(text: str) -> str:
    """The text, with what no text on the wire may have (lone surrogates, from undecodable file names) escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def send_logs(port: gmp.Port, level: int | str = 0, logger: str = "") -> None:
    """`LogSender` as a service of the default node: ``gmp run --service gmp.services.logcatcher:send_logs``.

    It is on as long as `port` lives. *Raises:* `ConfigError`. *Blocks:* never.
    """
    port.own(LogSender(level=level, logger=logger))
    port.on(None, lambda *_: None)
