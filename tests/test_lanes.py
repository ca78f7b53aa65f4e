"""Large and small messages on one connection: small ones overtake, and order between two ports holds all the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gevent
import pytest

import gmp
from gmp.net.lanes import LARGE, SlowLane

from .certificates import self_signed
from .conftest import eventually

MakeNode = Callable[..., gmp.Node]
CERT = self_signed()


@pytest.fixture(params=["plain", "TLS"])
def pair(make_node: MakeNode, request: pytest.FixtureRequest) -> tuple[gmp.Node, gmp.Node]:
    """Two connected nodes."""
    security = {"cert": CERT} if request.param == "TLS" else {}
    far = make_node("far", **security)
    near = make_node("near", seeds=far.binds, **security)
    near.wait_up("far", timeout=20)
    return near, far


def logged(node: gmp.Node, log: list[Any], name: str) -> str:
    """The ID of a port that writes into `log` what comes."""
    port = node.port()
    port.on("m", lambda number, data: log.append((name, number, len(data))))
    return port.id


def test_a_small_message_overtakes_large_ones_for_another_port(pair: tuple[gmp.Node, gmp.Node]) -> None:
    near, far = pair
    log: list[Any] = []
    large, small = logged(far, log, "large"), logged(far, log, "small")
    near.send(large, "m", -1, b"")
    near.send(small, "m", -1, b"")
    eventually(lambda: len(log) == 2)
    for number in range(40):  # without a turn of the loop the socket takes only some of them
        near._core.send_soon(large, "m", number, b"x" * (1 << 20))
    near._core.send_soon(small, "m", 0, b"")
    eventually(lambda: len(log) == 43)
    order = [name for name, _, _ in log[2:]]
    assert order.index("small") < 30
    assert [number for name, number, _ in log[2:] if name == "large"] == list(range(40))


@pytest.mark.parametrize("seed", range(4))
def test_order_between_two_ports_holds_whatever_the_sizes(pair: tuple[gmp.Node, gmp.Node], seed: int) -> None:
    near, far = pair
    rng = random.Random(seed)
    log: list[Any] = []
    ports = {name: logged(far, log, name) for name in "abcd"}
    sent = []
    for number in range(400):
        name = rng.choice("abcd")
        size = rng.choice((0, 0, 10, 100, LARGE - 100, LARGE, 4 * LARGE, 10 * LARGE))
        sent.append((name, number, size))
        near._core.send_soon(ports[name], "m", number, bytes(size))
        if rng.random() < 0.05:
            gevent.sleep(0)
    eventually(lambda: len(log) == len(sent))
    for name in "abcd":
        assert [entry for entry in log if entry[0] == name] == [entry for entry in sent if entry[0] == name]


def test_nothing_overtakes_a_request_to_the_node_port_or_is_overtaken_by_one(pair: tuple[gmp.Node, gmp.Node]) -> None:
    near, far = pair
    log: list[Any] = []
    sink, other = logged(far, log, "sink"), logged(far, log, "other")
    for number in range(30):
        near._core.send_soon(sink, "m", number, bytes(1 << 20))
    near._core.send_soon("far", "snd", sink, "m", 30, b"")  # would be first if it overtook the large ones
    near._core.send_soon("far", "snd", other, "m", 31, b"")
    near._core.send_soon(other, "m", 32, b"")  # would be before 31 if it overtook the request
    eventually(lambda: len(log) == 33)
    assert [number for name, number, _ in log if name == "sink"] == list(range(31))
    assert [number for name, number, _ in log if name == "other"] == [31, 32]


def test_the_lane_keeps_what_is_for_a_port_that_waits_in_it_and_everything_behind_a_request() -> None:
    lane = SlowLane()
    big, small = bytes(LARGE), b""
    assert not lane.is_for("a", small)
    assert not lane.is_for("", small)
    assert lane.is_for("a", big)
    lane.put("a", big)
    assert lane.is_for("a", small)
    assert not lane.is_for("b", small)
    assert lane.is_for("", small)
    lane.put("", small)
    assert lane.is_for("b", small)
    popped: list[bytes | memoryview] = []
    assert lane.pop_into(popped)
    assert lane.pop_into(popped)
    assert not lane.pop_into(popped)
    assert popped == [big, small]
    assert not lane
    assert not lane.is_for("a", small)


def test_a_sender_waits_above_the_high_mark_and_all_that_wait_get_their_turn(make_node: MakeNode) -> None:
    far = make_node("far")
    near = make_node("near", seeds=far.binds, high_mark=200_000, low_mark=100_000)
    near.wait_up("far", timeout=20)
    port = far.port()
    done: list[int] = []

    def produce(which: int) -> None:
        for number in range(30):
            near.send(port.id, which, number, bytes(50_000))
        done.append(which)

    producers = [gevent.spawn(produce, which) for which in range(4)]
    gevent.joinall(producers, raise_error=True, timeout=50)
    assert sorted(done) == [0, 1, 2, 3]
    got = [port.receive(timeout=20)[:2] for _ in range(120)]
    for which in range(4):
        assert [number for producer, number in got if producer == which] == list(range(30))
    positions = {which: [place for place, (producer, _) in enumerate(got) if producer == which] for which in range(4)}
    assert max(places[0] for places in positions.values()) < 60  # nobody starved until the others were done
