"""rpyc: it has no one-way messages, so W3 is asynchronous calls whose results are taken from time to time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import rpyc
from rpyc.utils.server import ThreadedServer

from benchmarks.programs.measure import KIB, Far, emit, emit_rate, emit_round_trips, main, now, ready, scaled


class Service(rpyc.Service):
    """Counts and calculates."""

    count = 0

    def exposed_tag(self, _tag: str, _value: int) -> None:
        """One message."""
        Service.count += 1

    def exposed_counted(self) -> int:
        """How many came."""
        return Service.count

    def exposed_add(self, a: int, b: int) -> int:
        """Their sum."""
        return a + b

    def exposed_rows(self, count: int, size: int) -> Iterator[bytes]:
        """So many rows."""
        row = b"x" * size
        yield from (row for _ in range(count))


def far() -> None:
    """Serve; the listener is made in the constructor, and its backlog takes connections from the start of the server."""
    server = ThreadedServer(Service, hostname="127.0.0.1", port=0, backlog=200)
    server._listen()
    ready(server.port)
    server.start()


def connect(other: Far) -> Any:
    """A connection."""
    return rpyc.connect("127.0.0.1", other.ready)


def one_way() -> None:
    """W3."""
    count = scaled(20_000)
    with Far("rpyc_peer", "far") as other:
        connection = connect(other)
        tag = rpyc.async_(connection.root.tag)
        start = now()
        for value in range(count):
            tag("tag", value)
            if not value % 100:
                connection.poll_all()  # or both sides would wait for the other to read
        assert connection.root.counted() == count
        emit_rate(count, now() - start)


def round_trips() -> None:
    """W5."""
    times = []
    with Far("rpyc_peer", "far") as other:
        add = connect(other).root.add
        for value in range(scaled(5_000) + 300):
            start = now()
            add(value, 1)
            times.append(now() - start)
    emit_round_trips(times[300:])


def calls() -> None:
    """W6: a connection for each caller."""
    each, begin = scaled(100), threading.Barrier(101)
    with Far("rpyc_peer", "far") as other:

        def caller() -> None:
            add = connect(other).root.add
            begin.wait()
            for value in range(each):
                assert add(value, 1) == value + 1

        threads = [threading.Thread(target=caller) for _ in range(100)]
        for thread in threads:
            thread.start()
        begin.wait()
        start = now()
        for thread in threads:
            thread.join()
        emit_rate(100 * each, now() - start, unit="call/s")


def stream_of_rows() -> None:
    """W15."""
    count = scaled(3_000)
    with Far("rpyc_peer", "far") as other:
        root = connect(other).root
        assert sum(1 for _ in root.rows(10, KIB)) == 10
        start = now()
        got = sum(1 for _ in root.rows(count, KIB))
        assert got == count, f"{got} of {count} rows arrived"
        emit_rate(count, now() - start, KIB)


def start_to_reply() -> None:
    """W8."""
    with Far("rpyc_peer", "far") as other:
        start = now()
        assert connect(other).root.add(2, 3) == 5
        emit("ms", 1e3 * (now() - start))


if __name__ == "__main__":
    main(
        {
            "W3": one_way,
            "W5": round_trips,
            "W5@1core": round_trips,
            "W6": calls,
            "W8": start_to_reply,
            "W14": calls,
            "W15": stream_of_rows,
        },
        far,
    )
