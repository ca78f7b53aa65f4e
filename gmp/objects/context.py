"""What the code of a method knows of its call: until when somebody waits for it, and for whom its service works.

It is kept in a context variable. gevent starts greenlets with an empty context: one that a method starts has the deadline
only if it is started by ``gevent.spawn(contextvars.copy_context().run, …)``.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from gmp.outside import clock

Link = tuple[str, str]  # of a chain of calls: a service's port ID, and what is called there


class Current(NamedTuple):
    """The call that runs now."""

    until: float | None = None  #: when its caller gives up, in monotonic time
    chain: tuple[Link, ...] = ()  #: the calls that wait for it, and itself, the first one first


NOBODY = Current()  #: what `current` returns outside of methods
_current: ContextVar[Current] = ContextVar("gmp_current_call", default=NOBODY)


def current() -> Current:
    """Return the call that runs now; an empty one outside of methods."""
    return _current.get()


def begin(call: Current) -> None:
    """Let `call` be the one that runs in this greenlet."""
    _current.set(call)


def left(until: float | None) -> float | None:
    """Return the seconds until then, 0.0 if it is past; None: no end."""
    return None if until is None else max(0.0, until - clock.monotonic())


def deadline() -> float | None:
    """Return the seconds after which the caller of the method that runs now gives up; None: never, or no method runs.

    Calls of other services that a method makes end by then too. *Blocks:* never.

    >>> import gmp
    >>> print(gmp.deadline())
    None
    """
    return left(_current.get().until)
