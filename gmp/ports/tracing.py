"""Ports whose messages carry a trace context. Only a node that traces makes them; other ports pay nothing for it.

A `TracedMessage` is a message with its *carrier*, a table of text that a tracer (OpenTelemetry's propagator, say) reads. A
handler runs within ``tracer.handling(…)``. When a body receives a message ``tracer.received(…)`` is called, and the body
works on that message until it receives the next one.
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
    """Makes spans; see `gmp.Node.trace_messages`. None of these methods may block."""

    def sending(self, dest: str, message: Message) -> Carrier | None:
        """Return the carrier for a message that the running code sends; None for none."""

    def calling(self, dest: str, message: Message) -> AbstractContextManager[Any]:
        """Return the context in which a `call` sends its message and waits for the reply."""

    def handling(self, port: str, message: Message, carrier: Carrier) -> AbstractContextManager[Any]:
        """Return the context in which a handler runs for a message with `carrier`."""

    def received(self, port: str, message: Message, carrier: Carrier) -> None:
        """Note that the running body has received a message with `carrier`."""


class TracedMessage(tuple[Any, ...]):
    """A message with its carrier, which a slice of it keeps."""

    carrier: Carrier

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return with_carrier(part, self.carrier) if isinstance(index, slice) else part


def with_carrier(message: Message, carrier: Carrier) -> TracedMessage:
    """Return `message` with `carrier`."""
    traced = TracedMessage(message)
    traced.carrier = carrier
    return traced


class TracingHandlers(Handlers):
    """Handlers of a port that traces."""

    __slots__ = ()

    def put(self, message: Message) -> None:
        """Do as `Handlers.put`; the handler will run within the message's trace."""
        call = self.match(message)
        if call is None:
            self.port.put_unhandled(message)
        else:
            self._let_wait(call)
        self.port.handler_queue_grew(self.waiting())

    def match(self, message: Message) -> Call | None:
        """Do as `Handlers.match`; the call runs within the message's trace."""
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

    tracer: ClassVar[Tracer]  #: set on a subclass per node
    handlers_class = limited_handlers_class = TracingHandlers

    def receive(self, *prefix: Any, timeout: float | None = None) -> Message:
        """Do as `Port.receive`, and tell the tracer."""
        return self._received(super().receive(*prefix, timeout=timeout))

    def receive_if(self, predicate: Callable[..., Any], timeout: float | None = None) -> Message:
        """Do as `Port.receive_if`, and tell the tracer."""
        return self._received(super().receive_if(predicate, timeout=timeout))

    def __iter__(self) -> Iterator[Message]:
        return map(self._received, super().__iter__())

    def _received(self, message: Message) -> Message:
        if isinstance(message, TracedMessage):
            self.tracer.received(self.id, message, message.carrier)
            return tuple(message)
        return message
