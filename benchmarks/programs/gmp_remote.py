"""gmp in two or more processes: W3 and W4 one way, W5 round trips, W6 calls, W8 start, W9 to W11 and W13."""

from __future__ import annotations

import contextlib
import importlib
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

import gmp
from benchmarks.programs.gmp_settings import settings
from benchmarks.programs.measure import (
    KIB,
    LARGE,
    MIB,
    Far,
    emit,
    emit_rate,
    emit_round_trips,
    main,
    now,
    resident,
    scaled,
)
from gmp import call, send

CALLERS = 100


def services() -> Any:
    """gmp's services, which the releases before them have not; all other workloads are measured with these, too."""
    return importlib.import_module("gmp.exposing")


def join(far: Far) -> None:
    """Configure the default node and connect it."""
    gmp.configure(node_id="near", binds=[], seeds=[far.ready["bind"]], **settings())
    call(far.ready["calculator"], "add", 1, 1)


def one_way(count: int, size: int, kind: str = "") -> None:
    """W3, W4: until the receiver has acknowledged the last; it counts, and the count is checked."""
    count = scaled(count)
    with Far("gmp_far") as far:
        join(far)
        sink, me = far.ready["sink" + kind], gmp.port()
        payload = (b"x" * size,) if size else ()
        for value in range(min(count, 1000)):
            send(sink, "tag", value, *payload)
        send(sink, "done", me)
        me.receive("ack")
        start = now()
        if payload:
            (data,) = payload
            for value in range(count):
                send(sink, "tag", value, data)
        else:
            for value in range(count):
                send(sink, "tag", value)
        send(sink, "done", me)
        (counted,) = me.receive("ack")
        seconds = now() - start
        assert counted == count, f"{counted} of {count} messages arrived"
        emit_rate(count, seconds, size)


def round_trips(kind: str = "") -> None:
    """W5: ping-pong, one outstanding."""
    count, warm_up = scaled(20_000), scaled(1_000)
    with Far("gmp_far") as far:
        join(far)
        echo, me = far.ready["echo" + kind], gmp.port()
        times = []
        if kind:
            done = Event()

            @me.on("pong")
            def pong(value: int) -> None:
                nonlocal start
                end = now()
                times.append(end - start)
                if value == count + warm_up:
                    done.set()
                else:
                    start = now()
                    send(echo, "ping", me, value + 1)

            start = now()
            send(echo, "ping", me, 1)
            done.wait()
        else:
            for value in range(count + warm_up):
                start = now()
                send(echo, "ping", me, value)
                me.receive()
                times.append(now() - start)
        emit_round_trips(times[warm_up:])


def calls(kind: str = "") -> None:
    """W6: calls by 100 greenlets at once."""
    each = scaled(1_000)
    with Far("gmp_far") as far:
        join(far)
        calculator = far.ready["calculator" + kind]

        def caller() -> None:
            for value in range(each):
                assert call(calculator, "add", value, 1) == (value + 1,)

        start = now()
        gevent.joinall([gevent.spawn(caller) for _ in range(CALLERS)], raise_error=True)
        emit_rate(CALLERS * each, now() - start, unit="call/s")


def method_calls() -> None:
    """W14: calls of a method by 100 greenlets at once."""
    each = scaled(500)
    with Far("gmp_far") as far:
        join(far)
        service = gmp.remote(far.ready["service"])
        assert service.add(1, 1) == 2

        def caller() -> None:
            add = service.add
            for value in range(each):
                assert add(value, 1) == value + 1

        start = now()
        gevent.joinall([gevent.spawn(caller) for _ in range(CALLERS)], raise_error=True)
        emit_rate(CALLERS * each, now() - start, unit="call/s")


def stream_of_rows() -> None:
    """W15: rows of 1 KiB; and the memory of both processes when the writer is fast and its reader has stopped."""
    count, size = scaled(100_000), 64 * KIB
    with Far("gmp_far") as far:
        join(far)
        service = gmp.remote(far.ready["service"])
        sum(1 for _ in service.rows(1000, KIB))
        start = now()
        got = sum(1 for _ in service.rows(count, KIB))
        assert got == count, f"{got} of {count} rows arrived"
        emit_rate(count, now() - start, KIB)
        before = resident() + service.memory()
        stream = service.large_rows(size)
        next(stream)
        gevent.sleep(1)
        used = resident() + service.memory() - before
        stream.close()
        emit("memory / credit", used / (services().WINDOW * size))


def cancelled_work() -> None:
    """W16: 100 calls under way, and killed, until none of them runs."""
    rounds = scaled(20)
    with Far("gmp_far") as far:
        join(far)
        service = gmp.remote(far.ready["service"], timeout=None)
        assert service.add(1, 1) == 2
        seconds = 0.0
        for _ in range(rounds):
            callers = [gevent.spawn(service.wait) for _ in range(CALLERS)]
            while services().describe(service)["running"] < CALLERS:
                gevent.sleep(0)
            start = now()
            gevent.killall(callers)
            while services().describe(service)["running"]:
                gevent.sleep(0)
            seconds += now() - start
        emit_rate(rounds * CALLERS, seconds, unit="stop/s")


def start_to_reply() -> None:
    """W8: a new node is configured, connected and has its first reply; median of 11, and the first of all."""
    with Far("gmp_far") as far:
        times = []
        for number in range(11):
            start = now()
            node = gmp.Node(f"near{number}", binds=[], seeds=[far.ready["bind"]], **settings())
            node.start()
            assert node.call(far.ready["calculator"], "add", 2, 3) == (5,)
            times.append(now() - start)
            node.close()
        emit("ms", 1e3 * sorted(times)[5])
        emit("first ms", 1e3 * times[0])


def broadcast() -> None:
    """W9: to a group of 1,000 members on 10 nodes, each in a process of its own."""
    nodes, each, rounds = 10, 100, scaled(200)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Far("gmp_far"))
        for _ in range(nodes):
            stack.enter_context(Far("gmp_far", str(each), first.ready["bind"]))
        join(first)
        room, me = gmp.group("room"), gmp.port()
        room.wait(nodes * each, timeout=60)

        def collect(expected: int) -> None:
            room.send("done", me)
            for _ in range(nodes * each):
                (count,) = me.receive("ack", timeout=60)
                assert count == expected, f"{count} of {expected} broadcasts arrived"

        room.send("tag", 0)
        collect(1)
        start = now()
        for value in range(rounds):
            room.send("tag", value)
        collect(rounds)
        emit_rate(rounds * nodes * each, now() - start)


def throttled(size: int, total: int) -> None:
    """W10: a producer that never yields, over a connection that takes 16 MB/s; its memory beyond the start."""
    with Far("gmp_far") as far, Far("throttle", far.ready["bind"], "16") as proxy:
        gmp.configure(node_id="near", binds=[], seeds=[proxy.ready["bind"]], **settings())
        call(far.ready["calculator"], "add", 1, 1)
        node, sink, me = gmp.node(), far.ready["sink"], gmp.port()
        before, peak, queued, count = resident(), 0, 0, scaled(total) // max(size, 10)
        every = max(1, 64 * KIB // max(size, 10))
        start = now()
        for value in range(count):
            send(sink, "tag", value, b"x" * size)
            if not value % every:
                peak = max(peak, resident())
                queued = max(queued, node.stats()["peers"]["far"]["queued_bytes"])
        send(sink, "done", me)
        (counted,) = me.receive("ack")
        assert counted == count, f"{counted} of {count} messages arrived"
        emit_rate(count, now() - start, size)
        emit("memory / mark", (peak - before) / node.settings.high_mark)
        emit("queued / mark", queued / node.settings.high_mark)


def pings_beside_bulk() -> None:
    """W11: round trips while 1 MiB messages go the same way, and what that costs the bulk."""
    seconds = 4.0 * scaled(100) / 100
    with Far("gmp_far") as far:
        join(far)
        sink, echo, data = far.ready["sink"], far.ready["echo"], b"x" * MIB

        def stream(seconds: float) -> float:
            me, sent, start = gmp.port(), 0, now()
            while now() - start < seconds:
                send(sink, "tag", sent, data)
                sent += 1
            send(sink, "done", me)
            (counted,) = me.receive("ack")
            assert counted == sent, f"{counted} of {sent} messages arrived"
            return sent * MIB / (now() - start) / 1e6

        stream(seconds / 8)
        alone = stream(seconds / 2)
        times: list[float] = []
        sent_at = now()

        def ping(me: gmp.Port) -> None:
            nonlocal sent_at
            while True:
                sent_at = now()
                send(echo, "ping", me, 0)
                me.receive()
                times.append(now() - sent_at)

        pinger = gmp.port(ping)
        beside = stream(seconds)
        times.append(now() - sent_at)  # the one that is out counts as well
        pinger.kill()
        alone = max(alone, stream(seconds / 2))
        times.sort()
        emit("MB/s", beside)
        emit("share of flat-out", beside / alone)
        emit("p50 ms", 1e3 * times[len(times) // 2])
        emit("p99 ms", 1e3 * times[len(times) * 99 // 100])


def remote_monitors() -> None:
    """W13 over the network: 1,000 monitors here of one port there that dies."""
    watchers = 1000
    with Far("gmp_far") as far:
        join(far)
        boss = gmp.port()
        target = far.ready["mortal"]

        def watcher(port: gmp.Port) -> None:
            gmp.monitor(target, port, "down")
            send(boss, "ready")
            port.receive("down")
            send(boss, "saw")

        for _ in range(watchers):
            gmp.port(watcher)
        for _ in range(watchers):
            boss.receive("ready")
        call(far.ready["calculator"], "add", 1, 1)
        start = now()
        send(target, "die")
        for _ in range(watchers):
            boss.receive("saw")
        emit("ms", 1e3 * (now() - start))


if __name__ == "__main__":
    main(
        {
            "W3": lambda: one_way(1_000_000, 0),
            "W3 handlers": lambda: one_way(1_000_000, 0, " handlers"),
            "W4": lambda: one_way(300_000, KIB),
            **{name: partial(one_way, *large) for name, large in LARGE.items()},
            "W5": round_trips,
            "W5@1core": round_trips,
            "W5 handlers": lambda: round_trips(" handlers"),
            "W5@1core handlers": lambda: round_trips(" handlers"),
            "W6": calls,
            "W6 handlers": lambda: calls(" handlers"),
            "W8": start_to_reply,
            "W9": broadcast,
            "W10": lambda: throttled(64 * KIB, 48 * MIB),
            "W10 tiny": lambda: throttled(0, 12 * MIB),
            "W11": pings_beside_bulk,
            "W13 remote": remote_monitors,
            "W14": method_calls,
            "W15": stream_of_rows,
            "W16": cancelled_work,
        }
    )
