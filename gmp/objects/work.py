"""One call at the side of the service: *waiting* → *running* → *streaming*, perhaps → *done*; or stopped anywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from gmp.objects.context import Current, Link
from gmp.objects.forms import Asked
from gmp.objects.methods import Method
from gmp.objects.reader import RemoteStream
from gmp.ports.port import Port
from gmp.ports.tasks import PortTask


class Stoppable(Protocol):
    """A stream that a call has begun."""

    def stop(self) -> None:
        """End it. *Blocks:* never."""


class Served:
    """A method of one service, with what all calls of it share."""

    __slots__ = ("chain", "method", "shown")

    def __init__(self, method: Method, service: str, port_id: str) -> None:
        self.method = method
        self.shown = f"{service}.{method.name}"
        self.chain: tuple[Link, ...] = ((port_id, self.shown),)  #: of a call for which nobody but its caller waits


def _not_started() -> None:
    """What a call that waits would run."""


class Work(PortTask):
    """A call that has come, and the task that runs it."""

    __slots__ = (
        "asked", "begun", "call", "context", "given_up", "key", "method", "placed", "readers", "served", "source",
    )  # fmt: skip

    def __init__(self, key: Any, served: Served, asked: Asked, call: Current, port: Port) -> None:
        super().__init__(_not_started, (), port.ports.workers, port)
        self.key = key  #: what it is cancelled by
        self.served = served
        self.method = served.method
        self.asked = asked
        self.call = call  #: its deadline and chain
        self.given_up = False  #: True if nobody waits for it any more
        self.context: Context | None = None  #: of its trace, which its own calls go on with
        self.begun = False  #: True once its greenlet runs
        self.placed = False  #: True from when it has a place, or is a stream to be begun, until its method has ended
        self.source: Stoppable | None = None
        self.readers: tuple[RemoteStream, ...] = ()  #: of the generators among its arguments

    def run_by(self, run: Callable[[Work], None]) -> None:
        """Let it run, by `run`."""
        self.placed = True
        self.next = run, (None, self)  # not before, as one that is forgotten while it waits keeps nothing alive
        self.start()

    def close_readers(self) -> None:
        """Its arguments are no longer read."""
        readers, self.readers = self.readers, ()
        for reader in readers:
            reader.close()
