"""A node that leaves takes no new calls and finishes what runs; callers of a group go to other members without an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import gevent.event
import pytest

import gmp

from .conftest import eventually

Make = Callable[..., gmp.Node]


class Slow:
    def __init__(self) -> None:
        self.begun = gevent.event.Event()
        self.go = gevent.event.Event()
        self.calls = 0

    def work(self) -> str:
        self.calls += 1
        self.begun.set()
        self.go.wait()
        return "done"

    def rows(self, count: int) -> Iterator[int]:
        for number in range(count):
            yield number
            self.begun.set()
            self.go.wait()

    def count(self) -> int:
        self.calls += 1
        return self.calls


def test_what_runs_is_finished_and_what_waits_goes_elsewhere(make_node: Make) -> None:
    seed = make_node("seed")
    here, old = make_node("here", seeds=seed.binds), make_node("old", seeds=seed.binds)
    leaving, staying = Slow(), Slow()
    staying.go.set()
    port = gmp.expose(leaving, "slow", node=old)
    here.group("slow").wait(1, timeout=20)
    slow = gmp.remote("slow", node=here)
    running = slow.work.future()
    leaving.begun.wait()
    stream = gmp.remote(port.id, node=here).rows(3)
    assert next(stream) == 0
    waiting = [slow.work.future() for _ in range(3)]
    eventually(lambda: gmp.objects.remote.describe(gmp.remote(port.id, node=here))["waiting"] == 3)
    gmp.expose(staying, "slow", node=seed)
    here.group("slow").wait(2, timeout=20)
    close = gevent.spawn(old.close)
    assert [call.get(timeout=20) for call in waiting] == ["done"] * 3
    eventually(lambda: len(here.group("slow").members()) == 1)
    assert (leaving.calls, staying.calls) == (1, 3)
    with pytest.raises(gmp.CallRefused, match="node old leaves the network") as error:
        gmp.remote(port.id, node=here).work()  # whoever means that port and no other
    assert error.value.kind == "leaving"
    assert not close.ready()
    leaving.go.set()
    assert running.get(timeout=20) == "done"
    assert list(stream) == [1, 2]
    close.get(timeout=20)


def test_what_runs_too_long_is_stopped_and_its_caller_knows_that_it_had_begun(make_node: Make) -> None:
    here = make_node("here")
    old = make_node("old", seeds=here.binds, leave_timeout=0.5)
    thing, other = Slow(), Slow()
    other.go.set()
    gmp.expose(thing, "slow", node=old)
    here.group("slow").wait(1, timeout=20)
    call = gmp.remote("slow", node=here).work.future()
    thing.begun.wait()
    gmp.expose(other, "slow", node=here)
    old.close()
    with pytest.raises(gmp.RemoteError, match="GreenletExit: it was stopped, as node old leaves the network"):
        call.get(timeout=20)
    assert other.calls == 0  # it has run once, so it is not called again


def test_a_node_without_work_leaves_at_once_and_its_ports_with_it(make_node: Make) -> None:
    node = make_node("node")
    port = gmp.expose(Slow(), "slow", node=node)
    node.close()
    assert not port.alive
    local = gmp.expose(Slow())
    gmp.node().close()
    assert not local.alive


def test_members_that_come_and_go_under_load_cost_no_caller_anything(make_node: Make) -> None:
    seed = make_node("seed")
    here = make_node("here", seeds=seed.binds)
    things = [Slow() for _ in range(6)]
    gmp.expose(things[0], "counters", node=seed)
    here.group("counters").wait(1, timeout=20)
    counters = gmp.remote("counters", node=here)
    stop = gevent.event.Event()
    made = 0

    def call() -> None:
        nonlocal made
        while not stop.is_set():
            counters.count()
            made += 1
            gevent.sleep(0)

    callers = [gevent.spawn(call) for _ in range(5)]
    for number, thing in enumerate(things[1:]):
        member = make_node(f"member{number}", seeds=seed.binds)
        gmp.expose(thing, "counters", node=member)
        eventually(lambda thing=thing: thing.calls > 50)
        member.close()
    stop.set()
    gevent.joinall(callers, raise_error=True, timeout=20)
    assert sum(thing.calls for thing in things) == made  # each call has run exactly once
