"""`gmp run`, and services in general."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import gevent.socket
import pytest

import gmp

from .conftest import eventually
from .gmp_command import Commands, processes_of_session, wait_for

SLOW = pytest.mark.slow
ECHO, TELL = "tests.command_services:echo", "tests.command_services:tell"


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.close()


def test_services_start_in_order_with_their_arguments_and_sigterm_drains(command: Commands) -> None:
    process, _ = command.node(
        "--service", TELL, "--service", TELL + '=["b", "c"]', "--service", TELL + '="d"',
        "--service", ECHO + '={"group": "g"}',
    )
    said = [wait_for(process, b"service", stdout=True).split() for _ in range(3)]
    assert said == [["service"], ["service", "b", "c"], ["service", "d"]]
    result = command.end(process, signal.SIGTERM)
    assert result.code == 0
    assert "has left" in result.err
    assert not processes_of_session(process.pid)


def test_the_death_of_a_service_is_logged_and_ends_the_node_with_code_1(command: Commands) -> None:
    process, address = command.node("--service", ECHO)
    assert command("send", "@echo", "fail", "-s", address).code == 0
    _, err = process.communicate(timeout=40)
    assert process.returncode == 1
    assert f"service {ECHO} died: die, ValueError: told to" in err.decode()


@pytest.mark.slow
def test_the_node_goes_on_when_told_so(command: Commands) -> None:
    process, address = command.node("--service", ECHO, "--keep-going")
    assert command("send", "@echo", "fail", "-s", address).code == 0
    wait_for(process, b"died: die, ValueError")
    assert command("nodes", "-s", address).code == 0
    assert command.end(process, signal.SIGINT).code == 0


@pytest.mark.slow
def test_a_service_that_ends_normally_ends_the_node_with_code_0(command: Commands) -> None:
    process, address = command.node("--service", ECHO)
    assert command("send", "@echo", "end", "-s", address).code == 0
    process.communicate(timeout=40)
    assert process.returncode == 0


def test_a_profile_gives_binds_services_and_the_rest(command: Commands) -> None:
    command.config.write_text(
        f'[profile.base]\nbinds = ["127.0.0.1:0"]\n[profile.w]\nparent = "base"\nservices = [["{TELL}", 1, 2], "os.path:"]\n'
    )
    process = command.start("run", "w", "--node-id", "w1")
    assert "node w1 listens on 127.0.0.1:" in wait_for(process, b"listens on")
    assert wait_for(process, b"service", stdout=True) == "service 1 2\n"
    assert command.end(process).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--service", "tests.command_services:nothing"), "has no function 'nothing'"),
        (("--service", "no.such.module:x"), "cannot be imported"),
        pytest.param(("--service", "nonsense"), "expected module:function", marks=SLOW),
        pytest.param(("--service", ECHO + "=[1"), "is no JSON", marks=SLOW),
        pytest.param(("--bind", "nonsense:x"), "is no TCP port", marks=SLOW),
        (("--set", "high_mark=0"), "expected a whole number over 0"),
        pytest.param(("--set", "nothing"), "expected KEY=VALUE", marks=SLOW),
        (("profile-that-is-not",), "there are: none"),
        pytest.param(("--private", "--bind", "*"), "exclude each other", marks=SLOW),
    ],
)
def test_what_cannot_be_run_is_told_with_code_2(command: Commands, arguments: tuple[str, ...], said: str) -> None:
    result = command("run", *arguments)
    assert result.code == 2
    assert said in result.err


@pytest.mark.slow
def test_a_bind_that_is_taken_is_named(command: Commands) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = command("run", "--bind", address)
    assert result.code == 2
    assert address in result.err


@pytest.mark.slow
def test_a_second_signal_ends_a_node_that_drains(command: Commands) -> None:
    """A peer that is stopped while much is queued for it holds up the leaving."""
    seed, address = command.node("--node-id", "seed", "--service", ECHO)
    worker, _ = command.node("--node-id", "w", "-s", address, "--service", "tests.command_services:flood")
    wait_for(worker, b"joined", stdout=True)
    os.kill(seed.pid, signal.SIGSTOP)
    try:
        worker.stdin.close()
        wait_for(worker, b"full", stdout=True)
        worker.send_signal(signal.SIGTERM)
        wait_for(worker, b"leaving the network")
        with pytest.raises(gevent.subprocess.TimeoutExpired):
            worker.wait(timeout=1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=40) == -signal.SIGTERM
    finally:
        os.kill(seed.pid, signal.SIGCONT)


def test_systemd_is_told_of_readiness_life_and_stopping(command: Commands) -> None:
    path = command.folder / "notify"
    with gevent.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        process = command.start(
            "run", "--bind", "127.0.0.1:0", NOTIFY_SOCKET=str(path), WATCHDOG_USEC="200000"
        )
        with gevent.Timeout(40):
            told = listener.recv(4096).decode()
            while "READY=1" not in told:
                told = listener.recv(4096).decode()
            assert "STATUS=node" in told
            assert listener.recv(4096) == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in listener.recv(4096).decode():
                pass
    process.communicate(timeout=40)
    assert process.returncode == 0


def test_a_configured_program_has_services_too(make_node: Callable[..., gmp.Node]) -> None:
    started: list[tuple[object, ...]] = []

    def service(port: gmp.Port, *args: object) -> None:
        started.append(args)
        port.receive()

    node = make_node("n", services=[service, [service, 1], "os.path:"])
    eventually(lambda: started == [(), (1,)])
    assert [port.alive for _, port in node.services] == [True, True]


def test_a_service_that_is_not_there_leaves_no_node_and_no_bind(make_node: Callable[..., gmp.Node]) -> None:
    with pytest.raises(gmp.ConfigError, match="has no function 'nothing'"):
        gmp.configure(binds=["127.0.0.1:0"], services=["os.path:nothing"])
    assert not gmp.node().started
