"""A network of many nodes with real sockets: it comes together in any order, and stays together when seeds die."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gevent
import pytest

import gmp
from gmp.config import Address
from gmp.kernel.ground import MeshGround
from gmp.mesh import claims, seeds
from gmp.net.reasons import CloseReason
from gmp.testing import FaultProxy
from tests.addresses import free_addresses
from tests.conftest import Recorder, eventually
from tests.perl_peer import PerlListener, PerlPeer
from tests.test_nodes import echo

MakeNode = Callable[..., gmp.Node]


def crash(node: gmp.Node) -> None:
    """End a node as SIGKILL does: its sockets close, nobody is told anything."""
    node._core.mesh.stop()
    node._core.network.close()
    node.close()


def check_one_network(nodes: list[gmp.Node], timeout: float = 30.0) -> None:
    """Every node has all others in its group, and every two seeds are connected."""
    expected = {node.id for node in nodes}
    for node in nodes:
        members = node.group("all").wait(len(nodes), timeout=timeout)
        assert {gmp.node_of(port_id) for port_id in members} == expected


def start_all(make_node: MakeNode, addresses: list[str], names: list[str]) -> list[gmp.Node]:
    nodes = []
    for name in names:
        number = int(name[4:])
        binds = [addresses[number]] if name.startswith("seed") else ["127.0.0.1:0"]
        nodes.append(make_node(name, binds=binds, seeds=addresses))
        nodes[-1].group("all").join(nodes[-1].port())
    return nodes


@pytest.mark.parametrize("order", range(2))
def test_a_cold_start_in_any_order_becomes_one_network(make_node: MakeNode, order: int) -> None:
    names = [f"seed{number}" for number in range(3)] + [f"node{number}" for number in range(5)]
    random.Random(order).shuffle(names)
    nodes = start_all(make_node, free_addresses(3), names)
    check_one_network(nodes)
    by_name = {node.id: node for node in nodes}
    assert all(by_name[f"seed{number}"]._core.mesh.backbone.is_global for number in range(3))
    eventually(lambda: all(set(node.up_nodes()) == {"seed0", "seed1", "seed2"} for node in nodes if "node" in node.id))
    eventually(lambda: all(len(node.stats()["seeds"]) == (2 if "seed" in node.id else 3) for node in nodes))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_cold_starts_of_three_seeds_and_twenty_nodes_are_always_one_network() -> None:
    for number in range(50):
        rng = random.Random(number)
        names = [f"seed{number}" for number in range(3)] + [f"node{number}" for number in range(20)]
        rng.shuffle(names)
        nodes: list[gmp.Node] = []

        def make(name: str, nodes: list[gmp.Node] = nodes, rng: random.Random = rng, **settings: Any) -> gmp.Node:
            gevent.sleep(rng.random() * 0.02)
            nodes.append(gmp.Node(name, secret="geheim", **settings).start())
            return nodes[-1]

        try:
            start_all(make, free_addresses(3), names)
            check_one_network(nodes)
        finally:
            gevent.joinall([gevent.spawn(node.close) for node in nodes], raise_error=True)


@pytest.mark.slow
def test_all_seeds_are_killed_and_restarted_and_everyone_is_back(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "MOST_DELAY", 1.0)
    addresses = free_addresses(3)
    first = start_all(make_node, addresses, ["seed0", "seed1", "seed2"])
    nodes = start_all(make_node, addresses, [f"node{number}" for number in range(6)])
    check_one_network([*first, *nodes])
    for seed in first:
        crash(seed)
    eventually(lambda: all(node._core.mesh.backbone.master is None for node in nodes))
    again = start_all(make_node, addresses, ["seed2", "seed0", "seed1"])
    check_one_network([*again, *nodes])


def test_a_node_that_is_just_starting_is_found_as_soon_as_it_is_known(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gmp.mesh.connector.ASK_AGAIN", 30.0)  # longer than a search may take
    seed = make_node("seed")
    here = make_node("here", seeds=seed.binds)
    here.wait_up(timeout=20)
    port = make_node("late", seeds=seed.binds).port()
    here.send(port.id, "welcome")  # the seed does not know it yet
    assert port.receive(timeout=20) == ("welcome",)


@pytest.mark.parametrize("how", ["crash", "leave"])
def test_the_master_is_killed_and_no_group_flaps(make_node: MakeNode, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "GRACE", 1.0)
    addresses = free_addresses(3)
    nodes = [make_node(f"seed{number}", binds=[addresses[number]], seeds=addresses) for number in range(3)]
    members = start_all(make_node, addresses, [f"node{number}" for number in range(5)])
    nodes += members
    for node in nodes:
        node.group("all").wait(5, timeout=20)
    for node in members:
        eventually(lambda node=node: {"seed0", "seed1", "seed2"} <= set(node.up_nodes()))
    removals = Recorder()
    for node in nodes:
        node.group("all").monitor(
            lambda _, added, changed, gone, node=node: gone and node in nodes and removals(node.id, gone)
        )
    for _ in range(2):
        masters = [node._core.mesh.backbone.master for node in members]
        dead = next(node for node in nodes if node.id == masters[0])
        nodes.remove(dead)
        (crash if how == "crash" else gmp.Node.close)(dead)
        eventually(lambda dead=dead: all(node._core.mesh.backbone.master not in (None, dead.id) for node in members))
        gevent.sleep(1.3)  # over the time of grace: whoever was not claimed again is gone now
        assert removals.calls == []
        for node in nodes:
            assert len(node.group("all").members()) == 5


def test_ports_of_a_lost_node_are_hidden_and_return_with_it(make_node: MakeNode) -> None:
    seed = make_node("seed")
    with FaultProxy("127.0.0.1:1") as proxy:
        bob = make_node("bob", seeds=seed.binds, advertise=[proxy.address])
        proxy.target = bob.binds[0]
        alice = make_node("alice", seeds=seed.binds, advertise=[])
        port = echo(bob)
        bob.group("g").join(port)
        alice.group("g").wait(timeout=20)
        assert alice.call(port.id, 1, timeout=20) == ("echo", 1)
        changes = Recorder()
        alice.group("g").monitor(lambda members, added, changed, removed: changes(len(added), len(removed)))
        changes.wait(1)
        proxy.reset()
        assert changes.wait(3)[1:] == [(0, 1), (1, 0)]
        assert list(alice.group("g").members()) == [port.id]


def test_a_proxy_that_ends_all_connections_of_a_seed_ends_nobodys_membership(make_node: MakeNode) -> None:
    """race: for the seed all nodes have ended, first the other seed, which still has the member and reports nothing new."""
    two = make_node("two", reached_at=["*"])
    with FaultProxy(two.binds[0]) as proxy:
        one = make_node("one", seeds=[proxy.address])
        one.wait_up("two", timeout=20)
        proxy.refuse()
        three = make_node("three", seeds=[*one.binds, proxy.address], binds=[])
        three.wait_up(timeout=20)
        proxy.heal()
        three.group("g").join(port := three.port())
        assert list(two.group("g").wait(timeout=20)) == [port.id]
        changes = Recorder()
        two.group("g").monitor(lambda members, *_: changes(list(members)))
        eventually(lambda: two.is_up("three"))
        proxy.cut()
        changes.wait(3, timeout=20)
        assert changes.calls == [([port.id],), ([],), ([port.id],)]


def test_a_restarted_member_is_seen_again_though_nobody_talks_to_it(make_node: MakeNode) -> None:
    seed = make_node("seed")
    alice = make_node("alice", seeds=seed.binds)
    for generation in range(3):
        bob = make_node("bob", seeds=seed.binds)
        port = echo(bob)
        bob.group("g").join(port)
        eventually(lambda port=port: list(alice.group("g").members()) == [port.id])
        assert alice.call(port.id, generation, timeout=20) == ("echo", generation)
        crash(bob)
        eventually(lambda: not alice.group("g").members())


def test_a_slave_becomes_global_when_asked_and_its_groups_do_not_flap(make_node: MakeNode) -> None:
    seed = make_node("seed")
    middle = make_node("middle", seeds=seed.binds)
    end = make_node("end", seeds=seed.binds)
    for node in (seed, middle, end):
        node.group("all").join(node.port())
    for node in (seed, middle, end):
        node.group("all").wait(3, timeout=20)
    removals = Recorder()
    for node in (seed, middle, end):
        node.group("all").monitor(lambda _, added, changed, gone: gone and removals(gone))
    late = make_node("late", seeds=middle.binds)
    late.group("all").join(late.port())
    for node in (seed, middle, end, late):
        node.group("all").wait(4, timeout=20)
    assert middle._core.mesh.backbone.is_global
    assert removals.calls == []
    assert late.call("end", "time", timeout=20)


# ---- as the Perl side sees it


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_is_a_slave_of_a_gmp_seed(make_node: MakeNode, framing: str) -> None:
    seed = make_node("seed", seeds=["127.0.0.1:1"])
    node = make_node("node", seeds=seed.binds)
    group = node.group("Fam")
    with PerlPeer.dial(seed.binds[0], "PerlS", framing=framing) as perl:
        perl.request("g_slave")
        perl.expect("", "g_global")
        perl.request("g_slave", {"'l": {"PerlS": ["127.0.0.1:4042"]}, "Fam": {"PerlS#b": "v"}})
        perl.request("g_mon1", "Fam")
        assert perl.expect("", "g_chg1", "Fam") == [{"PerlS#b": "v"}]
        assert group.wait(timeout=20) == {"PerlS#b": "v"}
        port = node.port()
        group.join(port, 7)
        assert perl.expect("", "g_chg2", "Fam") == [{port.id: 7}, []]
        perl.request("g_upd", "Fam", {"PerlS#c": None}, ["PerlS#b"])
        eventually(lambda: group.members() == {"PerlS#c": None, port.id: 7})
        perl.request("g_find", "node")
        assert perl.expect("", "g_found", "node") == [node.binds]
        perl.request("g_find", "Nobody")
        assert perl.expect("", "g_found", "Nobody") == [None]
        for name in ("family", "keys", "values"):
            perl.request(f"g_db_{name}", "Fam", "id1")
            (answer,) = perl.expect("", "g_reply", "id1")
            assert len(answer) == 2
        perl.request("g_db_family", "Nothing", "id2")
        assert perl.expect("", "g_reply", "id2") == [{}]
        perl.request("g_mon1", "Nothing")
        assert perl.expect("", "g_chg1", "Nothing") == [None]
        perl.request("g_mon0", "Fam")
        perl.barrier()
        port.kill()
        eventually(lambda: group.members() == {"PerlS#c": None})
        perl.barrier()
        assert not [message for message in perl.log if message[1:2] == ["g_chg2"] and port.id in str(message)]
        assert not [message for message in perl.log if str(message[1:2]).startswith("['gmp.")]
    eventually(lambda: not group.members())


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_gmp_node_is_a_slave_of_a_perl_seed(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    def answer(perl: PerlPeer, name: str, *args: Any) -> None:
        if name != "g_find":  # which this test answers itself
            handle_request(perl, name, *args)

    handle_request = PerlPeer._handle_request
    monkeypatch.setattr(PerlPeer, "_handle_request", answer)
    with PerlListener("PerlSeed", framing=framing) as listener:
        node = make_node("node", seeds=[listener.bind])
        node.group("Fam").monitor(recorder)
        with listener.accept() as perl:
            assert perl.expect("", "g_slave") == []
            (database,) = perl.expect("", "g_slave")
            assert database == {"'l": {"node": node.binds}}
            assert perl.expect("", "g_mon1", "Fam") == []
            perl.request("g_global")
            perl.request("g_chg1", "Fam", {"PerlX#b": 1})
            assert recorder.wait(2)[1] == ({"PerlX#b": 1}, ["PerlX#b"], [], [])
            perl.request("g_chg2", "Fam", {"PerlX#b": 2, "PerlX#c": 3}, [])
            assert recorder.wait(3)[2] == ({"PerlX#b": 2, "PerlX#c": 3}, ["PerlX#c"], ["PerlX#b"], [])
            port = node.port()
            node.group("Fam").join(port, "mine")
            assert perl.expect("", "g_upd", "Fam") == [{port.id: "mine"}, []]
            port.kill()
            assert perl.expect("", "g_upd", "Fam") == [{}, [port.id]]
            node.send("Elsewhere#b", "hello")
            assert perl.expect("", "g_find") == ["Elsewhere"]
            with PerlListener("Elsewhere", framing=framing) as elsewhere:
                perl.request("g_found", "Elsewhere", [elsewhere.bind])
                with elsewhere.accept() as other:
                    assert other.expect("b", "hello") == []
            assert not [message for message in perl.log if str(message[1:2]).startswith("['gmp.")]
        with listener.accept() as again:
            again.expect("", "g_slave")
            assert again.expect("", "g_mon1") == ["Fam"]
            again.request("g_chg1", "Fam", {"PerlX#c": 3})
            eventually(lambda: node.group("Fam").members() == {"PerlX#c": 3})


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_gmp_seed_and_a_perl_seed_share_one_directory(make_node: MakeNode, framing: str) -> None:
    seed = make_node("seed")
    slave = make_node("slave", seeds=seed.binds)
    slave.group("Fam").join(port := slave.port(), 1)
    seed.group("Fam").wait(timeout=20)
    with PerlPeer.dial(seed.binds[0], "PerlG", framing=framing) as perl:
        perl.request("g_global")
        perl.expect("", "g_global")
        (database,) = perl.expect("", "g_set")
        assert database["Fam"] == {port.id: 1}
        assert database["'l"]["slave"] == slave.binds
        perl.request("g_set", {"'g": {"PerlG": None}, "Fam": {"PerlY#b": 2}})
        assert slave.group("Fam").wait(2, timeout=20) == {port.id: 1, "PerlY#b": 2}
        perl.request("g_upd", "Fam", {"PerlY#c": 3}, ["PerlY#b"])
        eventually(lambda: slave.group("Fam").members() == {port.id: 1, "PerlY#c": 3})
        port.kill()
        assert perl.expect("", "g_upd", "Fam") == [{}, [port.id]]
    eventually(lambda: not slave.group("Fam").members())


def test_a_seed_whose_connection_is_lost_before_its_dial_is_told_becomes_the_master_later(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = make_node("seed", seeds=[])
    dial = MeshGround.dial
    lost: list[str] = []

    def dial_and_lose(ground: MeshGround, address: Address, *, expect: str = "") -> str:
        node_id = dial(ground, address, expect=expect)
        if not lost:
            lost.append(node_id)
            connection = ground._host.network.peers[node_id].connection
            assert connection is not None
            connection.close(CloseReason.RESET)
            eventually(lambda: not ground.is_up(node_id))
        return node_id

    monkeypatch.setattr(MeshGround, "dial", dial_and_lose)
    node = make_node("node", binds=[], seeds=seed.binds)
    assert node.master is None or node.is_up("seed")
    port = node.port()
    node.group("members").join(port)
    assert list(seed.group("members").wait(timeout=20)) == [port.id]
    assert lost == ["seed"]
