"""Runs: messages in a row for one port that travel as one array. They mean what the messages one after another would."""

from __future__ import annotations

import datetime
import decimal
import functools
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.net.batch import Batch
from gmp.net.connection import Connection
from gmp.net.lanes import SlowLane
from gmp.wire.batches import LONGEST_BATCH, LONGEST_ROW, batch_head, longest_row
from gmp.wire.framing import make_decoder, make_encoder

from .conftest import eventually

pytestmark = pytest.mark.usefixtures("both_sends")
MakeNode = Callable[..., gmp.Node]
Nodes = tuple[gmp.Node, gmp.Node]
LIMIT = 1 << 20
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.sampled_from([decimal.Decimal("1.5"), NOW, 1 << 100, b"x" * 100, b"x" * LONGEST_ROW, "é" * 5000]),
    lambda values: st.lists(values, max_size=3) | st.tuples(values, values) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=6,
)  # fmt: skip
MESSAGES = st.lists(st.tuples(st.sampled_from("ab"), st.lists(VALUES, max_size=4).map(tuple)), max_size=30)


class Box:
    """A destination that keeps what comes."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.put, self.put_all = self.got.append, self.got.extend


class Pair:
    """Two connected nodes, and what comes to two ports of the second."""

    def __init__(self) -> None:
        self.far = gmp.Node("far", binds=["127.0.0.1:0"], secret="runs").start()
        self.near = gmp.Node("near", binds=[], seeds=self.far.binds, secret="runs").start()
        self.near.wait_up("far", timeout=20)
        self.ports = {name: self.far.port() for name in "ab"}

    def figures(self) -> tuple[int, int]:
        """Messages that the one has sent and the other has received."""
        sent, received = self.near.stats()["peers"]["far"], self.far.stats()["peers"]["near"]
        return sent["sent_messages"], received["received_messages"]

    def close(self) -> None:
        """Close both."""
        self.near.close()
        self.far.close()


@pytest.fixture
def pair(make_node: MakeNode) -> Nodes:
    """Two connected nodes, the one that sends and the one that receives."""
    far = make_node("far")
    near = make_node("near", seeds=far.binds)
    near.wait_up("far", timeout=20)
    return near, far


def run(name: str, *messages: Any) -> bytes:
    """A run as bytes."""
    return batch_head(name, len(messages)) + b"".join(map(msgpack.packb, messages))


def test_whatever_is_sent_arrives_as_it_was_sent_and_in_order() -> None:
    pair = Pair()

    @given(MESSAGES)
    def check(messages: list[tuple[str, tuple[Any, ...]]]) -> None:
        for name, message in messages:
            pair.near.send(pair.ports[name].id, *message)
        for wanted, port in pair.ports.items():
            pair.near.send(port.id, "end")
            sent = [message for name, message in messages if name == wanted]
            assert [port.receive(timeout=20) for _ in sent] == sent
            assert port.receive(timeout=20) == ("end",)

    try:
        check()
        eventually(lambda: len(set(pair.figures())) == 1)
    finally:
        pair.close()


def test_a_thousand_small_messages_are_a_few_pieces_and_are_counted_one_by_one(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    port = far.port()
    runs: list[int] = []
    put_rows = Connection._put_rows

    def note(connection: Connection, run: Batch) -> None:
        if run.name == port.name:
            runs.append(len(run.rows))
        put_rows(connection, run)

    monkeypatch.setattr(Connection, "_put_rows", note)
    gevent.sleep(0)  # in a turn in which nothing was sent yet
    for number in range(1000):
        near.send(port.id, "tag", number)
    eventually(lambda: len(port) == 1000)
    assert [port.receive() for _ in range(1000)] == [("tag", number) for number in range(1000)]
    assert sum(runs) == 998, "all but the first two of the turn"
    assert len(runs) < 10
    assert near.stats()["peers"]["far"]["sent_messages"] >= 1000


def test_a_message_that_cannot_travel_raises_at_its_line_and_the_run_goes_on(make_node: MakeNode) -> None:
    far = make_node("far")
    near = make_node("near", seeds=far.binds, max_message=1000)
    near.wait_up("far", timeout=20)
    port = far.port()
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    for number in range(10):
        near.send(port.id, number)
        for bad in (object(), "\ud800", "x" * 2000, deep):
            with pytest.raises(gmp.MessageError):
                near.send(port.id, bad)
    assert [port.receive(timeout=20) for _ in range(10)] == [(number,) for number in range(10)]


def test_a_bounded_port_dies_of_the_message_that_is_one_too_many(pair: Nodes) -> None:
    near, far = pair
    port = far.port(max_queue=100)
    for number in range(200):
        near.send(port.id, number)
    assert port.join(20)
    assert port.reason == ("queue_overflow", 101)


def test_a_run_for_a_port_that_is_not_there_is_dropped_and_counted(pair: Nodes) -> None:
    near, far = pair
    for number in range(50):
        near.send("far#nobody", number)
    eventually(lambda: far.stats()["dropped"] == 50)


def test_handlers_histories_and_followers_see_each_message(pair: Nodes) -> None:
    near, far = pair
    handled: list[int] = []
    handler, recorder = far.port(), far.port(max_history=5)
    handler.on("n", handled.append)
    for number in range(20):
        near.send(handler.id, "n", number)
    for number in range(20):
        near.send(recorder.id, "n", number)
    eventually(lambda: len(handled) == 20 and len(recorder) == 20)
    assert handled == list(range(20))
    assert list(recorder.history) == [("n", number) for number in range(15, 20)]


@pytest.mark.parametrize("max_queue", [None, 1000])
def test_what_has_no_handler_waits_in_the_mailbox_in_order(pair: Nodes, max_queue: int | None) -> None:
    near, far = pair
    port, handled = far.port(max_queue=max_queue), list[int]()
    port.on("even", handled.append)
    for number in range(100):
        near.send(port.id, "even" if number % 2 == 0 else ["odd"], number)
    near.send(port.id)
    eventually(lambda: len(port) == 51 and len(handled) == 50)
    assert handled == list(range(0, 100, 2))
    assert [port.receive() for _ in range(51)] == [*((["odd"], number) for number in range(1, 100, 2)), ()]


def test_a_reply_port_takes_the_first_of_a_run(make_node: MakeNode) -> None:
    far = make_node("far")
    near = make_node("near", seeds=far.binds)

    def generous(port: gmp.Port) -> None:
        for reply in port:
            for number in range(10):
                far.send(reply[0], number)

    assert near.call(far.port(generous).id) == (0,)


def test_only_who_says_that_it_reads_runs_is_sent_some() -> None:
    assert longest_row("msgpack", {"gmp": "1", "runs": "1"}, LIMIT) == LONGEST_ROW
    assert longest_row("msgpack", {"gmp": "1"}, LIMIT) == -1
    assert longest_row("msgpack", {"runs": "2"}, LIMIT) == -1
    assert longest_row("json", {"gmp": "1", "runs": "1"}, LIMIT) == -1


@pytest.mark.parametrize("cut", [1, 5, 20, 1000])
def test_a_run_that_comes_in_pieces_is_delivered_whole(cut: int) -> None:
    box, others = Box(), list[Any]()
    data = run("p", ["a", 1], ["b", [2]]) + make_encoder("msgpack", LIMIT).encode("p", ("c",)) + run("q", [], [3])
    decoder = make_decoder("msgpack", LIMIT)
    count = sum(
        decoder.dispatch(data[start : start + cut], {"p": box}.get, others.append) for start in range(0, len(data), cut)
    )
    assert count == 5
    assert box.got == [("a", 1), ("b", [2]), ("c",)]
    assert others == [["q"], ["q", 3]]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([0]), msgpack.packb([0, "p"]), msgpack.packb([0, 1, ["x"]]), msgpack.packb([0, None, ["x"]]),
        msgpack.packb([1, "p", ["x"]]), msgpack.packb([-1, "p", ["x"]]), msgpack.packb([1 << 62, "p", ["x"]]),
        msgpack.packb([False, "p", ["x"]]), msgpack.packb([0, "p", "xy"]), msgpack.packb([0, "p", ["x"], {}]),
        run("p", *[[b"x" * 1000]] * 140),
    ],
)  # fmt: skip
def test_what_is_no_run_is_refused_and_nothing_of_it_delivered(data: bytes) -> None:
    box = Box()
    with pytest.raises(gmp.ProtocolError):
        make_decoder("msgpack", LONGEST_BATCH - 1).dispatch(data, {"p": box}.get, lambda message: None)
    assert box.got == []


def test_a_run_may_be_longer_than_a_message_may_and_nest_as_deep() -> None:
    box = Box()
    messages = [[b"x" * 900]] * 100 + [[nested(63)]]
    make_decoder("msgpack", 1000).dispatch(run("p", *messages), {"p": box}.get, lambda message: None)
    assert box.got == [tuple(message) for message in messages]


def test_nothing_is_left_in_a_run_when_a_node_leaves(pair: Nodes) -> None:
    near, far = pair
    port = far.port()
    for number in range(100):
        near.send(port.id, number)
    near.close()
    with gevent.Timeout(20):
        assert [port.receive() for _ in range(100)] == [(number,) for number in range(100)]


def test_ctrl_c_while_a_run_ends_loses_nothing_of_it(pair: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """race: the interrupt of a program strikes in a send that others were sent before."""
    near, far = pair
    port, other = far.port(), far.port()

    def interrupt(*_: Any) -> bytes:
        monkeypatch.undo()
        raise KeyboardInterrupt

    for number in range(10):
        near.send(port.id, number)
    monkeypatch.setattr("gmp.net.outbox.batch_head", interrupt)
    with pytest.raises(KeyboardInterrupt):
        near.send(other.id, "interrupted")
    near.send(port.id, 10)
    assert [port.receive(timeout=20) for _ in range(11)] == [(number,) for number in range(11)]
    near.send(other.id, "end")
    assert other.receive(timeout=20) == ("end",)
    eventually(lambda: near.stats()["peers"]["far"]["queued_bytes"] == 0)


def test_ctrl_c_between_the_outbox_and_the_socket_loses_nothing_and_sends_nothing_twice(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """race: the interrupt of a program strikes when messages that were sent before are about to be written."""
    near, far = pair
    port = far.port()
    connection = near._core.network.peers["far"].connection
    assert isinstance(connection, Connection)
    real = Connection._take

    def interrupt(connection: Connection, to: list[Any]) -> bool:
        if not real(connection, to):
            return False
        monkeypatch.undo()
        raise KeyboardInterrupt

    for number in range(10):
        near.send(port.id, number)
    monkeypatch.setattr(Connection, "_take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        connection.flush()
    near.send(port.id, 10)
    assert [port.receive(timeout=20) for _ in range(11)] == [(number,) for number in range(11)]
    near.send(port.id, "end")
    assert port.receive(timeout=20) == ("end",)


def test_ctrl_c_before_a_large_message_has_its_place_in_the_slow_lane_stops_no_others(pair: Nodes) -> None:
    """race: the interrupt of a program strikes when the lane is open and nothing is in it yet."""
    near, far = pair
    port = far.port()
    connection = near._core.network.peers["far"].connection
    assert isinstance(connection, Connection)

    class Interrupting(SlowLane):
        def put(self, name: str, data: bytes) -> None:
            connection._slow = SlowLane()
            raise KeyboardInterrupt

    def send_large() -> None:
        for _ in range(1000):
            near._core.send_soon(port.id, "x" * 100_000)

    connection._slow = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        send_large()
    for number in range(10):
        near.send(port.id, number)
    while (message := port.receive(timeout=20)) != (0,):
        assert len(message[0]) == 100_000
    assert [port.receive(timeout=20) for _ in range(9)] == [(number,) for number in range(1, 10)]
    near.send(port.id, "end")
    assert port.receive(timeout=20) == ("end",)
    eventually(lambda: near.stats()["peers"]["far"]["queued_bytes"] == 0)


@pytest.mark.parametrize("place", ["pack", "batch_head"])
@pytest.mark.parametrize("size", [1, 100])
def test_what_a_signal_handler_sends_in_the_middle_of_a_send_brings_no_message_to_the_wrong_port(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch, place: str, size: int
) -> None:
    """race: Python runs signal handlers and `__del__` between any two lines, and they may send."""
    near, far = pair
    port, other, third = far.port(), far.port(), far.port()
    connection = near._core.network.peers["far"].connection
    assert isinstance(connection, Connection)
    expected: dict[gmp.Port, list[int]] = {port: [], other: [], third: []}
    strikes = 0

    def strike(*args: Any, real: Callable[..., bytes]) -> bytes:
        nonlocal strikes
        data = real(*args)
        if strikes:
            strikes -= 1
            for _ in range(2):
                send(other)
        return data

    def send(where: gmp.Port) -> None:
        number = sum(map(len, expected.values()))
        expected[where].append(number)
        near.send(where.id, number, "x" * size)

    if place == "pack":
        connection.pack = functools.partial(strike, real=connection.pack)
    else:
        monkeypatch.setattr("gmp.net.outbox.batch_head", functools.partial(strike, real=batch_head))
    for first, second in ((port, port), (port, third), (port, other), (other, other), (other, port)):
        for _ in range(3):
            send(first)
        strikes = 1
        send(second)
        send(third)
        gevent.sleep(0)
    for where, numbers in expected.items():
        got = [where.receive(timeout=20)[0] for _ in numbers]
        assert sorted(got) == sorted(numbers)
        assert got == numbers or where is other, "what a handler sends is in no order with what it interrupts"


def test_ctrl_c_before_the_first_message_is_written_holds_up_no_later_one(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """race: the interrupt of a program strikes when the message is in the outbox."""
    near, far = pair
    port = far.port()

    def interrupt(connection: Connection) -> bool:
        monkeypatch.undo()
        raise KeyboardInterrupt

    connection = near._core.network.peers["far"].connection
    eventually(lambda: connection._flush_at == 0)  # no turn is on
    monkeypatch.setattr(Connection, "_push", interrupt)
    with pytest.raises(KeyboardInterrupt):
        near.send(port.id, "first")
    near.send(port.id, "second")
    assert [port.receive(timeout=20) for _ in range(2)] == [("first",), ("second",)]


def test_an_ended_connection_leaves_nothing_that_is_kept_for_its_runs(make_node: MakeNode) -> None:
    near = make_node("near")
    for name in ("one", "two"):
        far = make_node(name, seeds=near.binds)
        near.wait_up(name, timeout=20)
        port = far.port()
        for number in range(100):
            near.send(port.id, number)
        eventually(lambda port=port: len(port) == 100)
        far.close()
        eventually(lambda name=name: near._core.network.peers[name].connection is None)
    assert all(run.pack is None and not run.rows for run in near._core.batches.values())


def test_a_greenlet_that_fails_when_it_gets_its_message_harms_no_connection(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain greenlet's error goes to its parent, the hub."""
    near, far = pair
    failed: list[Any] = []
    port, other = far.port(), far.port()

    def receiver() -> None:
        raise ZeroDivisionError(port.receive())

    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _, kind, *more: failed.append(kind))
    gevent.spawn_raw(receiver)
    gevent.sleep(0)
    near.send(port.id, "x")
    eventually(lambda: failed == [ZeroDivisionError])
    for number in range(3):
        near.send(other.id, number)
        assert other.receive(timeout=20) == (number,)


def test_senders_over_a_high_mark_smaller_than_the_socket_takes_all_go_on(make_node: MakeNode) -> None:
    far = make_node("far")
    near = make_node("near", seeds=far.binds, high_mark=2000, low_mark=1000)
    near.wait_up("far", timeout=20)
    port = far.port()

    def sender() -> None:
        for number in range(300):
            near.send(port.id, number, "x" * (number * 37 % 900))

    gevent.joinall([gevent.spawn(sender) for _ in range(5)], raise_error=True, timeout=20)
    eventually(lambda: len(port) == 1500)


def test_no_run_grows_longer_than_it_may_while_the_socket_takes_little_at_a_time(make_node: MakeNode) -> None:
    far = make_node("far", max_message=10_000)
    near = make_node("near", seeds=far.binds)
    near.wait_up("far", timeout=20)
    connection = near._core.network.peers["far"].connection
    assert isinstance(connection, Connection)
    sock, port, sent = connection.sock, far.port(), 0
    written = gevent.event.Event()

    class Narrow:
        """A socket that takes 1,000 bytes, tells, and has to be asked again."""

        def send(self, data: bytes) -> int:
            gevent.get_hub().loop.run_callback(written.set)
            return sock.send(data[:1000])

        def __getattr__(self, name: str) -> Any:
            return getattr(sock, name)

    connection.sock = Narrow()  # type: ignore[assignment]
    while connection.queued < 500_000:
        for _ in range(30):
            near.send(port.id, sent, "x" * 900)
            sent += 1
        written.clear()
        assert written.wait(20)
    connection.sock = sock
    assert [port.receive(timeout=20)[0] for _ in range(sent)] == list(range(sent))
