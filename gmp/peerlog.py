"""Log lines that other nodes and strangers cause, and the length of all of gmp's lines.

What a peer can make this node log, it can make it log a million times, a megabyte each, with control characters that
change a terminal or line ends that forge other lines. So all such lines go through a node's `PeerLog`: of each kind one a
minute for each peer or address, and `MOST_OF_KIND` a minute of all together. What was left out is counted, and reported at
the end of the minute with the last of it.

Besides, each line of gmp's loggers is cut to `LONGEST_LINE` characters, and its traceback to `LONGEST_TRACEBACK`, whatever
made it: an exception's text may be what a peer sent.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from gmp.outside import clock
from gmp.showing import printable

LOGGERS = ("gmp", "gmp.net", "gmp.mesh", "gmp.services", "gmp.caught")
PERIOD = 60.0  #: seconds
MOST_OF_KIND = 60  #: lines of one kind in a period, from all peers together
LONGEST_TEXT = 500  #: characters of a text of a peer's
LONGEST_LINE = 2000
LONGEST_TRACEBACK = 16_000
_LINE_ENDS = frozenset("\n\t")


class Cancellable(Protocol):
    """A timer."""

    def cancel(self) -> None:
        """Keep it from firing."""


class _Kind:
    """The lines of one kind: when each peer had its last one, oldest first, and what was left out since."""

    __slots__ = ("last", "left_out", "told")

    def __init__(self) -> None:
        self.told: dict[str, float] = {}
        self.left_out = 0
        self.last = ""


class PeerLog:
    """What peers make one node log. `later(seconds, function)` calls `function` then; `now` gives monotonic seconds."""

    def __init__(
        self,
        node_id: str,
        later: Callable[[float, Callable[[], None]], Cancellable],
        now: Callable[[], float] = lambda: clock.monotonic(),
    ) -> None:
        self._node_id = node_id
        self._later = later
        self._now = now
        self._kinds: dict[tuple[str, int, str], _Kind] = {}  # by logger, level and name; peers choose none of these
        self._timer: Cancellable | None = None

    def run(self, logger: logging.Logger, who: str, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` for the node `who`; what it raises is logged, with its traceback, and goes no further."""
        try:
            function(*args)
        except Exception as error:
            name = getattr(function, "__qualname__", function)
            self.tell(logger, logging.ERROR, "function failed", who, f"{name}, called by {who}, failed: {error!r}", error)

    def tell(
        self, logger: logging.Logger, level: int, kind: str, who: str, text: str, error: BaseException | None = None
    ) -> None:
        """Log `text`, which `who` has caused, a node ID or an address, unless there were enough lines of that kind.

        With the traceback of `error`. *Blocks:* as the handlers of the logger do.
        """
        if not logger.isEnabledFor(level):
            return
        found = self._kinds.setdefault((logger.name, level, kind), _Kind())
        now, told = self._now(), found.told
        while told and told[oldest := next(iter(told))] <= now - PERIOD:
            del told[oldest]
        if who not in told and len(told) < MOST_OF_KIND:
            told[who] = now
            logger.log(level, "%s: %s", self._node_id, printable(text, LONGEST_TEXT), exc_info=error)
            return
        found.left_out += 1
        found.last = printable(text, LONGEST_TEXT)
        if self._timer is None:
            self._timer = self._later(PERIOD, self.sum_up)

    def sum_up(self) -> None:
        """Log now how much was left out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (name, level, kind), found in self._kinds.items():
            if found.left_out:
                text = "%s: %s: %d more lines in the last %.0f s were left out, the last of them: %s"
                logging.getLogger(name).log(level, text, self._node_id, kind, found.left_out, PERIOD, found.last)
                found.left_out = 0


def bound_lines() -> None:
    """Bound the lines of gmp's loggers from now on. Idempotent."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_bound)


def _bound(record: logging.LogRecord) -> bool:
    try:
        text = record.getMessage()
    except Exception:  # the handlers report it, as any record that cannot be formatted
        return True
    bounded = printable(text, LONGEST_LINE, keep=_LINE_ENDS)
    if bounded is not text:
        record.msg, record.args = bounded, ()
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        bounded = printable(trace, LONGEST_TRACEBACK, keep=_LINE_ENDS)
        if bounded != trace:
            record.exc_text = bounded
    return True
