"""One call at the side of the service: *waiting* → *running* → *streaming*, perhaps → *done*; or stopped anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from typing import Any, Protocol

from gmp.objects.context import Link
from gmp.objects.figures import MethodFigures
from gmp.objects.methods import Method
from gmp.objects.reader import RemoteStream


class Stream(Protocol):
    """A stream that a call has begun."""

    def stop(self) -> None:
        """End it. *Blocks:* never."""


class Running(Protocol):
    """Where a call runs."""

    def stop(self, work: Work) -> None:
        """End the call, if it still runs there. *Blocks:* never."""


class Served:
    """A method of one service, with what all calls of it share."""

    __slots__ = ("chain", "figures", "function", "method", "shown", "streams", "types", "usual")

    def __init__(self, method: Method, service: str, port_id: str) -> None:
        self.method = method
        self.function, self.types, self.streams = method.function, method.types, method.mark.streams
        self.shown = f"{service}.{method.name}"
        self.chain: tuple[Link, ...] = ((port_id, self.shown),)  #: of a call for which nobody but its caller waits
        self.figures = MethodFigures()
        self.usual = not method.is_generator and method.types is None  #: whether calls of it need nothing but arguments


class Work:
    """A call that has come. For the code that it runs it is the `Awaited`."""

    __slots__ = (
        "args", "begun", "chain", "context", "given_up", "key", "keywords", "node_id", "place", "readers", "reply_name",
        "served", "source", "until", "within",
    )  # fmt: skip

    def __init__(
        self, served: Served, key: Any, node_id: str, reply_name: str, args: Sequence[Any], until: float | None
    ) -> None:
        self.served = served
        self.key = key  #: what it is cancelled by
        self.node_id = node_id  #: the caller's; empty for what nobody waits for, as is `reply_name`
        self.reply_name = reply_name  #: of the reply port there
        self.args = args
        self.keywords = NONE
        self.until = until  #: `Awaited.until`
        self.chain = served.chain  #: `Awaited.chain`
        self.within: float | None = None  #: seconds after which who waits for the caller gives up; the end of a stream, too
        self.given_up = False  #: True if nobody waits for it any more
        self.context: Context | None = None  #: of its trace, which its own calls go on with
        self.begun = False  #: True once its greenlet runs
        self.place: Running | None = None  #: where it runs, or will run next; None while it waits, and at its end
        self.source: Stream | None = None
        self.readers: tuple[RemoteStream, ...] = ()  #: of the generators among its arguments

    @property
    def reply(self) -> str:
        """The ID of the reply port; empty for what nobody waits for."""
        return f"{self.node_id}#{self.reply_name}" if self.reply_name else ""

    def close_readers(self) -> None:
        """Its arguments are no longer read."""
        readers, self.readers = self.readers, ()
        for reader in readers:
            reader.close()


NONE: dict[str, Any] = {}  #: keywords of most calls
