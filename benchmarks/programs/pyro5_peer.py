"""Pyro5: one way by ``@oneway`` methods, each of which it runs in a thread of its own, so order is not kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import Pyro5.api

from benchmarks.programs.measure import KIB, Far, emit, emit_rate, emit_round_trips, main, now, ready, scaled

Pyro5.api.config.THREADPOOL_SIZE = 250  # a connection, and so a thread, for each caller


@Pyro5.api.expose
@Pyro5.api.behavior(instance_mode="single")
class Server:
    """Counts and calculates."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @Pyro5.api.oneway
    def tag(self, _value: int) -> None:
        """One message."""
        with self._lock:
            self._count += 1

    def counted(self) -> int:
        """How many came."""
        return self._count

    def add(self, a: int, b: int) -> int:
        """Their sum."""
        return a + b

    def rows(self, count: int, size: int) -> Iterator[str]:
        """So many rows; of text, as its usual serializer makes base 64 of octets."""
        row = "x" * size
        yield from (row for _ in range(count))


def far() -> None:
    """Serve."""
    daemon = Pyro5.api.Daemon("127.0.0.1", 0)
    ready(str(daemon.register(Server, "server")))
    daemon.requestLoop()


def one_way() -> None:
    """W3."""
    count = scaled(10_000)
    with Far("pyro5_peer", "far") as other, Pyro5.api.Proxy(other.ready) as proxy:
        assert proxy.counted() == 0
        start = now()
        for value in range(count):
            proxy.tag(value)
        while proxy.counted() < count:
            pass
        emit_rate(count, now() - start)


def round_trips() -> None:
    """W5."""
    times = []
    with Far("pyro5_peer", "far") as other, Pyro5.api.Proxy(other.ready) as proxy:
        for value in range(scaled(5_000) + 300):
            start = now()
            proxy.add(value, 1)
            times.append(now() - start)
    emit_round_trips(times[300:])


def calls() -> None:
    """W6."""
    each, begin = scaled(100), threading.Barrier(101)
    with Far("pyro5_peer", "far") as other:

        def caller() -> None:
            with Pyro5.api.Proxy(other.ready) as proxy:
                proxy.add(0, 0)
                begin.wait()
                for value in range(each):
                    assert proxy.add(value, 1) == value + 1

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
    with Far("pyro5_peer", "far") as other, Pyro5.api.Proxy(other.ready) as proxy:
        assert sum(1 for _ in proxy.rows(10, KIB)) == 10
        start = now()
        got = sum(1 for _ in proxy.rows(count, KIB))
        assert got == count, f"{got} of {count} rows arrived"
        emit_rate(count, now() - start, KIB)


def start_to_reply() -> None:
    """W8."""
    with Far("pyro5_peer", "far") as other:
        start = now()
        with Pyro5.api.Proxy(other.ready) as proxy:
            assert proxy.add(2, 3) == 5
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
