"""What the code of a method knows of its call: until when somebody waits for it, and for whom its service works.

It is kept in a context variable. gevent starts greenlets with an empty context: one that a method starts has the deadline
only if it is started by ``gevent.spawn(contextvars.copy_context().run, …)``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import NamedTuple, Protocol

from gmp.outside import clock

Link = tuple[str, str]  # of a chain of calls: a service's port ID, and what is called there


class Awaited(Protocol):
    """A call that runs, as its code knows it."""

    @property
    def until(self) -> float | None:
        """When its caller gives up, in monotonic time."""

    @property
    def chain(self) -> tuple[Link, ...]:
        """The calls that wait for it, and itself, the first one first."""


class Current(NamedTuple):
    """The call for which a stream, or a future, works."""

    until: float | None = None
    chain: tuple[Link, ...] = ()


NOBODY: Awaited = Current()  #: what `current` returns outside of methods
_current: ContextVar[Awaited] = ContextVar("gmp_current_call", default=NOBODY)

#: `current()`: return the call that runs now; `NOBODY` outside of methods
current: Callable[[], Awaited] = _current.get
#: `begin(call)`: let `call` be the one that runs in this greenlet
begin: Callable[[Awaited], Token[Awaited]] = _current.set
#: `end(begun)`: let it be none again, with what `begin` has returned; so the context is as empty as before
end: Callable[[Token[Awaited]], None] = _current.reset


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
