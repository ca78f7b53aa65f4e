"""Children of `fork`, and other native threads."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

import gmp

from .conftest import Recorder


def test_a_child_of_fork_lets_go_of_the_node_and_the_peers_notice_nothing(make_node: Any, recorder: Recorder) -> None:
    seed = make_node("seed")
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.forking_program", *seed.binds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "GMP_SECRET": "geheim"},
    )
    try:
        seed.wait_up("parent", timeout=20)
        seed.monitor("parent", recorder)
        seen = json.loads(program.stdout.readline())
        child = seen["child"]
        assert isinstance(child, dict), child
        for call in ("send", "receive", "kill", "call", "port"):
            assert "node parent was left to the parent process by fork" in child.pop(call)
        # what ran is the child's own timer
        assert child == {"ran": 1, "default": False, "closed": True, "sockets": 0, "talks": True}
        assert seen["parent talks"] is True
        assert seen["parent ran"] is True
        assert not recorder.calls
        assert seed.call("parent", "time", timeout=20)
    finally:
        program.stdin.close()
        program.wait()
        program.stdout.close()
    assert recorder.wait(timeout=20) == [("leaving", "parent")]


HALF_MADE = """
import os, sys, gmp
from gmp.kernel import core
made = core.Network
def make(*args):
    if os.fork() == 0:
        os._exit(0)  # as another program that somebody starts by gevent's subprocess
    os.wait()
    return made(*args)
core.Network = make
with gmp.Node("x"):
    print("made")
"""


def test_a_fork_while_a_node_is_being_made_hurts_neither_process() -> None:
    result = subprocess.run([sys.executable, "-c", HALF_MADE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "made\n", "")


OWN_HOOK = """
import os
import gmp
os.register_at_fork(after_in_child=lambda: found.append(gmp.node()))
found = []
node = gmp.configure(binds=[], seeds=[], secret="s" * 32)
if not os.fork():
    os._exit(found == [node])
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_what_a_program_does_in_a_child_that_was_told_since_import_gmp_finds_the_childs_own_node() -> None:
    command = [sys.executable, "-c", OWN_HOOK]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout == "0\n"


JUST_SENT = """
import os, time, gevent, gmp
with gmp.Node("seed", binds=["127.0.0.1:0"]) as seed:
    node = gmp.configure(node_id="parent", binds=[], seeds=seed.binds)
    port = seed.port()
    node.call("seed", "time")
    for value in range(10):
        gmp.send(port.id, value)  # they wait for the end of the turn
    child = os.fork()
    if child == 0:
        used = time.process_time()
        gevent.sleep(1)
        os._exit(time.process_time() - used > 0.1)
    print(os.waitpid(child, 0)[1], [port.receive(timeout=20) for _ in range(10)] == [(value,) for value in range(10)])
    node.close()
"""


def test_a_child_forked_behind_messages_that_wait_to_be_written_is_idle() -> None:
    result = subprocess.run(
        [sys.executable, "-c", JUST_SENT],
        env={**os.environ, "GMP_SECRET": "geheim"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "0 True\n", "")


THREAD_WITH_A_POOL = """
import os, gevent, gmp
from gevent import subprocess
def in_pool(function):
    return gevent.get_hub().threadpool.apply(function)
with gmp.Node("x", binds=["127.0.0.1:0"], secret="s" * 32):
    in_pool(lambda: in_pool(os.getpid))
    print(subprocess.run(["true"]).returncode, flush=True)
    child = os.fork()
    if child == 0:
        print(in_pool(lambda: in_pool(os.getpid)) == os.getpid(), flush=True)
        os._exit(0)
    print(gevent.os.waitpid(child, 0)[1])
"""


def test_a_child_does_not_wait_for_a_thread_that_has_used_a_pool_of_its_own() -> None:
    """Not even one of gevent's `Popen` that becomes another program, nor its parent that waits for that."""
    command = [sys.executable, "-c", THREAD_WITH_A_POOL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as program:
        try:
            assert program.communicate(timeout=30) == (b"0\nTrue\n0\n", None)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)  # with its child, which would go on for ever
            raise


def in_thread(function: Any, *args: Any) -> Any:
    """The pool would tell the hub of an exception."""
    result, error = gevent.get_hub().threadpool.apply(_caught, (function, args))
    if error is not None:
        raise error
    return result


def _caught(function: Any, args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except Exception as error:
        return None, error


def test_from_thread_runs_in_the_loop_and_returns_or_raises(make_node: Any) -> None:
    node = make_node("a")
    port = node.port(lambda port: [node.send(reply, text) for text, reply in port])

    def from_outside() -> tuple[Any, ...]:
        with pytest.raises(gmp.GmpError, match="from_thread"):
            node.send(port, "x")
        with pytest.raises(gmp.GmpError, match="from_thread"):
            node.call(port, "x")
        with pytest.raises(ZeroDivisionError):
            node.from_thread(lambda: 1 // 0)
        return node.from_thread(node.call, port, "hello")

    assert in_thread(from_outside) == ("hello",)
    assert node.from_thread(node.call, port, "here") == ("here",)


def test_many_threads_may_wait_at_once_and_none_holds_up_the_loop(make_node: Any) -> None:
    node = make_node("a")
    pool = gevent.get_hub().threadpool
    begun, all_begun = list[int](), gevent.event.Event()

    def wait(number: int) -> int:
        begun.append(number)
        if len(begun) == 5:
            all_begun.set()
        all_begun.wait()
        return number

    results = [pool.spawn(node.from_thread, wait, number) for number in range(5)]
    assert all_begun.wait(20)
    assert [result.get(timeout=20) for result in results] == list(range(5))


def test_a_thread_that_waits_is_told_when_the_node_closes(make_node: Any) -> None:
    node = make_node("a")
    begun = gevent.event.Event()

    def wait() -> None:
        begun.set()
        gevent.sleep(60)

    result = gevent.get_hub().threadpool.spawn(_caught, node.from_thread, (wait,))
    assert begun.wait(20)
    node.close()
    assert str(result.get(timeout=20)[1]) == "node a is closed"
    with pytest.raises(gmp.GmpError, match="node a is closed"):
        in_thread(node.from_thread, int)


@pytest.mark.parametrize(
    "call",
    [
        lambda node: node.send("x", 1),
        lambda node: node.try_send("x", 1),
        lambda node: node.port(),
        lambda node: node.kill("x#y"),
        lambda node: node.spawn("x", "a:b"),
        lambda node: node.monitor("x", print),
        lambda node: node.after(1, print),
        lambda node: node.group("g"),
        lambda node: node.family("f"),
        lambda node: node.is_up("x"),
        lambda node: node.up_nodes(),
        lambda node: node.known_nodes(),
        lambda node: node.monitor_nodes(print),
        lambda node: node.monitor_busy(print),
        lambda node: node.wait_up(timeout=0),
        lambda node: node.stats(),
        lambda node: node.close(),
        lambda node: node.start(),
    ],
)
def test_every_other_call_from_another_thread_raises(make_node: Any, call: Any) -> None:
    node = make_node("a")
    with pytest.raises(gmp.GmpError, match="from_thread"):
        in_thread(call, node)
