"""A web application on asyncio whose work is done by gevent's workers: `uvicorn front:app`."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

import gmp.aio

TRIES = 3  # workers that may die of a request, or while they have it


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The node lives as long as the application; each process of uvicorn has one."""
    async with gmp.aio.node("front/", binds=[]) as node:
        app.state.node = node
        print(f"gmp node {node.id} is in front", flush=True)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/primes/{below}")
async def primes(below: int, request: Request) -> dict[str, Any]:
    """Have a worker count the primes below a number."""
    node: gmp.aio.Node = request.app.state.node
    for _ in range(TRIES):
        try:
            members = await node.group("primes").wait(timeout=5)
            worker = random.choice(list(members))
            (count,) = await node.call(worker, "count", below, timeout=60)
        except gmp.WaitTimeout:
            raise HTTPException(503, "there is no worker") from None
        except gmp.CallTimeout:
            raise HTTPException(504, "it takes too long") from None
        except gmp.PortDied:
            continue  # it died with the request: another one may have it
        return {"below": below, "primes": count, "worker": worker}
    raise HTTPException(502, f"{TRIES} workers died of it")


@app.get("/workers")
async def workers(request: Request) -> list[str]:
    """The workers that are there."""
    node: gmp.aio.Node = request.app.state.node
    return sorted(await node.group("primes").members())


@app.get("/events")
async def events(request: Request) -> StreamingResponse:
    """Server-sent events: which workers come and go."""
    node: gmp.aio.Node = request.app.state.node

    async def lines() -> AsyncIterator[str]:
        with node.group("primes").monitor() as changes:
            async for members, added, _, removed in changes:
                told = {"workers": len(members), "came": added, "went": removed}
                yield f"data: {json.dumps(told)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
