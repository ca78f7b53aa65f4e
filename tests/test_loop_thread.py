"""Native threads that serve nodes, for programs that wait natively and for asyncio: nothing outlives what ends them."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from typing import Any

import pytest
from gevent import monkey, subprocess

import gmp
import gmp.aio
from gmp.kernel.loop_thread import LoopThread

plain_only = pytest.mark.skipif(monkey.is_module_patched("threading"), reason="a patched program's threads are greenlets")

INTERRUPTED = """
import os, signal, sys, threading, time, gmp, tests.test_loop_thread as here

here.signal_when_starting()
try:
    gmp.run_in_thread(node_id="mine", secret="geheim", binds=["127.0.0.1:0"], services=["tests.test_loop_thread:slow"])
except KeyboardInterrupt:
    print("interrupted", [thread.name for thread in threading.enumerate()], gmp.node().id, gmp.node().closed)
"""


def slow(port: gmp.Port) -> None:
    """A service."""


def signal_when_starting() -> None:
    """Interrupt the main thread while a node is being started in another one."""
    main = threading.main_thread().ident
    assert main is not None
    real = gmp.Node.start

    def start(node: gmp.Node) -> gmp.Node:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.3)  # the interrupt comes first
        return real(node)

    gmp.Node.start = start  # type: ignore[method-assign]


def run(program: str, *args: str) -> str:
    """What a program prints, with all that is wrong."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *args],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    return str(done.stdout)


def test_a_start_that_is_interrupted_leaves_no_node_and_no_thread() -> None:
    assert "interrupted ['MainThread'] mine True" in run(INTERRUPTED)


@plain_only
def test_closing_a_node_whose_thread_waits_for_the_one_that_closes_ends_in_time(caplog: pytest.LogCaptureFixture) -> None:
    node = gmp.Node("stuck", secret="geheim", binds=[], leave_timeout=0.1).run_in_thread()
    ended = threading.Event()

    def close() -> None:
        began.wait()
        node.close()
        ended.set()

    began = threading.Event()
    closing = threading.Thread(target=close)
    closing.start()

    def wait_natively() -> None:
        began.set()
        closing.join()

    node.node._core.ports.hub.loop.run_callback_threadsafe(wait_natively)
    assert ended.wait(20)
    assert "stuck could not leave the network: its native thread is busy" in caplog.text
    node._thread.join(timeout=20)
    assert not node._thread.is_alive()


EXITS_TWICE = """
import gevent, sys, gmp

node = gmp.Node("leaves", secret="geheim", binds=[], seeds=[sys.argv[1]]).run_in_thread()
node.run(node.node.wait_up, None, 20)

def exit_again():
    node.node.ended.wait()
    sys.exit(4)

node.run(gevent.spawn, exit_again)
node.run(gevent.spawn, sys.exit, 3)
node._thread.join(timeout=20)
print("ends", node.node._core.life.state)
"""


def test_a_thread_that_is_ended_again_while_its_node_leaves_lets_it_leave(make_node: Any, recorder: Any) -> None:
    seed = make_node("seed")
    seed.monitor_nodes(recorder)
    assert "ends closed" in run(EXITS_TWICE, seed.binds[0])
    assert recorder.wait(2) == [("leaves", True), ("leaves", False, "leaving", "leaves")]


LAST_SENDS = """
import asyncio, sys, threading, gmp, gmp.aio

async def main():
    node = gmp.aio.node("leaves", secret="geheim", binds=[], seeds=[sys.argv[1]])
    await node.start()
    await node.wait_up(timeout=20)
    await node.run(lambda node: threading.current_thread())  # as each log record does
    for number in range(2000):
        await node.send(sys.argv[2], number)

asyncio.run(main())
"""


def test_what_a_program_of_asyncio_has_sent_before_its_end_arrives(make_node: Any) -> None:
    seed = make_node("seed")
    for _ in range(5):
        port = seed.port()
        assert run(LAST_SENDS, seed.binds[0], port.id) == ""
        assert [port.receive(timeout=20)[0] for _ in range(2000)] == list(range(2000))


FORKS = """
import asyncio, os, sys, gmp, gmp.aio

async def main():
    child = None
    try:
        async with gmp.aio.node("parent", secret="geheim", binds=[]) as node, node.port() as port:
            with node.monitor_nodes():
                child = os.fork()
        if child:
            await node.close()
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            print("parent")
        else:
            print("child", flush=True)
    finally:
        if not child:
            os._exit(0)  # an event loop of asyncio is of no use in a child

asyncio.run(main())
"""


def test_the_blocks_of_an_asyncio_node_may_end_in_a_child_of_fork() -> None:
    assert run(FORKS).split() == ["child", "parent"]


class Clock:
    """A service with a stream."""

    def ticks(self, count: int) -> Any:
        """So many."""
        yield from range(count)


def test_a_stream_that_is_forgotten_after_its_node_and_thread_have_ended_is_no_error() -> None:
    node = gmp.Node("brief", secret="geheim", binds=[]).run_in_thread()
    clock = node.run(lambda: gmp.remote(gmp.expose(Clock(), node=node.node), node=node.node))
    streams = [node.run(clock.ticks, 1000), node.run(clock.ticks, 1000)]
    assert node.run(next, streams[0]) == 0  # the other one is not opened
    node.close()
    unraisable: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        streams.clear()
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert unraisable == []


def test_a_thread_that_the_system_does_not_give_is_said_and_nothing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(LoopThread, "begin", refuse)
    with pytest.raises(RuntimeError):
        gmp.Node("none", secret="geheim", binds=[]).run_in_thread()

    async def live() -> None:
        node = gmp.aio.node("none", secret="geheim", binds=[])
        with pytest.raises(RuntimeError):
            await node.start()
        await asyncio.wait_for(node.close(), 20)

    asyncio.run(live())
