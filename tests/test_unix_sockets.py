"""Unix sockets between the nodes of one user on one host: who gets them, who does not, and what ends with them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import gevent.event
import gevent.socket
import gevent.subprocess as subprocess
import pytest

import gmp
from gmp.net import machine, unix
from gmp.net.machine import machine_name
from gmp.testing.proxy import FaultProxy

from .addresses import free_addresses
from .certificates import self_signed
from .processes import Processes

pytestmark = pytest.mark.skipif(not unix.IS_SUPPORTED, reason="needs abstract Unix sockets and SO_PEERCRED: Linux")


@pytest.fixture(autouse=True)
def by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GMP_UNIX_SOCKETS", raising=False)


def node(node_id: str, *seeds: str, **settings: Any) -> gmp.Node:
    settings = {"binds": ["127.0.0.1:0"], "secret": "geheim", **settings}
    return gmp.Node(node_id, seeds=seeds, **settings).start()


def transport(of: gmp.Node, to: str) -> str:
    of.wait_up(to, timeout=20)
    return str(of.stats()["peers"][to]["transport"])


def name_at(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    return unix.name_of(machine_name(), host, int(port))


@pytest.fixture
def seed() -> Iterator[gmp.Node]:
    with closing(node("seed")) as made:
        yield made


def test_two_processes_are_connected_by_unix(seed: gmp.Node, processes: Processes) -> None:
    processes.start("one", *seed.binds)
    processes.start("two", *seed.binds)
    assert transport(seed, "one") == transport(seed, "two") == "unix"
    assert len(seed.group("children").wait(2, timeout=20)) == 2


def test_a_node_that_does_not_listen_dials_by_unix(seed: gmp.Node, processes: Processes) -> None:
    processes.start("private", *seed.binds)
    assert transport(seed, "private") == "unix"


@pytest.mark.parametrize("bind", ["*:0", "0.0.0.0:0", "[::1]:0"])
def test_every_kind_of_bind_has_one(bind: str) -> None:
    with closing(node("a", binds=[bind])) as one:
        port = one.binds[0].rpartition(":")[2]
        dialled = f"[::1]:{port}" if "::1" in bind else f"127.0.0.1:{port}"
        with closing(node("b", dialled, binds=[])) as other:
            assert transport(other, "a") == "unix"


@pytest.mark.parametrize(("here", "there"), [(False, True), (True, False)])
def test_the_setting_turns_it_off(here: bool, there: bool) -> None:
    with closing(node("a", unix_sockets=here)) as one, closing(node("b", *one.binds, unix_sockets=there)) as other:
        assert transport(other, "a") == transport(one, "b") == "tcp"


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMP_UNIX_SOCKETS", "no")
    with closing(node("a")) as one, closing(node("b", *one.binds)) as other:
        assert transport(other, "a") == "tcp"


def pass_on(one: Any, other: Any) -> bytes:
    """Carry what comes at each of two sockets to the other, as a process between two nodes; return all of it."""

    def carry(source: Any, sink: Any) -> bytes:
        carried = b""
        try:
            while data := source.recv(4096):
                carried += data
                sink.sendall(data)
        except OSError:
            pass  # the other one has ended
        sink.close()
        source.close()
        return carried

    there = gevent.spawn(carry, one, other)
    back = gevent.spawn(carry, other, one)
    return bytes(there.get(timeout=20) + back.get(timeout=20))


def dial_name(address: str) -> Any:
    sock = gevent.socket.socket(socket.AF_UNIX)
    sock.connect(name_at(address))
    return sock


def test_two_listeners_that_are_joined_refuse_each_other() -> None:
    with closing(node("a")) as one, closing(node("b")) as other:
        said = pass_on(dial_name(one.binds[0]), dial_name(other.binds[0]))
        assert said.count(b"role=accepted") == 2
        assert not one.up_nodes()
        assert not other.up_nodes()


@pytest.mark.parametrize("dialled_by", ["unix", "tcp"])
def test_a_process_of_this_user_cannot_pass_on_what_another_has_dialled(
    seed: gmp.Node, processes: Processes, dialled_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the name, or the port, that the child dials, and dials the seed's name: the child is not who has dialled."""
    address = free_addresses(1)[0]
    if dialled_by == "unix":
        listener = gevent.socket.socket(socket.AF_UNIX)
        listener.bind(name_at(address))
    else:
        listener = gevent.socket.socket()
        listener.bind(("127.0.0.1", int(address.rpartition(":")[2])))
    with closing(listener):
        listener.listen()
        processes.start("child", address)
        accepted, _ = listener.accept()
        said = pass_on(accepted, dial_name(seed.binds[0]))
    assert b"role=dialled" in said
    assert not seed.up_nodes()
    who = "'unix:" if dialled_by == "unix" else "'127.0.0.1:"
    assert f"node 'child' says {who}" in caplog.text
    assert f"but unix:{os.getpid()} has: somebody passes the lines on" in caplog.text


def test_no_perl_node_comes_by_a_unix_socket(seed: gmp.Node, caplog: pytest.LogCaptureFixture) -> None:
    with closing(dial_name(seed.binds[0])) as sock:
        sock.sendall(b"aemp;1;perl;hmac_sha3_512;json;mproto=1;gproto=1;timeout=30\012nonce\012")
        while sock.recv(4096):
            pass
    assert "node 'perl' is no gmp node, and only those use Unix sockets" in caplog.text


def test_a_child_in_another_pid_namespace_is_connected_by_tcp(seed: gmp.Node) -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and `unshare`, for a PID namespace")
    program = (
        "import gmp, sys\nwith gmp.Node('b', binds=[], seeds=[sys.argv[1]], secret='geheim') as node:\n"
        "    node.wait_up('seed', timeout=20)\n    print(node.stats()['peers']['seed']['transport'])"
    )
    arguments = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, *seed.binds]
    done = subprocess.run(arguments, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"tcp\n", b"")


def test_a_wrong_secret_does_not_get_in(seed: gmp.Node) -> None:
    with closing(node("b", *seed.binds, secret="anders")) as other:
        with pytest.raises(gmp.WaitTimeout, match="does not have our secret"):
            other.wait_up("seed", timeout=1.5)
        assert "transport" not in other.stats()["peers"].get("seed", {})


def test_a_proxy_is_not_passed_by() -> None:
    with (
        closing(node("a", reached_at=["*"])) as one,
        FaultProxy(one.binds[0]) as proxy,
        closing(node("b", proxy.address, binds=[])) as other,
    ):
        assert transport(other, "a") == "tcp"
        assert len(proxy) == 1


def test_another_user_takes_the_name() -> None:
    """Whoever took the name is not believed: TCP, at once."""
    if os.getuid() != 0:
        pytest.skip("needs root, to be another user")
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); os.seteuid(65534)\n"
        "s.bind(bytes.fromhex(sys.argv[1])); s.listen(); print('ready', flush=True); sys.stdin.read()"
    )
    with closing(node("a", unix_sockets=False)) as one:
        arguments = [sys.executable, "-c", program, name_at(one.binds[0]).hex()]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as squatter:
            assert squatter.stdout.readline() == b"ready\n"
            with closing(node("b", *one.binds)) as other:
                assert transport(other, "a") == "tcp"
            squatter.stdin.close()


def test_another_user_is_refused(seed: gmp.Node) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be another user")
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); os.seteuid(65534)\n"
        "s.connect(bytes.fromhex(sys.argv[1])); s.settimeout(20); sys.stdout.buffer.write(s.recv(1000))"
    )
    arguments = [sys.executable, "-c", program, name_at(seed.binds[0]).hex()]
    done = subprocess.run(arguments, capture_output=True, timeout=30, check=True)
    assert done.stdout == b""  # not even a greeting


def test_another_program_of_this_user_takes_the_name() -> None:
    """It closes what it gets: TCP, at once."""
    with closing(node("a", unix_sockets=False)) as one, closing(gevent.socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(name_at(one.binds[0]))
        listener.listen()
        other_program = gevent.spawn(lambda: listener.accept()[0].close())
        with closing(node("b", *one.binds)) as other:
            assert transport(other, "a") == "tcp"
        other_program.get(timeout=20)


CHANGES_USER = """
import os, sys, gevent, gmp
with gmp.Node("a", binds=["127.0.0.1:0"], secret="geheim") as node:
    with gmp.Node("first", binds=[], seeds=node.binds, secret="geheim") as first:
        first.wait_up("a", timeout=20)  # so that all is imported: the other user may not read it
    pool = gevent.get_hub().threadpool
    pool.apply(int)
    os.seteuid(65534)
    print(node.binds[0], flush=True)
    pool.apply(sys.stdin.read)
"""


def test_a_node_that_has_become_another_user_is_reached_by_tcp() -> None:
    """It listens at a name of the user that it was, and refuses him: he turns to TCP, at once."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    with subprocess.Popen([sys.executable, "-c", CHANGES_USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        address = program.stdout.readline().decode().strip()
        with closing(node("b", address, binds=[])) as other:
            assert transport(other, "a") == "tcp"
        program.stdin.close()


def test_the_user_that_stands_for_all_of_other_namespaces_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unix.is_own_user(ours)
        monkeypatch.setattr(unix, "_unmapped_user", os.geteuid)
        assert not unix.is_own_user(ours)


def test_another_network_namespace_has_other_names(seed: gmp.Node) -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and `unshare`, for a network namespace")
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(bytes.fromhex(sys.argv[1]))\nexcept ConnectionRefusedError: print('refused')"
    )
    arguments = ["unshare", "--net", sys.executable, "-c", program, name_at(seed.binds[0]).hex()]
    assert subprocess.run(arguments, capture_output=True, timeout=30, check=True).stdout == b"refused\n"


ELSEWHERE = """
import sys, gmp
with gmp.Node("b", binds=[], seeds=[sys.argv[1]], secret="geheim") as node:
    try:
        node.wait_up("seed", timeout=1)
    except gmp.WaitTimeout as error:
        print("refused" if "refused" in str(error) else error)
"""


def test_the_same_address_in_another_network_namespace_is_another_node(seed: gmp.Node) -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, `unshare` and `ip`, for a network namespace")
    there = f"ip link set lo up && exec {sys.executable} -c \"$0\" {seed.binds[0]}"
    done = subprocess.run(["unshare", "--net", "sh", "-c", there, ELSEWHERE], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"refused\n", b"")


def test_another_boot_id_has_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(node("a")) as one:
        monkeypatch.setattr(machine, "machine_name", lambda: "0" * 32)
        host, _, port = one.binds[0].rpartition(":")
        assert machine.here().unix_socket(host, int(port)) is None


def test_the_socket_is_gone(seed: gmp.Node) -> None:
    """TCP, without a delay: nobody listens at the name."""
    seed._core.network._listeners._servers[1].stop()
    with closing(node("b", *seed.binds)) as other:
        assert transport(other, "seed") == "tcp"


def test_a_full_queue_does_not_delay() -> None:
    with closing(node("a", unix_sockets=False)) as one, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name_at(one.binds[0]))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(name_at(one.binds[0]))
            with closing(node("b", *one.binds)) as other:
                assert transport(other, "a") == "tcp"


def test_a_killed_process_is_lost_at_once_and_leaves_nothing(seed: gmp.Node, processes: Processes) -> None:
    child = processes.start("child", *seed.binds)
    assert transport(seed, "child") == "unix"
    died = gevent.event.AsyncResult()
    seed.monitor("child", lambda *reason: died.set(reason))
    child.kill(signal.SIGKILL)
    assert died.get(timeout=10)
    child.close()  # waits for the process
    with socket.socket(socket.AF_UNIX) as again:
        again.bind(name_at(child.bind))  # the name is free


FORKS = """
import os, sys, gmp
node = gmp.Node("parent", binds=["127.0.0.1:0"], secret="geheim", seeds=[sys.argv[1]]).start()
node.wait_up("seed", timeout=20)
print(node.binds[0], flush=True)
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""


def test_a_child_of_fork_holds_neither_name_nor_connection(seed: gmp.Node) -> None:
    arguments = [sys.executable, "-c", FORKS, *seed.binds]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        died = gevent.event.AsyncResult()
        assert transport(seed, "parent") == "unix"
        seed.monitor("parent", lambda *reason: died.set(reason))
        address = program.stdout.readline().decode().strip()
        assert program.wait(timeout=20) == 0  # while its child lives
        assert died.get(timeout=10)
        with socket.socket(socket.AF_UNIX) as again:
            again.bind(name_at(address))
        program.stdin.close()


def test_close_frees_the_name() -> None:
    one = node("a")
    one.close()
    with socket.socket(socket.AF_UNIX) as again:
        again.bind(name_at(one.binds[0]))


def test_large_messages_arrive_whole(seed: gmp.Node, processes: Processes) -> None:
    processes.start("child", *seed.binds)
    [echo] = seed.group("children").wait(1, timeout=20)
    assert transport(seed, "child") == "unix"
    for data in (os.urandom(5_000_000), b"x", os.urandom(300_000)):
        assert tuple(seed.call(echo, data, timeout=30)) == ("echo", data)


def test_tls_runs_over_it_too() -> None:
    cert = self_signed()
    with closing(node("a", cert=cert)) as one, closing(node("b", *one.binds, cert=cert)) as other:
        assert transport(other, "a") == "unix"
        assert other.stats()["peers"]["a"]["tls"].startswith("TLS")
        assert other.call("a", "time", timeout=20)


@pytest.mark.parametrize("by_tcp", ["a", "b"])
def test_of_two_dials_at_once_by_different_transports_one_wins(by_tcp: str) -> None:
    """Whichever of the two is the arbiter: one connection is up at both ends, nothing is lost, no monitor fires."""
    mine, theirs = free_addresses(2)
    with FaultProxy(theirs if by_tcp == "a" else mine) as proxy:
        seeds = {"a": theirs, "b": mine} | {by_tcp: proxy.address}
        with (
            closing(node("a", seeds["a"], binds=[mine], reached_at=["*"])) as one,
            closing(node("b", seeds["b"], binds=[theirs], reached_at=["*"])) as other,
        ):
            one.wait_up("b", timeout=20)
            other.wait_up("a", timeout=20)
            assert one.call("b", "time", timeout=20)
            assert other.call("a", "time", timeout=20)
            assert transport(one, "b") == transport(other, "a")
