"""zerorpc: one way by its Pusher and Puller (ZeroMQ PUSH/PULL, no acknowledgement), calls by its Client and Server."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import zerorpc
from gevent.queue import Queue

from benchmarks.programs.measure import (
    KIB,
    MIB,
    Far,
    emit,
    emit_rate,
    emit_round_trips,
    free_port,
    main,
    now,
    ready,
    scaled,
)

logging.disable(logging.WARNING)


class Sink:
    """Counts, and pushes the count back when asked."""

    def __init__(self) -> None:
        self._count = 0
        self._back: Any = None

    def tag(self, _value: int, _data: bytes = b"") -> None:
        """One message."""
        self._count += 1

    def done(self, address: str) -> None:
        """Acknowledge to `address`."""
        if self._back is None:
            self._back = zerorpc.Pusher()
            self._back.connect(address)
        self._back.counted(self._count)
        self._count = 0


class Calculator:
    """Answers calls."""

    def add(self, a: int, b: int) -> int:
        """Their sum."""
        return a + b

    @zerorpc.stream
    def rows(self, count: int, size: int) -> Any:
        """So many rows."""
        row = b"x" * size
        return (row for _ in range(count))


def far(kind: str) -> None:
    """Serve one of the two."""
    server = zerorpc.Puller(Sink()) if kind == "sink" else zerorpc.Server(Calculator())
    address = f"tcp://127.0.0.1:{free_port()}"
    server.bind(address)
    ready(address)
    server.run()


def one_way(count: int, size: int) -> None:
    """W3, W4."""
    count, counts = scaled(count), Queue()

    class Back:
        def counted(self, count: int) -> None:
            counts.put(count)

    with Far("zerorpc_peer", "far", "sink") as other:
        address = f"tcp://127.0.0.1:{free_port()}"
        puller = zerorpc.Puller(Back())
        puller.bind(address)
        gevent.spawn(puller.run)
        pusher = zerorpc.Pusher()
        pusher.connect(other.ready)
        pusher.done(address)
        counts.get()
        payload = (b"x" * size,) if size else ()
        start = now()
        for value in range(count):
            pusher.tag(value, *payload)
        pusher.done(address)
        assert counts.get() == count
        emit_rate(count, now() - start, size)


def client(other: Far) -> Any:
    """A client that is connected."""
    made = zerorpc.Client(timeout=60)
    made.connect(other.ready)
    return made


def round_trips() -> None:
    """W5."""
    count, times = scaled(3_000), []
    with Far("zerorpc_peer", "far", "calculator") as other:
        add = client(other).add
        for value in range(count + 300):
            start = now()
            add(value, 1)
            times.append(now() - start)
    emit_round_trips(times[300:])


def calls() -> None:
    """W6."""
    each = scaled(50)
    with Far("zerorpc_peer", "far", "calculator") as other:
        add = client(other).add
        assert add(1, 2) == 3

        def caller() -> None:
            for value in range(each):
                assert add(value, 1) == value + 1

        start = now()
        gevent.joinall([gevent.spawn(caller) for _ in range(100)], raise_error=True)
        emit_rate(100 * each, now() - start, unit="call/s")


def stream_of_rows() -> None:
    """W15."""
    count = scaled(10_000)
    with Far("zerorpc_peer", "far", "calculator") as other:
        made = client(other)
        assert made.add(1, 2) == 3
        start = now()
        got = sum(1 for _ in made.rows(count, KIB))
        assert got == count, f"{got} of {count} rows arrived"
        emit_rate(count, now() - start, KIB)


def start_to_reply() -> None:
    """W8."""
    with Far("zerorpc_peer", "far", "calculator") as other:
        start = now()
        assert client(other).add(2, 3) == 5
        emit("ms", 1e3 * (now() - start))


if __name__ == "__main__":
    main(
        {
            "W3": lambda: one_way(30_000, 0),
            "W4": lambda: one_way(30_000, KIB),
            "W4b": lambda: one_way(300, MIB),
            "W5": round_trips,
            "W5@1core": round_trips,
            "W6": calls,
            "W14": calls,  # of a method, as all of its calls
            "W15": stream_of_rows,
            "W8": start_to_reply,
        },
        far,
    )
