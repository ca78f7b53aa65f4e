"""xoscar: actors on asyncio; one way by ``tell``, after which the receiver is asked until it has counted all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import xoscar

from benchmarks.programs.measure import KIB, Far, emit, emit_rate, emit_round_trips, free_port, main, now, ready, scaled


class Sink(xoscar.StatelessActor):
    """Counts and calculates."""

    def __init__(self) -> None:
        self._count = 0

    async def tag(self, _value: int, _data: bytes = b"") -> None:
        """One message."""
        self._count += 1

    async def counted(self) -> int:
        """How many came."""
        return self._count

    async def add(self, a: int, b: int) -> int:
        """Their sum."""
        return a + b


async def make_pool() -> tuple[Any, str]:
    """A pool of actors in this process, and its address."""
    address = f"127.0.0.1:{free_port()}"
    pool = await xoscar.create_actor_pool(address, n_process=0)
    await pool.__aenter__()
    return pool, address


def far() -> None:
    """Serve."""

    async def serve() -> None:
        pool, address = await make_pool()
        await xoscar.create_actor(Sink, address=address, uid="sink")
        ready(address)
        await pool.join()

    asyncio.run(serve())


def with_sink(measure: Callable[[Any], Awaitable[None]], *, remote: bool) -> None:
    """Measure with a sink in this or in another process."""

    async def go() -> None:
        _, address = await make_pool()
        if remote:
            with Far("xoscar_peer", "far") as other:
                await measure(await xoscar.actor_ref(address=other.ready, uid="sink"))
        else:
            await measure(await xoscar.create_actor(Sink, address=address, uid="sink"))
        sys.stdout.flush()

    asyncio.run(go())


async def one_way(sink: Any, count: int, size: int) -> None:
    """W1, W3, W4."""
    count = scaled(count)
    payload = (b"x" * size,) if size else ()
    tag = sink.tag
    start = now()
    for value in range(count):
        await tag.tell(value, *payload)
    while await sink.counted() < count:
        await asyncio.sleep(0)
    emit_rate(count, now() - start, size)


async def round_trips(sink: Any, *, local: bool) -> None:
    """W2, W5: calls, as it has no messages back."""
    count, times = scaled(5_000), []
    for value in range(count + 200):
        start = now()
        await sink.add(value, 1)
        times.append(now() - start)
    if local:
        emit_rate(count, sum(times[200:]), unit="rtt/s")
    else:
        emit_round_trips(times[200:])


async def calls(sink: Any) -> None:
    """W6."""
    each = scaled(100)

    async def caller() -> None:
        for value in range(each):
            assert await sink.add(value, 1) == value + 1

    start = now()
    await asyncio.gather(*(caller() for _ in range(100)))
    emit_rate(100 * each, now() - start, unit="call/s")


def start_to_reply() -> None:
    """W8."""

    async def go() -> None:
        with Far("xoscar_peer", "far") as other:
            start = now()
            await make_pool()
            sink = await xoscar.actor_ref(address=other.ready, uid="sink")
            assert await sink.add(2, 3) == 5
            emit("ms", 1e3 * (now() - start))

    asyncio.run(go())


if __name__ == "__main__":
    main(
        {
            "W1": lambda: with_sink(lambda sink: one_way(sink, 30_000, 0), remote=False),
            "W2": lambda: with_sink(lambda sink: round_trips(sink, local=True), remote=False),
            "W3": lambda: with_sink(lambda sink: one_way(sink, 10_000, 0), remote=True),
            "W4": lambda: with_sink(lambda sink: one_way(sink, 10_000, KIB), remote=True),
            "W5": lambda: with_sink(lambda sink: round_trips(sink, local=False), remote=True),
            "W5@1core": lambda: with_sink(lambda sink: round_trips(sink, local=False), remote=True),
            "W6": lambda: with_sink(calls, remote=True),
            "W8": start_to_reply,
        },
        far,
    )
