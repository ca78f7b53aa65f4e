"""Nodes that talk: messages, calls, monitors, spawning, groups, with real sockets and real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

import gmp

from . import functions
from .addresses import free_address
from .conftest import Recorder, eventually
from .processes import Processes

MakeNode = Callable[..., gmp.Node]


def echo(node: gmp.Node) -> gmp.Port:
    return node.port(lambda port: [node.send(reply, "echo", value) for value, reply in port])


@pytest.fixture
def pair(make_node: MakeNode) -> tuple[gmp.Node, gmp.Node]:
    """Two nodes that know only a seed."""
    seed = make_node("seed")
    return make_node("alice", seeds=seed.binds), make_node("bob", seeds=seed.binds)


def test_two_nodes_that_know_only_the_seed_talk_directly(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    port = echo(bob)
    assert alice.call(port.id, {"a": [1, (2, 3)]}) == ("echo", {"a": [1, (2, 3)]})
    assert alice.is_up("bob")
    assert sorted(alice.up_nodes()) == ["bob", "seed"]


def test_messages_arrive_in_the_order_sent_also_those_sent_before_the_connection(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    port = bob.port()
    for number in range(5000):
        alice.send(port.id, "n", number)
    assert [port.receive("n", timeout=10) for _ in range(5000)] == [(number,) for number in range(5000)]
    for number in range(5000):
        alice.send(port.id, "n", number)
    assert [port.receive("n", timeout=10) for _ in range(5000)] == [(number,) for number in range(5000)]


def test_a_port_inside_a_message_travels_as_its_id(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    there, here = bob.port(), alice.port()
    alice.send(there.id, "take", here, [here])
    assert there.receive(timeout=10) == ("take", here.id, [here.id])


def test_a_big_message_and_many_behind_it_arrive_whole(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    port = bob.port()
    big = os.urandom(5_000_000)
    done = gevent.spawn(lambda: [port.receive(timeout=20) for _ in range(101)])
    alice.send(port.id, big)
    for number in range(100):
        alice.send(port.id, number, big[:50_000])
    received = done.get(timeout=30)
    assert received[0] == (big,)
    assert [message[0] for message in received[1:]] == list(range(100))


def test_what_does_not_serialise_raises_in_send_also_before_the_connection(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    port = bob.port()
    with pytest.raises(gmp.MessageError, match="object"):
        alice.send(port.id, "before", object())
    alice.send(port.id, "good")
    assert port.receive(timeout=10) == ("good",)
    with pytest.raises(gmp.MessageError, match="Recorder"):
        alice.send(port.id, "after", [Recorder()])
    alice.send(port.id, "good again")
    assert port.receive(timeout=10) == ("good again",)


def test_a_monitor_of_a_remote_port_fires_once_with_its_reason(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    alice, bob = pair
    port = bob.port()
    alice.monitor(port.id, recorder)
    alice.call("bob", "time")  # a barrier: what was sent before it has arrived
    port.kill("broken", {"why": [1, 2]})
    assert recorder.wait() == [("broken", {"why": [1, 2]})]


def test_a_monitor_of_an_unknown_remote_port_fires(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    pair[0].monitor("bob#nobody", recorder)
    assert recorder.wait() == [("no_such_port", "cannot monitor nonexistent port", "bob#nobody")]


def test_a_remote_kill_comes_behind_the_messages_before_it(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    alice, bob = pair
    port = bob.port()
    got = gevent.spawn(lambda: list(port))
    gevent.sleep(0)
    alice.monitor(port.id, recorder)
    alice.send(port.id, 1)
    alice.kill(port.id, "enough")
    assert recorder.wait() == [("enough",)]
    assert got.get(timeout=5) in ([(1,)], [])
    assert port.reason == ("enough",)


def test_a_cancelled_remote_monitor_is_silent(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    alice, bob = pair
    port = bob.port()
    with alice.monitor(port.id, recorder):
        alice.call("bob", "time")
    second = Recorder()
    alice.monitor(port.id, second)
    alice.call("bob", "time")
    port.kill("gone")
    assert second.wait() == [("gone",)]
    assert recorder.calls == []


def test_kill_9_of_a_node_fires_its_monitors_and_empties_its_groups(
    make_node: MakeNode, processes: Processes, recorder: Recorder
) -> None:
    seed = make_node("seed", connect_timeout=1)
    other = processes.start("child", *seed.binds)
    (port_id,) = seed.group("children").wait(timeout=20)
    assert seed.call(port_id, "hi") == ("echo", "hi")
    seed.monitor(port_id, recorder)
    node_monitor = Recorder()
    seed.monitor("child", node_monitor)
    box = seed.port()
    seed.monitor(port_id, box, "down", 7)
    gone = Recorder()
    seed.group("children").monitor(lambda members, added, changed, removed: removed and gone(removed))
    seed.call("child", "time")
    other.kill(signal.SIGKILL)
    for reason in (recorder.wait()[0], node_monitor.wait()[0], box.receive("down", 7, timeout=5)):
        assert reason[:2] == ("transport_error", "child")
    assert gone.wait() == [([port_id],)]
    with pytest.raises(gmp.PortDied):
        seed.call(port_id, "hi", timeout=20)


def test_a_node_that_nobody_knows_is_unreachable(make_node: MakeNode, recorder: Recorder) -> None:
    node = make_node("lonely", connect_timeout=0.3)
    node.monitor("nowhere#port", recorder)
    node.send("nowhere#port", "lost")
    assert recorder.wait()[0][:2] == ("transport_error", "nowhere")
    with pytest.raises(gmp.PortDied, match="nobody knows"):
        node.call("nowhere#port", "x")


def test_a_call_sees_the_death_of_its_target_at_once(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    port = bob.port()
    seen: gevent.event.AsyncResult = gevent.event.AsyncResult()

    def call() -> None:
        with pytest.raises(gmp.PortDied) as caught:
            alice.call(port.id, "x", timeout=None)
        seen.set(caught.value.reason)

    gevent.spawn(call)
    port.receive(timeout=10)
    port.kill("oops")
    assert seen.get(timeout=10) == ("oops",)


def test_a_call_that_is_not_answered_times_out(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    port = bob.port()
    with pytest.raises(gmp.CallTimeout):
        alice.call(port.id, "x", timeout=0.2)
    _, reply = port.receive(timeout=10)
    bob.send(reply, "late")
    assert alice.call("bob", "time")[0] > 0
    assert alice.stats()["dropped"] == 1


def test_spawn_starts_a_marked_function_and_its_failure_reaches_monitors(
    make_node: MakeNode, processes: Processes, recorder: Recorder
) -> None:
    seed = make_node("seed")
    processes.start("child", *seed.binds)
    boss = seed.port()
    spawned = seed.spawn("child", "tests.child:report_then_fail", boss, "wanted")
    seed.monitor(spawned, recorder)
    seed.send(spawned, "fail")
    assert boss.receive("started", timeout=20) == (spawned, "wanted")
    ((kind, text, trace),) = recorder.wait()
    assert (kind, text) == ("die", "ValueError: wanted")
    assert "report_then_fail" in trace


@pytest.mark.parametrize("name", ["tests.child:not_spawnable", "os:system", "no_such_module:f", "tests.child:nothing"])
def test_spawn_refuses_what_is_not_marked(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder, name: str) -> None:
    alice, _ = pair
    alice.monitor(alice.spawn("bob", name), recorder)
    assert recorder.wait()[0][0] == "not_allowed"
    assert "no_such_module" not in sys.modules


@pytest.mark.parametrize("name", ["os:path.join", "os", "", ":f"])
def test_spawn_names_what_is_no_function(pair: tuple[gmp.Node, gmp.Node], name: str) -> None:
    with pytest.raises(gmp.GmpError, match="expected 'package"):
        pair[0].spawn("bob", name)


@pytest.mark.parametrize("spawner", ["bob", "alice"], ids=["own node", "other node"])
def test_what_is_sent_right_after_a_spawn_reaches_handlers_in_order(
    pair: tuple[gmp.Node, gmp.Node], spawner: str
) -> None:
    node = next(node for node in pair if node.id == spawner)
    here = node.port()
    for number in range(50):
        spawned = node.spawn("bob", functions.answer)
        for tag in ("pong", "ping", "pong"):
            node.send(spawned, tag, here, number)
    for number in range(50):
        assert [here.receive(timeout=20) for _ in range(3)] == [(tag, number) for tag in ("pong", "ping", "pong")]


def test_spawn_on_the_own_node_runs_later(make_node: MakeNode) -> None:
    from tests import child as module

    node = make_node("solo")
    spawned = node.spawn("solo", module.report_then_fail, node.port(), "x")
    assert gmp.node_of(spawned) == "solo"
    assert node._core.ports.find(spawned)


def test_groups_are_seen_on_every_node(make_node: MakeNode) -> None:
    seed = make_node("seed")
    nodes = [make_node(f"node{number}", seeds=seed.binds) for number in range(4)]
    ports = [node.port() for node in nodes]
    for port, node in zip(ports, nodes, strict=True):
        node.group("workers").join(port, {"cpu": node.id})
    for node in [seed, *nodes]:
        members = node.group("workers").wait(4, timeout=10)
        assert members == {port.id: {"cpu": gmp.node_of(port)} for port in ports}
    nodes[0].group("workers").send("to all", 1)
    assert [port.receive(timeout=10) for port in ports] == [("to all", 1)] * 4
    assert nodes[2].group("workers").pick() == ports[2].id


def test_a_dead_port_leaves_its_groups(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    alice, bob = pair
    port = bob.port()
    bob.group("g").join(port)
    alice.group("g").wait(timeout=10)
    alice.group("g").monitor(recorder)
    assert recorder.wait() == [({port.id: None}, [port.id], [], [])]
    port.kill()
    assert recorder.wait(2)[1] == ({}, [], [], [port.id])
    with pytest.raises(gmp.WaitTimeout):
        alice.group("g").wait(timeout=0.05)
    assert alice.group("g").pick() is None


def test_families_carry_values(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    alice, bob = pair
    alice.family("settings").monitor(recorder)
    assert recorder.wait() == [({}, [], [], [])]
    bob.family("settings").set("colour", "red")
    recorder.wait(2)
    bob.family("settings").set("colour", "blue")
    assert recorder.wait(3)[1:] == [({"colour": "red"}, ["colour"], [], []), ({"colour": "blue"}, [], ["colour"], [])]
    bob.family("settings").delete("colour")
    assert recorder.wait(4)[3] == ({}, [], [], ["colour"])


def test_both_dialling_at_once_gives_one_connection_and_loses_nothing(make_node: MakeNode) -> None:
    seed = make_node("seed")
    for number in range(20):
        a = make_node(f"a{number}", seeds=seed.binds)
        b = make_node(f"b{number}", seeds=seed.binds)
        seed.wait_up(a.id, timeout=10)
        seed.wait_up(b.id, timeout=10)
        port_a, port_b = a.port(), b.port()
        for count in range(50):
            a.send(port_b.id, count)
            b.send(port_a.id, count)
        for port in (port_a, port_b):
            assert [port.receive(timeout=10) for _ in range(50)] == [(count,) for count in range(50)]
        assert a.stats()["peers"][b.id]["dropped"] == b.stats()["peers"][a.id]["dropped"] == 0


def test_the_seed_may_come_last_and_may_come_back(make_node: MakeNode) -> None:
    address = free_address()
    node = make_node("early", seeds=[address])
    first = make_node("seed", binds=[address])
    node.wait_up("seed", timeout=10)
    first.close()
    again = make_node("seed", binds=[address])
    again.wait_up("early", timeout=20)
    assert again.call("early", "time")[0] > 0


def test_a_node_that_closes_leaves_with_that_reason(pair: tuple[gmp.Node, gmp.Node], recorder: Recorder) -> None:
    alice, bob = pair
    port = bob.port()
    alice.monitor(port.id, recorder)
    node_monitor = Recorder()
    alice.monitor("bob", node_monitor)
    alice.call("bob", "time")
    bob.close()
    assert recorder.wait() == [("leaving", "bob")]
    assert node_monitor.wait() == [("leaving", "bob")]
    bob.close()
    with pytest.raises(gmp.GmpError, match="closed"):
        bob.send(port.id, "x")


def test_node_events_alternate(pair: tuple[gmp.Node, gmp.Node]) -> None:
    alice, bob = pair
    events: Any = Recorder()
    alice.monitor_nodes(lambda node_id, up, *reason: events(node_id, up) if node_id == "bob" else None)
    alice.wait_up("bob", timeout=10)
    bob.close()
    assert events.wait(2) == [("bob", True), ("bob", False)]


def test_send_blocks_above_the_high_mark_until_the_peer_reads(make_node: MakeNode, short_goodbye: None) -> None:
    alice = make_node("alice", high_mark=200_000, low_mark=100_000)
    bob = make_node("bob", seeds=alice.binds)
    bob.wait_up("alice", timeout=10)
    connection = bob._core.network.peers["alice"].connection
    assert connection is not None
    connection._reader.stop()  # bob's kernel takes what fits, bob reads nothing
    port = bob.port()
    leaving = gevent.event.Event()

    def produce() -> None:
        while not leaving.is_set():
            alice.send(port.id, b"x" * 10_000)

    producer = gevent.spawn(produce)
    eventually(lambda: alice.stats()["peers"]["bob"]["queued_bytes"] > 200_000)
    assert alice.try_send(port.id, "too much") is False
    gevent.sleep(0.05)
    assert alice.stats()["peers"]["bob"]["queued_bytes"] < 300_000
    assert not producer.ready()
    leaving.set()
    bob.close()
    producer.join(10)
    assert producer.successful()


@pytest.mark.parametrize("what", ["object", "size"])
def test_a_message_to_a_group_that_cannot_travel_to_one_member_reaches_none(
    pair: tuple[gmp.Node, gmp.Node], what: str
) -> None:
    alice, bob = pair
    here, there = [alice.port(), alice.port()], bob.port()
    group = alice.group("some")
    for port in here:
        group.join(port)
    bob.group("some").join(there)
    group.wait(3, timeout=20)
    value: Any = object() if what == "object" else bytes(alice.settings.max_message + 1)
    with pytest.raises(gmp.MessageError):
        group.send("news", value)
    assert [len(port) for port in here] == [0, 0]
    group.send("news", 1)
    assert [port.receive(timeout=20) for port in [*here, there]] == [("news", 1)] * 3


def test_a_message_to_a_group_of_own_ports_may_be_anything(make_node: MakeNode) -> None:
    node = make_node("solo")
    port, value = node.port(), object()
    node.group("some").join(port)
    node.group("some").send(value)
    assert port.receive(timeout=20) == (value,)


def test_a_message_to_a_group_goes_to_none_when_one_framing_of_several_cannot_carry_it(make_node: MakeNode) -> None:
    seed = make_node("seed")
    plain, json = make_node("plain", seeds=seed.binds), make_node("json", framings=["json"], seeds=seed.binds)
    ports = [node.port() for node in (seed, plain, json)]
    for port in ports:
        port.node.group("some").join(port)
    group = seed.group("some")
    group.wait(3, timeout=20)
    seed.call("json", "time", timeout=20)
    for value in ({1: "a key"}, {"a set"}, b"bytes", 10**30, float("nan")):
        try:
            seed.send(ports[2].id, "alone", value)
        except gmp.MessageError:
            with pytest.raises(gmp.MessageError):
                group.send("news", value)
        else:
            ports[2].receive("alone", timeout=20)
    with pytest.raises(gmp.MessageError):
        group.send("news", {"a set"})
    group.send("last")
    assert [port.receive(timeout=20) for port in ports] == [("last",)] * 3
