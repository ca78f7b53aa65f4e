"""Restarted nodes, two of one name, half-dead connections, both dialling at once: with real sockets."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import gevent.event
import pytest

import gmp
from gmp.config import Address
from gmp.net import unix
from gmp.net.reasons import CloseReason
from gmp.testing import FaultProxy, LocalNetwork

from .conftest import Recorder, eventually


@pytest.mark.parametrize("near", [True, False], ids=["unix", "tcp"])
@pytest.mark.parametrize("seed", ["aa", "zz"], ids=["refused_by_the_arbiter", "refused_by_the_other"])
def test_the_second_of_two_live_nodes_of_one_id_is_refused_by_both_addresses(
    make_node: Any, seed: str, near: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMP_UNIX_SOCKETS", "yes" if near else "no")
    here = make_node(seed)
    first = make_node("mm", seeds=here.binds)
    here.wait_up("mm", timeout=20)
    events = Recorder()
    here.monitor_nodes(events)
    with caplog.at_level(logging.WARNING, "gmp"):
        second = make_node("mm", seeds=here.binds, connect_timeout=1)
        eventually(lambda: any("is in use" in record.getMessage() for record in caplog.records))
        message = next(record.getMessage() for record in caplog.records if "is in use" in record.getMessage())
        told = Recorder()
        second.monitor(here.port().id, told)
        reason = told.wait(timeout=20)[0]
    used, _, refused = message.partition(", so that ")
    address = "unix:" if near and unix.IS_SUPPORTED else "127.0.0.1:"
    assert used.startswith(f"{seed}: node ID 'mm' is in use by {address}")
    assert refused.startswith(address)
    assert reason[:2] == ("transport_error", seed)
    assert not events.calls
    assert first.call(seed, "time", timeout=20)


def test_a_node_that_dials_another_one_of_its_own_name_is_told_so(make_node: Any) -> None:
    first = make_node("same")
    with pytest.raises(gmp.GmpError, match="another node"):
        make_node("same", seeds=[])._core.ground.dial(_address(first))


def _address(node: gmp.Node) -> Address:
    host, _, port = node.binds[0].rpartition(":")
    return Address(host, int(port))


def test_a_restart_under_traffic_reaches_no_new_port_and_fires_every_monitor_once() -> None:
    with LocalNetwork(names=["seed", "server", "client"]) as network:
        network.settle()
        client = network["client"]
        monitors: list[Recorder] = []
        for _ in range(5):
            server = network["server"]
            boxes = [server.port() for _ in range(10)]
            recorders = [Recorder() for _ in boxes]
            for box, recorder in zip(boxes, recorders, strict=True):
                client.monitor(box.id, recorder)
            client.call("server", "time", timeout=20)
            stop = gevent.event.Event()

            def traffic(ids: list[str], stop: gevent.event.Event = stop) -> None:
                while not stop.is_set():
                    for port_id in ids:
                        client.send(port_id, "for", port_id)
                    gevent.sleep(0)

            sender = gevent.spawn(traffic, [box.id for box in boxes])
            boxes[0].receive(timeout=20)
            network.restart("server")
            new = [network["server"].port() for _ in range(10)]
            for recorder in recorders:
                assert recorder.wait(timeout=20) == [("leaving", "server")]
            client.wait_up("server", timeout=20)
            client.call("server", "time", timeout=20)  # what was sent to the old ports has arrived before this
            stop.set()
            sender.join(20)
            assert not any(len(box) for box in new)
            monitors += recorders
        gevent.sleep(0.05)
        assert all(len(recorder.calls) == 1 for recorder in monitors)


def test_a_half_dead_connection_is_found_and_replaced(make_node: Any) -> None:
    """The dialler knows that it is gone, the other side does not: the new connection makes it look."""
    seed = make_node("aa", reached_at=["*"])
    with FaultProxy(seed.binds[0]) as proxy:
        node = make_node("bb", seeds=[proxy.address])
        seed.wait_up("bb", timeout=20)
        lost = Recorder()
        seed.monitor(node.port().id, lost)
        node_lost = Recorder()
        node.monitor("aa", node_lost)
        seed.call("bb", "time", timeout=20)
        proxy.blackhole("forward")  # its end does not arrive
        proxy.half_close("back")
        assert node_lost.wait(timeout=20)[0][:2] == ("transport_error", "aa")
        assert seed.is_up("bb")
        assert not lost.calls
        proxy.heal()
        assert lost.wait(timeout=20)[0][:2] == ("transport_error", "bb")
        node.wait_up("aa", timeout=20)
        assert node.call("aa", "time", timeout=20)
        gevent.sleep(0.1)
        assert len(lost.calls) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_rounds_of_both_dialling_at_once(make_node: Any) -> None:
    """race: both dial at once. Messages are in flight from the first moment."""
    a, b = make_node("a", seeds=[]), make_node("b", seeds=[])
    port_a, port_b = a.port(), b.port()
    lost = Recorder()
    a.monitor_nodes(lambda node_id, up, *reason: None if up else lost(reason))
    for round_number in range(1000):
        for number in range(10):
            a._core.peer("b").send(port_b.name, ("m", round_number, number))
            b._core.peer("a").send(port_a.name, ("m", round_number, number))
        dials = [
            gevent.spawn(_try_dial, one, other) for one, other in ((a, b), (b, a), (a, b), (b, a))
        ]
        for port in (port_a, port_b):
            got = [port.receive("m", timeout=20) for _ in range(10)]
            assert got == [(round_number, number) for number in range(10)]
        gevent.joinall(dials, raise_error=True)
        assert (a.up_nodes(), b.up_nodes()) == (["b"], ["a"])
        assert not lost.calls
        eventually(lambda: _disconnected(a, b))
        gevent.sleep(0)  # the callbacks of the loss run in a greenlet of their own
        lost.calls.clear()


def _disconnected(*nodes: gmp.Node) -> bool:
    """A connection that lost against another may still come up when that one is gone: none may be left."""
    up = [peer.connection for node in nodes for peer in node._core.network.up_peers()]
    for connection in up:
        if connection is not None:
            connection.close(CloseReason.RESET)
    return not up and not any(node._core.network.handshakes.pending for node in nodes)


def _try_dial(one: gmp.Node, other: gmp.Node) -> None:
    one._core.ground.dial(_address(other), expect=other.id)
