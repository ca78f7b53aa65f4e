"""Trace context travels with messages: spans of sender, receiver and reply are one trace, on one node and between nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import gmp
from gmp.services.tracing import instrument, uninstrument

from .conftest import eventually

MakeNode = Callable[..., gmp.Node]


class Spans:
    """What was traced."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, *names: str) -> list[ReadableSpan]:
        """The spans of those names, once all are there."""

        def found() -> list[ReadableSpan]:
            return [span for name in names for span in self._exporter.get_finished_spans() if span.name == name]

        eventually(lambda: {span.name for span in found()} == set(names))
        return found()

    def all(self) -> list[str]:
        return sorted(span.name for span in self._exporter.get_finished_spans())


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


@pytest.fixture
def pair(make_node: MakeNode, spans: Spans) -> tuple[gmp.Node, gmp.Node]:
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    other.wait_up(timeout=10)
    seed.wait_up("other", timeout=10)
    for node in (seed, other):
        instrument(node, tracer_provider=spans.provider)
    return seed, other


@pytest.mark.parametrize("local", [True, False])
def test_a_call_its_handler_and_the_reply_are_one_trace(
    pair: tuple[gmp.Node, gmp.Node], spans: Spans, local: bool
) -> None:
    seed, other = pair
    node = seed if local else other
    port = node.port()
    port.on("double", lambda number, reply: node.send(reply, "doubled", 2 * number))
    assert seed.call(port.id, "double", 21) == ("doubled", 42)
    call, send, process, reply = spans.named("call double", "send double", "process double", "send doubled")
    assert {span.context.trace_id for span in (call, send, process, reply)} == {call.context.trace_id}
    assert (parent(send), parent(process), parent(reply)) == (
        call.context.span_id,
        send.context.span_id,
        process.context.span_id,
    )
    assert process.attributes is not None
    assert process.attributes["messaging.destination.name"] == port.id


def test_what_a_body_does_for_a_message_is_within_the_span_of_that_message(
    pair: tuple[gmp.Node, gmp.Node], spans: Spans
) -> None:
    seed, other = pair
    end = seed.port()

    def forward(port: gmp.Port) -> None:
        for tag, number in port:
            other.send(end.id, f"forwarded {tag}", number)

    port = other.port(forward)
    for tag in ("one", "two", "three"):
        seed.send(port.id, tag, 1)
    assert [end.receive(timeout=10)[0] for _ in range(3)] == ["forwarded one", "forwarded two", "forwarded three"]
    port.kill("enough")
    for tag in ("one", "two", "three"):
        send, process, forwarded = spans.named(f"send {tag}", f"process {tag}", f"send forwarded {tag}")
        assert parent(process) == send.context.span_id
        assert parent(forwarded) == process.context.span_id
    (last,) = spans.named("process three")
    assert last.status.description == "enough"


def test_an_error_of_a_handler_is_in_its_span(pair: tuple[gmp.Node, gmp.Node], spans: Spans) -> None:
    port = pair[0].port()
    port.on("divide", lambda number: 1 / number)
    pair[1].send(port.id, "divide", 0)
    assert port.join(10)
    (process,) = spans.named("process divide")
    assert process.events[0].attributes is not None
    assert process.events[0].attributes["exception.type"] == "ZeroDivisionError"


def test_order_is_kept_between_traced_messages_and_others(pair: tuple[gmp.Node, gmp.Node], spans: Spans) -> None:
    seed, other = pair
    port = other.port()
    for number in range(300):
        if number % 3 == 0:
            instrument(seed, tracer_provider=spans.provider)
        elif number % 3 == 1:
            uninstrument(seed)
        seed.send(port.id, number, b"x" * (70_000 if number % 7 == 0 else 10))
    assert [port.receive(timeout=20)[0] for _ in range(300)] == list(range(300))


def test_a_node_that_does_not_trace_gets_the_message_all_the_same(make_node: MakeNode, spans: Spans) -> None:
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    seed.wait_up("other", timeout=10)
    instrument(seed, tracer_provider=spans.provider)
    port = other.port()
    seed.send(port.id, "plain", (1, 2))
    message = port.receive(timeout=10)
    assert message == ("plain", (1, 2))
    assert type(message) is tuple
    seed.send("other#nobody", "dropped")
    seed.call("other", "time")
    assert other.stats()["dropped"] == 1


def test_uninstrumented_nodes_have_no_part_of_it(make_node: MakeNode, spans: Spans) -> None:
    node = make_node("seed")
    plain = type(node.port())
    instrument(node, tracer_provider=spans.provider)
    assert type(node.port()) is not plain
    uninstrument(node)
    port = node.port()
    assert type(port) is plain
    node.send(port, "untraced")
    assert port.receive() == ("untraced",)
    gevent.sleep(0)
    assert spans.all() == []


@pytest.mark.parametrize("carrier", [None, 7, {"traceparent": 7}, {1: "x"}, {"traceparent": "nonsense"}])
def test_a_carrier_that_is_none_does_no_harm(pair: tuple[gmp.Node, gmp.Node], carrier: object) -> None:
    seed, other = pair
    port = other.port()
    uninstrument(seed)
    seed.send("other", "gmp.traced", carrier, port.name, "hello")
    assert port.receive(timeout=10) == ("hello",)


def test_a_method_of_a_service_and_what_it_calls_are_one_trace(pair: tuple[gmp.Node, gmp.Node], spans: Spans) -> None:
    seed, other = pair

    class Stock:
        def take(self) -> int:
            gevent.sleep(0.001)
            return 3

    class Shop:
        def sell(self) -> int:
            gevent.sleep(0.001)
            taken: int = gmp.remote(stock, node=other).take()
            return taken

    stock = gmp.expose(Stock(), node=seed).id
    shop = gmp.remote(gmp.expose(Shop(), node=other), node=seed)
    assert shop.sell() == 3
    (sell,) = spans.named("call sell")
    (sold,) = spans.named("process sell")
    (take,) = spans.named("call take")
    assert parent(take) == sold.context.span_id
    assert len({sell.context.trace_id, sold.context.trace_id, take.context.trace_id}) == 1
