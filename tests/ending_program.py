"""A program that ends, for tests: ``python -m tests.ending_program WAY NODE_ID SEED BOSS [patched]``.

It sends numbered messages to the port BOSS, the last ones in the turn in which it ends, in the way of that name. Where the
end comes from outside (a signal) it sends until then, and tells before how many it has sent, as the last of all.
"""

from __future__ import annotations

import sys

if sys.argv[-1] == "patched":
    from gevent import monkey

    monkey.patch_all()

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent

import gmp
import gmp.aio

from .notebook import notebook

COUNT = 200
WAYS: dict[str, Callable[[str, str, str], Any]] = {}


def way(function: Callable[[str, str, str], Any]) -> Callable[[str, str, str], Any]:
    WAYS[function.__name__] = function
    return function


def join(node_id: str, seed: str) -> gmp.Node:
    node = gmp.configure(node_id=node_id, seeds=[seed], binds=[])
    node.wait_up(timeout=30)
    return node


def send_all(boss: str, node_id: str, count: int = COUNT) -> None:
    for number in range(count):
        gmp.send(boss, node_id, number, b"x" * 1000)
    gmp.send(boss, node_id, "all", count)


def work(node_id: str, seed: str, boss: str) -> None:
    """What a child does: it has no other greenlets, and just returns."""
    join(node_id, seed)
    send_all(boss, node_id)


@way
def returns(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)


@way
def raises(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    raise ValueError("the end")


@way
def sys_exit(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    sys.exit(3)


@way
def sys_exit_in_a_greenlet(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    gevent.spawn(sys.exit, 3)
    gevent.sleep(60)


@way
def os_exit(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    os._exit(4)


@way
def os_exit_after_flush(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    assert gmp.flush(timeout=30)
    wait_natively()
    os._exit(4)


@way
def finally_sends(node_id: str, seed: str, boss: str) -> None:
    join(node_id, seed)

    def body(port: gmp.Port) -> None:
        try:
            port.receive()
        finally:
            gevent.sleep(0.01)  # it may even block
            send_all(boss, node_id)

    gmp.port(body)
    gevent.sleep(0)


@way
def closed_by_a_greenlet_while_the_main_one_ends(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    gevent.spawn(gmp.node().close)
    gevent.sleep(0)


@way
def closed_by_a_port(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    gmp.port(lambda port: gmp.node().close())
    gevent.sleep(0)


def ready(boss: str, node_id: str) -> None:
    """Tell that the signal may come; it comes while messages are sent."""
    gmp.send(boss, node_id, "ready", os.getpid())
    sent = 0
    try:
        while not gmp.node().closed:
            gmp.send(boss, node_id, sent, b"x" * 1000)
            sent += 1
            gevent.sleep(0)
    except gmp.GmpError:
        if not gmp.node().closed:
            raise
    finally:
        if not gmp.node().closed:
            gmp.send(boss, node_id, "all", sent)


@way
def killed_by_sigterm(node_id: str, seed: str, boss: str) -> None:
    join(node_id, seed)
    ready(boss, node_id)


@way
def sigterm_handler_exits(node_id: str, seed: str, boss: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    join(node_id, seed)
    ready(boss, node_id)


@way
def sigterm_handler_closes(node_id: str, seed: str, boss: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: gmp.node().close())
    join(node_id, seed)
    ready(boss, node_id)


@way
def sigterm_handler_closes_while_the_loop_waits(node_id: str, seed: str, boss: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: gmp.node().close())
    join(node_id, seed)
    send_all(boss, node_id)
    gmp.send(boss, node_id, "ready", os.getpid())
    try:
        gmp.port().receive()
    except gmp.PortDied:
        pass


@way
def sigterm_handler_sends_and_exits(node_id: str, seed: str, boss: str) -> None:
    def handler(*_: object) -> None:
        gmp.send(boss, node_id, "handler")
        sys.exit(0)

    signal.signal(signal.SIGTERM, handler)
    join(node_id, seed)
    ready(boss, node_id)


@way
def sigterm_in_gevents_handler(node_id: str, seed: str, boss: str) -> None:
    gevent.signal_handler(signal.SIGTERM, lambda: gmp.node().close())
    join(node_id, seed)
    ready(boss, node_id)


@way
def sigterm_serve_forever(node_id: str, seed: str, boss: str) -> None:
    join(node_id, seed)
    send_all(boss, node_id)
    gmp.after(0.05, lambda: gmp.send(boss, node_id, "ready", os.getpid()))
    gmp.serve_forever()


@way
def signals_after_serve_forever(node_id: str, seed: str, boss: str) -> None:
    """When it has served, signals are for Python's handlers again: what comes behind it ends by them, in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    join(node_id + "-before", seed)
    gmp.after(0.05, signal.raise_signal, signal.SIGINT)
    gmp.serve_forever()
    join(node_id, seed)  # the end of the process has to close it
    send_all(boss, node_id)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGTERM)


@way
def sigint(node_id: str, seed: str, boss: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    join(node_id, seed)
    ready(boss, node_id)


@way
def sigquit(node_id: str, seed: str, boss: str) -> None:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell without job control lets its background ignore it
    join(node_id, seed)
    ready(boss, node_id)


def in_a_process(method: str, node_id: str, seed: str, boss: str) -> None:
    child = multiprocessing.get_context(method).Process(target=work, args=(node_id, seed, boss))  # type: ignore[attr-defined]
    child.start()
    child.join()
    sys.exit(child.exitcode)


@way
def multiprocessing_fork(node_id: str, seed: str, boss: str) -> None:
    in_a_process("fork", node_id, seed, boss)


@way
def multiprocessing_fork_of_a_node(node_id: str, seed: str, boss: str) -> None:
    join(node_id + "-parent", seed)
    in_a_process("fork", node_id, seed, boss)


@way
def multiprocessing_forkserver(node_id: str, seed: str, boss: str) -> None:
    in_a_process("forkserver", node_id, seed, boss)


@way
def multiprocessing_spawn(node_id: str, seed: str, boss: str) -> None:
    in_a_process("spawn", node_id, seed, boss)


@way
def fork_and_exit(node_id: str, seed: str, boss: str) -> None:
    pid = os.fork()
    if pid == 0:
        work(node_id, seed, boss)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@way
def exec_without_close(node_id: str, seed: str, boss: str) -> None:
    work(node_id, seed, boss)
    os.execv(sys.executable, [sys.executable, "-c", "pass"])


@way
def thread_of_its_own(node_id: str, seed: str, boss: str, *, daemon: bool = False) -> None:
    up = threading.Event()

    def serve() -> None:
        node = gmp.Node(node_id, seeds=[seed], binds=[]).start()
        node.wait_up(timeout=30)
        for number in range(COUNT):
            node.send(boss, node_id, number, b"x" * 1000)
        node.send(boss, node_id, "all", COUNT)
        up.set()
        gevent.wait([node.ended])
        node.close()  # which waits until it has left

    threading.Thread(target=serve, daemon=daemon).start()
    up.wait()


@way
def daemon_thread_of_its_own(node_id: str, seed: str, boss: str) -> None:
    thread_of_its_own(node_id, seed, boss, daemon=True)


@way
def pool_thread_that_logs(node_id: str, seed: str, boss: str) -> None:
    """A native thread that `threading` has not started, but knows since it has logged."""
    up = threading.Event()

    def serve() -> None:
        node = gmp.Node(node_id, seeds=[seed], binds=[]).start()
        node.wait_up(timeout=30)
        logging.getLogger("gmp").info("logged by %s", threading.current_thread().name)
        for number in range(COUNT):
            node.send(boss, node_id, number, b"x" * 1000)
        node.send(boss, node_id, "all", COUNT)
        up.set()
        gevent.wait([node.ended])
        node.close()

    gevent.get_hub().threadpool.spawn(serve)
    up.wait()


@way
def asyncio_without_close(node_id: str, seed: str, boss: str) -> None:
    """The event loop of asyncio is gone before the node was closed."""

    async def live() -> None:
        node = await gmp.aio.node(node_id, seeds=[seed], binds=[]).start()
        await node.wait_up(timeout=30)
        for number in range(COUNT):
            await node.send(boss, node_id, number, b"x" * 1000)
        await node.send(boss, node_id, "all", COUNT)

    asyncio.run(live())


@way
def node_in_a_thread(node_id: str, seed: str, boss: str) -> gmp.NodeThread[gmp.Node]:
    """The script does not wait for its node."""
    node = gmp.run_in_thread(node_id=node_id, seeds=[seed], binds=[])
    node.run(node.node.wait_up, None, 30)
    for number in range(COUNT):
        node.send(boss, node_id, number, b"x" * 1000)
    node.send(boss, node_id, "all", COUNT)
    return node


@way
def node_in_a_thread_of_a_script_that_sleeps(node_id: str, seed: str, boss: str) -> None:
    """Ctrl-C in a native wait."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    node = node_in_a_thread(node_id, seed, boss)
    try:
        node.send(boss, node_id, "ready", os.getpid())
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(3)


@way
def thread_that_calls(node_id: str, seed: str, boss: str) -> None:
    """A thread that is no daemon calls into the node for ever: the end tells it."""
    node = join(node_id, seed)

    def call() -> None:
        told = ""
        while not told:
            try:
                node.from_thread(gevent.sleep, 0.01)
            except gmp.GmpError as error:
                told = str(error)
        assert "has left the network, as the program ends" in told

    threading.Thread(target=call).start()
    send_all(boss, node_id)


def wait_natively() -> None:
    """A moment for the other side to read: a process that ends with unread input resets its connection."""
    subprocess.run(["sleep", "1"], check=True)


@way
def native_wait_after_flush(node_id: str, seed: str, boss: str) -> None:
    """As a plain script: it waits natively, and is killed there."""
    work(node_id, seed, boss)
    assert gmp.flush(timeout=30)
    wait_natively()
    subprocess.run(["sh", "-c", f"kill -KILL {os.getpid()}"], check=True)
    time.sleep(60)


def cell(name: str, *arguments: str) -> str:
    """The text of a notebook's cell that calls one of these functions."""
    return f"import gmp\nfrom tests import ending_program\nending_program.{name}{arguments}\n"


@way
def notebook_restart(node_id: str, seed: str, boss: str) -> None:
    with notebook() as opened:
        opened.run(cell("work", node_id, seed, boss))
        opened.kernel.restart_kernel()


@way
def notebook_shutdown(node_id: str, seed: str, boss: str) -> None:
    with notebook() as opened:
        opened.run(cell("work", node_id, seed, boss))
        opened.kernel.shutdown_kernel()


@way
def notebook_interrupt(node_id: str, seed: str, boss: str) -> None:
    """A cell that sends is interrupted; the node stays, and the next cell uses it."""
    with notebook() as opened:
        opened.run(cell("join", node_id, seed))
        begun = "gmp.after(0.1, print, 'it sends')\n"
        running = opened.start(begun + cell("ready", boss, node_id), "it sends")
        opened.kernel.interrupt_kernel()
        assert opened.wait(running) == "KeyboardInterrupt"
        opened.run(f"gmp.send({boss!r}, {node_id!r}, 'after')")
        opened.kernel.restart_kernel()


@way
def notebook_restart_now(node_id: str, seed: str, boss: str) -> None:
    with notebook() as opened:
        opened.run(cell("work", node_id, seed, boss))
        opened.kernel.restart_kernel(now=True)


@way
def notebook_restart_now_after_flush(node_id: str, seed: str, boss: str) -> None:
    with notebook() as opened:
        opened.run(cell("work", node_id, seed, boss) + "assert gmp.flush(timeout=30)")
        wait_natively()
        opened.kernel.restart_kernel(now=True)


if __name__ == "__main__":
    WAYS[sys.argv[1]](*sys.argv[2:5])
