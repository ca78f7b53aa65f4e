"""Streams of a service: item by item, by credit, both ways, and ended on both sides whatever ends one of them."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest
from greenlet import GreenletExit

import gmp
from gmp.testing import FaultProxy
from gmp.testing.leaks import Inventory

from .conftest import eventually
from .processes import Processes

Make = Callable[..., gmp.Node]


class Odd(Exception):
    pass


class Rows:
    """Generators that count what they have made, and say how they ended."""

    def __init__(self) -> None:
        self.made = 0
        self.ends: list[str] = []
        self.go = gevent.event.Event()
        self.taken: list[Any] = []

    def rows(self, count: int) -> Iterator[int]:
        """Give `count` numbers."""
        try:
            for number in range(count):
                self.made += 1
                yield number
        except GeneratorExit:
            self.ends.append("closed")
            raise
        except GreenletExit:
            self.ends.append("stopped")
            raise
        else:
            self.ends.append("done")

    def slow(self, first: int) -> Iterator[int]:
        """Give `first` numbers, and wait."""
        try:
            yield from range(first)
            self.go.wait()
            yield -1
        except (GeneratorExit, GreenletExit):
            self.ends.append("ended")
            raise

    @gmp.stream
    def listed(self, values: Iterable[Any]) -> list[Any]:
        return list(values)

    def iterator(self) -> Iterator[int]:
        return iter([1, 2])

    def passed_on(self, numbers: Iterator[int]) -> Iterator[int]:
        return numbers

    def fails(self) -> Iterator[int]:
        yield 1
        raise Odd("in the middle", 2)

    def unfit(self) -> Iterator[Any]:
        try:
            yield 1
            yield object()
        finally:
            self.ends.append("unfit ended")

    def stubborn(self) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise Odd("when closed")

    def deadline(self) -> Iterator[float | None]:
        yield gmp.deadline()

    def total(self, numbers: Iterable[int], *, factor: int = 1) -> int:
        total = 0
        for number in numbers:
            self.taken.append(number)
            total += number * factor
        return total

    def first(self, numbers: Iterator[int]) -> int:
        return next(numbers)

    def ignores(self, numbers: Iterable[int]) -> str:
        return "ignored"

    def doubled(self, numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            yield 2 * number

    def add(self, a: int, b: int) -> int:
        return a + b


@pytest.fixture
def nodes(make_node: Make) -> tuple[gmp.Node, gmp.Node]:
    there = make_node("there", reached_at=["*"])
    return there, make_node("here", seeds=there.binds)


@pytest.fixture
def made(nodes: tuple[gmp.Node, gmp.Node]) -> tuple[Rows, Any]:
    """The object, and what its caller has of it."""
    there, here = nodes
    thing = Rows()
    return thing, gmp.remote(gmp.expose(thing, node=there, errors=[Odd]), node=here, errors=[Odd])


def told(remote: Any, figure: str) -> int:
    return int(gmp.objects.remote.describe(remote)[figure])


def test_a_generator_streams_and_what_is_marked_so(made: tuple[Rows, Any]) -> None:
    thing, rows = made
    assert list(rows.rows(1000)) == list(range(1000))
    assert thing.ends == ["done"]
    assert list(rows.rows(0)) == []
    values = [1, "two", None, [3], {"four": 5}]
    assert list(rows.listed(values)) == values
    assert list(rows.iterator()) == [1, 2]
    assert list(rows.rows.call(3, timeout=5)) == [0, 1, 2]
    assert list(rows.rows.future(3).get(timeout=20)) == [0, 1, 2]
    eventually(lambda: told(rows, "open_streams") == 0)


@pytest.mark.parametrize("window", [1, 2, 3, 64])
def test_a_slow_reader_holds_the_writer(nodes: tuple[gmp.Node, gmp.Node], window: int) -> None:
    there, here = nodes
    thing = Rows()
    rows = gmp.remote(gmp.expose(thing, node=there), node=here, window=window)
    stream = rows.rows(10_000)
    rows.add(1, 2)
    assert thing.made == 0  # nothing is made before the first item is asked for
    for taken in range(1, 200):
        assert next(stream) == taken - 1
        rows.add(1, 2)  # the credit that was sent before has been used by now
        gevent.sleep(0)
        assert taken <= thing.made <= taken + window
    stream.close()
    eventually(lambda: thing.ends == ["closed"])


def test_many_streams_share_a_connection_and_calls_go_on_beside_them(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Rows()
    rows = gmp.remote(gmp.expose(thing, node=there), node=here)
    streams = [rows.rows(10**9) for _ in range(10)]
    counts = [0] * len(streams)

    def read(number: int) -> None:
        for _ in streams[number]:
            counts[number] += 1

    readers = [gevent.spawn(read, number) for number in range(len(streams))]
    for number in range(50):
        assert rows.add(number, 1) == number + 1
    eventually(lambda: min(counts) > 1000)
    assert max(counts) < 5 * min(counts)
    for reader in readers:
        reader.kill()
    del readers[:]
    for stream in streams:
        stream.close()
    eventually(lambda: told(rows, "open_streams") == 0)


def test_there_may_be_so_many_streams(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Rows()
    rows = gmp.remote(gmp.expose(thing, max_streams=2, node=there), node=here)
    streams = [rows.rows(3), rows.rows(3)]
    with pytest.raises(gmp.CallRefused, match="2 streams of Rows are open") as error:
        rows.rows(3)
    assert error.value.kind == "busy"
    assert [*streams[0]] == [0, 1, 2]
    eventually(lambda: told(rows, "open_streams") == 1)
    assert list(rows.rows(2)) == [0, 1]


def test_what_a_generator_raises_comes_behind_its_items(made: tuple[Rows, Any]) -> None:
    _thing, rows = made
    stream = rows.fails()
    assert next(stream) == 1
    with pytest.raises(Odd, match="in the middle") as caught:
        next(stream)
    assert 'raise Odd("in the middle", 2)' in str(caught.value.__cause__)
    eventually(lambda: told(rows, "open_streams") == 0)


def test_an_item_that_cannot_travel_ends_the_stream_with_an_error(made: tuple[Rows, Any]) -> None:
    thing, rows = made
    stream = rows.unfit()
    assert next(stream) == 1
    with pytest.raises(gmp.RemoteError, match=r"MessageError: an item of Rows.unfit, builtins.object, cannot travel"):
        next(stream)
    assert list(stream) == []
    eventually(lambda: thing.ends == ["unfit ended"])


def leave_by_break(stream: Any) -> None:
    for _ in stream:
        break


def leave_by_exception(stream: Any) -> None:
    def read() -> None:
        for _ in stream:
            raise LookupError

    with pytest.raises(LookupError):
        read()


def leave_by_close(stream: Any) -> None:
    next(stream)
    stream.close()
    stream.close()
    assert list(stream) == []


def leave_by_with(stream: Any) -> None:
    with stream:
        next(stream)


def leave_by_garbage(stream: Any) -> None:
    circle = [stream]
    circle.append(circle)  # type: ignore[arg-type]


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_exception, leave_by_close, leave_by_with, leave_by_garbage])
def test_leaving_the_loop_closes_the_generator(made: tuple[Rows, Any], leave: Callable[[Any], None]) -> None:
    thing, rows = made
    leave(rows.rows(10**9))
    gc.collect()
    eventually(lambda: told(rows, "open_streams") == 0)
    assert thing.ends == ([] if leave is leave_by_garbage else ["closed"])  # the garbage had not begun


def test_a_stream_that_another_thread_collects_is_closed(made: tuple[Rows, Any]) -> None:
    thing, rows = made
    held = [rows.rows(10**9)]
    next(held[0])
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    eventually(lambda: thing.ends == ["closed"])


def test_what_has_come_is_not_given_to_another_thread_nor_once_the_stream_has_ended(
    made: tuple[Rows, Any], nodes: tuple[gmp.Node, gmp.Node]
) -> None:
    _thing, rows = made

    def with_some_in_hand() -> Any:
        stream = rows.rows(10**9)
        assert next(stream) == 0
        rows.add(1, 2)  # what the first credit is for has come by now
        assert [next(stream), next(stream)] == [1, 2]
        return stream

    def take(stream: Any, outcome: list[Any]) -> None:
        try:
            outcome.append(next(stream))
        except gmp.GmpError as error:
            outcome.append(type(error))

    stream, outcome = with_some_in_hand(), []  # type: ignore[var-annotated]
    gevent.get_hub().threadpool.apply(take, (stream, outcome))  # a native thread in a patched program, too
    assert outcome == [gmp.GmpError]
    assert next(stream) == 3
    stream.close()
    assert list(stream) == []
    stream = with_some_in_hand()
    nodes[1].close()
    with pytest.raises(gmp.GmpError):
        next(stream)


def test_a_generator_that_fails_when_it_is_closed_is_in_the_log(
    made: tuple[Rows, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _thing, rows = made
    stream = rows.stubborn()
    next(stream)
    stream.close()
    eventually(lambda: "the generator of Rows.stubborn failed when it was closed" in caplog.text)
    assert told(rows, "open_streams") == 0


def test_the_timeout_is_for_each_item(made: tuple[Rows, Any]) -> None:
    thing, rows = made
    stream = rows.slow.call(2, timeout=0.2)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(gmp.CallTimeout, match=r"no item of slow came from .* within 0.2 s"):
        next(stream)
    eventually(lambda: thing.ends == ["ended"])
    assert list(rows.deadline()) == [None]  # the whole stream has none


def test_a_stream_within_a_method_ends_with_its_deadline(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Rows()
    port = gmp.expose(thing, node=there).id

    class Outer:
        def read(self) -> list[Any]:
            return list(gmp.remote(port, node=here).deadline())

        def wait(self) -> list[Any]:
            return list(gmp.remote(port, node=here, timeout=None).slow(1))

    outer = gmp.remote(gmp.expose(Outer(), node=here), node=there)
    (left,) = outer.read.call(timeout=10)
    assert 5 < left <= 10
    with pytest.raises(gmp.CallTimeout):
        outer.wait.call(timeout=0.2)
    eventually(lambda: thing.ends == ["ended"])


# ---- up


def test_a_generator_as_an_argument_streams_up(made: tuple[Rows, Any]) -> None:
    thing, rows = made
    assert rows.total(number for number in range(1000)) == 499500
    assert rows.total(numbers=(number for number in range(10)), factor=2) == 90
    assert thing.taken == [*range(1000), *range(10)]
    assert rows.total(number for number in ()) == 0
    assert rows.total(iter([1, 2])) == rows.total(rows.rows(3)) == 3
    assert list(rows.passed_on(iter([1, 2, 3]))) == [1, 2, 3]
    assert list(rows.doubled(number for number in range(200))) == [2 * number for number in range(200)]


def test_what_goes_up_is_by_credit_too_and_closed_with_the_call(made: tuple[Rows, Any]) -> None:
    _thing, rows = made
    ends: list[str] = []
    given = 0

    def numbers() -> Iterator[int]:
        nonlocal given
        try:
            while True:
                given += 1
                yield given
        finally:
            ends.append("closed")

    assert rows.first(numbers()) == 1
    eventually(lambda: ends == ["closed"])
    assert given <= 257
    assert rows.ignores(numbers()) == "ignored"
    assert given <= 257  # it has not begun
    stream = rows.doubled(numbers())
    first = next(stream)
    assert [next(stream), next(stream)] == [first + 2, first + 4]
    stream.close()
    eventually(lambda: ends == ["closed", "closed"])


def test_what_a_generator_of_the_caller_raises_is_raised_in_the_method(made: tuple[Rows, Any]) -> None:
    _thing, rows = made

    def numbers() -> Iterator[int]:
        yield 1
        raise Odd("up")

    with pytest.raises(Odd, match="up"):
        rows.total(numbers())
    with pytest.raises(gmp.RemoteError, match=r"MessageError: an item of an argument of total, builtins.object,"):
        rows.total(each for each in [1, object()])


def test_a_method_whose_caller_has_gone_reads_no_more(made: tuple[Rows, Any]) -> None:
    thing, rows = made
    ends: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            yield 1
            thing.go.wait()
        finally:
            ends.append("closed")

    caller = gevent.spawn(rows.total, numbers())
    eventually(lambda: thing.taken == [1])
    caller.kill()
    eventually(lambda: ends == ["closed"])
    eventually(lambda: told(rows, "stopped") == 1)
    assert told(rows, "running") == 0


# ---- ends, at each step


def at_the_reply(stream: Any) -> None:
    """It has been begun, and no item was asked for."""


def at_the_first_item(stream: Any) -> None:
    next(stream)


def between_items(stream: Any) -> None:
    for _ in range(3):
        next(stream)


def while_waiting(stream: Any) -> None:
    list(stream)


STEPS = [at_the_reply, at_the_first_item, between_items, while_waiting]


def begin(rows: Any, node: gmp.Node, step: Callable[[Any], None], went: gevent.event.Event) -> gmp.Port:
    """A port of that node that reads a stream up to that step, and keeps it."""

    def body(port: gmp.Port) -> None:
        stream = rows.slow.call(3, timeout=None)
        if step is while_waiting:
            for _ in range(3):
                next(stream)
            went.set()
        step(stream)
        went.set()
        port.receive("never")

    return node.port(body)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("who", ["reader", "service", "caller's node", "service's node", "network"])
def test_whatever_ends_at_each_step_nothing_is_left(make_node: Make, step: Callable[[Any], None], who: str) -> None:
    inventory = Inventory()
    there = make_node("there", reached_at=["*"], leave_timeout=1)
    thing = Rows()
    service = gmp.expose(thing, node=there)
    with FaultProxy(there.binds[0]) as proxy:
        here = make_node("here", seeds=[proxy.address], binds=[], leave_timeout=1)
        rows = gmp.remote(service.id, node=here, timeout=None)
        assert rows.add(1, 2) == 3
        before = len(there._core.ports.by_name), len(here._core.ports.by_name)
        went = gevent.event.Event()
        reader = begin(rows, here, step, went)
        assert went.wait(20)
        if who == "reader":
            reader.kill("broken")
        elif who == "service":
            service.kill("broken")
        elif who == "caller's node":
            here.close()
        elif who == "service's node":
            there.close()
        else:
            proxy.cut()
        if step is not at_the_reply:
            eventually(lambda: thing.ends == ["ended"])
        gone = int(who == "service")
        if not there.closed:
            eventually(lambda: len(there._core.ports.by_name) == before[0] - gone)
        reader.kill()
        if not here.closed:
            eventually(lambda: len(here._core.ports.by_name) == before[1])
        here.close()
    there.close()
    del rows, reader, service
    gc.collect()
    eventually(lambda: not inventory.new())


def test_a_stream_to_a_process_that_is_killed_is_closed(nodes: tuple[gmp.Node, gmp.Node], processes: Processes) -> None:
    there, _here = nodes
    thing = Rows()
    port = gmp.expose(thing, node=there)
    process = processes.start("reader", there.binds[0], "read", port.id, program="tests.service_child")
    eventually(lambda: thing.made > 100)
    process.kill(signal.SIGKILL)
    eventually(lambda: len(thing.ends) == 1)


def test_a_stream_from_a_process_that_is_killed_ends(nodes: tuple[gmp.Node, gmp.Node], processes: Processes) -> None:
    there, here = nodes
    process = processes.start("server", there.binds[0], program="tests.service_child")
    stream = gmp.remote("rows", node=here).rows(10**9)
    assert next(stream) == 0
    process.kill(signal.SIGKILL)
    with pytest.raises(gmp.PortDied):
        for _ in stream:
            pass
    assert list(stream) == []


def test_forged_messages_to_both_ends_hurt_nobody(made: tuple[Rows, Any], nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing, rows = made
    reply = here.port()
    here.send(rows._settings.target.name, "call", "rows", [5], reply)
    source, token = reply.receive("stream", timeout=20)
    for message in ((), ("more",), ("more", 0, reply), ("more", True, reply), ("more", "x", reply), ("nonsense", 1)):
        here.send(source, *message, token)
    here.send(source, "more", 2, here.port())  # it does not have the token
    here.send(source, "more", 2, here.port(), "guessed")
    here.send(source, "more", 2, reply, token)
    here.send(source, "more", 1, here.port())  # it has its reader
    assert [reply.receive("item", timeout=20) for _ in range(3)] == [(0,), (1,), (2,)]
    here.send(source, "more", 10**30, reply)
    assert [reply.receive("item", timeout=20) for _ in range(2)] == [(3,), (4,)]
    assert reply.receive("end", timeout=20) == ()
    here.send(rows._settings.target.name, "call", "rows", [5], reply)
    source, token = reply.receive("stream", timeout=20)
    here.send(source, "more", 1, "no port", token)
    eventually(lambda: told(rows, "open_streams") == 0)
    assert thing.made == 5
    liar = there.port(lambda port: [there.send(message[-1], "stream", port.id, "t") for message in port])
    stream = gmp.remote(liar.id, node=here).anything()
    liar.on("more", lambda count, reader, token: there.send(reader))
    with pytest.raises(gmp.PortDied):
        next(stream)
