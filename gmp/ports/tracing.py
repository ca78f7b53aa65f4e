"""Ports whose messages carry a trace context. Only a node that traces makes them; every other port pays nothing for it.

A `TracedMessage` is the message and its *carrier*, a table of text that a tracer (OpenTelemetry's propagator, say) reads. A
handler runs within ``tracer.handling(…)``. What a body receives is told by ``tracer.received(…)``, and is the
body's concern until it receives the next message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Protocol

from gmp.ports.handlers import Handlers
from gmp.ports.mailbox import Message
from gmp.ports.port import Port
from gmp.ports.workers import Call

Carrier = dict[str, str]


class Tracer(Protocol):
    """What makes spans; see `gmp.Node.trace_messages`. None of these may block."""

    def sending(self, dest: str, message: Message) -> Carrier | None:
        """A message is sent by the code that runs now: return what is to travel with it, None for nothing."""

    def calling(self, dest: str, message: Message) -> AbstractContextManager[Any]:
        """What `call` runs in: it sends, and waits for the reply."""

    def handling(self, port: str, message: Message, carrier: Carrier) -> AbstractContextManager[Any]:
        """What a handler runs in that was called for a message with `carrier`."""

    def received(self, port: str, message: Message, carrier: Carrier) -> None:
        """The body that runs now has received a message with `carrier`."""


class TracedMessage(tuple[Any, ...]):
    """A message with its carrier; a part of it keeps the carrier."""

    carrier: Carrier

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return with_carrier(part, self.carrier) if isinstance(index, slice) else part


def with_carrier(message: Message, carrier: Carrier) -> TracedMessage:
    """`message` with `carrier`."""
    traced = TracedMessage(message)
    traced.carrier = carrier
    return traced


class TracingHandlers(Handlers):
    """Handlers of a port that traces."""

    __slots__ = ()

    def put(self, message: Message) -> None:
        """As `Handlers.put`; the handler that was chosen will run within the message's trace."""
        call = self.match(message)
        if call is None:
            self.port.put_unhandled(message)
        else:
            self._let_wait(call)
        self.port.handler_queue_grew(self.waiting())

    def match(self, message: Message) -> Call | None:
        """As `Handlers.match`."""
        call = super().match(message)
        if call is None or not isinstance(message, TracedMessage):
            return call
        return partial(_handle, self.port, message, call[0]), tuple(message)


def _handle(port: Any, message: TracedMessage, handler: Callable[..., Any], *rest: Any) -> None:
    with port.tracer.handling(port.id, message, message.carrier):
        handler(*rest)


class TracingPort(Port):
    """A port of a node that traces."""

    __slots__ = ()

    tracer: ClassVar[Tracer]  #: given to a class of each node
    handlers_class = limited_handlers_class = TracingHandlers

    def receive(self, *prefix: Any, timeout: float | None = None) -> Message:
        """As `Port.receive`."""
        return self._told(super().receive(*prefix, timeout=timeout))

    def receive_if(self, predicate: Callable[..., Any], timeout: float | None = None) -> Message:
        """As `Port.receive_if`."""
        return self._told(super().receive_if(predicate, timeout=timeout))

    def __iter__(self) -> Iterator[Message]:
        for message in super().__iter__():
            yield self._told(message)

    def _told(self, message: Message) -> Message:
        if isinstance(message, TracedMessage):
            self.tracer.received(self.id, message, message.carrier)
            return tuple(message)
        return message
