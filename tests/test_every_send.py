"""Each way to send has a fast path of its own to the socket; the bytes on the wire are the same by all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gmp
from gmp import face
from gmp.net.connection import Connection
from gmp.wire.batches import LONGEST_ROW
from gmp.wire.nesting import SHORT

from .conftest import eventually

MakeNode = Callable[..., gmp.Node]
Sent = list[tuple[str, tuple[Any, ...]]]  # by the port's letter

SHORT_ONES = [("tag", number) for number in range(5)]
BIG = b"x" * (LONGEST_ROW // 2)
VALUES = st.sampled_from(
    [
        *(None, True, 7, 1.5, 1 << 90, "text", "é" * SHORT, [1, [2]], {"a": (1,)}, object()),
        *(b"x" * (SHORT - 2), b"x" * SHORT, BIG, b"x" * LONGEST_ROW, [b"x" * SHORT]),
    ]
)
MESSAGES = st.lists(st.tuples(st.sampled_from("aab"), st.lists(VALUES, max_size=3).map(tuple)), min_size=1, max_size=25)


class Wire:
    """A socket that takes everything, and keeps it."""

    def __init__(self) -> None:
        self.taken = b""

    def send(self, data: bytes) -> int:
        """As that of a socket."""
        self.taken += data
        return len(data)


class Sender:
    """A node that sends by each way to ports of another one. What it sends does not arrive."""

    def __init__(self, make_node: MakeNode) -> None:
        far = make_node("far")
        self.near = make_node("near", binds=[], seeds=far.binds)
        self.near.wait_up("far", timeout=20)
        face._use(self.near)
        connection = self.near._core.network.peers["far"].connection
        assert isinstance(connection, Connection)
        self.connection = connection
        self.ports = {letter: str(far.port().id) for letter in "ab"}
        self.ways: dict[str, Callable[..., Any]] = {
            "gmp.send": gmp.send,
            "Node.send": self.near.send,
            "send_soon": self.near._core.send_soon,
            "try_send": self.near.try_send,
        }

    def send(self, way: str, messages: Sent) -> tuple[bytes, list[int]]:
        """Send them in one turn of a connection that is at rest; what is on the wire then, and which were refused."""
        connection, send, refused = self.connection, self.ways[way], []
        loop = connection._loop
        eventually(lambda: connection._flush_at == 0 and connection.queued == 0 and loop.iteration != connection._turn)
        connection._budget = 1 << 30  # of the bytes that one pass of the loop writes: nothing waits for the next
        sock, wire = connection.sock, Wire()
        connection.sock = wire  # type: ignore[assignment]
        try:  # nothing else can send meanwhile, as nothing here blocks
            for index, (letter, message) in enumerate(messages):
                try:
                    send(self.ports[letter], *message)
                except gmp.MessageError:
                    refused.append(index)
            connection.flush()
        finally:
            connection.sock = sock
        return wire.taken, refused


@pytest.fixture
def sender(make_node: MakeNode) -> Sender:
    return Sender(make_node)


def test_the_same_messages_are_the_same_bytes_by_whatever_way_they_are_sent(sender: Sender) -> None:
    @settings(deadline=None, max_examples=50)
    @example([("a", message) for message in SHORT_ONES])
    @example([("a", ("octets", b"x" * 5000)) for _ in range(5)])
    @example([("a", (BIG,)) for _ in range(40)])  # more than a turn holds back
    @example([("a", ("short",)), ("a", ("short",)), ("a", ("short",)), ("b", ()), ("a", (BIG * 20,)), ("a", ()), ("a", ())])
    @example([("a", ("x",)), ("a", ("x",)), ("a", (object(),)), ("a", ("x",)), ("a", ([object()],)), ("a", ("x",))])
    @given(MESSAGES)
    def compare(messages: Sent) -> None:
        expected = sender.send("Node.send", messages)
        assert {way: sender.send(way, messages) for way in sender.ways} == dict.fromkeys(sender.ways, expected)

    compare()


def test_messages_in_a_row_for_one_port_are_one_run_by_whatever_way_they_are_sent(sender: Sender) -> None:
    """So that the comparison is not one of messages that all go by themselves."""
    for way in sender.ways:
        alone = len(sender.send(way, [("a", ("tag", 1))])[0])
        together = len(sender.send(way, [("a", ("tag", 1))] * 50)[0])
        assert together < 50 * alone / 2, way
