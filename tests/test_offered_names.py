"""Names that services offer to other nodes, and how a node learns which nodes there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import gmp
from tests.conftest import Recorder, eventually

MakeNode = Callable[..., gmp.Node]
NAME = "My::Service::connect"


def test_a_peer_calls_an_offered_name_until_it_is_withdrawn(make_node: MakeNode, recorder: Recorder) -> None:
    server = make_node("server")
    client = make_node("client", seeds=server.binds)
    withdraw = server.offer(NAME, recorder)
    client.send("server", NAME, 0, "text")
    assert recorder.wait() == [("client", 0, "text")]
    assert client.call("server", "can", NAME) == ("1",)
    withdraw()
    assert client.call("server", "can", NAME) == ("",)
    client.send("server", NAME, 1)
    client.call("server", "time")  # a barrier: what was sent before has been looked at
    assert len(recorder.calls) == 1


def test_the_own_node_calls_what_it_offers(make_node: MakeNode, recorder: Recorder) -> None:
    node = make_node("alone")
    node.offer(NAME, recorder)
    node.send("alone", NAME, 1)
    assert recorder.wait() == [("alone", 1)]


@pytest.mark.parametrize("name", [NAME, "mon1", "g_slave"])
def test_a_name_that_is_taken_cannot_be_offered(make_node: MakeNode, name: str) -> None:
    node = make_node("alone")
    node.offer(NAME, print)
    with pytest.raises(gmp.ConfigError, match=name):
        node.offer(name, print)


def test_a_withdrawal_does_not_end_what_was_offered_afterwards(make_node: MakeNode, recorder: Recorder) -> None:
    node = make_node("alone")
    first = node.offer(NAME, print)
    first()
    node.offer(NAME, recorder)
    first()
    node.send("alone", NAME, 2)
    assert recorder.wait() == [("alone", 2)]


def test_every_node_of_the_network_becomes_known(make_node: MakeNode, recorder: Recorder) -> None:
    seed = make_node("seed")
    one = make_node("one", seeds=seed.binds)
    two = make_node("two", seeds=seed.binds, binds=[])
    stop = one.monitor_known_nodes(recorder)
    for node in (seed, one, two):
        eventually(lambda node=node: node.known_nodes() == ["one", "seed", "two"])
    eventually(lambda: recorder.calls[-1][0] == ["one", "seed", "two"])
    two.close()
    eventually(lambda: one.known_nodes() == ["one", "seed"])
    eventually(lambda: recorder.calls[-1] == (["one", "seed"], [], ["two"]))
    stop()
