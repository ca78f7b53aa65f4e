"""One call at the side of the service: *waiting* → *running* → *streaming*, perhaps → *done*; or stopped anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Protocol

from gmp.objects.context import Link
from gmp.objects.figures import MethodFigures
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

    __slots__ = ("chain", "figures", "function", "method", "shown", "usual")

    def __init__(self, method: Method, service: str, port_id: str) -> None:
        self.method = method
        self.function = method.function
        self.shown = f"{service}.{method.name}"
        self.chain: tuple[Link, ...] = ((port_id, self.shown),)  #: of a call for which nobody but its caller waits
        self.figures = MethodFigures()
        self.usual = not method.is_generator and method.types is None  #: whether calls of it need nothing but arguments


class Work(PortTask):
    """A call that has come, and the task that runs it, by `run`. For the code that it runs it is the `Awaited`."""

    __slots__ = (
        "args", "begun", "chain", "context", "given_up", "key", "keywords", "node_id", "placed", "readers", "reply", "served",
        "source", "until", "within",
    )  # fmt: skip

    def __init__(
        self, run: Callable[[Work], None], port: Port, served: Served, key: Any, reply: str, node_id: str, args: Sequence[Any],
        until: float | None,
    ) -> None:  # fmt: skip
        # as `Task`, whose `__init__` would be one more call; the task of each call is made here
        self._pool = port.ports.workers
        self._done = self.worker = None
        self.ended = False
        self.more = True
        self.port = port
        self.next = run, (None, self)
        self.served = served
        self.key = key  #: what it is cancelled by
        self.reply = reply  #: a port ID; empty for what nobody waits for
        self.node_id = node_id  #: that port's
        self.args = args
        self.keywords: dict[str, Any] = NONE
        self.until = until  #: `Awaited.until`
        self.chain = served.chain  #: `Awaited.chain`
        self.within: float | None = None  #: seconds after which who waits for the caller gives up; the end of a stream, too
        self.given_up = False  #: True if nobody waits for it any more
        self.context: Context | None = None  #: of its trace, which its own calls go on with
        self.begun = False  #: True once its greenlet runs
        self.placed = False  #: True from when it has a place, or is a stream to be begun, until its method has ended
        self.source: Stoppable | None = None
        self.readers: tuple[RemoteStream, ...] = ()  #: of the generators among its arguments

    @property
    def method(self) -> Method:
        """The method that it calls."""
        return self.served.method

    def forget(self) -> None:
        """It will not run: it keeps nothing alive."""
        self.next = self.port = None

    def close_readers(self) -> None:
        """Its arguments are no longer read."""
        readers, self.readers = self.readers, ()
        for reader in readers:
            reader.close()


NONE: dict[str, Any] = {}  # of keywords
