"""What goes wrong is seen, in programs of their own that have not configured logging: errors of user code, and why a network
is not reached."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

import gmp
from gmp.config import own_name
from gmp.mesh import failures
from gmp.mesh.failures import Complaints, explain
from gmp.mesh.seeds import Seed

from .addresses import free_address
from .certificates import self_signed
from .conftest import eventually

MakeNode = Callable[..., gmp.Node]


def run(program: str, *arguments: str, **environment: str) -> tuple[str, str]:
    """Run a program; return its output and its errors."""
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


# ---- errors of user code

ERRORS = {
    "body": "gmp.port(fail)",
    "handler": "port = gmp.port(); port.on('x', fail); gmp.send(port, 'x')",
    "run": "gmp.port().run(fail)",
    "spawned": "gmp.port().spawn(fail)",
    "timer": "gmp.after(0, fail)",
    "monitor callback": "port = gmp.port(); gmp.monitor(port, fail); port.kill()",
    "group monitor": "gmp.group('g').monitor(fail)",
    "family monitor": "gmp.family('f').monitor(fail)",
    "node monitor": "gmp.node().monitor_known_nodes(fail)",
    "spawn": "gmp.spawn(gmp.node().id, gmp.spawnable(fail))",
    "supervised": "gmp.supervise([fail], max_restarts=1)",
    "owned": "port = gmp.port(); port.own(Fails()); port.kill()",
}
PROGRAM = """
import gevent, gmp
{before}
def fail(*_):
    raise ValueError("as asked")
class Fails:
    close = fail
print(gmp.node().id)
{doing}
gevent.sleep(0.2)
"""


@pytest.mark.parametrize("where", ERRORS)
def test_an_error_is_printed_once_with_its_traceback_and_whose_it_is(where: str) -> None:
    output, errors = run(PROGRAM.format(before="", doing=ERRORS[where]))
    times = 2 if where == "supervised" else 1  # it is restarted once
    assert errors.count("ValueError: as asked\n") == times, errors
    assert errors.count("Traceback (most recent call last)") == times
    assert output.strip() in errors
    assert "in fail" in errors


@pytest.mark.parametrize("where", ["body", pytest.param("timer", marks=pytest.mark.slow)])
def test_a_configured_logging_is_respected(where: str) -> None:
    by_level = "import logging; logging.basicConfig(level='CRITICAL')"
    assert run(PROGRAM.format(before=by_level, doing=ERRORS[where]))[1] == ""
    own = "import logging; logging.getLogger('gmp').addHandler(logging.NullHandler())"
    assert run(PROGRAM.format(before=own, doing=ERRORS[where]))[1] == ""
    formatted = "import logging; logging.basicConfig(format='HERE %(levelname)s %(message)s')"
    _, errors = run(PROGRAM.format(before=formatted, doing=ERRORS[where]))
    assert errors.startswith("HERE ERROR ")
    assert errors.count("ValueError: as asked\n") == 1


def test_a_log_sender_does_not_swallow_what_nobody_else_shows() -> None:
    sender = "from gmp.services.logcatcher import LogSender; LogSender(); LogSender(gmp.Node('n', binds=[]), logger='gmp')"
    _, errors = run(PROGRAM.format(before=sender, doing=ERRORS["body"] + "; import logging; logging.warning('mine')"))
    assert errors.count("ValueError: as asked\n") == 1, errors
    assert errors.count("mine\n") == 1
    configured = "import logging; logging.basicConfig(); " + sender
    _, errors = run(PROGRAM.format(before=configured, doing=ERRORS["body"]))
    assert errors.count("ValueError: as asked\n") == 1, errors


def test_what_is_no_error_prints_nothing() -> None:
    program = """
import gevent, gmp
with gmp.configure() as node:
    port = gmp.port(lambda port: None)
    killed = gmp.port(lambda port: port.receive())
    gmp.kill(killed, "enough")
    gmp.group("g").join(gmp.port())
    gmp.call(node.id, "time")
    gevent.sleep(0.1)
"""
    assert run(program) == ("", "")


def test_a_command_prints_what_it_printed(make_node: MakeNode) -> None:
    """What it logs of a seed that refuses it stays unseen: it says so itself, once."""
    seed = make_node("seed")
    command = subprocess.run(
        [sys.executable, "-m", "gmp.cli.main", "nodes", "-s", *seed.binds, "-t", "10"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, timeout=50, env={**os.environ, "GMP_SECRET": "falsch"},
    )
    assert command.returncode == 3
    assert len(command.stderr.splitlines()) == 1
    assert "secret" in command.stderr


# ---- why nobody comes


def join(**settings: Any) -> gmp.Node:
    return gmp.Node("joining", **{"secret": "geheim", "binds": [], "handshake_timeout": 0.5, **settings}).start()


def wrong_secret(make_node: MakeNode) -> tuple[dict[str, Any], str]:
    return {"seeds": make_node("seed").binds, "secret": "falsch"}, r"seed 127\.0\.0\.1:\d+ .*node 'seed'.*secret"


def nobody_listens(make_node: MakeNode) -> tuple[dict[str, Any], str]:
    address = free_address()
    return {"seeds": [address]}, rf"seed {re.escape(address)} is not connected: nobody listens there"


def no_such_name(make_node: MakeNode) -> tuple[dict[str, Any], str]:
    return {"seeds": ["no-such-host.invalid:4040"]}, r"seed no-such-host\.invalid:4040 .*cannot be resolved"


def tls_required(make_node: MakeNode) -> tuple[dict[str, Any], str]:
    seed = make_node("seed", secret=None, cert=self_signed())
    return {"seeds": seed.binds}, r"seed 127\.0\.0\.1:\d+ .*(no authentication method|TLS)"


def id_in_use(make_node: MakeNode) -> tuple[dict[str, Any], str]:
    seed = make_node("seed")
    make_node("joining", seeds=seed.binds).wait_up(timeout=10)
    return {"seeds": seed.binds}, r"seed 127\.0\.0\.1:\d+ .*node ID 'joining' is in use"


def mute(make_node: MakeNode) -> tuple[dict[str, Any], str]:
    listener = socket.create_server(("127.0.0.1", 0))
    gevent.getcurrent().kept = listener  # type: ignore[attr-defined]  # it listens until the test ends
    return {"seeds": [f"127.0.0.1:{listener.getsockname()[1]}"]}, r"seed 127\.0\.0\.1:\d+ .*handshake timeout"


REASONS: list[Any] = [wrong_secret, nobody_listens, id_in_use]
REASONS += [pytest.param(reason, marks=pytest.mark.slow) for reason in (no_such_name, tls_required, mute)]


@pytest.mark.parametrize("reason", REASONS)
def test_a_wait_in_vain_says_what_for_and_why_and_so_do_time_outs(
    make_node: MakeNode, reason: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failures, "PATIENCE", 0.3)
    monkeypatch.setattr("gmp.mesh.seeds.PATIENCE", 0.3)
    settings, why = reason(make_node)
    with join(**settings, connect_timeout=0.3) as node:
        eventually(lambda: node.stats()["seeds"][0]["error"])
        waiting = gevent.spawn(node.group("echo").wait)  # without end
        eventually(lambda: "still waiting for members of group 'echo' (0 of 1)" in caplog.text)
        eventually(lambda: "cannot be reached: " in caplog.text)
        with pytest.raises(gmp.WaitTimeout, match=f"group 'echo' has 0 of 1 members after 0.1 s: .*{why}"):
            node.group("echo").wait(timeout=0.1)
        if reason is not id_in_use:  # which is told only when the node is up, for a moment
            with pytest.raises(gmp.WaitTimeout, match=f"no seed is connected after 0.1 s: .*{why}"):
                node.wait_up(timeout=0.1)
        with pytest.raises(gmp.PortDied, match=f"cannot connect: .*{why}"):
            node.call("elsewhere#port", "x", timeout=20)
        with pytest.raises(gmp.CallTimeout, match=f"within 0.1 s: node elsewhere is not connected; .*{why}"):
            node.call("elsewhere#port", "x", timeout=0.1)
        with pytest.raises(gmp.WaitTimeout, match=f"elsewhere is not connected after 1 s: cannot connect: .*{why}"):
            node.wait_up("elsewhere", timeout=1)
        waiting.kill()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for start in ("joining: still waiting", "joining: seed"):
        assert len([text for text in told if text.startswith(start)]) == 1, told


def test_a_program_without_logging_sees_it_on_both_sides() -> None:
    program = """
import sys, gevent, gmp
import gmp.mesh.failures, gmp.mesh.seeds
gmp.mesh.failures.PATIENCE = gmp.mesh.seeds.PATIENCE = 0.3
seed = gmp.Node("seed", secret="right", binds=["127.0.0.1:0"]).start()
other = gmp.Node("other", secret="wrong", binds=[], seeds=seed.binds).start()
gevent.spawn(other.group("echo").wait)
gevent.sleep(3)
"""
    _, errors = run(program)
    errors = "\n".join(line for line in errors.splitlines() if "were left out" not in line)
    assert len(re.findall(r"seed: handshake with (?:unix|127\.0\.0\.1):", errors)) == 1, errors  # one a minute and address
    assert len(re.findall(r"node '(?:other|seed)' does not have our secret|the secrets differ", errors)) == 3, errors
    assert errors.count("other: still waiting for members of group 'echo' (0 of 1): seed 127.0.0.1:") == 1
    assert errors.count("other: seed 127.0.0.1:") == 1
    assert len(errors.splitlines()) == 3, errors


def test_a_seed_that_comes_in_time_is_not_warned_of_and_one_that_comes_late_is_told(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = free_address()
    with join(seeds=[address]) as node:
        eventually(lambda: node.stats()["seeds"][0]["error"])
        seed = make_node("seed", binds=[address])
        node.wait_up(timeout=20)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        monkeypatch.setattr("gmp.mesh.seeds.PATIENCE", 0.0)
        monkeypatch.setattr("gmp.mesh.seeds.STABLE", 0.2)
        seed.close()
        eventually(lambda: "cannot be reached: " in caplog.text)
        make_node("seed", binds=[address])
        node.wait_up(timeout=20)
        eventually(lambda: f"seed {address} is connected now" in caplog.text)


def test_a_wait_that_nothing_is_wrong_with_says_nothing(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failures, "PATIENCE", 0.01)
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    node.wait_up(timeout=20)
    caplog.clear()  # of that wait, which there may have been something to say of
    with pytest.raises(gmp.WaitTimeout, match=r"group 'echo' has 0 of 1 members after 0\.3 s\Z"):
        node.group("echo").wait(timeout=0.3)
    assert "still waiting" not in caplog.text


def test_a_wait_before_configure_says_that_nobody_can_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failures, "PATIENCE", 0.01)
    group = gmp.group("g")
    for wait in (lambda: group.wait(timeout=0.2), lambda: gmp.node().wait_up(timeout=0.2)):
        with pytest.raises(gmp.WaitTimeout, match=r"this node is local only, call gmp\.configure first"):
            wait()
    assert caplog.text.count("still waiting for members of group 'g' (0 of 1): this node is local only") == 1
    with pytest.raises(gmp.ConfigError, match=r"call gmp\.configure first"):
        gmp.node().wait_up("elsewhere", timeout=0.2)
    with pytest.raises(gmp.ConfigError, match="is not a node ID"):
        gmp.node().wait_up("a#b", timeout=0.2)


def test_wait_up_dials_a_node_again_that_was_not_there_at_first(make_node: MakeNode) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds, connect_timeout=0.5)
    node.wait_up(timeout=20)
    waiting = gevent.spawn(node.wait_up, "late", 30)
    eventually(lambda: node._core.network.peers.get("late") is not None and node._core.network.peers["late"].dropped == 0)
    gevent.sleep(1)
    make_node("late", seeds=seed.binds)
    waiting.get(timeout=30)
    assert not node._core.monitors._watching.get("late")


def test_complaints_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints("node")
    for second in range(1200):
        complaints.complain("this", f"reason {second}", float(second))
    assert len(caplog.records) == 1200 / failures.INTERVAL
    caplog.clear()
    for second in range(1200, 3600):
        complaints.complain("this", "the same", float(second))
    assert len(caplog.records) == 2400 / failures.SAME_AGAIN


def test_a_seed_is_warned_of_when_the_reason_changes_and_not_too_often() -> None:
    seed = Seed(gmp.config.parse_seed("host:1"))
    seed.begins(0.0)
    assert not seed.failed("a", 1.0)
    assert seed.failed("a", failures.PATIENCE)
    assert not seed.failed("a", 1000.0)
    assert seed.failed("b", 1000.0)
    assert not any(seed.failed(str(number), 1000.0 + number) for number in range(1, int(failures.INTERVAL)))
    assert seed.failed("c", 1000.0 + failures.INTERVAL)
    assert seed.succeeded()
    assert not seed.succeeded()


def test_no_reason_begins_with_an_error_number() -> None:
    address = gmp.config.parse_seed("[::1]:4040")
    assert explain(ConnectionRefusedError(111, "x"), address) == "[::1]:4040: nobody listens there (connection refused)"
    assert explain(TimeoutError("x"), address) == "[::1]:4040: no answer (timed out)"
    assert explain(gmp.GmpError("::1 is odd"), address) == "::1 is odd"


# ---- forked and nameless


def test_a_forked_child_whose_parent_was_configured_is_told_once_that_it_is_alone() -> None:
    program = """
import os, sys, gmp
configured = sys.argv[1] == "configured"
if configured:
    gmp.configure(node_id="parent", binds=["127.0.0.1:0"])
gmp.port()
if not os.fork():
    gmp.send(gmp.port(), "fine")
    for _ in range(2):
        gmp.group("web").join(gmp.port())
        gmp.family("table").set("a", 1)
        try:
            gmp.send("elsewhere#port", "x")
        except gmp.ConfigError as error:
            print(error)
    if not os.fork():
        gmp.group("web").send("x")
        os._exit(0)
    os.wait()
    sys.stdout.flush()
    os._exit(0)
os.wait()
if not os.fork():
    gmp.configure(node_id="child", binds=["127.0.0.1:0"])
    gmp.group("web").join(gmp.port())
    os._exit(0)
os.wait()
"""
    output, errors = run(program, "configured")
    first, second = errors.splitlines()  # of the child and of its child
    assert "group 'web' is used in a process" in first
    assert "after node parent was configured in its parent" in first
    assert "Call gmp.configure in each child" in first
    assert output.count("call gmp.configure first") == 2
    assert "group 'web' is used in a process" in second
    assert run(program, "alone")[1] == ""


@pytest.mark.parametrize("host", ["my host", "-x", "b\xfcro", "a#b", ""])
def test_a_host_name_that_cannot_be_part_of_a_node_id_is_named(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uname = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((uname[0], host, *uname[2:])))
    for make in (gmp.port, gmp.configure, lambda: gmp.Node(binds=[])):
        with pytest.raises(gmp.ConfigError, match=f"this host's name {host!r} .*give node_id, or set GMP_NODE_ID"):
            make()
    with gmp.Node("named", binds=[]) as node:
        assert node.id == "named"
    monkeypatch.setenv("GMP_NODE_ID", "not usable")
    with pytest.raises(gmp.ConfigError, match=r"environment variable GMP_NODE_ID: .*'not usable'"):
        gmp.port()
    monkeypatch.setenv("GMP_NODE_ID", "given/")
    assert own_name(os.environ) == "given"
    assert gmp.port().id.startswith("given/")


@pytest.mark.parametrize("node_id", ["given", "given/"])
def test_the_commands_go_by_gmp_node_id(make_node: MakeNode, node_id: str) -> None:
    seed = make_node("seed", allow_eval=True)
    command = subprocess.run(
        [sys.executable, "-m", "gmp.cli.main", "eval", "-s", *seed.binds, "seed", "node.up_nodes()"],
        stdout=subprocess.PIPE, text=True, timeout=50, env={**os.environ, "GMP_SECRET": "geheim", "GMP_NODE_ID": node_id},
    )
    assert command.returncode == 0
    assert "cli/given/" in command.stdout
