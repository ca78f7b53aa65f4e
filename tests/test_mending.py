"""What an interrupt has ended goes on: searches for ways, the greenlet of the seeds, ways that wait for a loss.

The interrupt is an exception of its own, as the main greenlet would get Ctrl-C itself.
"""

from __future__ import annotations

from typing import Any

import gevent
import gevent.event
import pytest

import gmp
from gmp.mesh.directory import Directory
from gmp.mesh.queries import Queries
from gmp.net.peer import Peer
from gmp.net.peerstate import PeerState
from gmp.net.reasons import CloseReason
from gmp.wire.requests import G_MON0, G_MON1


class Strike(BaseException):
    """As Ctrl-C."""


@pytest.fixture(autouse=True)
def _may_strike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is told of it, as the main greenlet would be."""
    hub = gevent.get_hub()
    monkeypatch.setattr(hub, "exception_stream", None)
    monkeypatch.setattr(hub, "NOT_ERROR", (*hub.NOT_ERROR, Strike))


def test_a_struck_search_is_begun_again_and_its_failure_told() -> None:
    with gmp.Node("near", binds=[], seeds=[], secret="geheim", connect_timeout=1.0).start() as node:
        told: gevent.event.AsyncResult[Any] = gevent.event.AsyncResult()
        node.monitor("nobody#port", lambda *reason: told.set(reason))
        node.send("nobody#port", "waits")
        reactions, peer = node._core.reactions, node._core.network.peers["nobody"]
        gevent.sleep(0)
        reactions._searching[peer].kill(Strike)
        assert peer.state is PeerState.CONNECTING
        assert told.get(timeout=20)[0] == "transport_error"
        assert peer.dropped == 2  # the request for the monitor, and the message


def test_a_struck_greenlet_of_the_seeds_is_begun_again() -> None:
    with (
        gmp.Node("far", binds=["127.0.0.1:0"], seeds=[], secret="geheim").start() as far,
        gmp.Node("near", binds=[], seeds=far.binds, secret="geheim").start() as near,
    ):
        near.wait_up("far", timeout=20)
        up = gevent.event.Event()
        near.monitor_nodes(lambda _node_id, is_up, *_reason: is_up and up.set())
        seeds: Any = near._core.mesh._seeds
        seeds._greenlet.kill(Strike)
        connection: Any = near._core.network.peers["far"].connection
        connection.close(CloseReason.RESET)
        assert up.wait(20)


class Events:
    """`PeerEvents` that do nothing."""

    def peer_wanted(self, peer: Peer) -> None: ...
    def peer_up(self, peer: Peer) -> None: ...
    def peer_lost(self, peer: Peer, reason: tuple[Any, ...], was_up: bool) -> None: ...


def lost_peer() -> Peer:
    peer = Peer("far", Events(), max_message=1000, high_mark=1000, low_mark=100)
    peer.cut_off()
    return peer


def test_a_way_whose_taking_is_struck_is_taken_again_before_the_others() -> None:
    peer, calls = lost_peer(), list[str]()

    def struck_once() -> None:
        calls.append("first")
        if len(calls) == 1:
            raise Strike

    peer.after_loss(struck_once)
    peer.after_loss(lambda: calls.append("second"))
    peer.told()
    with pytest.raises(Strike):
        peer.go_on()
    peer.go_on()
    peer.go_on()
    assert calls == ["first", "first", "second"]


def test_ways_behind_one_that_is_lost_at_once_wait_for_that_loss() -> None:
    peer, calls = lost_peer(), list[str]()

    def lost_again() -> None:
        calls.append("first")
        peer.cut_off()

    peer.after_loss(lost_again)
    peer.after_loss(lambda: calls.append("second"))
    peer.told()
    peer.go_on()
    assert calls == ["first"]
    peer.told()
    peer.go_on()
    assert calls == ["first", "second"]


def test_a_way_that_waits_behind_a_loss_is_not_taken_by_a_node_that_is_closed_meanwhile() -> None:
    peer, calls = lost_peer(), list[str]()
    peer.after_loss(lambda: calls.append("before its end"))
    peer.close()
    peer.told()
    peer.go_on()
    assert calls == []

    peer = lost_peer()

    def close() -> None:
        calls.append("closes")
        peer.close()

    peer.after_loss(close)
    peer.after_loss(lambda: calls.append("behind that"))
    peer.told()
    peer.go_on()
    assert calls == ["closes"]


class NoGround:
    """A `Ground` that asks nobody."""

    id = "seed"

    def request(self, node_id: str, *request: Any) -> None: ...


class NoBorder:
    """A border at which nothing is changed."""

    def shown(self, family: str, entries: Any, *_: Any, **__: Any) -> Any:
        return entries

    def __getattr__(self, name: str) -> Any:
        return self.shown


def test_a_subscription_that_is_removed_in_part_can_be_removed_again() -> None:
    queries = Queries(NoGround(), Directory("seed"), 10, NoBorder())  # type: ignore[arg-type]
    for node_id in ("one", "two"):
        queries.requests[G_MON1](node_id, "family")
    queries._subscribers["family"].pop("one")  # as far as an interrupt let it come
    queries.node_down("one")
    queries.node_down("one")
    queries.requests[G_MON0]("two", "family")
    assert queries._subscribers == {}
    queries.requests[G_MON1]("one", "family")
    assert queries._subscribers == {"family": {"one": "family"}}
