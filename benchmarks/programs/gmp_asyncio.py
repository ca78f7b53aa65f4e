"""gmp.aio: W6 by tasks of asyncio. The far side is gmp's own, in a process of its own."""

from __future__ import annotations

import asyncio

import gmp.aio
from benchmarks.programs.gmp_settings import settings
from benchmarks.programs.measure import Far, emit_rate, main, now, scaled

CALLERS = 100


async def measure(bind: str, calculator: str, each: int) -> float:
    """Return the seconds in which 100 tasks make so many calls each."""
    async with gmp.aio.node("near", binds=[], seeds=[bind], **settings()) as node:
        await node.call(calculator, "add", 1, 1)

        async def caller() -> None:
            for value in range(each):
                assert await node.call(calculator, "add", value, 1) == (value + 1,)

        start = now()
        await asyncio.gather(*[caller() for _ in range(CALLERS)])
        return now() - start


def calls() -> None:
    """W6 asyncio."""
    each = scaled(300)
    with Far("gmp_far") as far:
        seconds = asyncio.run(measure(far.ready["bind"], far.ready["calculator"], each))
    emit_rate(CALLERS * each, seconds, unit="call/s")


if __name__ == "__main__":
    main({"W6 asyncio": calls})
