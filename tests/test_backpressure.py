"""Senders that are faster than the peer: they wait, nobody else does, and memory stays within bounds."""

from __future__ import annotations

import json
import os
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import gevent.subprocess as subprocess
import pytest

import gmp
from gmp.net.connection import Connection
from gmp.testing import FaultProxy, LocalNetwork

from .conftest import eventually

Slow = tuple[gmp.Node, gmp.Node, gmp.Node, FaultProxy]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """A sender, a peer that is reached through a proxy, another peer, and the proxy."""
    with (
        LocalNetwork(names=["here", "near"], high_mark=100_000, low_mark=50_000) as network,
        FaultProxy(network["here"].binds[0]) as proxy,
    ):
        far = network.add("far", seeds=[proxy.address])
        network["here"].wait_up("far", timeout=20)
        network["here"].wait_up("near", timeout=20)
        yield network["here"], far, network["near"], proxy
        proxy.heal()


def queued(node: gmp.Node, peer: str) -> int:
    return int(node.stats()["peers"][peer]["queued_bytes"])


PRODUCER = """
import json, sys, tracemalloc
import gmp
node = gmp.configure(node_id="here", binds=[], seeds=sys.argv[1:2])
node.wait_up("far", timeout=20)
most = 0
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
for number in range(15_000):
    gmp.send(sys.argv[2], "x", b"%01000d" % number)
    if number % 100 == 0:
        most = max(most, node.stats()["peers"]["far"]["queued_bytes"])
print(json.dumps([most, tracemalloc.get_traced_memory()[1] - before]), flush=True)
"""


def test_a_producer_that_never_yields_keeps_its_memory_under_twice_the_high_mark(make_node: Any) -> None:
    far = make_node("far", reached_at=["*"])
    port = far.port()
    port.on("x", lambda _: None)
    with FaultProxy(far.binds[0]) as proxy:
        proxy.throttle(8_000_000, "forward")
        done = subprocess.run(
            [sys.executable, "-c", PRODUCER, proxy.address, port.id],
            env={**os.environ, "GMP_SECRET": "geheim"},
            stdout=subprocess.PIPE,
            check=True,
        )
        proxy.heal()
    most, memory = json.loads(done.stdout)
    assert most > 900_000, "the mark was never reached"
    assert most < memory < 2 << 20


@pytest.mark.slow  # it traces the memory of some 300,000 messages
def test_tiny_messages_that_wait_take_no_more_memory_than_others(make_node: Any) -> None:
    far = make_node("far", reached_at=["*"])
    here = make_node("here", seeds=far.binds)
    here.wait_up("far", timeout=20)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        while here.try_send("far#nobody", "x", 1):  # without a switch to the hub only half a mark is written
            pass
        memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert queued(here, "far") < memory < 2 << 20


def test_many_producers_do_not_overshoot_the_mark_and_none_starves(slow: Slow) -> None:
    here, far, _, proxy = slow
    port = far.port()
    proxy.blackhole("back")
    sent = [0] * 200

    def produce(who: int) -> None:
        while True:
            here.send(port.id, who, b"x" * 5_000)
            sent[who] += 1

    producers = [gevent.spawn(produce, who) for who in range(len(sent))]
    eventually(lambda: queued(here, "far") > 100_000)
    gevent.sleep(0.1)
    first = list(sent)
    proxy.heal()
    most = 0
    with gevent.Timeout(30):
        while not all(now > then for now, then in zip(sent, first, strict=True)):
            gevent.sleep(0.001)
            if queued(here, "far") < 1_000_000:  # the first message of each was sent before it could know
                most = max(most, queued(here, "far"))
    assert most < 1_000_000
    gevent.killall(producers)


def test_a_slow_peer_costs_nothing_to_the_traffic_with_others(slow: Slow) -> None:
    here, far, _, proxy = slow
    proxy.blackhole("back")
    blocked = gevent.spawn(lambda: [here.send(far.id + "#sink", b"x" * 10_000) for _ in range(10_000)])
    eventually(lambda: queued(here, "far") > 100_000)
    began = time.monotonic()
    for _ in range(100):
        assert here.call("near", "time", timeout=20)
    assert time.monotonic() - began < 5
    assert not blocked.ready()
    assert here.try_send("far#sink", "x") is False
    assert here.try_send("near#sink", "x") is True
    blocked.kill()


def test_a_send_that_waits_returns_when_the_peer_is_lost_and_its_message_is_lost_too(slow: Slow) -> None:
    here, far, _, proxy = slow
    port = far.port()
    proxy.blackhole("back")
    before = port.id
    done: list[int] = []

    def produce() -> None:
        for number in range(100_000):
            here.send(before, number, b"x" * 10_000)
            if not here.is_up("far"):
                done.append(number)
                return

    producer = gevent.spawn(produce)
    eventually(lambda: queued(here, "far") > 100_000)
    proxy.reset()
    producer.join(20)
    assert done
    proxy.heal()
    here.wait_up("far", timeout=20)
    here.call("far", "time", timeout=20)
    seen = [message[0] for message in iter(lambda: _next(port), None)]
    assert seen == list(range(len(seen)))
    assert done[0] not in seen


def _next(port: gmp.Port) -> Any:
    try:
        return port.receive(timeout=0)
    except gmp.ReceiveTimeout:
        return None


def test_in_the_hub_send_never_blocks(slow: Slow) -> None:
    here, far, _, proxy = slow
    proxy.blackhole("back")
    blocked = gevent.spawn(lambda: [here.send(far.id + "#sink", b"x" * 10_000) for _ in range(10_000)])
    eventually(lambda: queued(here, "far") > 100_000)
    done: list[bool] = []

    def in_hub() -> None:
        here.send(far.id + "#sink", "from the hub")
        done.append(True)

    gevent.get_hub().loop.run_callback(in_hub)
    eventually(lambda: done)
    blocked.kill()


def test_tiny_messages_that_wait_are_written_by_few_calls(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # a Unix socket counts the memory of what is written, twice its bytes if they are few: full of short writes it holds so
    # little that a fast reader has read it all before a sender who does not yield writes again
    far = make_node("far")
    here = make_node("here", seeds=far.binds)
    here.wait_up("far", timeout=20)
    port, done = far.port(), gevent.event.Event()
    port.on("tag", lambda number: done.set() if number == 199_999 else None)
    written: list[int] = []
    real = Connection._take

    def take(connection: Connection, to: list[Any]) -> bool:
        taken = real(connection, to)
        if taken and connection.node_id == "far":
            written.append(len(to[-1]))
        return taken

    monkeypatch.setattr(Connection, "_take", take)
    for number in range(200_000):
        here.send(port.id, "tag", number)
    assert done.wait(20)
    assert sum(written) > 1_800_000
    assert sum(written) / len(written) > 20_000


def test_a_mark_below_one_write_does_not_block_for_ever(make_node: Any) -> None:
    """race: what waits for the end of the turn is over the mark, and nothing tells of its being written."""
    here = make_node("here", high_mark=1000, low_mark=500)
    far = make_node("far", seeds=here.binds)
    here.wait_up("far", timeout=20)
    ports = [far.port() for _ in range(20)]
    for port in ports:
        here.send(port.id, b"x" * 800)
    for port in ports:
        assert port.receive(timeout=20) == (b"x" * 800,)


def test_tiny_messages_that_wait_for_a_connection_take_no_more_memory_than_others(make_node: Any) -> None:
    here = make_node("here", leave_timeout=0.1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        while here.try_send("nowhere#nobody", "x", 1):
            pass
        memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert 1 << 19 < memory < 2 << 20
