"""Nodes in native threads of their own, which live on while the rest of the program waits natively."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import monkey

import gmp

from .conftest import Recorder
from .processes import Processes

plain_only = pytest.mark.skipif(monkey.is_module_patched("threading"), reason="a patched program's threads are greenlets")

Start = Callable[..., "gmp.NodeThread[gmp.Node]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts nodes in threads, and closes them at the end."""
    made: list[gmp.NodeThread[gmp.Node]] = []

    def start(node_id: str, **settings: Any) -> gmp.NodeThread[gmp.Node]:
        settings = {"binds": ["127.0.0.1:0"], "secret": "geheim", **settings}
        made.append(gmp.Node(node_id, **settings).run_in_thread())
        return made[-1]

    yield start
    for node in reversed(made):
        node.close()


@pytest.fixture
def default() -> Iterator[Start]:
    """Starts the default node in a thread, and closes it at the end."""
    made: list[gmp.NodeThread[gmp.Node]] = []

    def start(**settings: Any) -> gmp.NodeThread[gmp.Node]:
        made.append(gmp.run_in_thread(**{"binds": ["127.0.0.1:0"], "secret": "geheim", **settings}))
        return made[-1]

    yield start
    for node in made:
        node.close()


def echo(node: gmp.NodeThread[gmp.Node]) -> str:
    """The ID of a port there that answers what it is asked, and when."""

    def make() -> str:
        port = node.node.port()
        port.on("ask", lambda what, reply: node.node.send(reply, what, time.monotonic()))
        return port.id

    return str(node.run(make))


@plain_only
def test_a_node_lives_on_while_the_program_waits_natively(start: Start) -> None:
    seed = start("seed")
    node = start("script", seeds=seed.node.binds)
    seed.run(seed.node.wait_up, "script", 30)
    port, answers, done = echo(node), [], threading.Event()

    def ask() -> None:
        for number in range(10):
            answers.append(seed.node.call(port, "ask", number, timeout=30)[0])
            gevent.sleep(0.01)
        done.set()

    seed.run(gevent.spawn, ask)
    assert done.wait(60)  # natively
    assert answers == list(range(10))


@plain_only
def test_what_is_sent_leaves_while_the_program_waits_natively(start: Start) -> None:
    seed = start("seed")
    node = start("script", seeds=seed.node.binds)
    numbers: list[int] = []
    done = threading.Event()

    def note(number: int) -> None:
        numbers.append(number)
        if number == 2:
            done.set()

    port = seed.run(seed.node.port)
    seed.run(port.on, "number", note)
    for number in range(3):
        node.send(port.id, "number", number)
    assert done.wait(60)  # natively
    assert numbers == [0, 1, 2]


def test_functions_run_there_use_the_functions_of_gmp(default: Start) -> None:
    node = default(node_id="script")
    assert gmp.node() is node.node
    assert repr(node) == "<gmp.NodeThread of <gmp.Node 'script', started>>"

    def answer(port: gmp.Port) -> None:
        gmp.group("answers").join(port)
        for question, reply in port:
            gmp.send(reply, "the answer to", question)

    node.run(gmp.port, answer)
    (port,) = node.run(lambda: gmp.group("answers").wait(timeout=20))
    assert node.call(port, "everything") == ("the answer to", "everything")
    assert node.call(node.id, "time")[0] > 0
    assert node.flush(timeout=20)
    inbox = node.run(gmp.port)
    node.send(inbox, "some", "news")
    assert node.run(inbox.receive, "some", timeout=20) == ("news",)
    with pytest.raises(gmp.ReceiveTimeout):
        node.run(lambda: inbox.receive(timeout=0.01))
    with pytest.raises(ZeroDivisionError):
        node.run(lambda: 1 // 0)
    with pytest.raises(gmp.PortDied):
        node.call(f"{node.id}#nobody", "x")
    with pytest.raises(gmp.CallTimeout):
        node.call(inbox, "x", timeout=0.01)
    with pytest.raises(gmp.ConfigError):
        node.send("", "x")


@plain_only
def test_other_threads_are_told_to_use_what_was_returned(default: Start) -> None:
    node = default(node_id="script")
    for use in (gmp.port, lambda: gmp.send("script", "x"), gmp.flush, node.node.close, lambda: gmp.group("g").members()):
        with pytest.raises(gmp.GmpError, match="another native thread"):
            use()


def test_many_threads_call_at_once(start: Start) -> None:
    seed = start("seed")
    node = start("pool", seeds=seed.node.binds)
    port = echo(seed)

    def work(first: int) -> list[int]:
        return [node.call(port, "ask", number)[0] for number in range(first, first + 20)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(0, 800, 20)))
    assert [number for some in results for number in some] == list(range(800))


def test_closing_leaves_the_network_and_ends_the_thread(start: Start, recorder: Recorder) -> None:
    seed = start("seed")
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with start("leaver", seeds=seed.node.binds) as node:
            seed.run(seed.node.wait_up, "leaver", 30)
            seed.run(seed.node.monitor, "leaver", recorder)
            recorder.calls.clear()
        assert "gmp" not in [thread.name for thread in threading.enumerate() if thread is node._thread]
        assert seed.run(recorder.wait, timeout=20) == [("leaving", "leaver")]
        node.close()
        for use in (lambda: node.send("seed", "x"), lambda: node.call("seed", "time"), lambda: node.run(print), node.flush):
            with pytest.raises(gmp.GmpError, match="leaver is closed"):
                use()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def test_a_node_may_be_closed_in_its_own_thread(start: Start) -> None:
    for way in (lambda node: node.run(node.close), lambda node: node.run(lambda: gevent.spawn(node.node.close) and None)):
        node = start("leaver")
        way(node)
        node._thread.join(timeout=20)
        assert not node._thread.is_alive()
        node.close()


@plain_only
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Python itself says nothing
def test_sys_exit_in_its_thread_ends_that_and_the_node_leaves(start: Start, recorder: Recorder) -> None:
    seed = start("seed")
    node = start("leaver", seeds=seed.node.binds)
    seed.run(seed.node.wait_up, "leaver", 30)
    seed.run(seed.node.monitor, "leaver", recorder)
    node.run(gevent.spawn, sys.exit, 3)
    assert seed.run(recorder.wait, timeout=20) == [("leaving", "leaver")]
    node._thread.join(timeout=20)
    with pytest.raises(gmp.GmpError, match="closed"):
        node.send("seed", "x")
    node.close()


def test_what_is_wrong_with_the_settings_is_raised_here(start: Start, default: Start) -> None:
    seed = start("seed")
    threads = threading.active_count()
    for make in (start, lambda node_id, **settings: default(node_id=node_id, **settings)):
        with pytest.raises(gmp.ConfigError, match=seed.node.binds[0]):
            make("other", binds=seed.node.binds)
        with pytest.raises(gmp.ConfigError):
            make("other", services=["tests.there_is_no_such:module"])
    assert threading.active_count() == threads
    assert default(node_id="other").call("other", "time")


def test_a_node_that_is_used_here_cannot_move(make_node: Callable[..., gmp.Node]) -> None:
    with pytest.raises(gmp.GmpError, match="was started"):
        make_node("here").run_in_thread()
    node = gmp.Node("unused", binds=[])
    port = node.port()
    with pytest.raises(gmp.GmpError, match="has ports"):
        node.run_in_thread()
    assert port.alive
    node.close()
    with pytest.raises(gmp.GmpError, match="closed"):
        node.run_in_thread()


def test_the_default_node_is_made_once(default: Start) -> None:
    kept = gmp.port()
    with pytest.raises(gmp.ConfigError, match="before ports are made"):
        default()
    kept.kill()
    gmp.node().close()
    assert gmp.node().closed
    first = default(node_id="first")
    with pytest.raises(gmp.ConfigError, match="run_in_thread once"):
        default()
    with pytest.raises(gmp.ConfigError, match="configure once"):
        gmp.configure()
    first.close()
    assert default(node_id="second").call("second", "time")


def _in_child(node: gmp.NodeThread[gmp.Node], port: str, binds: list[str]) -> None:
    with pytest.raises(gmp.GmpError, match="was left to the parent process by fork"):
        node.call(port, "ask", 1)
    node.close()
    with gmp.run_in_thread(node_id="child", seeds=binds, binds=[], secret="geheim") as own:
        assert own.call(port, "ask", 2)[0] == 2


@plain_only
def test_a_child_of_fork_has_no_such_thread(default: Start) -> None:
    """And may have one of its own; nodes whose threads have ended are no hindrance."""
    node = default(node_id="parent")
    gmp.Node("closed", binds=[]).run_in_thread().close()
    with pytest.raises(gmp.ConfigError):
        gmp.Node("failed", binds=node.node.binds).run_in_thread()
    port, binds, (read, write) = echo(node), node.node.binds, os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _in_child(node, port, binds)
            os.write(write, b"well")
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read().decode() == "well"
    os.waitpid(child, 0)
    assert node.call(port, "ask", 3)[0] == 3


def test_a_script_talks_with_other_processes(default: Start, processes: Processes) -> None:
    child = processes.start("child")
    node = default(node_id="script", seeds=[child.bind])
    assert node.call("child", "time", timeout=30)[0] > 0


@pytest.mark.parametrize("number", [1, 2])
def test_the_guide_tells_how_to_hear_something(number: int) -> None:
    page = (Path(__file__).parent.parent / "docs" / "guides" / "native_waiting.md").read_text()
    program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number]
    names: dict[str, Any] = {}
    exec(program.replace("print(readings.get(timeout=5))", "place, degrees = readings.get(timeout=5)"), names)
    assert (names["place"], names["degrees"]) == ("oslo", 12.5)
    names["node"].close()
