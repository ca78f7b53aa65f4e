"""gmp.aio: what tasks of asyncio can do with a node, beside gevent's code at other nodes, and what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import monkey

import gmp
import gmp.aio

sleep = monkey.get_original("time", "sleep")  # natively, also in a patched program
Test = Callable[..., Awaitable[None]]


def in_loop(test: Test) -> Callable[..., None]:
    """Run a test in an event loop."""

    @functools.wraps(test)
    def run(*args: Any, **keywords: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(*args, **keywords)

        asyncio.run(bounded())

    return run


@contextlib.asynccontextmanager
async def two_nodes(**settings: Any) -> AsyncIterator[tuple[gmp.aio.Node, gmp.aio.Node]]:
    """A seed, and a node that is connected to it."""
    async with (
        gmp.aio.node("seed", secret="geheim", binds=["127.0.0.1:0"], **settings) as seed,
        gmp.aio.node("mine", secret="geheim", binds=[], seeds=seed.binds, **settings) as mine,
    ):
        await mine.wait_up("seed", timeout=20)
        yield seed, mine


def failure(function: Callable[[], Any]) -> str:
    """What it raises in another native thread, also in a patched program."""

    def call() -> str:
        with pytest.raises(gmp.GmpError) as caught:
            function()
        return str(caught.value)

    return str(gevent.get_hub().threadpool.apply(call))


async def start(node: gmp.aio.Node, body: Callable[..., Any]) -> str:
    """Start a port with a body, in greenlets, as any program of gevent's would; return its ID."""

    def make(node: gmp.Node) -> str:
        return node.port(body).id

    port_id: str = await node.run(make)
    return port_id


def add(port: gmp.Port) -> None:
    for first, second, reply in port:
        port.node.send(reply, first + second)


@gmp.spawnable
def report(port: gmp.Port, boss: str, number: int) -> None:
    port.node.send(boss, "spawned", port, number)
    port.receive("end")


def keep(port: gmp.Port) -> None:
    while True:
        gevent.sleep(60)


@in_loop
async def test_a_call_is_answered_by_greenlets_of_another_node_and_of_the_own() -> None:
    async with two_nodes() as nodes:
        for node in nodes:
            adder = await start(node, add)
            assert await nodes[1].call(adder, 2, 3) == (5,)


@in_loop
async def test_a_call_raises_what_gmp_raises() -> None:
    async with two_nodes() as (seed, mine):
        adder = await start(seed, add)
        silent = await start(seed, keep)
        with pytest.raises(gmp.CallTimeout, match=r"within 0\.05 s"):
            await mine.call(silent, "anybody?", timeout=0.05)
        with pytest.raises(gmp.PortDied, match="TypeError"):
            await mine.call(adder, 2, "three")
        with pytest.raises(gmp.MessageError, match="object"):
            await mine.call(silent, object())
        with pytest.raises(gmp.ConfigError, match="not a port"):
            await mine.call(17)


@in_loop
async def test_a_message_that_cannot_travel_is_refused_where_it_is_sent() -> None:
    async with two_nodes() as (seed, mine), seed.port() as port:
        for wrong in (object(), [{"deep": object()}], "\ud800"):
            with pytest.raises(gmp.MessageError):
                await mine.send(port, "wrong", wrong)
        values = ("a", 1, -1.5, None, True, [1, (2, "ü")], {"k": [b"x"]}, b"octets", 1 << 80, "x" * 100_000, {1: 2})
        for value in values:
            await mine.send(port, value)
        assert [(await port.receive(timeout=20))[0] for _ in values] == list(values)


@in_loop
async def test_ports_travel_as_their_ids_in_messages_and_are_destinations() -> None:
    async with two_nodes() as (seed, mine), seed.port() as there, mine.port() as here:
        await mine.send(there, "reply to", here, [here])
        assert await there.receive("reply to", timeout=20) == (here.id, [here.id])
        assert here == here.id
        assert {here: 1}[here.id] == 1  # type: ignore[index]  # a port hashes as its ID
        await mine.send(here, here)
        assert await here.receive() == (here.id,)
        assert gmp.node_of(here) == mine.id  # type: ignore[arg-type]  # as anywhere


@in_loop
async def test_messages_are_iterated_over_in_their_order_until_the_port_dies() -> None:
    async with two_nodes() as (seed, mine):
        port = mine.port()
        async with port:
            for number in range(300):
                await seed.send(port, number)
            got = []
            async for (number,) in port:
                got.append(number)
                if number == 299:
                    break
            assert got == list(range(300))

            async def end() -> None:
                await port.kill("enough")

            ended = asyncio.create_task(end())
            assert [message async for message in port] == []
            await ended
            assert (port.alive, port.reason) == (False, ("enough",))
            with pytest.raises(gmp.PortDied, match="enough"):
                await port.receive()
            assert await port.join(5)


@in_loop
async def test_receive_takes_the_first_that_matches_and_leaves_the_others_in_order() -> None:
    async with two_nodes() as (seed, mine), mine.port() as port:
        for number in range(200):
            await seed.send(port, "odd" if number % 2 else "even", number)
        assert await port.receive("odd", timeout=20) == (1,)
        assert await port.receive_if(lambda tag, number: number == 150, timeout=20) == ("even", 150)
        rest = [(await port.receive(timeout=20))[1] for _ in range(198)]
        assert rest == [number for number in range(200) if number not in (1, 150)]
        with pytest.raises(gmp.ReceiveTimeout, match="is waiting at"):
            await port.receive(timeout=0)
        with pytest.raises(gmp.ReceiveTimeout, match=r"came within 0\.02 s"):
            await port.receive("odd", timeout=0.02)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(port.receive(), 0.01)
        with pytest.raises(gmp.GmpError, match="expected a number"):
            await port.receive(timeout="soon")  # type: ignore[arg-type]
        waiter = asyncio.create_task(port.receive())
        await asyncio.sleep(0)
        with pytest.raises(gmp.GmpError, match="another task"):
            await port.receive()
        await mine.send(port, "last")
        assert await waiter == ("last",)


@in_loop
async def test_max_queue_bounds_what_waits_at_the_node_and_what_tasks_pass_over() -> None:
    async with two_nodes() as (_, mine):
        port = mine.port(max_queue=5)
        for number in range(7):
            await mine.send(port, number)
        assert await port.join(20)
        assert port.reason is None or port.reason[0] == "queue_overflow"
        passed = mine.port(max_queue=5)
        waiter = asyncio.create_task(passed.receive("never"))
        for number in range(40):
            await mine.send(passed, number)
            await mine.is_up(mine.id)
        with pytest.raises(gmp.PortDied, match="queue_overflow"):
            await waiter
        with pytest.raises(gmp.GmpError, match="max_queue"):
            async with mine.port(max_queue=-1):
                pass


@in_loop
async def test_a_monitor_gives_the_reason_once() -> None:
    async with two_nodes() as (seed, mine):
        for where in (seed, mine):
            worker = await start(where, keep)
            with mine.monitor(worker) as deaths:
                await mine.kill(worker, "enough", 1)
                assert [reason async for reason in deaths] == [("enough", 1)]
        nobody = f"{seed.id}#nobody"
        assert [reason async for reason in mine.monitor(nobody)] == [
            ("no_such_port", "cannot monitor nonexistent port", nobody)
        ]
        with pytest.raises(gmp.ConfigError):
            mine.monitor(17)


@in_loop
async def test_a_monitor_for_a_port_sends_to_it_or_kills_it() -> None:
    async with two_nodes() as (seed, mine), mine.port() as told:
        worker, other = await start(seed, keep), mine.port()
        await mine.watch(worker, told, "down", worker)
        await mine.watch(worker, other)
        cancelled = await mine.watch(worker, told, "cancelled")
        cancelled.cancel()
        gc.collect()  # these monitors are the port's, and need not be held
        await mine.kill(worker, "enough")
        assert await told.receive(timeout=20) == ("down", worker, "enough")
        assert await other.join(20)
        assert other.reason == ("enough",)
        with pytest.raises(gmp.GmpError, match="no live port"):
            await mine.watch(told, other)


@in_loop
async def test_a_monitor_that_nobody_holds_any_more_is_cancelled() -> None:
    async with two_nodes() as (_, mine):
        worker = mine.port()
        await mine.is_up("seed")
        before = (await mine.stats())["ports"]
        events = [mine.monitor(worker), mine.monitor_nodes(), mine.group("workers").monitor()]
        assert (await mine.stats())["ports"] == before + 3
        del events
        gc.collect()
        assert (await mine.stats())["ports"] == before


@in_loop
async def test_links_spawning_and_killing() -> None:
    async with two_nodes(allow=["tests.functions"]) as (seed, mine), mine.port() as boss:
        a, b = await start(seed, keep), await start(mine, keep)
        await mine.link(a, b)
        await mine.kill(a, "broken")
        assert [reason async for reason in mine.monitor(b)] in (
            [("broken",)],
            [("no_such_port", "cannot monitor nonexistent port", b)],
        )
        for where in (seed, mine):
            spawned = await mine.spawn(where.id, report, boss, 7)
            told = await boss.receive("spawned", timeout=20)
            assert told == (spawned, 7)
            assert type(told[0]) is str  # also of a port of this node
            ended = mine.monitor(spawned)
            await mine.send(spawned, "end")
            assert [reason async for reason in ended] == [()]
        spawned = await mine.spawn(seed.id, "tests.nowhere:nothing", boss)
        assert await anext(mine.monitor(spawned))
        with pytest.raises(gmp.ConfigError):
            await mine.spawn("a#b", "x:y")
        with pytest.raises(gmp.MessageError):
            await mine.spawn(seed.id, "x:y", object())


@in_loop
async def test_groups_and_families() -> None:
    async with two_nodes() as (seed, mine), mine.port() as here, seed.port() as there:
        group = mine.group("workers")
        changes = group.monitor()
        assert await anext(changes) == ({}, [], [], [])
        with pytest.raises(gmp.WaitTimeout, match="0 of 1"):
            await group.wait(timeout=0.02)
        waiter = asyncio.create_task(group.wait(2, timeout=20))
        await group.join(here, "mine")
        assert await anext(changes) == ({here.id: "mine"}, [here.id], [], [])
        await seed.group("workers").join(there, {"speed": 3})
        assert await waiter == {here.id: "mine", there.id: {"speed": 3}}
        assert (await anext(changes))[1:] == ([there.id], [], [])
        await group.send("work", here)
        for port in (here, there):
            assert await port.receive("work", timeout=20) == (here.id,)
        with pytest.raises(gmp.MessageError):
            await group.send(object())
        assert await group.pick() == here.id
        await there.kill()
        assert await anext(changes) == ({here.id: "mine"}, [], [], [there.id])
        await group.leave(here)
        assert await group.members() == {}
        changes.cancel()
        with pytest.raises(gmp.GmpError):
            await group.join(there)
        with pytest.raises(gmp.ConfigError):
            mine.group("'x")
        family = mine.family("settings")
        await family.set("colour", "blue")
        assert await family.items() == {"colour": "blue"}
        async for items, *_ in seed.family("settings").monitor():
            if items == {"colour": "blue"}:
                break
        await family.delete("colour")
        assert await family.items() == {}


@in_loop
async def test_changes_that_nobody_waits_for_are_told_as_one() -> None:
    async with two_nodes() as (_, mine):
        family = mine.family("counts")
        with family.monitor() as changes:
            assert (await anext(changes))[0] == {}
            for number in range(500):
                await family.set(str(number % 7), number)
            told = [await anext(changes)]
            while told[-1][0].get("2") != 499 or len(told[-1][0]) < 7:
                told.append(await anext(changes))
            assert len(told) <= 3


@in_loop
async def test_nodes_are_watched() -> None:
    async with gmp.aio.node("watcher", secret="geheim", binds=["127.0.0.1:0"]) as watcher:
        with watcher.monitor_nodes() as nodes, watcher.monitor_known_nodes() as known, watcher.monitor_busy() as busy:
            async with gmp.aio.node("other", secret="geheim", binds=[], seeds=watcher.binds) as other:
                assert await anext(nodes) == ("other", True)
                assert await watcher.is_up("other")
                assert await watcher.up_nodes() == ["other"]
                while "other" not in (await anext(known))[0]:
                    pass
                assert "other" in await watcher.known_nodes()
                await watcher.flush(5)
                assert not other.closed
            assert (await anext(nodes))[:2] == ("other", False)
            busy.cancel()
            assert [event async for event in busy] == []


@in_loop
async def test_blocking_code_of_either_side_does_not_hold_up_the_other() -> None:
    async with two_nodes() as (seed, mine):
        adder = await start(seed, add)

        def block(node: gmp.Node) -> None:
            sleep(0.5)  # a library that blocks natively: nothing of this node runs meanwhile

        blocked = asyncio.create_task(mine.run(block))
        ticks = 0
        while not blocked.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 5
        call = asyncio.create_task(mine.run(lambda node: node.call(adder, 2, 3)))
        blocked = asyncio.create_task(mine.run(block))
        await asyncio.sleep(0)
        with pytest.raises(gmp.CallTimeout, match="busy"):
            await mine.call(adder, 2, 3, timeout=0.05)
        assert await call == (5,)
        await blocked

        def ask_often(node: gmp.Node) -> int:
            return sum(node.call(adder, 1, 1)[0] for _ in range(50))

        asked = asyncio.create_task(seed.run(ask_often))
        await asyncio.sleep(0)
        sleep(0.3)  # a task that blocks: the nodes go on meanwhile
        assert await asked == 100


@in_loop
async def test_run_gives_the_node_and_raises_what_the_function_raises() -> None:
    async with two_nodes() as (_, mine):
        assert await mine.run(lambda node, *args: (node.id, args), 1, 2) == ("mine", (1, 2))
        with pytest.raises(ZeroDivisionError):
            await mine.run(lambda node: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await mine.run(lambda node: next(iter(())))
        assert await mine.call("seed", "time") is not None
        with pytest.raises(gmp.GmpError, match="no coroutine"):
            await mine.run(asyncio.sleep, 1)


@in_loop
async def test_what_is_wrong_is_said_at_once() -> None:
    unstarted = gmp.aio.node("x", binds=[])
    with pytest.raises(gmp.GmpError, match="not started"):
        await unstarted.send("a#b")
    with pytest.raises(gmp.GmpError, match="not started"):
        _ = unstarted.id
    with pytest.raises(gmp.ConfigError, match="nonsense"):
        await gmp.aio.node("x", nonsense=1).start()
    async with gmp.aio.node("first", secret="geheim", binds=["127.0.0.1:0"]) as first:
        with pytest.raises(gmp.ConfigError, match=r"127\.0\.0\.1"):
            async with gmp.aio.node("second", secret="geheim", binds=first.binds):
                pass
        assert "none runs here" in failure(lambda: first.try_send(first.id, "time"))
        assert "another one" in failure(lambda: asyncio.run(first.stats()))
        with pytest.raises(gmp.GmpError, match="started once"):
            await first.start()
        port = first.port()
        group = first.group("g")
    for method in (first.stats, first.port, group.members, group.monitor, first.monitor_nodes, port.receive):
        with pytest.raises(gmp.GmpError, match=r"closed|leaving"):
            await method()  # type: ignore[misc]
    assert await port.join()
    assert [message async for message in port] == []
    await first.close()


def of_the_guide(name: str) -> Callable[..., Awaitable[Any]]:
    """A function of the page about asyncio, as it stands there."""
    page = Path(__file__).parent.parent / "docs" / "guides" / "asyncio.md"
    (block,) = [
        block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if f"async def {name}(" in block
    ]
    names: dict[str, Any] = {}
    exec(block, names)
    function: Callable[..., Awaitable[Any]] = names[name]
    return function


@in_loop
async def test_what_the_guide_shows_works(capsys: pytest.CaptureFixture[str]) -> None:
    async with two_nodes() as (seed, mine):
        serving = asyncio.ensure_future(of_the_guide("serve")(mine))
        (clock,) = await seed.group("clock").wait(timeout=20)
        assert await seed.call(clock, "time") == ("it is", "noon")
        await seed.send(clock, "stop")
        await serving
        async with mine.port() as worker, seed.port() as other:
            watching = asyncio.ensure_future(of_the_guide("watch")(mine, worker))
            await worker.kill("work")
            await seed.group("workers").join(other)
            while "1 workers" not in capsys.readouterr().out:
                await asyncio.sleep(0.01)
            watching.cancel()
