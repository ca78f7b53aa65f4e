"""Monitors and links within one process, and what death leaves behind: nothing."""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from typing import Any

import gevent
import pytest

import gmp
from gmp import send

from .conftest import Recorder, eventually


def turns(count: int = 5) -> None:
    """Let the loop turn, and everything begin that waits for that: each turn has its time only, on a busy machine too."""
    for _ in range(count):
        gevent.sleep(0)
    ports = gmp.node()._core.ports
    for _ in range(1000):
        if ports.workers.jobs or ports.wakeups.pending:
            gevent.sleep(0)


def test_the_four_forms_and_their_order(recorder: Recorder) -> None:
    target, victim, box = gmp.port(), gmp.port(), gmp.port()
    order: list[Any] = []
    gmp.monitor(target, lambda *reason: order.append(("callback", *reason)))
    gmp.monitor(target, victim)
    gmp.monitor(target, box, "down", 1)
    gmp.monitor(target.id, lambda *reason: order.append(("second", *reason)))
    target.run(gmp.monitor, victim)  # monitor(target): kills the current port
    target.kill("why", {"a": 1})
    assert order == []
    assert victim.alive
    assert box.receive(timeout=5) == ("down", 1, "why", {"a": 1})
    turns()
    assert order == [("callback", "why", {"a": 1}), ("second", "why", {"a": 1})]
    assert victim.reason == ("why", {"a": 1})


def test_a_normal_death_kills_nobody_but_is_told(recorder: Recorder) -> None:
    target, survivor, box = gmp.port(), gmp.port(), gmp.port()
    gmp.monitor(target, survivor)
    gmp.monitor(target, box, "down")
    gmp.monitor(target, recorder)
    survivor.run(gmp.monitor, target)
    target.kill()
    assert box.receive(timeout=5) == ("down",)
    assert recorder.wait() == [()]
    assert survivor.alive


def test_a_monitor_fires_once_and_many_on_one_port_all_fire(recorder: Recorder) -> None:
    target, box = gmp.port(), gmp.port()
    for number in range(1000):
        gmp.monitor(target, box, number)
    gmp.monitor(target, recorder)
    target.kill("x")
    target.kill("y")
    assert recorder.wait() == [("x",)]
    assert [box.receive(timeout=5) for _ in range(1000)] == [(number, "x") for number in range(1000)]
    turns()
    assert len(box) == 0


def test_cancel_and_the_with_block_end_it(recorder: Recorder) -> None:
    target, box = gmp.port(), gmp.port()
    monitor = gmp.monitor(target, recorder)
    assert monitor.active
    monitor.cancel()
    monitor.cancel()
    assert not monitor.active
    with gmp.monitor(target, box, "down") as inside:
        assert inside.active
    target.kill("x")
    turns()
    assert recorder.calls == []
    assert len(box) == 0
    monitor.cancel()


def test_cancel_between_the_death_and_its_news_is_in_time(recorder: Recorder) -> None:
    target = gmp.port()
    monitor = gmp.monitor(target, recorder)
    target.kill("x")
    monitor.cancel()
    turns()
    assert recorder.calls == []


def test_a_monitor_on_a_dead_port_tells_its_reason_in_the_next_turn(recorder: Recorder) -> None:
    target = gmp.port()
    target.kill("long ago")
    monitor = gmp.monitor(target, recorder)
    assert recorder.calls == []
    assert recorder.wait() == [("long ago",)]
    assert not monitor.active
    gmp.monitor(target, recorder).cancel()
    turns()
    assert len(recorder.calls) == 1


def test_a_monitor_set_between_the_death_and_its_news_comes_behind_the_others() -> None:
    target, box = gmp.port(), gmp.port()
    gmp.monitor(target, box, 1)
    target.kill()
    gmp.monitor(target, box, 2)
    assert [box.receive(timeout=5), box.receive(timeout=5)] == [(1,), (2,)]


def test_a_monitor_on_an_unknown_port_fires(recorder: Recorder) -> None:
    port_id = f"{gmp.node().id}#nobody"
    gmp.monitor(port_id, recorder)
    assert recorder.wait() == [("no_such_port", "cannot monitor nonexistent port", port_id)]
    victim = gmp.port()
    gmp.monitor(port_id, victim)
    assert victim.join(5)


def test_callbacks_that_raise_or_block_harm_nobody(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    target = gmp.port()

    def fail(*reason: Any) -> None:
        raise ValueError("in a callback")

    def block(*reason: Any) -> None:
        gevent.sleep(0.01)
        recorder("blocked", gmp.current_port())

    gmp.monitor(target, fail)
    gmp.monitor(target, block)
    gmp.monitor(target, recorder)
    target.kill("x")
    assert recorder.wait(2) == [("x",), ("blocked", None)]
    assert caplog.text.count("Traceback") == 1
    assert "in a callback" in caplog.text


def test_a_callback_may_set_and_cancel_monitors_and_kill(recorder: Recorder) -> None:
    target, other = gmp.port(), gmp.port()

    def callback(*reason: Any) -> None:
        gmp.monitor(target, recorder)
        gmp.monitor(other, recorder)
        other.kill("too")

    gmp.monitor(target, callback)
    target.kill("x")
    assert sorted(recorder.wait(2)) == [("too",), ("x",)]


def test_cycles_of_monitors_end() -> None:
    ring = [gmp.port() for _ in range(10)]
    for port, following in zip(ring, ring[1:] + ring[:1], strict=True):
        gmp.monitor(port, following)
    ring[3].kill("domino")
    assert all(port.join(5) for port in ring)
    assert {port.reason for port in ring} == {("domino",)}
    self_watching = gmp.port()
    gmp.monitor(self_watching, self_watching)
    gmp.monitor(self_watching, self_watching, "down")
    self_watching.kill("x")
    turns()


def test_link_goes_both_ways_and_a_normal_end_leaves_the_other() -> None:
    for first in (0, 1):
        pair = gmp.port(), gmp.port()
        gmp.link(*pair)
        pair[first].kill("x")
        assert pair[1 - first].join(5)
        assert pair[1 - first].reason == ("x",)
    a, b = gmp.port(), gmp.port()
    gmp.link(a, b.id)
    a.kill()
    turns()
    assert b.alive


def test_linking_to_the_dead_tells_at_once() -> None:
    dead, alive = gmp.port(), gmp.port()
    dead.kill("gone")
    gmp.link(alive, dead)
    assert alive.join(5)
    assert alive.reason == ("gone",)


def test_a_watchers_monitors_go_with_it(recorder: Recorder) -> None:
    """Relations are cleaned from both sides."""
    server = gmp.port()
    watchers = [gmp.port() for _ in range(5)]
    monitors = [gmp.monitor(server, watcher, "down") for watcher in watchers]
    monitors += [gmp.monitor(server, watcher) for watcher in watchers]
    for watcher in watchers:
        watcher.kill()
    turns()
    assert not any(monitor.active for monitor in monitors)
    gmp.monitor(server, recorder)
    before = gmp.node().stats()["dropped"]
    server.kill("x")
    recorder.wait()
    assert gmp.node().stats()["dropped"] == before


def test_a_monitors_message_or_kill_is_never_lost() -> None:
    for _ in range(50):
        targets = [gmp.port(lambda port: port.receive("end")) for _ in range(5)]
        box, victim = gmp.port(), gmp.port()
        turns(1)
        for target in targets:
            gmp.monitor(target, box, "down")
        gmp.monitor(targets[0], victim)
        for target in targets:
            send(target, "end") if target is not targets[0] else target.kill("x")
        assert sorted(box.receive("down", timeout=5) for _ in targets) == [(), (), (), (), ("x",)]
        assert victim.join(5)


# ---- no reference keeps a dead port alive


def busy_lives() -> list[weakref.ref[gmp.Port]]:
    """Make ports that do about everything, kill them in every way, and return weak references to them."""
    server = gmp.port()
    server.on("echo", lambda *message: send(message[-1], *message))
    made: list[gmp.Port] = []

    def body(port: gmp.Port, ending: str) -> None:
        port.on("h", lambda *rest: gevent.sleep(0))
        port.spawn(gevent.sleep, 60)
        port.own(gmp.after(60, port, "late"))
        port.own(gmp.after(60, port.wrap(print)))
        gmp.monitor(server)
        gmp.monitor(server, port, "down")
        send(port, "h", port)
        send(port, "stranger", port)
        gmp.call(server, "echo", port)
        port.receive_if(lambda *message: message[0] == "stranger")
        if ending == "raise":
            raise ValueError(port)
        if ending == "own":
            port.kill("own", 1)
        if ending == "return":
            return
        port.receive("never", timeout=60)

    for ending in ("raise", "own", "return", "kill", "kill"):
        made += [gmp.port(body, ending) for _ in range(10)]
    for first, second in itertools.pairwise(made):
        gmp.monitor(first, second, "neighbour")
    plain = [gmp.port() for _ in range(50)]
    for port in plain:
        send(port, "m", port)
        send(port.id, "m")
        gmp.group("leaks").join(port)
    made += plain
    for _ in range(20):
        gevent.sleep(0)
    for port in made:
        port.kill("end")
    eventually(lambda: not any(port.alive for port in made))
    turns(20)
    return [weakref.ref(port) for port in made]


def test_no_reference_keeps_a_dead_port_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("gmp"), "disabled", True)  # pytest keeps records, which hold tracebacks
    references = busy_lives()
    gevent.sleep(0)
    gc.collect()
    left = [reference() for reference in references if reference() is not None]
    assert len(references) == 100
    assert [gc.get_referrers(port) for port in left] == []


def test_plain_dead_ports_go_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        references = []
        for _ in range(100):
            port = gmp.port()
            send(port, "m", 1)
            monitor = gmp.monitor(port, print)
            monitor.cancel()
            references.append(weakref.ref(port))
            port.kill()
        del port, monitor
        turns()
        assert [reference for reference in references if reference() is not None] == []
    finally:
        gc.enable()


def test_an_ended_job_leaves_nothing_in_its_pooled_greenlet() -> None:
    class Precious:
        pass

    def use(port: gmp.Port, precious: Precious) -> None:
        port.on("h", lambda thing: None)
        port.receive("go")

    precious = Precious()
    there = weakref.ref(precious)
    port = gmp.port(use, precious)
    turns()
    send(port, "h", precious)
    send(port, "go")
    turns()
    port.kill()
    del precious
    turns()
    gc.collect()
    assert there() is None
