"""The hand-over between an event loop and the thread of its node: order, bounds, no lost wake-up, whatever ends first."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import subprocess

import gmp
import gmp.aio
from gmp.aio.inbox import AHEAD

from .test_aio import add, in_loop, keep, sleep, start, two_nodes

MARK = 64 * 1024


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nothing tells of."""
    while not condition():
        await asyncio.sleep(0.01)


def hold(node: gmp.aio.Node, seconds: float) -> asyncio.Task[Any]:
    """Let the thread of a node do nothing for a while."""
    return asyncio.create_task(node.run(lambda node: sleep(seconds)))


@in_loop
async def test_what_many_tasks_send_arrives_in_the_order_of_each_task() -> None:
    async with two_nodes(high_mark=MARK, low_mark=MARK // 2) as (seed, mine), seed.port() as port:

        async def feed(number: int) -> None:
            generator = random.Random(number)
            for count in range(500):
                value = generator.choice((b"octets", "text", "x" * 5000))  # some of them wait until they were taken
                await mine.send(port, number, count, value)
                if generator.random() < 0.01:
                    await asyncio.sleep(0)

        feeders = [asyncio.create_task(feed(number)) for number in range(20)]
        counts = [0] * len(feeders)
        while sum(counts) < 500 * len(feeders):
            number, count, _ = await port.receive(timeout=30)
            assert count == counts[number]
            counts[number] += 1
        await asyncio.gather(*feeders)


@pytest.mark.parametrize("size", [1, 20_000])  # the larger ones are held, as the node is over its high mark
@in_loop
async def test_a_call_and_what_is_sent_before_and_behind_it_keep_their_order(size: int) -> None:
    async with two_nodes(high_mark=MARK, low_mark=MARK // 2) as (seed, mine):

        def collect(port: gmp.Port) -> None:
            got = []
            for message in port:
                got.append(message[0])
                if message[0] == "end":
                    port.node.send(message[-1], got)

        for _ in range(20):
            collector = await start(seed, collect)
            calls = []
            for number in range(0, 40, 4):
                await mine.send(collector, number, "x" * size)
                for further in (1, 2):
                    calls.append(asyncio.create_task(mine.call(collector, number + further)))
                    await asyncio.sleep(0)
                await mine.send(collector, number + 3, "x" * size)
            assert await mine.call(collector, "end") == ([*range(40), "end"],)
            for call in calls:
                call.cancel()


@in_loop
async def test_sends_wait_for_room_and_those_to_another_node_do_not() -> None:
    """The peer that reads nothing holds up what is for it alone, and no more is on the way than the mark and a bit."""
    async with two_nodes(high_mark=MARK, low_mark=MARK // 2, hung_after=None) as (seed, mine), mine.port() as here:
        port = seed.port()
        async with port:
            held = hold(seed, 1.0)
            await asyncio.sleep(0)
            sent = 0

            async def feed() -> None:
                nonlocal sent
                for number in range(10_000):
                    await mine.send(port, number, "x" * 1000)
                    sent += 1

            feeder = asyncio.create_task(feed())
            line = mine._handover.line(seed.id)  # type: ignore[union-attr]
            await until(lambda: line.waiting)
            assert sent < 10_000
            assert line.size <= MARK + 2000
            assert not mine.try_send(port, "there is no room")
            await mine.send(here, "other nodes are not held up")
            assert await here.receive(timeout=5)
            await held
            for number in range(10_000):
                assert (await port.receive(timeout=30))[0] == number
                assert line.size <= MARK + 2000
            await feeder
            assert mine.try_send(port, "there is room")
            await mine.send(port, "behind it")
            assert [await port.receive(timeout=5) for _ in range(2)] == [("there is room",), ("behind it",)]


@in_loop
async def test_senders_that_wait_for_room_can_be_cancelled_and_the_others_go_on() -> None:
    async with two_nodes(high_mark=MARK, low_mark=MARK // 2, hung_after=None) as (seed, mine), seed.port() as port:
        held = hold(seed, 1.0)
        await asyncio.sleep(0)
        done: list[int] = []

        async def feed(number: int) -> None:
            for _ in range(100):
                await mine.send(port, number, "x" * 5000)
            done.append(number)

        feeders = [asyncio.create_task(feed(number)) for number in range(40)]
        line = mine._handover.line(seed.id)  # type: ignore[union-attr]
        await until(lambda: len(line.waiting) == len(feeders))
        for feeder in feeders[::2]:
            feeder.cancel()
        reader = asyncio.create_task(read_all(port))
        await asyncio.gather(*feeders, return_exceptions=True)
        assert sorted(done) == list(range(1, 40, 2))
        await held
        assert await mine.flush(20)
        reader.cancel()
        assert not line.waiting
        assert line.idle


async def read_all(port: gmp.aio.Port) -> None:
    async for _ in port:
        pass


@in_loop
async def test_no_more_than_a_batch_is_taken_ahead_and_none_for_nobody() -> None:
    async with two_nodes() as (_, mine), mine.port() as port:

        async def waiting() -> int:
            return int(await mine.run(lambda node: len(node.find(port.id))))

        for number in range(1000):
            await mine.send(port, number)
        assert await waiting() == 1000
        assert await port.receive() == (0,)
        assert await waiting() == 1000 - AHEAD
        for number in range(1, AHEAD):
            assert await port.receive() == (number,)
        assert await waiting() == 1000 - AHEAD


@in_loop
async def test_a_receiver_that_is_cancelled_at_any_moment_loses_no_message() -> None:
    async with two_nodes() as (seed, mine), mine.port() as port:
        generator = random.Random(1)

        async def feed() -> None:
            for number in range(2500):
                await seed.send(port, number)
                if generator.random() < 0.2:
                    await asyncio.sleep(generator.choice((0, 0, 0.0005)))

        feeder = asyncio.create_task(feed())
        got: list[int] = []

        async def take() -> None:
            got.append((await port.receive())[0])

        while len(got) < 2500:
            taker = asyncio.create_task(take())
            for _ in range(generator.randrange(4)):
                await asyncio.sleep(0)
            if generator.random() < 0.5:
                await asyncio.sleep(generator.random() * 0.001)
            if generator.random() < 0.6:
                taker.cancel()
            await asyncio.gather(taker, return_exceptions=True)
        assert got == list(range(2500))
        await feeder


@in_loop
async def test_what_is_cancelled_ends_in_the_thread_too() -> None:
    async with two_nodes() as (seed, mine):
        silent = await start(seed, keep)
        ended: list[str] = []

        def wait(node: gmp.Node) -> None:
            try:
                gevent.sleep(60)
            finally:
                ended.append("run")

        port = mine.port()
        waiting = {
            "call": lambda: mine.call(silent, "anybody?", timeout=None),
            "group": lambda: mine.group("empty").wait(),
            "wait_up": lambda: mine.wait_up("nowhere"),
            "run": lambda: mine.run(wait),
            "receive": port.receive,
            "join": port.join,
        }
        for _ in range(20):
            tasks = [asyncio.create_task(make()) for make in waiting.values()]  # type: ignore[arg-type]
            await asyncio.sleep(random.random() * 0.01)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError] * len(tasks)

        def running(node: gmp.Node) -> int:
            ties = mine._desk._port._ties  # type: ignore[union-attr]
            return len(ties.tasks)  # type: ignore[union-attr]

        while await mine.run(running) > 2:  # this one, and what works off the jobs
            pass
        assert ended
        assert not mine._handover._asked  # type: ignore[union-attr]


@in_loop
async def test_a_watch_that_is_cancelled_at_any_moment_watches_nothing() -> None:
    async with two_nodes() as (_, mine):
        for moment in range(30):
            async with mine.port() as port, mine.port() as target:
                watching = asyncio.create_task(mine.watch(target, port, "down"))
                for _ in range(moment):
                    await asyncio.sleep(0)
                watching.cancel()
                (came,) = await asyncio.gather(watching, return_exceptions=True)
                await target.kill("enough")
                await mine.send(port, "behind it")
                assert (await port.receive(timeout=20))[0] == ("behind it" if isinstance(came, BaseException) else "down")


@in_loop
async def test_calls_cancelled_at_any_moment_leave_the_others_alone() -> None:
    async with two_nodes() as (seed, mine):
        adder = await start(seed, add)
        generator = random.Random(2)

        async def caller(number: int) -> None:
            assert await mine.call(adder, number, 1) == (number + 1,)

        for _ in range(20):
            tasks = [asyncio.create_task(caller(number)) for number in range(100)]
            for task in generator.sample(tasks, 50):
                if generator.random() < 0.3:
                    await asyncio.sleep(0)
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError)
        assert await mine.spawn(seed.id, "x:y")
        spawner = asyncio.create_task(mine.spawn(mine.id, keep))
        await asyncio.sleep(0)
        spawner.cancel()
        await asyncio.gather(spawner, return_exceptions=True)


def test_no_wake_up_is_lost_in_either_direction() -> None:
    """Each exchange would wait for ever if its wake-up were lost; the threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        async def exchange() -> None:
            async with two_nodes() as (_, mine), mine.port() as port:

                async def bounce(number: int) -> None:
                    for _ in range(300):
                        await mine.is_up("seed")
                        await mine.send(port, number)

                async with asyncio.timeout(50):
                    bouncing = [asyncio.create_task(bounce(number)) for number in range(5)]
                    for _ in range(1500):
                        await port.receive()
                    await asyncio.gather(*bouncing)

        asyncio.run(exchange())
    finally:
        sys.setswitchinterval(before)


@in_loop
async def test_a_node_that_is_closed_first_ends_all_waiting() -> None:
    async with two_nodes() as (seed, mine):
        silent = await start(seed, keep)
        port = mine.port()
        waiting = [
            mine.call(silent, "anybody?", timeout=None),
            mine.group("empty").wait(),
            mine.wait_up("nowhere"),
            mine.run(lambda node: gevent.sleep(60)),
            port.receive(),
        ]
        tasks = [asyncio.create_task(each) for each in waiting]
        iterating = asyncio.create_task(read_all(mine.port()))
        watching = asyncio.create_task(anext(mine.monitor_nodes(), None))
        await mine.is_up("seed")
        await mine.close()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, gmp.GmpError)
            assert "closed" in str(result) or "leaving" in str(result)
        assert await iterating is None
        assert await watching is None
        assert mine.closed
        assert await port.join()


@in_loop
async def test_what_was_sent_before_the_close_arrives_also_what_was_held() -> None:
    async with gmp.aio.node("seed", secret="geheim", binds=["127.0.0.1:0"], hung_after=None) as seed:
        port = seed.port()
        async with port:
            async with gmp.aio.node(
                "mine", secret="geheim", binds=[], seeds=seed.binds, high_mark=MARK, low_mark=MARK // 2
            ) as mine:
                await mine.wait_up("seed")
                held = hold(seed, 0.5)
                await asyncio.sleep(0)
                for number in range(60):
                    await mine.send(port, number, "x" * 1000)
                reader = asyncio.create_task(read_some(port, 60))
            await held
            assert await reader == list(range(60))


async def read_some(port: gmp.aio.Port, count: int) -> list[int]:
    return [(await port.receive(timeout=20))[0] for _ in range(count)]


@in_loop
async def test_a_node_that_the_network_side_closes_is_told() -> None:
    async with two_nodes() as (_, mine):
        with pytest.raises(gmp.GmpError, match="closed"):
            await mine.run(lambda node: node.close())
        with pytest.raises(gmp.GmpError, match="closed"):
            await mine.call("seed", "time")


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt])
def test_the_thread_that_dies_ends_all_waiting(how: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    async def die() -> None:
        async with two_nodes() as (seed, mine):
            silent = await start(seed, keep)
            call = asyncio.create_task(mine.call(silent, "anybody?", timeout=None))

            def end(node: gmp.Node) -> None:
                raise how("enough")

            with pytest.raises(gmp.GmpError, match=how.__name__):
                await mine.run(end)
            with pytest.raises(gmp.GmpError):
                await call
            await mine.close()
            with pytest.raises(gmp.GmpError, match=rf"native thread ended with {how.__name__}"):
                await mine.stats()
            assert await seed.is_up("seed")

    asyncio.run(asyncio.wait_for(die(), 50))
    assert "native thread ended" in caplog.text


def test_the_loop_that_is_closed_first_closes_the_node(caplog: pytest.LogCaptureFixture) -> None:
    node = gmp.aio.node("left", secret="geheim", binds=["127.0.0.1:0"])
    loop = asyncio.new_event_loop()
    loop.run_until_complete(node.start())
    port = loop.run_until_complete(_port_of(node))
    inner = node._desk.node  # type: ignore[union-attr]
    loop.close()
    deadline = time.monotonic() + 20
    while inner._core.life.state != "closed" and time.monotonic() < deadline:
        sleep(0.01)
    assert inner.closed
    assert not inner.started
    assert port.id
    while "event loop is" not in caplog.text and time.monotonic() < deadline:
        sleep(0.01)
    assert "as its event loop is" in caplog.text


async def _port_of(node: gmp.aio.Node) -> gmp.aio.Port:
    return node.port()


@in_loop
async def test_a_start_that_is_cancelled_leaves_no_node_and_no_thread() -> None:
    for delay in (0, 0.0001, 0.001, 0.005, 0.02):
        node = gmp.aio.node("brief", secret="geheim", binds=["127.0.0.1:0"])
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(delay)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if node._handover is not None:
            await node.close()
    gc.collect()
    assert not [each.id for each in gc.get_objects() if isinstance(each, gmp.Node) and each.started]


@in_loop
async def test_nothing_is_left_of_closed_nodes() -> None:
    def descriptors() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    async def live() -> None:
        async with gmp.aio.node("brief", secret="geheim", binds=["127.0.0.1:0"]) as node, node.port() as port:
            await node.send(port, 1)
            await port.receive()

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before, running = len(descriptors()), threads()
    for _ in range(5):
        await live()
    gc.collect()
    await until(lambda: threads() <= running and len(descriptors()) <= before)


def test_several_nodes_and_loops_in_threads_of_their_own() -> None:
    got: list[int] = []

    async def live(number: int) -> None:
        async with gmp.aio.node(f"n{number}", secret="geheim", binds=[]) as node, node.port() as port:
            for value in range(200):
                await node.send(port, value)
                assert await port.receive(timeout=20) == (value,)
            got.append(number)

    pool = gevent.get_hub().threadpool
    for ended in [pool.spawn(lambda number=number: asyncio.run(live(number))) for number in range(4)]:
        ended.get(timeout=50)
    assert sorted(got) == [0, 1, 2, 3]


def test_it_works_in_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def live() -> None:
        async with two_nodes() as (seed, mine), mine.port() as port:
            adder = await start(seed, add)
            assert await asyncio.gather(*[mine.call(adder, number, 1) for number in range(200)]) == [
                (number + 1,) for number in range(200)
            ]
            for number in range(1000):
                await seed.send(port, number)
            assert await read_some(port, 1000) == list(range(1000))
            waiter = asyncio.create_task(port.receive())
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter

    uvloop.run(asyncio.wait_for(live(), 50))


FORKING = """
import asyncio, os, sys, gmp, gmp.aio

async def main():
    async with gmp.aio.node("parent", secret="geheim", binds=[]) as node, node.port() as port:
        child = os.fork()
        if not child:
            try:
                node.try_send(port, "from the child")
            except gmp.GmpError as error:
                print(error, flush=True)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        await node.send(port, "from the parent")
        print(await port.receive(timeout=10))

asyncio.run(main())
"""


def test_a_child_of_fork_has_no_part_in_the_node() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=40)
    assert "was left to the parent process by fork" in done.stdout
    assert "('from the parent',)" in done.stdout
    assert "Traceback" not in done.stdout


PROGRAM = """
import asyncio, sys, gevent, gmp, gmp.aio

async def main(how):
    node = gmp.aio.node("leaves", secret="geheim", binds=[], seeds=[sys.argv[1]])
    await node.start()
    await node.wait_up(timeout=20)
    print("up", flush=True)
    if how == "waits":
        await node.port().receive()
    if how == "exits":
        sys.exit(3)

asyncio.run(main(sys.argv[2]))
print("ends")
"""


@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("exits", 3), ("waits", None)])
@pytest.mark.parametrize("patched", [False, True])
def test_a_program_that_ends_leaves_the_network(
    make_node: Any, how: str, code: int | None, patched: bool, recorder: Any
) -> None:
    seed = make_node("seed")
    seed.monitor_nodes(recorder)
    first = "from gevent import monkey; monkey.patch_all()\n" if patched else ""
    command = [sys.executable, "-c", first + PROGRAM, seed.binds[0], how]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        recorder.wait()
        if how == "waits":
            assert program.stdout.readline()
            program.send_signal(signal.SIGINT)
        _, error = program.communicate(timeout=40)
        assert recorder.wait(2) == [("leaves", True), ("leaves", False, "leaving", "leaves")]
        assert code is None or program.returncode == code, error
        assert "Traceback" not in error or how == "waits", error
        assert "could not leave" not in error
    finally:
        program.kill()
        program.wait()


@pytest.mark.parametrize("how", ["closed", "dies", "leaves by itself"])
def test_whatever_goes_on_ends_when_the_node_ends_at_any_moment(how: str) -> None:
    generator = random.Random(how)

    async def work(mine: gmp.aio.Node, adder: str, sink: str, port: gmp.aio.Port) -> None:
        number = generator.random()
        while True:
            match int(number * 7):
                case 0:
                    assert await mine.call(adder, 1, 2) == (3,)
                case 1:
                    await mine.send(sink, "x" * 10_000)
                case 2:
                    await mine.send(port, b"octets")
                case 3:
                    async for _ in port:
                        pass
                    return
                case 4:
                    await mine.group("nobody").wait()
                case 5:
                    with mine.monitor_nodes() as events:
                        async for _ in events:
                            pass
                    return
                case 6:
                    async with asyncio.timeout(0.002):
                        await mine.port().receive()
            await asyncio.sleep(0)

    async def live(moment: float) -> None:
        async with two_nodes(high_mark=MARK, low_mark=MARK // 2) as (seed, mine):
            adder, sink = await start(seed, add), await start(seed, keep)
            tasks = [asyncio.create_task(work(mine, adder, sink, mine.port())) for _ in range(40)]
            await asyncio.sleep(moment)
            early = [task for task in tasks if task.done() and not isinstance(task.exception(), TimeoutError)]
            assert not early, early
            match how:
                case "closed":
                    await mine.close()
                case "dies":
                    with pytest.raises(gmp.GmpError):
                        await mine.run(sys.exit)
                case _:
                    with pytest.raises(gmp.GmpError):
                        await mine.run(lambda node: node.close())
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, gmp.GmpError | TimeoutError), result

    for _ in range(6):
        asyncio.run(asyncio.wait_for(live(generator.random() * 0.05), 40))
