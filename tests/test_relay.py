"""Nodes that cannot dial each other talk through seeds, and directly as soon as they can."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.server import StreamServer

import gmp
from gmp.config import SEED_MARK, parse_bind
from gmp.mesh import mesh as mesh_module
from gmp.mesh.addresses import MOST_DIALLED
from gmp.mesh.detours import Detours
from gmp.testing import FaultProxy, Simulation
from tests.certificates import Authority
from tests.conftest import Recorder, eventually
from tests.test_nodes import echo

MakeNode = Callable[..., gmp.Node]


@gmp.spawnable
def greet(port: gmp.Port, boss: str) -> None:
    node = next(one for one in _NODES if one.id == gmp.node_of(port))
    node.send(boss, "hello from", port.id)
    port.receive("stop")


_NODES: list[gmp.Node] = []


@pytest.fixture
def private_pair(make_node: MakeNode) -> tuple[gmp.Node, gmp.Node, gmp.Node]:
    """A seed, and two private nodes that know it."""
    seed = make_node("seed")
    nodes = make_node("alice", binds=[], seeds=seed.binds), make_node("bob", binds=[], seeds=seed.binds)
    for node in nodes:
        node.wait_up(timeout=20)
    return seed, *nodes


def test_two_private_nodes_call_each_other_through_their_seed(private_pair: tuple[gmp.Node, ...]) -> None:
    seed, alice, bob = private_pair
    there, here = echo(bob), echo(alice)
    assert alice.call(there.id, {"a": (1, {2})}) == ("echo", {"a": (1, {2})})
    assert bob.call(here.id, "back") == ("echo", "back")
    assert alice.is_up("bob")
    assert bob.is_up("alice")
    assert alice.stats()["peers"]["bob"]["address"] == "relayed by seed"
    assert len(seed._core.mesh.router) == 1


def test_both_opening_at_once_gives_one_way_and_loses_nothing(make_node: MakeNode) -> None:
    seed = make_node("seed")
    for number in range(10):
        a = make_node(f"a{number}", binds=[], seeds=seed.binds)
        b = make_node(f"b{number}", binds=[], seeds=seed.binds)
        seed.wait_up(a.id, timeout=10)
        seed.wait_up(b.id, timeout=10)
        port_a, port_b = a.port(), b.port()
        for count in range(50):
            a.send(port_b.id, count)
            b.send(port_a.id, count)
        for port in (port_a, port_b):
            assert [port.receive(timeout=20) for _ in range(50)] == [(count,) for count in range(50)]
        assert len(seed._core.mesh.router) == 1
        a.close()
        b.close()
        eventually(lambda: len(seed._core.mesh.router) == 0)


def test_monitors_kills_spawns_and_groups_work_through_a_seed(
    private_pair: tuple[gmp.Node, ...], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, alice, bob = private_pair
    monkeypatch.setattr(f"{__name__}._NODES", [alice, bob])
    port = bob.port()
    alice.monitor(port.id, recorder)
    alice.send(port.id, "first")
    assert port.receive(timeout=20) == ("first",)
    alice.kill(port.id, "enough", 1)
    assert recorder.wait(timeout=20) == [("enough", 1)]
    boss = alice.port()
    spawned = alice.spawn("bob", greet, boss.id)
    assert boss.receive("hello from", timeout=20) == (spawned,)
    down = Recorder()
    alice.monitor(spawned, down)
    alice.send(spawned, "stop")
    assert down.wait(timeout=20) == [()]
    alice.monitor("bob#nobody", unknown := Recorder())
    assert unknown.wait(timeout=20)[0][0] == "no_such_port"
    bob.group("g").join(member := bob.port())
    assert alice.group("g").wait(timeout=20) == {member.id: None}


def test_a_way_over_two_seeds(make_node: MakeNode, recorder: Recorder) -> None:
    one = make_node("seed1")
    two = make_node("seed2", seeds=one.binds)
    two._core.mesh.backbone.become_global()
    alice = make_node("alice", binds=[], seeds=one.binds)
    bob = make_node("bob", binds=[], seeds=two.binds)
    port = echo(bob)
    assert alice.call(port.id, "far", timeout=20) == ("echo", "far")
    assert not one.is_up("bob")
    alice.monitor(port.id, recorder)
    alice.call(port.id, "barrier")
    two.close()
    assert recorder.wait(timeout=20)[0][:2] == ("transport_error", "bob")


def test_a_seed_reaches_the_private_node_of_another_seed(make_node: MakeNode) -> None:
    one = make_node("seed1")
    two = make_node("seed2", seeds=one.binds)
    two._core.mesh.backbone.become_global()
    bob = make_node("bob", binds=[], seeds=two.binds)
    port, at_one = echo(bob), echo(one)
    assert one.call(port.id, "down", timeout=20) == ("echo", "down")
    assert bob.call(at_one.id, "up", timeout=20) == ("echo", "up")


def test_the_seed_is_killed_and_another_one_takes_over(make_node: MakeNode, recorder: Recorder) -> None:
    first = make_node("seed1")
    second = make_node("seed2", seeds=first.binds)
    both = [*first.binds, *second.binds]
    alice = make_node("alice", binds=[], seeds=both)
    bob = make_node("bob", binds=[], seeds=both)
    for node in (alice, bob):
        for seed in (first, second):
            node.wait_up(seed.id, timeout=20)
    port = echo(bob)
    assert alice.call(port.id, 1, timeout=20) == ("echo", 1)
    relaying, other = (first, second) if len(first._core.mesh.router) else (second, first)
    alice.monitor("bob", recorder)
    relaying.close()
    assert recorder.wait(timeout=20)[0][:2] == ("transport_error", "bob")
    assert alice.call(port.id, 2, timeout=20) == ("echo", 2)
    assert len(other._core.mesh.router) == 1


def test_a_node_that_leaves_tells_so_through_the_seed(private_pair: tuple[gmp.Node, ...], recorder: Recorder) -> None:
    _, alice, bob = private_pair
    alice.monitor("bob", recorder)
    alice.wait_up("bob", timeout=20)
    bob.close()
    assert recorder.wait(timeout=20) == [("leaving", "bob")]


def test_who_is_public_is_dialled_by_who_is_private(make_node: MakeNode) -> None:
    seed = make_node("seed")
    public = make_node("alice", seeds=seed.binds)
    private = make_node("bob", binds=[], seeds=seed.binds)
    private.wait_up(timeout=20)
    port = echo(private)
    assert public.call(port.id, "please dial me", timeout=20) == ("echo", "please dial me")
    assert public._core.ground.is_linked("bob")
    assert len(seed._core.mesh.router) == 0


def test_nodes_that_listen_where_nobody_can_reach_them_are_relayed(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triangle: A and B cannot reach each other, but both reach C."""
    monkeypatch.setattr("gmp.mesh.mesh.DIAL_BACK", 0.3)
    c = make_node("c")
    with FaultProxy("127.0.0.1:1") as wall:
        wall.blackhole()
        a = make_node("a", seeds=c.binds, advertise=[wall.address])
        b = make_node("b", seeds=c.binds, advertise=[wall.address], address_timeout=0.5, handshake_timeout=0.5)
        b.wait_up(timeout=20)
        port = echo(a)
        assert b.call(port.id, "around", timeout=20) == ("echo", "around")
        assert not b._core.ground.is_linked("a")
        assert b.is_up("a")


def test_more_than_the_high_mark_flows_through_a_seed_in_order(private_pair: tuple[gmp.Node, ...]) -> None:
    _, alice, bob = private_pair
    port = bob.port()
    size = 100_000

    def produce() -> None:
        for number in range(200):
            alice.send(port.id, number, b"x" * size)

    producer = gevent.spawn(produce)
    received = [port.receive(timeout=20) for _ in range(200)]
    assert [(number, len(data)) for number, data in received] == [(number, size) for number in range(200)]
    producer.get(timeout=10)


def test_a_sender_waits_when_the_other_end_does_not_read(private_pair: tuple[gmp.Node, ...], short_goodbye: None) -> None:
    seed, alice, bob = private_pair
    alice.wait_up("bob", timeout=20)
    connection = bob._core.network.peers["seed"].connection
    assert connection is not None
    connection._reader.stop()
    port = bob.port()
    for _ in range(100):
        alice.try_send(port.id, b"x" * 100_000)
    assert alice.stats()["peers"]["bob"]["queued_bytes"] > 1 << 20
    assert not alice.try_send(port.id, "no room")
    gevent.sleep(0.1)
    assert seed.stats()["peers"]["bob"]["queued_bytes"] < 1 << 20
    bob.close()
    eventually(lambda: not alice.is_up("bob"))


def test_over_the_high_mark_of_a_seed_the_pair_is_lost_and_both_are_told(make_node: MakeNode) -> None:
    seed = make_node("seed", high_mark=50_000, low_mark=20_000)
    alice = make_node("alice", binds=[], seeds=seed.binds)
    bob = make_node("bob", binds=[], seeds=seed.binds)
    told: dict[str, Any] = {"alice": Recorder(), "bob": Recorder()}
    alice.monitor("bob", told["alice"])
    bob.monitor("alice", told["bob"])
    alice.wait_up("bob", timeout=20)
    bob.wait_up("alice", timeout=20)
    port = bob.port()
    alice.send(port.id, b"x" * 300_000)
    for name, other in (("alice", "bob"), ("bob", "alice")):
        reason = told[name].wait(timeout=20)[0]
        assert reason[:2] == ("transport_error", other)
        assert "over 50000 bytes wait at seed seed" in reason[2]


def test_a_direct_connection_replaces_the_way_through_seeds_without_loss_or_reordering(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "UPGRADE", 0.2)
    seed = make_node("seed")
    hidden = make_node("hidden")
    with FaultProxy(hidden.binds[0]) as wall:
        hidden.close()
        wall.refuse()
        bob = make_node("bob", seeds=seed.binds, advertise=[wall.address])
        wall.target = bob.binds[0]
        alice = make_node("alice", seeds=seed.binds, advertise=[])
        alice.wait_up("bob", timeout=20)
        assert not alice._core.ground.is_linked("bob")
        nodes = {"alice": alice, "bob": bob}
        ports = {name: node.port() for name, node in nodes.items()}
        events = Recorder()
        for node in nodes.values():
            node.monitor_nodes(lambda other, up, *reason: events(other, up, *reason) if other != "seed" else None)
        done = gevent.event.Event()
        sent = dict.fromkeys(nodes, 0)

        def produce(name: str, other: str) -> None:
            while not done.is_set():
                for _ in range(20):
                    nodes[name].send(ports[other].id, sent[name])
                    sent[name] += 1
                gevent.sleep(0.001)

        producers = [gevent.spawn(produce, "alice", "bob"), gevent.spawn(produce, "bob", "alice")]
        eventually(lambda: min(sent.values()) > 100)
        wall.heal()
        eventually(lambda: alice._core.ground.is_linked("bob") and bob._core.ground.is_linked("alice"))
        eventually(lambda: alice._core.network.peers["bob"].relay is None and bob._core.network.peers["alice"].relay is None)
        before = max(sent.values())
        eventually(lambda: min(sent.values()) > before + 100)
        done.set()
        gevent.joinall(producers, raise_error=True)
        for name, other in (("alice", "bob"), ("bob", "alice")):
            got = [ports[other].receive(timeout=20)[0] for _ in range(sent[name])]
            assert got == list(range(sent[name]))
        assert events.calls == []
        eventually(lambda: len(seed._core.mesh.router) == 0)


@pytest.fixture
def impatient(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[gmp.Node, gmp.Node, FaultProxy]]:
    """A private node that does not tolerate much, one that is relayed to it, and the proxy between that one and the seed."""
    monkeypatch.setattr("gmp.net.heartbeat.HEARTBEAT", 0.2)
    seed = make_node("seed", reached_at=["*"])
    with FaultProxy(seed.binds[0]) as proxy:
        alice = make_node("alice", binds=[], seeds=seed.binds, busy_after=0.6, hung_after=2.5)
        bob = make_node("bob", binds=[], seeds=[proxy.address])
        bob.wait_up(timeout=20)
        alice.wait_up("bob", timeout=20)
        assert not alice._core.ground.is_linked("bob")
        yield alice, bob, proxy
        bob.close()


def test_a_relayed_peer_that_is_silent_is_busy_and_is_told_of_when_it_is_back(
    impatient: tuple[gmp.Node, gmp.Node, FaultProxy], recorder: Recorder
) -> None:
    alice, _, proxy = impatient
    alice.monitor_busy(recorder)
    lost = Recorder()
    alice.monitor("bob", lost)
    eventually(lambda: alice.stats()["peers"]["bob"]["round_trip"] is not None)
    proxy.blackhole("forward")
    ((node_id, busy, seconds),) = recorder.wait(timeout=20)
    assert (node_id, busy) == ("bob", True)
    assert seconds >= 0.6
    assert alice.stats()["peers"]["bob"]["busy"] is True
    proxy.heal()
    assert [call[:2] for call in recorder.wait(2, timeout=20)] == [("bob", True), ("bob", False)]
    assert lost.calls == []


def test_a_relayed_peer_that_hangs_behind_a_living_seed_is_down_with_that_reason(
    impatient: tuple[gmp.Node, gmp.Node, FaultProxy], recorder: Recorder
) -> None:
    alice, bob, proxy = impatient
    died = Recorder()
    alice.monitor_nodes(recorder)
    alice.monitor(bob.port().id, died)
    proxy.blackhole("forward")
    ((node_id, up, *reason),) = recorder.wait(timeout=20)
    assert (node_id, up, reason[:2]) == ("bob", False, ["transport_error", "bob"])
    assert reason[2].startswith("hung: ")
    assert died.wait(timeout=20) == [tuple(reason)]
    proxy.heal()
    alice.wait_up("bob", timeout=20)


def test_nobody_speaks_for_others(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    seed = make_node("seed")
    alice = make_node("alice", binds=[], seeds=seed.binds)
    bob = make_node("bob", binds=[], seeds=seed.binds)
    for node in (alice, bob):
        node.wait_up("seed", timeout=20)
    bob.wait_up("alice", timeout=20)
    alice.send("seed", "gmp.relay", "open", "zzz", "bob", "carol", "inc")
    alice.send("seed", "gmp.relay", "lost", next(iter(seed._core.mesh.router._pairs)), "alice", "bob", "ha")
    alice.send("seed", "gmp.relay", 1, 2, 3, 4)
    alice.send("seed", "gmp.relay")
    alice.call("seed", "time")
    bob.call("alice", "time")
    assert not bob.is_up("carol")
    assert len(seed._core.mesh.router) == 1


# ---- hostile peers among certified ones


class Hostile:
    """A certified node whose program does what it likes: it calls itself a seed, claims others, and speaks for them."""

    def __init__(self, node: gmp.Node, *victims: gmp.Node) -> None:
        self.node, self.victims = node, victims
        self.port = node.port()

    def say(self, *request: Any) -> None:
        for victim in self.victims:
            self.node.send(victim.id, *request)

    def call_itself_global(self) -> None:
        self.say("g_global")

    def claim(self, owner: str, **ports: Any) -> None:
        """`owner` is attached here, newer than anything it has said itself."""
        self.say("gmp.claim", owner, "zzzzzzzzzzzz", 1 << 40, {"'l": {owner: []}, "g": ports})

    def open(self, origin: str, to: str, token: str = "zzzzzzzzzzzz00000001") -> None:
        self.say("gmp.relay", "open", token, to, origin, "zzzzzzzzzzzz")

    def barrier(self) -> None:
        for victim in self.victims:
            self.node.call(victim.id, "time", timeout=20)


def certified(make_node: MakeNode, authority: Authority, **more: Any) -> Callable[..., gmp.Node]:
    def make(name: str, *marks: str, **options: Any) -> gmp.Node:
        cert = authority.issue(name, name, *marks)
        return make_node(name, secret=None, cert=cert, cert_names=True, **more, **options)

    return make


def test_a_certified_peer_cannot_speak_for_a_node_that_it_relays(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a private node and to a seed: it is no configured seed of theirs, and its certificate does not say it is one."""
    make = certified(make_node, Authority())
    seed = make("seed")
    alice = make("alice", binds=[], seeds=seed.binds)
    public = make("public", seeds=seed.binds)
    for node in (alice, public):
        node.wait_up("seed", timeout=20)
    mallory = make("mallory", seeds=[*seed.binds, *public.binds])
    for node in (seed, public):
        mallory.wait_up(node.id, timeout=20)
    hostile = Hostile(mallory, seed, public)
    hostile.call_itself_global()
    hostile.claim("aaa", **{"aaa#x": None})
    hostile.claim("alice", **{"alice#x": None})
    for victim in ("seed", "public", "alice"):
        hostile.open("aaa", victim)
    hostile.barrier()
    alice.call("seed", "time")
    for node in (seed, public, alice):
        assert not node.is_up("aaa")
        assert "mallory" not in node._core.mesh.backbone.registry.globals
    assert seed._core.mesh.backbone.registry.claims.claimant("alice") == "seed"
    assert "aaa" not in seed._core.mesh.backbone.registry.claims
    assert list(seed.group("g").members()) == []
    assert len(seed._core.mesh.router) == 0
    assert public.call(echo(alice).id, "as ever", timeout=20) == ("echo", "as ever")


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "configured"])
def test_certified_seeds_relay_for_each_others_nodes(make_node: MakeNode, marked: bool) -> None:
    """The second seed is known to the first by its mark, or as one of its own seeds, whoever dialled first."""
    make = certified(make_node, Authority(), cert_seeds=marked)
    marks = [SEED_MARK] if marked else []
    first = make("seed1", *marks)
    if marked:
        second = make("seed2", *marks, seeds=first.binds)
        second._core.mesh.backbone.become_global()
    else:
        second = make("seed2")
        both = [first.binds[0], second.binds[0]]
        first.close()
        second.close()
        first, second = (make(node.id, binds=[bind], seeds=both) for node, bind in zip((first, second), both, strict=True))
    alice = make("alice", binds=[], seeds=first.binds)
    bob = make("bob", binds=[], seeds=second.binds)
    assert alice.call(echo(bob).id, "far", timeout=30) == ("echo", "far")
    assert bob.call(echo(alice).id, "back", timeout=30) == ("echo", "back")
    assert alice.stats()["peers"]["bob"]["address"] == "relayed by seed1"


def test_certified_seeds_that_list_each_other_become_seeds_by_that(make_node: MakeNode) -> None:
    make = certified(make_node, Authority())
    first, second = make("seed1"), make("seed2")
    both = [first.binds[0], second.binds[0]]
    first.close()
    second.close()
    first = make("seed1", binds=[both[0]], seeds=[both[1]])
    worker = make("worker", seeds=[both[0]])
    worker.wait_up("seed1", timeout=20)  # alone
    worker.group("g").join(port := worker.port())
    second = make("seed2", binds=[both[1]], seeds=[both[0]])
    other = make("other", seeds=[both[1]])
    assert list(other.group("g").wait(timeout=20)) == [port.id]
    eventually(lambda: first._core.mesh.backbone.is_global and second._core.mesh.backbone.is_global)


@pytest.mark.parametrize("marked", [True, False])
def test_a_certificate_tells_its_own_node_whether_it_is_a_seeds(make_node: MakeNode, marked: bool) -> None:
    node = certified(make_node, Authority())("n", *([SEED_MARK] if marked else []))
    assert node._core.ground.may_be_seed("n") is marked


def test_where_seeds_are_marked_who_answers_at_a_seeds_address_is_none_by_that(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    make = certified(make_node, Authority(), cert_seeds=True)
    mallory = make("mallory")
    with caplog.at_level(logging.WARNING, "gmp"):
        alice = make("alice", binds=[], seeds=mallory.binds)
        eventually(lambda: "its certificate is not marked as a seed's" in caplog.text)
    assert alice._core.mesh.backbone.master is None
    hostile = Hostile(mallory, alice)
    hostile.open("aaa", "alice")
    hostile.barrier()
    assert not alice.is_up("aaa")


def test_a_stranger_at_a_seeds_address_makes_nobody_a_seed_by_naming_him(make_node: MakeNode) -> None:
    """He has no certificate, and closes as a node does that is connected already."""
    make = certified(make_node, Authority())
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    seed = make("seed")
    alice = make("alice", seeds=[*seed.binds, f"127.0.0.1:{listener.getsockname()[1]}"])
    alice.wait_up("seed", timeout=20)
    mallory = make("mallory", seeds=seed.binds)
    mallory.wait_up("alice", timeout=20)
    try:
        for _ in range(3):
            sock, _address = listener.accept()
            line = f"aemp;1;mallory;tls_sha3_512;msgpack;gmp=1;role=accepted;tls=1.0;incarnation={mallory.incarnation}"
            sock.sendall(f"{line}\nnonce\n".encode())
            while sock.recv(1) != b"\n":
                pass
            sock.close()
        gevent.with_timeout(20, listener.accept)[0].close()  # so what came before has been judged
        assert alice._core.ground.is_linked("mallory")
        assert not alice._core.mesh.is_seed("mallory")
        assert not alice._core.ground.may_be_seed("mallory")
        assert alice._core.ground.may_be_seed("seed")
    finally:
        listener.close()


def test_a_seed_speaks_for_those_that_are_attached_to_it_only(make_node: MakeNode) -> None:
    make = certified(make_node, Authority())
    first = make("seed1", SEED_MARK)
    second = make("seed2", SEED_MARK, seeds=first.binds)
    second._core.mesh.backbone.become_global()
    alice = make("alice", binds=[], seeds=first.binds)
    bob = make("bob", binds=[], seeds=first.binds)
    for node in (alice, bob):
        first.wait_up(node.id, timeout=20)
    first.wait_up("seed2", timeout=20)
    hostile = Hostile(second, first)
    hostile.barrier()
    for origin in ("alice", "aaa"):
        hostile.open(origin, "bob")
    hostile.barrier()
    bob.call("seed1", "time")
    assert not bob.is_up("aaa")
    assert not bob.is_up("alice")
    assert len(first._core.mesh.router) == 0


def test_a_seed_does_not_speak_for_others_to_a_seed_either(make_node: MakeNode) -> None:
    """As above, but the way would end at the seed."""
    first = make_node("seed1")
    second = make_node("seed2", seeds=first.binds)
    second._core.mesh.backbone.become_global()
    second.wait_up("seed1", timeout=20)
    hostile = Hostile(second, first)
    hostile.say("g_global")
    hostile.open("aaa", "seed1")
    hostile.say("gmp.relay", "ask", "", "seed1", "zzz", "zzzzzzzzzzzz")
    hostile.say("gmp.relay", "dial", "", "seed1", "aaa", ["127.0.0.1:1"])
    hostile.barrier()
    assert not first.is_up("aaa")
    assert not first._core.mesh.detours._ways
    assert not first._core.mesh._dialling_back


def test_who_asks_to_be_dialled_is_dialled_now_and_then(private_pair: tuple[gmp.Node, ...]) -> None:
    """And at few addresses: nobody makes a node dial whole networks."""
    _, alice, bob = private_pair
    dialled: list[int] = []
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(40):
            server = StreamServer(("127.0.0.1", 0), lambda sock, _, number=number: (dialled.append(number), sock.close()))
            server.start()
            stack.callback(server.stop)
            servers.append(server)
        addresses = [f"127.0.0.1:{server.server_port}" for server in servers]
        for _ in range(20):
            alice.send("seed", "gmp.relay", "dial", "", "bob", "alice", addresses)
        eventually(lambda: bob._core.mesh._dialling_back.get("alice", float("inf")) < float("inf"))
        alice.send("seed", "gmp.relay", "dial", "", "bob", "alice", addresses)
        alice.call("seed", "time")
        bob.call("seed", "time")
        assert sorted(dialled) == list(range(MOST_DIALLED))


def test_nobody_takes_the_way_of_another_pair(private_pair: tuple[gmp.Node, ...], make_node: MakeNode) -> None:
    seed, alice, bob = private_pair
    port = echo(bob)
    assert alice.call(port.id, 1, timeout=20) == ("echo", 1)
    token = next(iter(seed._core.mesh.router._pairs))
    other = make_node("other", binds=[], seeds=seed.binds)
    other.wait_up("seed", timeout=20)
    other.send("seed", "gmp.relay", "open", token, "bob", "other", "zzzzzzzzzzzz")
    other.call("seed", "time")
    assert seed._core.mesh.router._pairs[token].ends == ("alice", "bob")
    assert alice.call(port.id, 2, timeout=20) == ("echo", 2)


def test_cert_names_without_tls_or_cert_seeds_without_cert_names_is_refused() -> None:
    cert = Authority().issue("n")
    for options in ({"cert_names": True}, {"cert_names": True, "cert": cert, "require_tls": False}):
        with pytest.raises(gmp.ConfigError, match="cert_names is set, but connections without TLS"):
            gmp.Node("n", binds=[], secret="geheim", **options)  # type: ignore[arg-type]
    with pytest.raises(gmp.ConfigError, match="cert_seeds is set without cert_names"):
        gmp.Node("n", binds=[], cert=cert, cert_seeds=True)


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids=["who asks", "who opens"])
def test_a_way_whose_request_was_lost_is_asked_for_again(make_node: MakeNode, names: tuple[str, str]) -> None:
    """The one with the smaller ID opens, the other asks it to: either may be lost with a connection behind the seed."""
    cut_off, other = names
    seed = make_node("seed", seeds=[], reached_at=["*"])
    with FaultProxy(seed.binds[0]) as proxy:
        there = make_node(cut_off, binds=[], seeds=[proxy.address])
        here = make_node(other, binds=[], seeds=seed.binds, connect_timeout=0.5)
        group = here.group("echoes")
        port = echo(there)
        there.group("echoes").join(port)
        group.wait(timeout=20)
        proxy.blackhole("back")
        for _ in range(2):
            with pytest.raises(gmp.PortDied):
                here.call(port.id, "is lost on the way", timeout=20)
        proxy.heal()
        proxy.reset()
        eventually(lambda: not seed.is_up(cut_off))
        eventually(lambda: seed.is_up(cut_off) and there.is_up("seed"))

        def answered() -> bool:
            try:
                return here.call(port.id, "hi", timeout=5) == ("echo", "hi")
            except gmp.PortDied:  # it has not attached to its seed yet
                return False

        eventually(answered)


@pytest.mark.parametrize("framings", [["msgpack"], ["cbor"]])
def test_what_is_sent_while_a_connection_replaces_a_way_arrives_in_whatever_framing_that_has(
    make_node: MakeNode, framings: list[str]
) -> None:
    seed = make_node("seed")
    alice, bob = (make_node(name, seeds=seed.binds, framings=framings, binds=[]) for name in ("alice", "bob"))
    for node in (alice, bob):
        node.wait_up(timeout=20)
    lost, port = Recorder(), bob.port()
    alice.wait_up("bob", timeout=20)
    alice.monitor("bob", lost)
    bob._core.network.listen([parse_bind("127.0.0.1:0")])
    peer, sent = alice._core.network.peers["bob"], 0
    dial = gevent.spawn(alice._core.network.dial, parse_bind(bob._core.network.binds[0]), expect="bob")
    while not dial.ready() or peer.relay is not None:
        alice.send(port.id, sent)
        sent += 1
        gevent.sleep(0)
    alice.send(port.id, sent)
    assert [port.receive(timeout=20)[0] for _ in range(sent + 1)] == list(range(sent + 1))
    assert lost.calls == []
    assert peer.is_linked


@pytest.mark.parametrize("by_json", ["alice", "bob"])
def test_over_a_connection_by_json_nothing_is_relayed_and_whoever_sends_is_told_at_once(
    make_node: MakeNode, by_json: str
) -> None:
    seed = make_node("seed")
    nodes = {
        name: make_node(name, seeds=seed.binds, binds=[], **({"framings": ["json"]} if name == by_json else {}))
        for name in ("alice", "bob")
    }
    for node in nodes.values():
        node.wait_up(timeout=20)
    for near, far in (("alice", "bob"), ("bob", "alice")):
        for _ in range(2):
            told = Recorder()
            nodes[near].monitor(nodes[far].port().id, told)
            (reason,) = told.wait(timeout=5)
            assert "json" in reason[2]
    assert len(seed._core.mesh.router) == 0


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids=["who opens", "who asks"])
def test_a_private_node_that_comes_back_with_its_clock_set_back_is_reached_again(names: tuple[str, str]) -> None:
    """What it opens looks like what its former life may have sent, until it answers what was asked of it since."""
    name, other = names
    with Simulation(1) as sim:
        sim.node("seed")
        sim.node(name, lambda node: node.group("them").join(node.port()), binds=[])
        sim.node(other, binds=[])
        group = sim[other].group("them")
        sim.run_until(group.members)
        sim[other].call(name, "time")
        sim.crash(name)
        sim.run(1)
        sim.jump_clock(name, -3600)
        sim.restart(name)
        sim.run_until(lambda: not group.members())
        sim.run_until(group.members, timeout=5)


class Middle:
    """The ground, backbone and router of a private node: what it asks its master for is kept."""

    id, incarnation, master, is_global, globals = "alice", "1", "seed", False, ("seed",)

    def __init__(self) -> None:
        self.registry = self
        self.requests: list[tuple[Any, ...]] = []

    def request(self, *request: Any) -> None:
        self.requests.append(request)

    def admits(self, *_: str) -> bool:
        return True

    carries_bytes = admits

    def next_number(self) -> int:
        return 1

    def relayed(self, *_: Any) -> None:
        return None


def test_who_waits_for_a_way_is_told_that_a_former_life_of_the_node_has_accepted_it() -> None:
    """race: a search ended as the node has connected, its next life; that is lost, and the next search waits for the way."""
    middle: Any = Middle()
    detours = Detours(middle, middle, middle, lambda *_: None)
    failed = Recorder()
    detours.open("bob", lambda why: None)
    ((_, name, _, token, *_),) = middle.requests
    detours.give_up("bob", found=True)
    detours.open("bob", failed)
    detours.handle("seed", "accept", token, "alice", "bob", "0")
    assert failed.calls == [("of a former incarnation",)]
    assert middle.requests[1:] == [("seed", name, "lost", token, "bob", "alice", "of a former incarnation")]
    detours.open("bob", failed)
    assert middle.requests[2][2] == "open"
