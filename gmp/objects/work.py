"""One call at the side of the service: *waiting* → *running* → *streaming*, perhaps → *done*; or stopped anywhere."""

from __future__ import annotations

from contextvars import Context
from typing import Any, Protocol

from gmp.objects.context import Current
from gmp.objects.forms import Asked
from gmp.objects.methods import Method
from gmp.objects.reader import RemoteStream
from gmp.ports.workers import Task


class Stoppable(Protocol):
    """A stream that a call has begun."""

    def stop(self) -> None:
        """End it. *Blocks:* never."""


class Work:
    """A call that has come."""

    __slots__ = ("asked", "begun", "call", "context", "given_up", "key", "method", "readers", "source", "task")

    def __init__(self, key: Any, method: Method, asked: Asked, call: Current) -> None:
        self.key = key  #: what it is cancelled by
        self.method = method
        self.asked = asked
        self.call = call  #: its deadline and chain
        self.given_up = False  #: True if nobody waits for it any more
        self.context: Context | None = None  #: of its trace, which its own calls go on with
        self.begun = False  #: True once its greenlet runs
        self.task: Task | None = None
        self.source: Stoppable | None = None
        self.readers: list[RemoteStream] = []  #: of the generators among its arguments

    def close_readers(self) -> None:
        """Its arguments are no longer read."""
        for reader in self.readers:
            reader.close()
        self.readers.clear()
