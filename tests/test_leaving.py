"""Leaving: what was sent before still arrives, peers are told at once, and nothing is lost by the end of a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import gevent
import gevent.event
import gevent.subprocess as subprocess
import pytest

import gmp
from gmp.net.connection import Connection
from gmp.testing import FaultProxy

from .conftest import Recorder, eventually

MakeNode = Callable[..., gmp.Node]


def test_what_was_sent_before_the_close_arrives_also_over_a_way_that_has_yet_to_be_found(make_node: MakeNode) -> None:
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    port = other.port()
    seed.wait_up("other", timeout=10)
    for number in range(5):
        leaver = make_node(f"leaver-{number}", seeds=seed.binds)
        leaver.send(port.id, "last words", number)
        leaver.close()
        assert port.receive(timeout=10) == ("last words", number)


def test_megabytes_that_wait_are_written_before_the_node_is_gone(make_node: MakeNode) -> None:
    seed = make_node("seed", high_mark=64 << 20)
    other = make_node("other", seeds=seed.binds)
    other.wait_up(timeout=10)
    port = other.port()
    for number in range(20):
        seed.send(port.id, number, b"x" * 1_000_000)
    seed.close()
    assert [port.receive(timeout=20)[0] for _ in range(20)] == list(range(20))


def test_monitors_of_ports_and_of_the_node_get_the_reason_at_once(make_node: MakeNode, recorder: Recorder) -> None:
    seed = make_node("seed")
    leaver = make_node("leaver", seeds=seed.binds)
    port, events = leaver.port(), Recorder()
    local = Recorder()
    leaver.monitor(port, local)
    leaver.group("g").join(port)
    seed.group("g").wait(timeout=10)
    seed.monitor(port.id, recorder)
    seed.monitor("leaver", recorder)
    seed.monitor_nodes(events)
    seed.call("leaver", "time")
    leaver.close()
    assert recorder.wait(2) == [("leaving", "leaver")] * 2
    assert local.wait() == [("leaving", "leaver")]
    assert events.wait()[-1] == ("leaver", False, "leaving", "leaver")
    eventually(lambda: seed.group("g").members() == {})


def test_ctrl_c_between_a_write_and_its_count_holds_up_nobody(make_node: MakeNode) -> None:
    """race: the interrupt of a program is raised in the middle of a send; what was written is not waited for."""
    seed = make_node("seed")
    leaver = make_node("leaver", seeds=seed.binds)
    leaver.wait_up("seed", timeout=20)
    connection = leaver._core.network.peers["seed"].connection
    assert isinstance(connection, Connection)
    sock, port = connection.sock, seed.port()
    gevent.sleep(0)  # what is sent at first in a turn is written at once, and the seed was greeted in this one

    class Interrupting:
        def send(self, data: bytes) -> int:
            connection.sock = sock
            sock.send(data)
            raise KeyboardInterrupt

    connection.sock = Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        leaver.send(port.id, "written")
    assert port.receive(timeout=20) == ("written",)
    eventually(lambda: leaver.stats()["peers"]["seed"]["queued_bytes"] == 0)


def test_a_peer_that_cannot_be_reached_holds_up_the_end_only_as_long_as_it_may(
    make_node: MakeNode, short_goodbye: None
) -> None:
    seed = make_node("seed", reached_at=["*"])
    with FaultProxy(seed.binds[0]) as proxy:
        leaver = make_node("leaver", seeds=[proxy.address], leave_timeout=0.5, high_mark=64 << 20)
        leaver.wait_up(timeout=10)
        leaver.send("nobody#x", "into the void")
        proxy.blackhole()
        leaver.send("seed#x", b"x" * 8_000_000)
        started = time.monotonic()
        leaver.close()
        assert time.monotonic() - started < 20


def test_nothing_can_be_spawned_on_a_node_that_leaves(make_node: MakeNode, recorder: Recorder) -> None:
    seed = make_node("seed")
    leaver = make_node("leaver", seeds=seed.binds)
    seed.wait_up("leaver", timeout=10)
    closing = gevent.spawn(leaver.close)
    gevent.sleep(0)
    seed.monitor(seed.spawn("leaver", "tests.child:echo"), recorder)
    closing.join(20)
    assert recorder.wait()[0][0] in ("not_allowed", "leaving")


def test_a_port_that_wakes_as_its_node_closes_ends_in_silence(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    """race: the port is dead, and before its greenlet is ended the turn's other events wake it: its next call raises."""
    node, wake, raised = make_node("node"), gevent.event.Event(), []

    def body(port: gmp.Port) -> None:
        wake.wait()
        try:
            node.port()
        except gmp.GmpError as error:
            raised.append(error)
            raise

    port = node.port(body)
    gevent.sleep(0)
    wake.set()
    node.close()
    assert port.reason == ("leaving", "node")
    assert [str(error) for error in raised] == ["node node is leaving: no more ports are made"]
    assert caplog.records == []


SCRIPT = """
import sys, gmp
gmp.configure(node_id="script", binds=[], seeds=[sys.argv[1]])
gmp.send(sys.argv[2], "from a script that ends")
"""


def test_a_script_that_just_ends_leaves_in_order(make_node: MakeNode, recorder: Recorder) -> None:
    seed = make_node("seed")
    port = seed.port()
    events = Recorder()
    seed.monitor_nodes(events)
    environ = {**os.environ, "GMP_SECRET": "geheim"}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, seed.binds[0], port.id], env=environ, timeout=40, stderr=subprocess.PIPE
    )
    assert ended.returncode == 0
    assert ended.stderr == b""
    assert port.receive(timeout=10) == ("from a script that ends",)
    assert events.wait(2) == [("script", True), ("script", False, "leaving", "script")]


STOPPED_FROM_OUTSIDE = """
import sys, gmp
node = gmp.configure(node_id="script", binds=[], seeds=[sys.argv[1]])
port = gmp.port()
port.on("stop", node.close)
gmp.send(sys.argv[2], port)
port.join()
assert port.reason == ("leaving", "script"), port.reason
"""


def test_a_port_may_close_its_node_and_the_program_that_ends_then_waits_for_that(make_node: MakeNode) -> None:
    seed = make_node("seed")
    port, events = seed.port(), Recorder()
    seed.monitor_nodes(events)
    script = subprocess.Popen(
        [sys.executable, "-c", STOPPED_FROM_OUTSIDE, seed.binds[0], port.id], env={**os.environ, "GMP_SECRET": "geheim"}
    )
    (theirs,) = port.receive(timeout=20)
    reasons = Recorder()
    seed.monitor(theirs, reasons)
    seed.send(theirs, "stop")
    assert reasons.wait(timeout=20) == [("leaving", "script")]
    assert events.wait(2, timeout=20) == [("script", True), ("script", False, "leaving", "script")]
    assert script.wait(20) == 0


def test_a_body_that_closes_its_node_gets_no_further_and_the_node_is_closed(make_node: MakeNode) -> None:
    node, seen = make_node("node"), []

    def body(port: gmp.Port) -> None:
        try:
            node.close()
        finally:
            seen.append((port.reason, node.closed))
        seen.append("further")

    node.port(body)
    with gevent.Timeout(20):
        while not seen:
            gevent.sleep(0)
    assert seen == [(("leaving", "node"), True)]
    node._core.life.close_at_exit()  # waits for its end
    with pytest.raises(gmp.GmpError, match="closed"):
        node.port()


SERVER = """
import sys, gmp
gmp.configure(node_id="server", binds=[], seeds=[sys.argv[1]])
gmp.group("servers").join(gmp.port(lambda port: port.receive("never")))
gmp.serve_forever()
print("left", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_makes_a_server_leave(make_node: MakeNode, recorder: Recorder, number: int) -> None:
    seed = make_node("seed")
    environ = {**os.environ, "GMP_SECRET": "geheim"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, seed.binds[0]], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        (port,) = seed.group("servers").wait(timeout=20)
        seed.monitor(port, recorder)
        server.send_signal(number)
        assert recorder.wait() == [("leaving", "server")]
        out, err = server.communicate(timeout=20)
    assert (server.returncode, out, err) == (0, b"left\n", b"")


ALONE = """
import signal, gevent, gevent.queue, gmp
gmp.configure(node_id="server", binds=[], seeds=[])
seen = gevent.queue.Queue()
watcher = gevent.signal_handler(signal.SIGINT, seen.put, "seen")  # the program's own
gmp.after(0.05, signal.raise_signal, signal.SIGINT)
gmp.serve_forever()
signal.raise_signal(signal.SIGINT)
print([seen.get(timeout=20) for _ in range(2)], flush=True)
"""


def test_a_node_without_a_network_serves_too_and_leaves_the_programs_watcher_its_signal() -> None:
    run = [sys.executable, "-c", ALONE]
    with subprocess.Popen(run, env={**os.environ, "GMP_SECRET": "geheim"}, stdout=subprocess.PIPE) as program:
        out, _ = program.communicate(timeout=20)
    assert (program.returncode, out) == (0, b"['seen', 'seen']\n")


def test_a_second_signal_ends_it_at_once(make_node: MakeNode) -> None:
    seed = make_node("seed", reached_at=["*"])
    with FaultProxy(seed.binds[0]) as proxy:
        environ = {**os.environ, "GMP_SECRET": "geheim"}
        with subprocess.Popen([sys.executable, "-c", SERVER, proxy.address], env=environ) as server:
            seed.group("servers").wait(timeout=20)
            proxy.blackhole()  # so that leaving takes its time
            server.send_signal(signal.SIGTERM)
            gevent.sleep(0.3)  # there is no event of "it is leaving now" that gets through
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=20) in (-signal.SIGTERM, 0)
