"""Simulated hosts: their programs can be held, and their clocks set; lines that are slow, or lose one direction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

import gmp
from gmp.testing import Simulation
from gmp.testing.simulated.errors import SimulationError

QUICK = {"lost_after": 4.0, "busy_after": 3.0, "hung_after": 8.0}


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation(seed=2) as sim:
        yield sim


def beats(node: gmp.Node, times: list[float], now: Callable[[], float]) -> None:
    """Note the time each second: in a port, by timers of the node, and by those of a greenlet outside."""

    def body(port: gmp.Port) -> None:
        while True:
            gevent.sleep(1)
            times.append(now())

    node.port(body)

    def again() -> None:
        times.append(now())
        if not node.closed:
            node.after(1.0, again)

    def outside() -> None:
        while True:
            gevent.sleep(1)
            times.append(now())

    again()
    gevent.spawn(outside)


def test_a_stopped_host_does_nothing_and_goes_on_where_it_was(sim: Simulation) -> None:
    times: dict[str, list[float]] = {"one": [], "two": []}
    for name in times:
        sim.node(name, lambda node: beats(node, times[node.id], lambda: sim.now))
    sim.settle()
    sim.run(5)
    stop = sim.stop("one")
    began = sim.now
    before = len(times["one"])
    sim.run(10)
    assert len(times["one"]) == before
    assert len([at for at in times["two"] if at > began]) in range(27, 34)
    stop.end()
    sim.run(0.1)
    assert len(times["one"]) - before == 3  # each timer was due, once
    sim.run(5)
    assert len(times["one"]) - before >= 15


def test_what_was_sent_to_a_stopped_host_arrives_when_it_goes_on(sim: Simulation) -> None:
    got: list[int] = []
    here = sim.node("here")
    there = sim.node("there")
    sim.settle()
    box = there.port(lambda port: [got.append(number) for (number,) in port])
    here.call("there", "time")
    with sim.stop("there"):
        for number in range(50):
            here.send(box.id, number)
        sim.run(2)
        assert got == []
    sim.run(1)
    assert got == list(range(50))
    assert here.is_up("there")


def test_a_stopped_host_is_busy_and_then_hung_but_not_lost(sim: Simulation) -> None:
    here = sim.node("here", **QUICK)
    sim.node("there", **QUICK)
    sim.settle()
    here.wait_up("there")
    events: list[Any] = []
    here.monitor_nodes(lambda *event: events.append((sim.now, *event)))
    busy: list[Any] = []
    here.monitor_busy(lambda *event: busy.append((sim.now, *event)))
    sim.run(3)
    began = sim.now
    stop = sim.stop("there")
    sim.run(7)
    assert [event[1:3] for event in busy] == [("there", True)]
    assert [event for event in events if not event[2]] == []
    sim.run_until(lambda: not here.is_up("there"), timeout=5)
    assert 7 <= sim.now - began <= 11
    assert "hung" in str(events[-1])
    stop.end()
    here.wait_up("there", timeout=30)


def test_a_host_that_was_stopped_does_not_take_its_peers_for_lost(sim: Simulation) -> None:
    sim.node("here", **QUICK)
    there = sim.node("there", **QUICK)
    sim.settle()
    told: list[Any] = []
    there.monitor_nodes(lambda *event: told.append(event))
    sim.run(3)
    told.clear()
    with sim.stop("there"):
        sim.run(6)
    sim.run(10)
    assert [event for event in told if not event[1]] == []


def test_a_stopped_host_that_waits_for_idleness_does_not_keep_the_time_from_jumping(sim: Simulation) -> None:
    idled: list[float] = []
    stops: list[Any] = []

    def body(port: gmp.Port) -> None:
        stops.append(sim.stop("one"))
        gevent.idle()
        idled.append(sim.now)

    sim.node("one", lambda node: node.port(body))
    sim.run(3)
    loop = gevent.get_hub().loop
    passes = loop.iteration
    sim.run(100)
    assert loop.iteration - passes < 1000
    assert idled == []
    stops[0].end()
    sim.run(1)
    assert idled == [pytest.approx(103, abs=1)]


def test_stops_add_up_and_a_crash_ends_them(sim: Simulation) -> None:
    times: list[float] = []
    sim.node("seed")
    sim.node("one", lambda node: beats(node, times, lambda: sim.now))
    sim.settle()
    first, second = sim.stop("one"), sim.stop("one")
    first.end()
    before = len(times)
    sim.run(3)
    assert len(times) == before
    sim.restart("one")
    second.end()  # of the former life
    sim["seed"].wait_up("one", timeout=30)
    sim.run(3)
    assert len(times) > before
    sim.stop("one")
    sim.vanish("one")
    sim.restart("one").wait_up(timeout=30)
    sim.stop("one")  # and the end of the block ends it


def test_a_clock_that_jumps_is_that_of_one_host_alone(sim: Simulation) -> None:
    one, two = sim.node("one"), sim.node("two")
    sim.settle()

    def clocks() -> tuple[float, float]:
        return one.call("one", "time")[0], one.call("two", "time")[0]

    first = clocks()
    assert abs(first[0] - first[1]) < 1
    sim.jump_clock("two", -1000)
    there = clocks()
    assert there[0] - there[1] == pytest.approx(1000, abs=1)
    former = two.incarnation
    again = sim.restart("two")
    assert again.incarnation < former
    assert again.incarnation.isalnum()
    sim.run(1)
    one.wait_up("two", timeout=30)
    assert one.call("two", "time", timeout=5)


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_no_time_out_depends_on_the_wall_clock(sim: Simulation, seconds: float) -> None:
    here = sim.node("here")
    there = sim.node("there")
    sim.settle()
    here.wait_up("there")
    took: list[float] = []
    silent = there.port()

    def body(port: gmp.Port) -> None:
        began = sim.now
        with pytest.raises(gmp.CallTimeout):
            here.call(silent, "hello", timeout=5)
        took.append(sim.now - began)

    here.port(body)
    sim.run(1)
    sim.jump_clock("here", seconds)
    sim.run(30)
    assert took == [pytest.approx(5, abs=0.2)]
    assert here.is_up("there")


def test_a_slow_line_takes_its_time(sim: Simulation) -> None:
    here, there = sim.node("here"), sim.node("there")
    sim.settle()
    sink = there.port()
    here.call("there", "time")
    with sim.throttle("here", "there", 100_000), sim.throttle("here", "there", 50_000):
        began = sim.now
        here.send(sink.id, b"x" * 200_000)
        sink.receive()
        assert 3.9 < sim.now - began < 4.6
        assert here.is_up("there")
    began = sim.now
    here.send(sink.id, b"x" * 200_000)
    sink.receive()
    assert sim.now - began < 0.5
    slow = sim.throttle("here", "there", 1000)
    here.send(sink.id, b"x" * 200_000)
    sim.run(3)
    slow.end()  # what is under way goes on as fast as ever, too
    began = sim.now
    sink.receive()
    assert sim.now - began < 0.5
    with pytest.raises(ValueError, match="bytes_per_second=0: expected a number above 0"):
        sim.throttle("here", "there", 0)


@pytest.mark.parametrize("ends", [("here", "there"), ("there", "here")])
def test_a_half_closed_connection_is_lost_on_both_sides_and_made_again(sim: Simulation, ends: tuple[str, str]) -> None:
    here, there = sim.node("here", **QUICK), sim.node("there", **QUICK)
    sim.settle()
    told: list[Any] = []
    here.monitor_nodes(lambda *event: told.append(("here", *event)))
    there.monitor_nodes(lambda *event: told.append(("there", *event)))
    sim.run(2)
    sim.half_close(*ends)
    sim.run_until(lambda: {event[0] for event in told if not event[2]} == {"here", "there"}, timeout=20)
    here.wait_up("there", timeout=30)
    assert here.call("there", "time", timeout=5)


def test_a_name_that_is_wrong_is_an_error_at_once(sim: Simulation) -> None:
    one = sim.node("one")
    sim.node("other")
    events = list(sim.trace)
    for use in (
        sim.__getitem__, sim.crash, sim.vanish, sim.restart, sim.stop,
        lambda name: sim.jump_clock(name, 1),
        lambda name: sim.half_close("one", name), lambda name: sim.half_close(name, "one"),
        lambda name: sim.reset("one", name), lambda name: sim.reset(name, "one"),
        lambda name: sim.throttle("one", name, 1), lambda name: sim.throttle(name, "one", 1),
        lambda name: sim.delay("one", name, 1), lambda name: sim.delay(name, ["one"], 1),
        sim.partition, lambda name: sim.partition("one", name), lambda name: sim.partition(["one", name]),
        lambda name: sim.trouble(spare=["one", name]), lambda name: sim.trouble(spare=name),
    ):  # fmt: skip
        for wrong in ("two", 2, one):
            text = f"{wrong!r} is no node of this simulation: expected the ID of one, which are 'one', 'other'"
            with pytest.raises(SimulationError, match=f"^{re.escape(text)}$"):
                use(wrong)  # type: ignore[operator]
    sim.trouble(spare="other")
    sim.heal()
    assert list(sim.trace)[: len(events)] == events
    assert not [line for line in list(sim.trace)[len(events) :] if "heal" not in line]  # nothing was done before the error


def test_a_simulation_without_nodes_says_so(sim: Simulation) -> None:
    with pytest.raises(SimulationError, match=r"'one' is no node .* none so far"):
        sim.crash("one")


def test_a_node_that_cannot_be_made_is_not_there(sim: Simulation) -> None:
    with pytest.raises(gmp.ConfigError):
        sim.node("one", lost_after=-1)
    with pytest.raises(SimulationError, match="none so far"):
        sim.restart("one")
    sim.node("one")
    assert sim.node("other").call("one", "time", timeout=10)


@pytest.mark.parametrize("settings", [{"every": 0}, {"every": -1.0}, {"lasting": 0}])
def test_trouble_that_would_have_no_end_is_refused(sim: Simulation, settings: dict[str, float]) -> None:
    ((name, seconds),) = settings.items()
    with pytest.raises(ValueError, match=f"^{name}={seconds}: expected a number of seconds above 0$"):
        sim.trouble(**settings)


def test_packets_do_not_arrive_before_they_are_sent(sim: Simulation) -> None:
    sim.node("one")
    sim.node("other")
    with pytest.raises(ValueError, match="seconds=-1: expected 0 or more"):
        sim.delay("one", "other", -1)
