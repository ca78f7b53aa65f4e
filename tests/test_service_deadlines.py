"""Deadlines travel, and what nobody waits for any more is stopped, whatever took the caller away."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import signal
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import pytest
from greenlet import GreenletExit

import gmp
from gmp.testing import FaultProxy
from gmp.testing.leaks import Inventory

from .conftest import eventually
from .processes import Processes

Make = Callable[..., gmp.Node]


class Slow:
    """Methods that say how they ended."""

    def __init__(self, node: gmp.Node | None = None) -> None:
        self.node = node
        self.begun = gevent.event.Event()
        self.go = gevent.event.Event()
        self.ends: list[str] = []

    def _wait(self, name: str) -> str:
        self.begun.set()
        try:
            self.go.wait()
        except GreenletExit:
            self.ends.append(f"{name} stopped")
            raise
        self.ends.append(f"{name} done")
        return name

    def work(self) -> str:
        return self._wait("work")

    @gmp.method(finish=True)
    def lasting(self) -> str:
        return self._wait("lasting")

    def left(self) -> float | None:
        return gmp.deadline()

    def left_in_a_greenlet(self) -> float | None:
        found: float | None = gevent.spawn(contextvars.copy_context().run, gmp.deadline).get()
        return found

    def left_beyond(self, port: str, timeout: float | None) -> float | None:
        assert self.node is not None
        found: float | None = gmp.remote(port, node=self.node).left.call(timeout=timeout)
        return found

    def work_beyond(self, port: str) -> str:
        self.begun.set()
        try:
            assert self.node is not None
            found: str = gmp.remote(port, node=self.node).work.call(timeout=None)
        except GreenletExit:
            self.ends.append("beyond stopped")
            raise
        return found


@pytest.fixture
def nodes(make_node: Make) -> tuple[gmp.Node, gmp.Node]:
    there = make_node("there")
    return there, make_node("here", seeds=there.binds)


def told(remote: Any, figure: str) -> int:
    return int(gmp.objects.remote.describe(remote)[figure])


def test_a_method_knows_how_long_it_is_waited_for(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Slow(there), concurrency=2, node=there)
    far = gmp.expose(Slow(here), node=here)
    slow = gmp.remote(port, node=here)
    assert gmp.deadline() is None
    assert 5 < slow.left.call(timeout=10) <= 10
    assert slow.left.call(timeout=None) is None
    assert 25 < slow.left() <= 30
    assert 5 < slow.left_in_a_greenlet.call(timeout=10) <= 10
    assert 5 < slow.left_beyond.call(far.id, 1000, timeout=10) <= 10  # nested calls inherit what is left
    assert 5 < slow.left_beyond.call(far.id, None, timeout=10) <= 10
    assert slow.left_beyond.call(far.id, 3, timeout=10) <= 3
    assert gmp.deadline() is None


def give_up_by_timeout(slow: Any, go: Callable[[], None]) -> None:
    with pytest.raises(gmp.CallTimeout):
        slow.work.call(timeout=0.05)


def give_up_by_kill(slow: Any, go: Callable[[], None]) -> None:
    caller = gevent.spawn(slow.work)
    go()
    caller.kill()


def give_up_by_gevent_timeout(slow: Any, go: Callable[[], None]) -> None:
    with gevent.Timeout(0.05, False):  # type: ignore[arg-type]  # False: end the block in silence
        slow.work()


def give_up_by_death(slow: Any, go: Callable[[], None]) -> None:
    node = slow._settings.core().node
    port = node.port(lambda port: slow.work())
    go()
    port.kill("broken")


WAYS = [give_up_by_timeout, give_up_by_kill, give_up_by_gevent_timeout, give_up_by_death]


@pytest.mark.parametrize("give_up", WAYS)
def test_work_whose_caller_has_given_up_is_stopped_at_once(nodes: tuple[gmp.Node, gmp.Node], give_up: Any) -> None:
    there, here = nodes
    for caller in (here, there):
        thing = Slow()
        slow = gmp.remote(gmp.expose(thing, node=there), node=caller)
        slow.left()
        give_up(slow, lambda thing=thing: thing.begun.wait())
        eventually(lambda thing=thing: thing.ends == ["work stopped"])
        assert told(slow, "stopped") == 1
        assert told(slow, "running") == 0
        thing.go.set()
        assert slow.work() == "work"


@pytest.mark.parametrize("give_up", WAYS)
def test_a_call_that_waits_for_its_turn_is_forgotten(nodes: tuple[gmp.Node, gmp.Node], give_up: Any) -> None:
    there, here = nodes
    thing = Slow()
    port = gmp.expose(thing, node=there)
    slow = gmp.remote(port, node=here)
    first = slow.lasting.future()
    thing.begun.wait()
    give_up(slow, lambda: eventually(lambda: told(slow, "waiting") == 1))
    eventually(lambda: told(slow, "stopped") == 1)
    assert told(slow, "waiting") == 0
    thing.go.set()
    assert first.get(timeout=20) == "lasting"
    assert thing.ends == ["lasting done"]


def test_what_is_marked_so_is_finished(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Slow()
    slow = gmp.remote(gmp.expose(thing, node=there), node=here)
    with pytest.raises(gmp.CallTimeout):
        slow.lasting.call(timeout=0.05)
    assert told(slow, "running") == 1  # it was asked behind the ``cancel``
    thing.go.set()
    eventually(lambda: thing.ends == ["lasting done"])
    eventually(lambda: told(slow, "late") == 1)
    assert told(slow, "stopped") == 0


def test_a_deadline_stops_work_of_a_caller_that_says_nothing(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    """As that of a Perl node, which sends no ``cancel``."""
    there, here = nodes
    thing = Slow()
    port = gmp.expose(thing, node=there)
    here.send(port.id, "call", "work", [], {}, {"timeout": 0.05}, here.port().id)
    eventually(lambda: thing.ends == ["work stopped"])


def test_work_is_stopped_by_its_id_or_by_its_reply_port(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    for options, key in (({"id": "mine"}, "mine"), ({}, "")):
        thing, reply = Slow(), here.port()
        port = gmp.expose(thing, node=there)
        here.send(port.id, "call", "work", [], {}, options, reply.id)
        thing.begun.wait()
        here.send(port.id, "cancel", "another")
        here.send(port.id, "cancel", key or reply.id)
        eventually(lambda thing=thing: thing.ends == ["work stopped"])


def test_stopping_goes_down_a_chain_of_calls(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    near, far = Slow(there), Slow()
    port = gmp.expose(near, node=there)
    beyond = gmp.expose(far, node=here)
    call = gmp.remote(port, node=here).work_beyond.future(beyond.id)
    far.begun.wait()
    call.cancel()
    eventually(lambda: far.ends == ["work stopped"])
    eventually(lambda: near.ends == ["beyond stopped"])


def test_work_of_a_node_that_is_cut_off_is_stopped(make_node: Make) -> None:
    there = make_node("there", reached_at=["*"])
    thing = Slow()
    port = gmp.expose(thing, node=there)
    with FaultProxy(there.binds[0]) as proxy:
        here = make_node("here", seeds=[proxy.address], binds=[])
        slow = gmp.remote(port.id, node=here)
        call = slow.work.future()
        thing.begun.wait()
        proxy.cut()
        with pytest.raises(gmp.PortDied, match="transport_error"):
            call.get(timeout=20)
        eventually(lambda: thing.ends == ["work stopped"])
        here.close()


def test_work_of_a_process_that_is_killed_is_stopped(make_node: Make, processes: Processes) -> None:
    there = make_node("there")
    thing = Slow()
    port = gmp.expose(thing, node=there)
    process = processes.start("caller", there.binds[0], "call", port.id, program="tests.service_child")
    thing.begun.wait()
    process.kill(signal.SIGKILL)
    eventually(lambda: thing.ends == ["work stopped"])


def test_the_service_ends_with_its_node_and_callers_are_told(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Slow()
    slow = gmp.remote(gmp.expose(thing, node=there).id, node=here)
    call = slow.work.future()
    thing.begun.wait()
    port_id = slow._settings.target.name
    there.kill(port_id, "enough")
    with pytest.raises(gmp.PortDied, match="enough"):
        call.get(timeout=20)
    assert thing.ends == ["work stopped"]


def test_nothing_is_left_of_calls_that_were_given_up(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Slow()
    port = gmp.expose(thing, concurrency=50, node=there)
    slow = gmp.remote(port, node=here)
    ports = here.stats()["ports"], there.stats()["ports"]
    for _ in range(3):
        calls = [gevent.spawn(slow.work) for _ in range(30)]
        eventually(lambda: told(slow, "running") == 30)
        for call in calls:
            call.kill()
        eventually(lambda: told(slow, "running") == 0)
    eventually(lambda: (here.stats()["ports"], there.stats()["ports"]) == ports)
    assert thing.ends == ["work stopped"] * 90
    assert port.greenlets() == []


def test_a_reply_that_is_late_goes_nowhere_and_is_counted(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    """race: the method has ended, and its reply is on its way, when its caller gives up."""
    there, here = nodes
    slow = gmp.remote(gmp.expose(Slow(), node=there), node=here)
    slow.left()
    dropped = here.stats()["dropped"]
    late = [gevent.spawn(slow.left) for _ in range(5)]
    gevent.sleep(0)  # they have been sent, and there is no reply yet
    for call in late:
        call.kill(block=False)
    gevent.joinall(late)
    slow.left()
    assert here.stats()["dropped"] + told(slow, "stopped") + told(slow, "late") >= dropped + 5


def test_a_retry_stays_within_the_deadline(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes

    class Shaky:
        def __init__(self) -> None:
            self.calls = 0

        @gmp.method(idempotent=True)
        def shake(self, after: int) -> int:
            self.calls += 1
            if self.calls <= after:
                raise LookupError("not yet")
            return self.calls

        def once(self) -> None:
            raise LookupError("never")

    thing = Shaky()
    port = gmp.expose(thing, errors=[LookupError], node=there)
    shaky = gmp.remote(port, node=here, errors=[LookupError], retry=gmp.Retry(3, LookupError, pause=0.01))
    assert shaky.shake(2) == 3
    thing.calls = 0
    with pytest.raises(LookupError):
        shaky.shake(3)
    assert thing.calls == 3
    with pytest.raises(gmp.CallRefused, match=r"is not marked @gmp.method\(idempotent=True\)") as error:
        shaky.once()
    assert error.value.kind == "not_idempotent"
    thing.calls = 0
    patient = gmp.Retry(1000, LookupError, pause=10, most=10)
    with pytest.raises(LookupError):
        shaky.shake.call(5, timeout=0.2, retry=patient)  # a pause would end behind the deadline
    assert thing.calls == 1


def test_pauses_between_retries_grow_and_differ() -> None:
    retry = gmp.Retry(10, pause=0.1, most=3)
    for call, least, most in ((2, 0.05, 0.1), (3, 0.1, 0.2), (5, 0.4, 0.8), (9, 1.5, 3), (5000, 1.5, 3)):
        pauses = {retry.pause_before(call) for _ in range(50)}
        assert len(pauses) > 10
        assert all(least <= pause <= most for pause in pauses)
    for on in ((), [int], int):
        with pytest.raises(gmp.ConfigError, match="expected exception types"):
            gmp.Retry(3, on)  # type: ignore[arg-type]
    with pytest.raises(gmp.ConfigError, match="times 0"):
        gmp.Retry(0)
    with pytest.raises(gmp.ConfigError, match="pause -1"):
        gmp.Retry(pause=-1)


def test_a_retry_goes_to_another_member_when_one_has_died(make_node: Make) -> None:
    there, here = make_node("there"), None
    here = make_node("here", seeds=there.binds)

    class Fragile:
        def __init__(self) -> None:
            self.port: gmp.Port | None = None
            self.calls = 0

        @gmp.method(idempotent=True)
        def touch(self) -> str:
            self.calls += 1
            if self.port is not None:
                self.port.kill("broken")
                gevent.sleep(0)
            return "touched"

    broken, sound = Fragile(), Fragile()
    broken.port = gmp.expose(broken, "fragile", node=there)
    gmp.expose(sound, "fragile", node=there)
    here.group("fragile").wait(2, timeout=20)
    fragile = gmp.remote("fragile", node=here, retry=gmp.Retry(3, gmp.PortDied, pause=0.001))
    while not broken.calls:
        assert fragile.touch() == "touched"
    assert broken.calls == 1
    assert sound.calls >= 1


def test_time_is_not_lost_to_a_group_that_is_empty(make_node: Make) -> None:
    node = make_node("alone")
    began = time.monotonic()
    with pytest.raises(gmp.WaitTimeout):
        gmp.remote("nobody", node=node, timeout=0.1).anything()
    assert time.monotonic() - began < 10
    with contextlib.suppress(gmp.WaitTimeout):
        gmp.remote("nobody", node=node, timeout=0).anything()


def quietly(method: Any) -> None:
    with contextlib.suppress(gmp.GmpError):
        method()


@pytest.mark.parametrize("step", ["waits", "runs", "has ended", "was never connected"])
@pytest.mark.parametrize("who", ["caller", "service", "caller's node", "service's node", "network"])
def test_whatever_ends_at_each_step_of_a_call_nothing_is_left(make_node: Make, step: str, who: str) -> None:
    inventory = Inventory()
    there = make_node("there", reached_at=["*"], leave_timeout=1)
    thing = Slow()
    service = gmp.expose(thing, node=there)
    with FaultProxy(there.binds[0]) as proxy:
        here = make_node("here", seeds=[proxy.address], binds=[], leave_timeout=1, connect_timeout=1)
        slow = gmp.remote(service.id, node=here, timeout=None)
        if step == "was never connected":
            proxy.blackhole()
        else:
            slow.left()
        before = len(there._core.ports.by_name), len(here._core.ports.by_name)
        first = gevent.spawn(quietly, slow.lasting) if step == "waits" else None
        if first is not None:
            thing.begun.wait()
        call = gevent.spawn(quietly, slow.work)
        if step == "waits":
            eventually(lambda slow=slow: told(slow, "waiting") == 1)
        elif step != "was never connected":
            thing.begun.wait()
        if step == "has ended":
            thing.go.set()  # and the reply is on its way
        if who == "caller":
            call.kill()
        elif who == "service":
            service.kill("broken")
        elif who == "caller's node":
            here.close()
        elif who == "service's node":
            closing = gevent.spawn(there.close)
            thing.go.set()
            closing.join()
        else:
            proxy.cut()
        proxy.heal()
        thing.go.set()
        for greenlet in (call, first):
            if greenlet is not None:
                greenlet.join(20)
                assert greenlet.dead
        if not there.closed:
            eventually(lambda: len(there._core.ports.by_name) == before[0] - (who == "service"))
            eventually(lambda service=service: not service.greenlets())
        if not here.closed:
            eventually(lambda: len(here._core.ports.by_name) == before[1])
            assert not here._core.calls._waiting
        here.close()
    there.close()
    del slow, service, call, first, greenlet
    gc.collect()
    eventually(lambda: not inventory.new())
