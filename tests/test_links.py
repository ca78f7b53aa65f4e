"""Links and monitors between ports of several nodes: each end here, there, on a third node, on a Perl-like one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import gmp

from .conftest import Recorder, eventually
from .processes import Processes

MakeNode = Callable[..., gmp.Node]


@pytest.fixture
def nodes(make_node: MakeNode) -> dict[str, gmp.Node]:
    """Three that are connected: what is sent between them arrives."""
    here = make_node("here")
    found = {"here": here, **{name: make_node(name, seeds=here.binds) for name in ("there", "elsewhere")}}
    for name in ("there", "elsewhere"):
        found[name].wait_up("here", timeout=10)
    return found


def settle(node: gmp.Node, *others: str) -> None:
    """What `node` has asked of `others` was done: messages between two nodes keep their order."""
    for other in others:
        if other != node.id:
            node.call(other, "time", timeout=10)


PLACES = ["here", "there", "elsewhere"]


@pytest.mark.parametrize(("place_a", "place_b"), list(itertools.product(PLACES[:2], PLACES)))
def test_a_link_kills_the_other_end_whichever_dies_wherever_both_are(
    nodes: dict[str, gmp.Node], place_a: str, place_b: str
) -> None:
    here = nodes["here"]
    for first in (0, 1):
        ports = [nodes[place_a].port(), nodes[place_b].port()]
        here.link(ports[0].id, ports[1].id)
        settle(here, place_a, place_b)
        ports[first].kill("broken", 7)
        assert ports[1 - first].join(10)
        assert ports[1 - first].reason == ("broken", 7)


@pytest.mark.parametrize(("place_a", "place_b"), list(itertools.product(PLACES[:2], PLACES)))
def test_a_normal_death_and_a_cancelled_link_leave_the_other_alive(
    nodes: dict[str, gmp.Node], place_a: str, place_b: str
) -> None:
    here = nodes["here"]
    a, b, c = nodes[place_a].port(), nodes[place_b].port(), nodes[place_b].port()
    here.link(a, b)
    monitors = here.link(a, c)
    for monitor in monitors:
        monitor.cancel()
    told = nodes[place_b].port()
    here.monitor(a.id, told.id, "down")
    settle(here, place_a, place_b)
    a.kill()
    assert told.receive(timeout=10) == ("down",)
    assert b.alive
    assert c.alive


@pytest.mark.parametrize("target_place", PLACES)
def test_a_monitor_for_a_port_elsewhere_tells_it_the_reason(nodes: dict[str, gmp.Node], target_place: str) -> None:
    here, target, watcher = nodes["here"], nodes[target_place].port(), nodes["there"].port()
    here.monitor(target, watcher, "down", {"job": 1})
    settle(here, target_place)
    target.kill("why", 2)
    assert watcher.receive(timeout=10) == ("down", {"job": 1}, "why", 2)


def test_a_target_that_does_not_exist_is_told_at_once(nodes: dict[str, gmp.Node]) -> None:
    watcher = nodes["there"].port()
    nodes["here"].monitor("elsewhere#nothing", watcher.id, "down")
    assert watcher.receive("down", timeout=10)[0] == "no_such_port"
    nodes["here"].monitor("here#nothing", watcher.id, "down")
    assert watcher.receive("down", timeout=10)[0] == "no_such_port"


def test_the_monitor_goes_with_the_port_it_was_set_for(nodes: dict[str, gmp.Node]) -> None:
    here, target, watcher = nodes["here"], nodes["here"].port(), nodes["there"].port()
    monitor = here.monitor(target, watcher, "down")
    eventually(lambda: monitor.active)
    settle(here, "there")
    watcher.kill()
    eventually(lambda: not monitor.active)
    assert not target._ties or not target._ties.monitors


def test_a_lost_node_kills_the_other_end_and_the_link_is_over(
    nodes: dict[str, gmp.Node], processes: Processes, recorder: Recorder
) -> None:
    here, survivor = nodes["here"], nodes["there"].port()
    here.monitor("elsewhere", recorder)
    monitors = here.link(survivor.id, nodes["elsewhere"].port().id)
    settle(here, "there", "elsewhere")
    here._core.network.peers["elsewhere"].connection.close(_reset(), "cut by the test")
    assert survivor.join(10)
    assert survivor.reason is not None
    assert survivor.reason[:2] == ("transport_error", "elsewhere")
    recorder.wait()
    eventually(lambda: not any(monitor.active for monitor in monitors))


def test_both_ends_on_the_node_that_is_lost_are_killed_when_it_is_back(nodes: dict[str, gmp.Node]) -> None:
    here, ports = nodes["here"], [nodes["there"].port(), nodes["there"].port()]
    here.link(*ports)
    settle(here, "there")
    here._core.network.peers["there"].connection.close(_reset(), "cut by the test")
    for port in ports:
        assert port.join(20)
        assert port.reason is not None
        assert port.reason[:2] == ("transport_error", "there")


def test_a_watcher_whose_way_was_lost_is_told_by_the_next_connection(
    nodes: dict[str, gmp.Node], recorder: Recorder
) -> None:
    here, target, watcher = nodes["here"], nodes["here"].port(), nodes["there"].port()
    monitor = here.monitor(target, watcher, "down")
    settle(here, "there")
    here.monitor("there", recorder)
    here._core.network.peers["there"].connection.close(_reset(), "cut by the test")
    recorder.wait()
    assert monitor.active
    target.kill("late")
    assert watcher.receive("down", timeout=20) == ("late",)


def test_a_node_that_leaves_takes_the_other_end_with_it(nodes: dict[str, gmp.Node]) -> None:
    there, mine, other = nodes["there"], nodes["there"].port(), nodes["elsewhere"].port()
    there.wait_up("elsewhere", timeout=10)
    there.link(mine, other)
    settle(there, "elsewhere")
    there.close()
    assert other.join(10)
    assert other.reason == ("leaving", "there")


def test_what_cannot_be_is_said_at_once_and_sets_nothing(nodes: dict[str, gmp.Node]) -> None:
    here, port = nodes["here"], nodes["here"].port()
    watcher = nodes["there"].port().id
    with pytest.raises(gmp.GmpError, match="'there' is a node"):
        here.monitor(port, "there", "down")
    with pytest.raises(gmp.MessageError):
        here.monitor(port, watcher, "down", object())
    with pytest.raises(gmp.GmpError, match="no live port"):
        here.link("there#x", "here#nothing")
    assert port._ties is None
    assert not here._core.monitors._watching.get("there", {}).get("x")


def test_before_configure_a_port_elsewhere_cannot_be_told() -> None:
    port: Any = gmp.port()
    with pytest.raises(gmp.ConfigError, match=r"call gmp\.configure first"):
        gmp.monitor(port, "there#x")
    with pytest.raises(gmp.ConfigError, match=r"call gmp\.configure first"):
        gmp.link(port, "there#x")


def _reset() -> Any:
    from gmp.net.reasons import CloseReason

    return CloseReason.RESET
