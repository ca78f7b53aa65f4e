"""`gmp.testing.Simulation`: real nodes in virtual time, the same way each time."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.queue
import gevent.socket
import pytest
from gevent import monkey

import gmp
from gmp.net import machine
from gmp.outside import chance, clock
from gmp.secretfile import replace_secret
from gmp.testing import Simulation, SimulationError, shrink
from gmp.testing.simulated.faults import KINDS
from tests import job_farm


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation(seed=1) as sim:
        yield sim


def in_a_thread(function: Callable[[], object]) -> None:
    """Call `function` in a native thread, in a patched program too, and wait natively."""
    ended: list[None] = []

    def run() -> None:
        try:
            function()
        finally:
            ended.append(None)

    monkey.get_original("_thread", "start_new_thread")(run, ())
    while not ended:
        os.sched_yield()


def echo(node: gmp.Node) -> gmp.Port:
    """A port that answers each message with its ID behind it."""

    def body(port: gmp.Port) -> None:
        for *message, reply in port:
            node.send(reply, *message, port.id)

    return node.port(body)


def trio(sim: Simulation) -> tuple[gmp.Node, gmp.Node, gmp.Node]:
    """A seed and two nodes that know each other."""
    nodes = sim.node("seed"), sim.node("here"), sim.node("there")
    sim.settle()
    nodes[1].wait_up("there")
    return nodes


# ---- the loop


def test_time_goes_by_without_waiting(sim: Simulation) -> None:
    began = time.monotonic()
    gevent.sleep(1e6)
    sim.run(86400)
    assert 1_086_400 <= sim.now < 1_086_401
    assert time.monotonic() - began < 20


def test_timers_fire_in_their_order(sim: Simulation) -> None:
    fired: list[Any] = []
    for seconds in (3, 1, 2, 1):
        gevent.spawn_later(seconds, fired.append, seconds)
    gevent.spawn(fired.append, "now")
    sim.run(2.5)
    assert fired == ["now", 1, 1, 2]
    sim.run(1)
    assert fired == ["now", 1, 1, 2, 3]


def test_gevent_s_own_means_of_waiting_work(sim: Simulation) -> None:
    event, queue, result = gevent.event.Event(), gevent.queue.Queue(), gevent.event.AsyncResult()
    assert not event.wait(10)
    with pytest.raises(gevent.Timeout), gevent.Timeout(5):
        queue.get()
    gevent.spawn_later(7, queue.put, "item")
    gevent.spawn_later(1, result.set, "value")
    gevent.spawn_later(2, event.set)
    assert (queue.get(timeout=20), result.get(), event.wait()) == ("item", "value", True)
    sleeper = gevent.spawn(gevent.sleep, 1e9)
    assert not sleeper.ready()
    assert gevent.joinall([sleeper], timeout=3) == []
    sleeper.kill()
    assert sleeper.dead
    assert 25 <= sim.now < 26


def test_a_timer_that_repeats_keeps_its_beat(sim: Simulation) -> None:
    times: list[float] = []
    timer = gevent.get_hub().loop.timer(1.0, 2.0)
    timer.start(lambda: times.append(sim.now))
    sim.run(8)
    timer.stop()
    sim.run(8)
    assert times == pytest.approx([1, 3, 5, 7], abs=0.01)


def test_two_that_answer_each_other_for_ever_do_not_stop_the_time(sim: Simulation) -> None:
    node = sim.node("only")
    ports = [echo(node), echo(node)]
    node.send(ports[0].id, ports[1].id)
    sim.run(0.01)
    assert sim.now >= 0.01


def test_nobody_to_wait_for_is_an_error(sim: Simulation) -> None:
    with pytest.raises(gevent.exceptions.LoopExit):
        gevent.event.Event().wait()
    sim.run(1)  # and it goes on


def test_whoever_waits_for_ever_in_a_live_network_is_an_error_too() -> None:
    with Simulation(limit=100) as sim:
        port = sim.node("only").port()
        with pytest.raises(SimulationError, match="nothing ended within 100 s"):
            port.receive()
        sim.run(1)


def test_an_error_in_a_callback_is_reported_and_the_rest_goes_on(
    sim: Simulation, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, called = gevent.get_hub().loop, []
    loop.run_callback(lambda: 1 / 0)
    loop.run_callback(called.append, 1)
    timer = loop.timer(1)
    timer.start(lambda: 1 / 0)
    sim.run(2)
    assert called == [1]
    assert capsys.readouterr().err.count("ZeroDivisionError: division") == 2


def test_many_stopped_timers_are_not_kept(sim: Simulation) -> None:
    for _ in range(20_000):
        with gevent.Timeout(1e6):
            pass
    assert len(gevent.get_hub().loop._heap) < 5000


# ---- what stands in the place of the system


def test_afterwards_everything_is_as_before() -> None:
    hub, names = gevent.get_hub(), (clock.monotonic, clock.time, chance.random, chance.token_hex, machine.here)
    with Simulation() as sim:
        assert gevent.get_hub() is not hub
        assert abs(clock.monotonic() - sim.now) < 0.001
        assert clock.monotonic is not names[0]
    assert gevent.get_hub() is hub
    assert (clock.monotonic, clock.time, chance.random, chance.token_hex, machine.here) == names
    assert gc.isenabled()
    gevent.sleep(0)


def test_other_threads_have_the_real_clock(sim: Simulation) -> None:
    seen: list[float] = []
    in_a_thread(lambda: seen.append(clock.monotonic() - time.monotonic()))
    assert abs(seen[0]) < 10
    assert sim.now < 1


def test_two_threads_simulate_at_once() -> None:
    digests: list[str] = []

    def simulate() -> None:
        with Simulation(seed=5) as sim:
            here, there = sim.node("here"), sim.node("there")
            assert here.call(echo(there).id, "hi", timeout=5)[0] == "hi"
            sim.run(100)
            digests.append(sim.digest)

    pool = gevent.get_hub().threadpool
    gevent.joinall([pool.spawn(simulate) for _ in range(2)])
    simulate()
    assert len(digests) == 3
    assert len(set(digests)) == 1


def test_only_one_at_a_time_in_a_thread(sim: Simulation) -> None:
    with pytest.raises(SimulationError, match="already"), Simulation():
        pass
    sim.run(1)


def not_from_another_thread(sim: Simulation) -> None:
    loop, failed = gevent.get_hub().loop, []

    def ring() -> None:
        try:
            loop.run_callback_threadsafe(print)
        except SimulationError as error:
            failed.append(error)

    in_a_thread(ring)
    raise failed[0]


def real_descriptor(sim: Simulation) -> None:
    ours, theirs = os.pipe()
    try:
        gevent.socket.wait_read(ours)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("try_it", "hint"),
    [
        (lambda sim: sim.node("n", cert="cert.pem"), "leave cert away"),
        (lambda sim: sim.node("n", lan="home"), "leave lan away"),
        (lambda sim: sim.node("n", secret=None), "leave secret away"),
        (lambda sim: Simulation(secret=None), "leave secret away"),
        (lambda sim: gmp.Node("n", secret="geheim"), "Simulation.node"),
        (lambda sim: gevent.get_hub().threadpool.apply(len, ("",)), "do it in a greenlet"),
        (lambda sim: gevent.get_hub().resolver, "do it in a greenlet"),
        (lambda sim: gevent.signal_handler(10, print), "let a port stand for them"),
        (real_descriptor, "put a port in the place"),
        (not_from_another_thread, "gevent.spawn"),
        (lambda sim: (sim.node("n"), sim.node("n")), "restart it"),
    ],
)
def test_what_cannot_be_simulated_raises_at_once_and_says_what_to_do(
    sim: Simulation, try_it: Callable[[Simulation], Any], hint: str
) -> None:
    with pytest.raises(SimulationError, match=hint):
        try_it(sim)
    assert sim.now < 1
    sim.node("other")
    sim.run(1)


def test_no_secret_is_made_that_whoever_knows_the_seed_knows_too(
    sim: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMP_CONFIG", str(tmp_path / "gmp" / "config.toml"))
    monkeypatch.delenv("GMP_SECRET", raising=False)
    with pytest.raises(SimulationError, match="give secret, or make it before"):
        gmp.Node("n")
    with pytest.raises(SimulationError, match="give secret, or make it before"):
        replace_secret(tmp_path / "gmp" / "secret")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("GMP_LAN", "home")
    with pytest.raises(SimulationError, match="leave lan away"):
        sim.node("other")
    assert list(tmp_path.iterdir()) == []


# ---- networks


def test_nodes_join_send_and_call(sim: Simulation) -> None:
    _, here, there = trio(sim)
    port, inbox = echo(there), here.port()
    assert here.call(port.id, "hello") == ("hello", port.id)
    for number in range(1000):
        here.send(port.id, number, inbox)
    assert [inbox.receive()[0] for _ in range(1000)] == list(range(1000))
    with pytest.raises(gmp.CallTimeout):
        here.call(there.port().id, "silent", timeout=3600)
    assert 3600 <= sim.now < 3601


def test_large_messages_fill_buffers_and_arrive(sim: Simulation) -> None:
    _, here, there = trio(sim)
    sink = there.port()
    for number in range(20):
        here.send(sink.id, number, bytes([number]) * 1_000_000)
    for number in range(20):
        assert sink.receive() == (number, bytes([number]) * 1_000_000)


def test_groups_and_families_are_seen_by_all(sim: Simulation) -> None:
    nodes = trio(sim)
    ports = [node.port() for node in nodes]
    for number, (node, port) in enumerate(zip(nodes, ports, strict=True)):
        node.group("workers").join(port, number)
    expected = {port.id: number for number, port in enumerate(ports)}
    for node in nodes:
        assert dict(node.group("workers").wait(3, timeout=10)) == expected
    nodes[1].family("settings").set("colour", "red")
    sim.run_until(lambda: all(dict(node.family("settings").items()) == {"colour": "red"} for node in nodes))
    sim.crash("there")
    sim.run_until(lambda: all(len(node.group("workers").members()) == 2 for node in nodes[:2]), timeout=20)


def test_streams_within_a_node_and_between_nodes(sim: Simulation) -> None:
    sim.node("seed")
    here, _ = (sim.node(name, allow=["tests.*"]) for name in ("here", "there"))
    sim.settle()
    for node_id in ("here", "there"):
        stream = here.open_stream(node_id, "tests.test_simulation:double", timeout=10)
        stream.sendall(b"twice" * 100_000)
        stream.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda stream=stream: stream.recv(100_000), b"")) == b"twice" * 200_000
        stream.close()


def double(stream: gmp.Stream) -> None:
    data = b"".join(iter(lambda: stream.recv(100_000), b""))
    stream.sendall(data + data)


def test_names_of_hosts_are_looked_up(sim: Simulation) -> None:
    sim.node("seed", binds=["*:0"])
    port = sim["seed"].binds[0].rpartition(":")[2]
    sim.node("by-name", seeds=[f"seed:{port}"]).wait_up("seed", timeout=10)
    lost = sim.node("lost", seeds=["nobody:4040"])
    with pytest.raises(gmp.WaitTimeout, match="nobody"):
        lost.wait_up(timeout=10)


def test_private_nodes_are_reached_through_a_seed(sim: Simulation) -> None:
    sim.node("seed")
    here, there = sim.node("here", binds=[]), sim.node("there", binds=[])
    sim.settle()
    assert here.call(echo(there).id, "hello", timeout=10)[0] == "hello"


# ---- faults


def test_a_crash_is_seen_at_once_and_runs_nothing(sim: Simulation) -> None:
    _, here, there = trio(sim)
    ran: list[str] = []

    def body(port: gmp.Port) -> None:
        try:
            port.receive()
        finally:
            ran.append("finally")

    port, told = there.port(body), here.port()
    here.monitor(port, told, "gone")
    assert here.call("there", "time", timeout=5)
    sim.crash("there")
    began = sim.now
    assert told.receive(timeout=5)[:2] == ("gone", "transport_error")
    assert sim.now - began < 0.5
    sim.run(60)
    assert ran == []
    with pytest.raises(gmp.GmpError, match="has crashed"):
        there.port()


def test_what_a_crashed_node_meant_to_do_later_is_not_done(sim: Simulation) -> None:
    _, here, _ = trio(sim)
    done: list[str] = []
    here._core.ground.later(1.0, lambda: done.append("mesh"))
    here.after(1.0, lambda: done.append("program"))
    sim.crash("here")
    sim.run(5)
    assert done == []


def test_a_restarted_node_is_another_one(sim: Simulation) -> None:
    _, here, there = trio(sim)
    before = echo(there).id
    again = sim.restart("there")
    here.wait_up("there", timeout=30)
    assert again.incarnation > there.incarnation
    with pytest.raises(gmp.PortDied):
        here.call(before, "hello", timeout=30)
    assert here.call(echo(again).id, "hello", timeout=30)[0] == "hello"


@pytest.mark.parametrize(
    "fault",
    [
        lambda sim: sim.partition("here", "there"),
        lambda sim: sim.partition("here", "there", one_way=True),
        lambda sim: sim.partition("there", "here", one_way=True),
        lambda sim: sim.partition("there"),
        lambda sim: sim.vanish("there"),
    ],
    ids=["both ways", "no word out", "no word in", "from all", "power cut"],
)
def test_a_host_that_cannot_be_reached_is_lost_within_the_bounds(
    sim: Simulation, fault: Callable[[Simulation], None]
) -> None:
    _, here, _ = trio(sim)
    assert here.call("there", "time", timeout=5)
    sim.run(100)
    fault(sim)
    began = sim.now
    sim.run_until(lambda: not here.is_up("there"), timeout=60)
    assert 18 <= sim.now - began <= 25
    sim.heal()
    if sim["there"].closed:
        sim.restart("there")
    here.wait_up("there", timeout=60)


def test_a_host_without_power_does_not_answer_whoever_comes_later(sim: Simulation) -> None:
    trio(sim)
    sim.vanish("seed")
    sim.run(30)
    late = sim.node("late")
    with pytest.raises(gmp.WaitTimeout, match="no answer"):
        late.wait_up(timeout=10)
    sim.restart("seed")
    late.wait_up("seed", timeout=60)
    sim.partition("late", "seed")
    sim.run_until(lambda: not late.is_up("seed"), timeout=30)


def test_a_short_partition_loses_nothing(sim: Simulation) -> None:
    _, here, there = trio(sim)
    sink = there.port()
    for number in range(30):
        if number == 10:
            sim.partition("there")
        if number == 20:
            sim.heal()
        here.send(sink.id, number)
        sim.run(1)
    assert [sink.receive(timeout=5)[0] for _ in range(30)] == list(range(30))


def test_a_delay_delays(sim: Simulation) -> None:
    _, here, there = trio(sim)
    port = echo(there)
    here.call(port.id, "warm up")
    sim.delay("here", "there", 1.5)
    began = sim.now
    here.call(port.id, "hello")
    assert 3.0 <= sim.now - began < 3.2
    sim.heal()
    sim.run(5)
    began = sim.now
    here.call(port.id, "hello")
    assert sim.now - began < 0.1


def test_a_reset_is_told_on_both_sides(sim: Simulation) -> None:
    _, here, there = trio(sim)
    here.call("there", "time")
    told: list[tuple[Any, ...]] = []
    here.monitor_nodes(lambda *event: told.append(("here", *event)))
    there.monitor_nodes(lambda *event: told.append(("there", *event)))
    sim.reset("here", "there")
    sim.run(1)
    assert {(at, event[0]) for at, *event in told if not event[1]} == {("here", "there"), ("there", "here")}
    here.wait_up("there", timeout=10)


def test_dialling_a_host_that_is_cut_off_takes_the_time_that_is_set(sim: Simulation) -> None:
    late = sim.node("late", binds=[], seeds=["10.0.0.9:4040"], address_timeout=3.0)
    sim.run_until(lambda: sum("late dials" in event for event in sim.trace) == 2)
    assert 3.0 <= sim.now < 4.5  # then it pauses
    with pytest.raises(gmp.WaitTimeout, match=r"10\.0\.0\.9:4040 is not connected: no answer \(timed out\)"):
        late.wait_up(timeout=1)


# ---- the same each time

PROGRAM = """
import gevent, gmp
from gmp.testing import Simulation
with Simulation(seed={seed}, seeds=2, keep=10**6) as sim:
    nodes = [sim.node(f"n{{i}}") for i in range(6)]
    for node in nodes:
        port = node.port(lambda port, node=node: [node.send(reply, text) for text, reply in port])
        for group in ("workers", "others", "third"):
            node.group(group).join(port)
        node.family("settings").set(node.id, [node.id])
    sim.settle()
    for fault in range(8):
        sim.run(7)
        sim.reset("n0", f"n{{fault % 5 + 1}}")
        if fault == 3: sim.partition(["n0", "n2"])
        if fault == 5: sim.heal()
        if fault == 6: sim.crash("n4")
        member = nodes[1].group("workers").pick()
        try:
            nodes[1].call(member, "hello", timeout=3)
        except gmp.GmpError as error:
            sim.note(f"{{type(error).__name__}}")
    sim.run(60)
    print(chr(10).join(sim.trace))
"""


def run(seed: int, hash_seed: str) -> str:
    program = [sys.executable, "-c", PROGRAM.format(seed=seed)]
    ended = subprocess.run(
        program, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True, timeout=120
    )
    return ended.stdout


def test_a_seed_gives_the_same_trace_byte_for_byte_in_every_process() -> None:
    first = run(1, "0")
    assert first.count("\n") > 500
    assert [run(1, hash_seed) == first for hash_seed in ("1", "2", "77")] == [True] * 3
    assert run(2, "0") != first


def test_the_digest_covers_what_is_no_longer_kept() -> None:
    digests = []
    for number in (1, 2):
        with Simulation(keep=2) as sim:
            sim.note(f"note {number}")
            sim.node("one")
            sim.node("two")
            sim.settle()
            sim.run(10)
            digests.append((sim.digest, list(sim.trace)))
    assert digests[0][0] != digests[1][0]
    assert digests[0][1] == digests[1][1]


def test_a_failure_tells_seed_time_and_the_last_events() -> None:
    def fails() -> None:
        with Simulation(seed=42) as sim:
            sim.node("one")
            sim.run(12)
            sim.note("something happens")
            raise AssertionError("expected")

    with pytest.raises(AssertionError) as caught:
        fails()
    (note,) = caught.value.__notes__
    assert note.startswith("Simulation(seed=42) at 12.0")
    assert note.endswith("something happens")
    gevent.sleep(0)


def test_a_condition_that_does_not_come_is_an_error_that_names_it(sim: Simulation) -> None:
    def never() -> bool:
        return False

    with pytest.raises(SimulationError, match=r"not within 5 s of virtual time: .*never"):
        sim.run_until(never, timeout=5)
    assert 5 <= sim.now < 5.1


# ---- faults at random


def troubled(seed: int, **settings: Any) -> tuple[str, dict[int, str]]:
    with Simulation(seed, seeds=2, **settings) as sim:
        for number in range(5):
            sim.node(f"n{number}", lambda node: node.group("all").join(node.port()))
        sim.settle()
        sim.trouble(every=10, lasting=15)
        sim.run(400)
        sim.heal()
        sim.run_until(lambda: all(len(node.group("all").members()) == 5 for node in sim), timeout=120)
        faults = dict(sim.faults)
        sim.run(100)
        assert sim.faults == faults, "nothing goes wrong after heal"
        return sim.digest, faults


def test_trouble_is_of_every_kind_the_same_for_a_seed_and_all_see_the_same_once_it_is_over() -> None:
    digest, faults = troubled(3)
    assert troubled(3) == (digest, faults)
    assert len(faults) > 20
    kinds = " ".join(faults.values())
    assert [kind for kind in KINDS if kind not in kinds] == []


def test_faults_can_be_left_out_and_the_others_stay_as_they_were() -> None:
    _, faults = troubled(3)
    some = list(faults)[1::3]
    _, fewer = troubled(3, only_faults=some)
    assert list(fewer) == some
    assert [fewer[number].split(",")[0][:9] for number in some] == [faults[number].split(",")[0][:9] for number in some]
    assert troubled(3, only_faults=())[1] == {}


def test_trouble_spares_whom_it_is_to_spare_and_knows_its_kinds(sim: Simulation) -> None:
    for name in ("one", "two", "three"):
        sim.node(name)
    with pytest.raises(ValueError, match="expected some of partition, one way"):
        sim.trouble(kinds=["earthquake"])
    sim.trouble(kinds=["crash"], every=5, spare=["one", "two"])
    with pytest.raises(SimulationError, match="heal ends it"):
        sim.trouble()
    sim.run(100)
    assert sim.faults
    assert all("crash three" in fault for fault in sim.faults.values())


def test_a_program_runs_at_each_start_of_its_node(sim: Simulation) -> None:
    started: list[str] = []
    sim.node("seed")
    sim.node("one", lambda node: started.append(node.incarnation))
    sim.crash("one")
    sim.restart("one")
    sim.vanish("one")
    again = sim.restart("one")
    again.wait_up("seed", timeout=30)
    assert started == sorted(set(started))
    assert len(started) == 3


def test_the_job_farm_loses_a_job_with_some_seed_and_a_careful_boss_with_none() -> None:
    failed = []
    for seed in range(8):
        try:
            with Simulation(seed) as sim:
                job_farm.every_job_is_done(sim)
        except SimulationError:
            failed.append(seed)
    assert failed
    for seed in failed[:2]:
        with Simulation(seed) as sim:
            job_farm.every_job_is_done(sim, careful=True)


def needs_both(sim: Simulation) -> None:
    """Fails when both nodes have crashed at least once."""
    sim.node("seed")
    crashed: dict[str, int] = {"one": -1, "two": -1}
    for name in crashed:
        sim.node(name, lambda node: crashed.update({node.id: crashed[node.id] + 1}))
    sim.trouble(kinds=["crash"], every=5, lasting=1, spare=["seed"])
    sim.run(30)
    assert not all(crashed.values()), "both have crashed"


def test_shrinking_leaves_the_faults_that_are_needed() -> None:
    shrunk = shrink(needs_both, 1)
    assert len(shrunk.only_faults) == 2
    assert sorted(fault.split()[-4].strip(",") for fault in shrunk.faults) == ["one", "two"]
    numbers, (text, *rest) = list(shrunk.only_faults), str(shrunk).splitlines()
    assert text.startswith(f"seed 1, only_faults={numbers}, fails: AssertionError(")
    assert rest == list(shrunk.faults)
    with pytest.raises(AssertionError, match="both have crashed"), Simulation(1, only_faults=shrunk.only_faults) as sim:
        needs_both(sim)


def test_what_fails_without_faults_is_shrunk_to_none_and_what_does_not_fail_is_an_error() -> None:
    def fails(sim: Simulation) -> None:
        sim.node("one")
        sim.node("two")
        sim.trouble()
        sim.run(100)
        raise KeyError("always")

    shrunk = shrink(fails, "a text is a seed too")
    assert shrunk.only_faults == ()
    assert isinstance(shrunk.error, KeyError)
    with pytest.raises(SimulationError, match="nothing to shrink"):
        shrink(lambda sim: sim.run(1), 1)


@pytest.mark.parametrize("kind", ["crash", "vanish"])
def test_a_node_that_the_program_has_started_again_itself_is_left_alone_when_the_trouble_ends(kind: str) -> None:
    with Simulation(seed=3) as sim:
        sim.node("spared")
        sim.node("victim")
        sim.trouble(every=1.0, lasting=1e5, kinds=[kind], spare=["spared"])
        sim.run_until(lambda: sim["victim"].closed)
        again = sim.restart("victim")
        sim.heal()
        sim.run(10)
        assert sim["victim"] is again
        assert not again.closed
