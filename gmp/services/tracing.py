"""OpenTelemetry traces (extra ``otel``): W3C trace context travels with messages, and spans show send → receive → reply.

    from gmp.services.tracing import instrument
    instrument(gmp.configure(…))

Spans: ``send TAG`` when a message is sent (producer), ``call TAG`` from a call to its reply (client), ``process TAG``
while a handler runs, and, for a body, from the `receive` that gave it the message to the next one (consumer).
Messages to Perl nodes, and those sent before a connection is there, are seen at their sender only.

Instrument a node before its ports are made: it is for those made afterwards. What is not instrumented costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import gmp

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError("gmp.services.tracing needs opentelemetry-api: pip install 'gevent-mp[otel]'") from error

_body: ContextVar[_Body | None] = ContextVar("gmp_traced_body", default=None)


def instrument(node: gmp.Node | None = None, *, tracer_provider: TracerProvider | None = None) -> None:
    """Trace the messages of `node` (None: the default node); `tracer_provider` is the global one unless given.

    *Blocks:* never.
    """
    (node or gmp.node()).trace_messages(_Tracer(tracer_provider))


def uninstrument(node: gmp.Node | None = None) -> None:
    """Trace the messages of `node` no longer. *Blocks:* never."""
    (node or gmp.node()).trace_messages(None)


class _Tracer:
    """`gmp.ports.tracing.Tracer` by OpenTelemetry."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = trace.get_tracer("gmp", gmp.__version__, provider)

    def sending(self, dest: str, message: tuple[Any, ...]) -> dict[str, str] | None:
        """A span of no length, whose context travels."""
        carrier: dict[str, str] = {}
        attributes = _attributes(dest, "send")
        with self._tracer.start_as_current_span(f"send {_tag(message)}", kind=SpanKind.PRODUCER, attributes=attributes):
            propagate.inject(carrier)
        return carrier

    def calling(self, dest: str, message: tuple[Any, ...]) -> AbstractContextManager[Any]:
        """A span from the call to its reply; what `call` raises is its error."""
        attributes = _attributes(dest, "send")
        return self._tracer.start_as_current_span(f"call {_tag(message)}", kind=SpanKind.CLIENT, attributes=attributes)

    @contextmanager
    def handling(self, port: str, message: tuple[Any, ...], carrier: dict[str, str]) -> Iterator[None]:
        """A span around a handler."""
        attributes, parent = _attributes(port, "process"), propagate.extract(carrier)
        name = f"process {_tag(message)}"
        with self._tracer.start_as_current_span(name, parent, kind=SpanKind.CONSUMER, attributes=attributes):
            yield

    def received(self, port: str, message: tuple[Any, ...], carrier: dict[str, str]) -> None:
        """A span that begins now and ends when this body receives its next message."""
        body = _body.get()
        if body is None:
            body = _Body(gmp.current_port())
            _body.set(body)
        attributes, parent = _attributes(port, "process"), propagate.extract(carrier)
        name = f"process {_tag(message)}"
        body.goes_on(self._tracer.start_span(name, parent, kind=SpanKind.CONSUMER, attributes=attributes))


class _Body:
    """The span of what a greenlet is at: it ends when the next one begins, or with the greenlet's port."""

    def __init__(self, port: gmp.Port | None) -> None:
        self._port = port
        self._span: Span | None = None
        self._token: Any = None
        if port is not None and port.alive:
            port.own(self)

    def goes_on(self, span: Span) -> None:
        """A message was received: what was done for the one before is done."""
        if self._span is not None:
            context.detach(self._token)
            self._span.end()
        self._span = span
        self._token = context.attach(trace.set_span_in_context(span))

    def close(self) -> None:
        """The port is dead, abnormally perhaps."""
        if self._span is not None:
            if self._port is not None and self._port.reason:
                self._span.set_status(Status(StatusCode.ERROR, ", ".join(map(str, self._port.reason[:2]))))
            self._span.end()


def _tag(message: tuple[Any, ...]) -> str:
    """The name of a message: its tag, when that is a text of sensible length; of a call of a service, its method."""
    match message:
        case ("call" | "send", str(method), [*_], *_) if len(method) <= 80:
            return method
    return message[0] if message and isinstance(message[0], str) and len(message[0]) <= 80 else "message"


def _attributes(port: str, operation: str) -> dict[str, str]:
    """As OpenTelemetry's conventions for messaging have them."""
    return {
        "messaging.system": "gmp",
        "messaging.destination.name": port,
        "messaging.operation.type": operation,
        "server.address": gmp.node_of(port),
    }
