"""The test kit itself: a network in one process, and the proxy with each of its faults."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import gevent.server
import gevent.socket
import pytest

import gmp
from gmp.testing import FaultProxy, LeakError, LocalNetwork, RecordingService, StubService, local_network

from .conftest import Recorder, eventually


def test_a_local_network_has_the_nodes_asked_for_and_leaves_nothing() -> None:
    with LocalNetwork(3) as network:
        network.settle()
        assert [node.id for node in network] == ["node0", "node1", "node2"]
        assert len(network) == 3
        assert network[2] is network["node2"]
        port = network[2].port()
        network[1].send(port.id, "hello")
        assert port.receive(timeout=20) == ("hello",)
    assert all(node.closed for node in network)
    network.close()


def test_a_restarted_node_has_its_name_and_address_and_a_new_incarnation() -> None:
    with LocalNetwork(names=["seed", "alice"]) as network:
        before = network["alice"]
        after = network.restart("alice")
        assert before.closed
        assert (after.id, after.binds) == (before.id, before.binds)
        assert after.incarnation > before.incarnation
        with pytest.raises(gmp.ConfigError, match="alice"):
            network.add("alice")


def test_what_is_left_behind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_network, "SETTLE", 0.1)
    never = gevent.event.Event()
    network = LocalNetwork(1).start()
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    waiting = gevent.spawn(never.wait)
    stray = gmp.Node("stray", binds=[], secret="geheim").start()
    with pytest.raises(LeakError) as caught:
        network.close()
    address = str(listener.getsockname())
    listener.close()
    never.set()
    waiting.join()
    stray.close()
    assert address in str(caught.value)
    assert "Event.wait" in str(caught.value)
    assert "node stray is not closed" in str(caught.value)


def test_an_exception_in_the_block_is_not_hidden_by_the_check() -> None:
    def fail() -> None:
        with LocalNetwork(1) as network:
            strays.append(network[0])
            strays.append(gmp.Node("stray", binds=[], secret="geheim").start())
            raise ZeroDivisionError

    strays: list[gmp.Node] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert strays[0].closed
    strays[1].close()


def test_a_network_refuses_numbers_that_make_no_sense() -> None:
    with pytest.raises(gmp.ConfigError, match="seeds=3"):
        LocalNetwork(2, seeds=3)


class Server:
    """Keeps what comes, and the socket."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = gevent.event.Event()
        self.error: OSError | None = None
        self.sockets: list[Any] = []
        self._server = gevent.server.StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.address = f"127.0.0.1:{self._server.address[1]}"

    def _serve(self, sock: Any, _: Any) -> None:
        self.sockets.append(sock)
        try:
            while data := sock.recv(65536):
                self.received += data
        except OSError as error:
            self.error = error
        self.ended.set()
        gevent.sleep(30)

    def close(self) -> None:
        self._server.stop(timeout=0)
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as one:
        yield one


def dial(proxy: FaultProxy) -> Any:
    host, port = proxy.address.split(":")
    sock = gevent.socket.create_connection((host, int(port)))
    sock.settimeout(20)
    return sock


def test_a_healthy_proxy_passes_everything_and_both_ends(server: Server, proxy: FaultProxy) -> None:
    with dial(proxy) as sock:
        data = bytes(range(256)) * 4000
        sock.sendall(data)
        eventually(lambda: server.received == data)
        assert proxy.passed("forward") == len(data)
        server.sockets[0].sendall(b"back")
        assert sock.recv(10) == b"back"
        assert len(proxy) == proxy.accepted == 1
        sock.shutdown(socket.SHUT_WR)
        assert server.ended.wait(20)
        server.sockets[0].sendall(b"still")
        assert sock.recv(10) == b"still"
        server.sockets[0].shutdown(socket.SHUT_WR)
        assert sock.recv(10) == b""
        eventually(lambda: len(proxy) == 0)


def test_a_delay_moves_bytes_and_costs_no_throughput(server: Server, proxy: FaultProxy) -> None:
    proxy.delay(0.3, "forward")
    with dial(proxy) as sock:
        began = time.monotonic()
        for _ in range(20):
            sock.sendall(b"x" * 1000)
            gevent.sleep(0.01)
        eventually(lambda: len(server.received) == 20_000)
        assert 0.45 < time.monotonic() - began < 4.0  # one after the other it would be 6


def test_a_throttle_holds_its_rate_and_slows_the_sender(server: Server, proxy: FaultProxy) -> None:
    proxy.throttle(100_000, "forward")
    with dial(proxy) as sock:
        began = time.monotonic()
        sock.sendall(b"x" * 50_000)
        eventually(lambda: len(server.received) == 50_000)
        assert time.monotonic() - began >= 0.45
        sender = gevent.spawn(sock.sendall, b"x" * 20_000_000)
        sender.join(0.1)
        assert not sender.ready()
        proxy.heal()
        eventually(lambda: len(server.received) == 20_050_000)
        assert sender.get(timeout=20) is None


def test_a_blackhole_holds_bytes_and_ends_until_it_is_healed(server: Server, proxy: FaultProxy) -> None:
    with dial(proxy) as sock:
        sock.sendall(b"before ")
        eventually(lambda: server.received == b"before ")
        proxy.blackhole("forward")
        sock.sendall(b"during")
        sock.shutdown(socket.SHUT_WR)
        server.sockets[0].sendall(b"other way")
        assert sock.recv(20) == b"other way"
        gevent.sleep(0.05)
        assert server.received == b"before "
        assert not server.ended.is_set()
        proxy.heal()
        assert server.ended.wait(20)
        assert server.received == b"before during"


def test_a_connection_made_into_a_blackhole_waits(server: Server, proxy: FaultProxy) -> None:
    proxy.blackhole()
    with dial(proxy) as sock:
        sock.sendall(b"early")
        gevent.sleep(0.05)
        assert not server.sockets
        proxy.heal()
        eventually(lambda: server.received == b"early")


def test_a_cut_ends_both_ends_in_good_order(server: Server, proxy: FaultProxy) -> None:
    with dial(proxy) as sock:
        sock.sendall(b"x")
        eventually(lambda: server.received)
        proxy.cut()
        assert sock.recv(10) == b""
        assert server.ended.wait(20)
        assert server.error is None


def test_a_connection_cut_as_the_target_is_found_does_not_dial_it(
    server: Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """race: the address is found and the connection cut in the same turn."""
    asked, found = gevent.event.Event(), gevent.event.Event()
    host, port = server.address.split(":")

    def find(*_: object) -> list[Any]:
        asked.set()
        found.wait()
        return [(socket.AF_INET, 0, 0, "", (host, int(port)))]

    proxy.blackhole()
    with dial(proxy) as sock:
        monkeypatch.setattr(gevent.socket, "getaddrinfo", find)
        proxy.heal()
        assert asked.wait(20)
        found.set()
        proxy.cut()
        assert sock.recv(10) == b""
        gevent.sleep(0.1)
        assert server.sockets == []


def test_a_reset_breaks_both_ends(server: Server, proxy: FaultProxy) -> None:
    with dial(proxy) as sock:
        sock.sendall(b"x")
        eventually(lambda: server.received)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            sock.recv(10)
        assert server.ended.wait(20)
        assert isinstance(server.error, ConnectionResetError)


def test_a_half_closed_direction_ends_and_the_other_goes_on(server: Server, proxy: FaultProxy) -> None:
    with dial(proxy) as sock:
        sock.sendall(b"x")
        eventually(lambda: server.received)
        proxy.half_close("forward")
        assert server.ended.wait(20)
        sock.sendall(b"swallowed")
        server.sockets[0].sendall(b"back")
        assert sock.recv(10) == b"back"
        assert server.received == b"x"


def test_refused_connections_are_refused_and_the_port_comes_back(server: Server, proxy: FaultProxy) -> None:
    with dial(proxy) as sock:
        sock.sendall(b"x")
        eventually(lambda: server.received)
        proxy.refuse()
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
        sock.sendall(b"y")
        eventually(lambda: server.received == b"xy")
        proxy.heal()
        with dial(proxy) as second:
            second.sendall(b"z")
            eventually(lambda: server.received == b"xyz")


def test_an_end_of_the_target_reaches_the_dialler(server: Server, proxy: FaultProxy) -> None:
    proxy.target = "127.0.0.1:1"
    with dial(proxy) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_a_proxy_refuses_what_is_no_address_direction_or_rate(proxy: FaultProxy) -> None:
    with pytest.raises(gmp.ConfigError, match="nowhere"):
        FaultProxy("nowhere")
    with pytest.raises(gmp.ConfigError, match="sideways"):
        proxy.blackhole("sideways")  # type: ignore[arg-type]
    with pytest.raises(gmp.ConfigError, match="bytes_per_second 0"):
        proxy.throttle(0)


def test_nodes_talk_through_a_proxy_and_are_cut_and_meet_again(recorder: Recorder) -> None:
    with LocalNetwork(1) as network, FaultProxy(network.seeds[0]) as proxy:
        network.seeds[:] = [proxy.address]
        node = network.add("node1")
        network.settle()
        assert len(proxy) == 1
        network[0].monitor("node1", recorder)
        proxy.reset()
        assert recorder.wait(timeout=20)[0][:2] == ("transport_error", "node1")
        node.wait_up("node0", timeout=20)
        assert node.call("node0", "time")


def test_a_stub_service_answers_as_it_was_told_and_keeps_the_calls() -> None:
    def rows(count: int) -> Iterator[int]:
        yield from range(count)

    with StubService("stock", take=3, price=lambda item: len(item), rows=rows, pay=LookupError("no card")) as stub:
        stock = gmp.remote("stock", errors=[LookupError])
        assert (stock.take("tea", amount=2), stock.price("tea")) == (3, 3)
        assert list(stock.rows(2)) == [0, 1]
        with pytest.raises(LookupError, match="no card"):
            stock.pay()
        with pytest.raises(gmp.CallRefused):
            stock.nonsense()
        stock.take.send("later")
        calls = stub.wait(5)
        assert calls[0] == ("take", ("tea",), {"amount": 2})
        assert [call.method for call in calls] == ["take", "price", "rows", "pay", "take"]
        with pytest.raises(gmp.WaitTimeout, match="5 of 6 calls"):
            stub.wait(6, timeout=0.01)
    assert not stub.port.alive
    eventually(lambda: not gmp.group("stock").members())


def test_a_recording_service_answers_as_its_object_and_keeps_what_came_of_each_call() -> None:
    class Calculator:
        def half(self, number: float) -> float:
            """Halve a number."""
            return number / 2

        def _hidden(self) -> None:
            raise AssertionError("it is not public")

    with RecordingService(Calculator(), errors=[TypeError]) as recording:
        calculator = gmp.remote(recording.port, errors=[TypeError])
        assert dir(calculator) == ["half"]
        assert calculator.half.__doc__ == "Halve a number."
        assert calculator.half(3) == 1.5
        with pytest.raises(TypeError):
            calculator.half("x")
        (first, result), (second, error) = recording.outcomes
        assert (first, result) == (("half", (3,), {}), 1.5)
        assert second.args == ("x",)
        assert isinstance(error, TypeError)
