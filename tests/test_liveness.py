"""Busy, hung, lost, heartbeats and loop lag, with real sockets."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent import monkey

import gmp
from gmp.net.between import Way, make_end
from gmp.net.machine import machine_name
from gmp.testing import FaultProxy, LocalNetwork
from gmp.wire.events import NEED_DATA, Authenticated
from gmp.wire.session import Session

from .conftest import Recorder, eventually


def stall(seconds: float) -> None:
    """Hold up everything in this process, also in a patched one."""
    monkey.get_original("time", "sleep")(seconds)


@pytest.fixture
def far() -> Iterator[tuple[gmp.Node, gmp.Node, FaultProxy]]:
    """Two nodes that are impatient, and the proxy between them."""
    limits = {"busy_after": 0.6, "hung_after": 2.5}
    with LocalNetwork(1, **limits) as network, FaultProxy(network.seeds[0]) as proxy:
        network.seeds[:] = [proxy.address]
        node = network.add("node1")
        network.settle()
        yield network[0], node, proxy


def test_a_silent_peer_is_busy_and_is_told_of_when_it_is_back(
    far: tuple[gmp.Node, gmp.Node, FaultProxy], recorder: Recorder
) -> None:
    here, there, proxy = far
    here.monitor_busy(recorder)
    other = Recorder()
    there.monitor_busy(other)
    lost = Recorder()
    here.monitor("node1", lost)
    proxy.blackhole("forward")
    ((node_id, busy, seconds),) = recorder.wait(timeout=20)
    assert (node_id, busy) == ("node1", True)
    assert seconds >= 0.6
    assert here.stats()["peers"]["node1"]["busy"] is True
    proxy.heal()
    assert [call[:2] for call in recorder.wait(2, timeout=20)] == [("node1", True), ("node1", False)]
    assert here.stats()["peers"]["node1"]["busy"] is False
    assert not lost.calls


def test_a_hung_peer_is_down_with_that_reason_and_up_events_alternate(
    far: tuple[gmp.Node, gmp.Node, FaultProxy], recorder: Recorder
) -> None:
    here, there, proxy = far
    here.monitor_nodes(recorder)
    died = Recorder()
    here.monitor(there.port().id, died)
    proxy.blackhole("forward")
    ((node_id, up, *reason),) = recorder.wait(timeout=20)
    assert (node_id, up, reason[:2]) == ("node1", False, ["transport_error", "node1"])
    assert reason[2].startswith("hung: ")
    assert died.wait(timeout=20) == [tuple(reason)]
    proxy.heal()
    assert [call[:2] for call in recorder.wait(2, timeout=20)] == [("node1", False), ("node1", True)]


def test_two_idle_nodes_stay_up_and_measure_the_round_trip(far: tuple[gmp.Node, gmp.Node, FaultProxy]) -> None:
    here, there, proxy = far
    busy = Recorder()
    here.monitor_busy(busy)
    there.monitor_busy(busy)
    proxy.delay(0.05)
    for node, peer in ((here, "node1"), (there, "node0")):
        eventually(lambda node=node, peer=peer: (node.stats()["peers"][peer]["round_trip"] or 0) >= 0.1)
    assert not busy.calls


@pytest.mark.slow
def test_own_stalls_count_against_nobody(far: tuple[gmp.Node, gmp.Node, FaultProxy], recorder: Recorder) -> None:
    here, there, _ = far
    here.monitor_busy(recorder)
    there.monitor_nodes(recorder)
    stall(2.6)  # longer than hung_after: nothing in this process runs
    gevent.sleep(0.3)
    assert not recorder.calls
    assert here.stats()["loop_lag_peak"] > 2.0


@pytest.mark.slow
def test_a_seed_logs_that_its_loop_was_held_up(caplog: pytest.LogCaptureFixture) -> None:
    with LocalNetwork(2) as network, caplog.at_level(logging.WARNING, "gmp"):
        network.settle()
        gevent.sleep(0.6)
        stall(1.6)
        eventually(lambda: network[0].stats()["loop_lag_peak"] > 1.0)
    assert [record.getMessage()[:5] for record in caplog.records if "held up" in record.getMessage()] == ["node0"]


class RawPeer:
    """A connection that does what a test says and nothing by itself."""

    def __init__(self, node: gmp.Node, **keys: str) -> None:
        host, _, port = node.binds[0].rpartition(":")
        self._sock = gevent.socket.create_connection((host, int(port)))
        self._sock.settimeout(20)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if "gmp" in keys:
            ends = make_end(*self._sock.getsockname()), make_end(*self._sock.getpeername())
            keys = {**Way(True, *ends, near=True, machine=machine_name()).keys(), **keys}
        # it sorts behind, so that the node is the arbiter whatever keys are given
        self.session = Session(node_id="zz", nonce="n" * 40, secret=b"geheim", keys=keys, max_message=1 << 20)
        self._sock.sendall(self.session.data_to_send())
        while not isinstance(event := self.session.next_event(), Authenticated):
            if event is NEED_DATA:
                self.session.receive_data(self._sock.recv(65536))
            elif not self._sent_auth:
                self._sent_auth = True
                self.session.send_auth()
                self._sock.sendall(self.session.data_to_send())

    _sent_auth = False

    def messages(self) -> Iterator[list[Any]]:
        yield from self.session.decoder.decode(self.session.trailing_data())
        while data := self._sock.recv(65536):
            yield from self.session.decoder.decode(data)

    def send(self, name: str, *message: Any) -> None:
        self._sock.sendall(self.session.encoder.encode(name, message))

    def close(self) -> None:
        self._sock.close()

    def abort(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def heartbeats(raw: RawPeer) -> Iterator[int]:
    return (message[2] for message in raw.messages() if message[:2] == ["", "gmp.heartbeat"])


def test_the_greeting_announces_heartbeat_and_keepalive_and_heartbeats_are_answered(make_node: Any) -> None:
    node = make_node("aa", busy_after=0.8)
    raw = RawPeer(node, gmp="1", incarnation="1", heartbeat="60")
    try:
        assert raw.session.greeting.keys["heartbeat"] == "0.2"
        assert raw.session.greeting.keys["keepalive"] == "3"
        tokens = heartbeats(raw)
        first = next(tokens)
        raw.send("", "gmp.alive", first)
        eventually(lambda: node.stats()["peers"]["zz"]["round_trip"] is not None)
        assert next(tokens) != first
        raw.send("", "gmp.heartbeat", 77)
        assert ["", "gmp.alive", 77] in raw.messages()
        raw.send("", "gmp.heartbeat", ["nonsense"])
        raw.send("", "gmp.alive", {"non": "sense"})
        raw.send("", "gmp.heartbeat", 78)
        assert ["", "gmp.alive", 78] in raw.messages()
    finally:
        raw.close()


def test_a_node_without_the_gmp_key_never_sees_a_heartbeat(make_node: Any) -> None:
    node = make_node("aa", busy_after=0.2, hung_after=0.4)
    raw = RawPeer(node)
    messages: list[Any] = []
    reader = gevent.spawn(lambda: [messages.append(message) for message in raw.messages()])
    try:
        gevent.sleep(1.0)
        assert node.is_up("zz")
        assert not [message for message in messages if str(message[1]).startswith("gmp.")]
    finally:
        reader.kill()
        raw.close()


def test_a_connection_ended_as_lost_is_reset(make_node: Any) -> None:
    node = make_node("aa", busy_after=0.2, hung_after=0.5)
    raw = RawPeer(node, gmp="1", incarnation="1", heartbeat="0.2")
    try:
        with pytest.raises(ConnectionResetError):
            list(raw.messages())
    finally:
        raw.close()


def test_last_words_are_read_though_a_write_notices_the_end_before(make_node: Any, recorder: Recorder) -> None:
    """race: the other side says that it leaves and is gone; a message to it fails before that was read."""
    node = make_node("aa")
    port = node.port()
    node.monitor_nodes(recorder)
    raw = RawPeer(node, gmp="1", incarnation="1", heartbeat="60")
    recorder.wait()
    raw.send(port.name, "one more")
    raw.send("", "gmp.leaving")
    raw.abort()
    node.send("zz#x", "this cannot be written")
    assert recorder.wait(2) == [("zz", True), ("zz", False, "leaving", "zz")]
    assert port.receive(timeout=20) == ("one more",)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lost_after", 1), ("lost_after", "soon"), ("busy_after", 0), ("hung_after", "x"), ("hung_after", True)],
)
def test_limits_that_cannot_be_are_refused(name: str, value: Any) -> None:
    with pytest.raises(gmp.ConfigError, match=name):
        gmp.Node("x", secret="geheim", **{name: value})


@pytest.mark.parametrize("value", [None, "never"])
def test_never_is_a_limit(value: Any) -> None:
    assert gmp.Node("x", secret="geheim", hung_after=value).settings.hung_after is None
