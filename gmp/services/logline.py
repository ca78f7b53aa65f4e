"""One line of a log of another node, and the two scales of levels.

On the wire the levels are Perl's (AnyEvent::Log): 1 fatal, 2 alert, 3 critical, 4 error, 5 warn, 6 note, 7 info, 8 debug,
9 trace. Here they are those of `logging`, with 25 for a note and 5 for a trace. Both maps keep the order, so that a line
which passes a limit on one scale passes it on the other.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, NamedTuple

import gmp
from gmp.wire.requests import LOGS

NOTE, TRACE = 25, 5
SERVICE = LOGS
MOST_TEXT = 8192  # characters of one line; what is longer is cut
MOST_CONTEXT = 200  # characters of a logger's name
_TO_PERL = ((50, 3), (40, 4), (30, 5), (NOTE, 6), (20, 7), (10, 8))
_FROM_PERL = {1: 50, 2: 50, 3: 50, 4: 40, 5: 30, 6: NOTE, 7: 20, 8: 10, 9: TRACE}
_NAMES = {50: "CRITICAL", 40: "ERROR", 30: "WARNING", NOTE: "NOTE", 20: "INFO", 10: "DEBUG", TRACE: "TRACE"}

catching: ContextVar[bool] = ContextVar("gmp_catching", default=False)  #: true while a caught line is worked on


class LogLine(NamedTuple):
    """A line that was logged on `node`: `time` in seconds since 1970, `level` of `logging`."""

    node: str
    time: float
    level: int
    logger: str
    text: str


def to_perl(level: int) -> int:
    """The level that Perl has for one of `logging`, from 3 to 9."""
    return next((perl for limit, perl in _TO_PERL if level >= limit), 9)


def from_perl(level: int) -> int:
    """The level that `logging` has for one of Perl's; outside 1 to 9 the nearest."""
    return _FROM_PERL[min(max(level, 1), 9)]


def level_name(level: int) -> str:
    """A name for a level of `logging`."""
    return _NAMES.get(level) or logging.getLevelName(level)


def parse_level(level: int | str) -> int:
    """A level by name, in any case, or number. *Raises:* `ConfigError` that lists the names."""
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return level
    if isinstance(level, str) and level.isascii() and level.isdigit():
        return int(level)
    by_name = {name: number for number, name in _NAMES.items()} | {"WARN": 30, "FATAL": 50, "NOTSET": 0}
    if isinstance(level, str) and level.upper() in by_name:
        return by_name[level.upper()]
    raise gmp.ConfigError(f"{level!r} is no log level: expected a number or one of {', '.join(_NAMES.values())}")


def as_text(value: Any) -> str:
    """A text as a Perl peer may send it: there a number may be a text, and a text octets, of UTF-8 or Latin-1."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def parse_line(node: str, message: tuple[Any, ...]) -> LogLine | None:
    """A line as it came from `node`: ``time, context, level, text``; None when it is none."""
    try:
        seconds, context, level, text = message[:4]
        seconds, level = float(as_text(seconds)), int(float(as_text(level)))
        context, text = as_text(context)[:MOST_CONTEXT], as_text(text)[:MOST_TEXT].rstrip("\n")
    except (ValueError, OverflowError):  # also of an integer of thousands of digits
        return None
    return LogLine(node, seconds, from_perl(level), context, text)
