"""gmp in one process: W1 one way, W2 ping-pong, W7 ports made and killed, W12 selective receive, W13 monitors."""

from __future__ import annotations

import gc

import gevent
from gevent.event import Event

import gmp
from benchmarks.programs.measure import PACE, emit, emit_rate, main, now, resident, scaled
from gmp import send

BURST = 100  # ports that are made before others run


def one_way(*, handlers: bool) -> None:
    """W1: until the last of a million is counted."""
    count, counted, done = scaled(1_000_000, PACE), 0, Event()
    port = gmp.port()

    def receive() -> None:
        nonlocal counted
        for _message in port:
            counted += 1
            if counted == count:
                done.set()
                return

    def tag(_value: int) -> None:
        nonlocal counted
        counted += 1
        if counted == count:
            done.set()

    if handlers:
        port.on("tag", tag)
    else:
        port.spawn(receive)
    gevent.sleep(0)
    start = now()
    for first in range(0, count, PACE):
        for value in range(first, first + PACE):
            send(port, "tag", value)
        gevent.sleep(0)
    done.wait()
    emit_rate(count, now() - start)


def ping_pong_bodies() -> None:
    """W2 between two bodies with `receive`."""
    count, done = scaled(200_000), Event()

    def ponger(port: gmp.Port) -> None:
        for _tag, who, value in port:
            send(who, "pong", value)

    def pinger(port: gmp.Port) -> None:
        for value in range(count):
            send(pong, "ping", port, value)
            port.receive()
        done.set()

    pong = gmp.port(ponger)
    gevent.sleep(0)
    start = now()
    gmp.port(pinger)
    done.wait()
    emit_rate(count, now() - start, unit="rtt/s")


def ping_pong_handlers() -> None:
    """W2 between two ports with handlers."""
    count, done = scaled(400_000), Event()
    left, right = gmp.port(), gmp.port()
    right.on("ping", lambda who, value: send(who, "pong", value))

    @left.on("pong")
    def pong(value: int) -> None:
        if value:
            send(right, "ping", left, value - 1)
        else:
            done.set()

    start = now()
    send(right, "ping", left, count)
    done.wait()
    emit_rate(count, now() - start, unit="rtt/s")


def plain_ports() -> None:
    """W7: a hundred made, killed, and buried, and so on; then the memory of idle ones."""
    count = scaled(100_000, BURST)
    gmp.node()  # which imports what the first one needs: that is W17's
    start = now()
    for _ in range(0, count, BURST):
        ports = [gmp.port() for _ in range(BURST)]
        for port in ports:
            port.kill()
        gevent.sleep(0)
    emit_rate(count, now() - start, unit="create+kill/s")
    del ports
    gc.collect()
    before = resident()
    kept = [gmp.port() for _ in range(count)]
    gevent.sleep(0)
    emit("bytes/port", (resident() - before) / len(kept))


def ports_with_a_body() -> None:
    """W7 with a body that has started and waits in `receive`."""
    count, started = scaled(20_000, BURST), 0

    def body(port: gmp.Port) -> None:
        nonlocal started
        started += 1
        port.receive("stop")

    def started_ports(count: int) -> list[gmp.Port]:
        nonlocal started
        started = 0
        ports = [gmp.port(body) for _ in range(count)]
        while started < count:
            gevent.sleep(0)
        return ports

    def churn(count: int) -> None:
        for _ in range(0, count, BURST):
            ports = started_ports(BURST)
            for port in ports:
                port.kill()
            gevent.sleep(0)

    churn(10 * BURST)
    start = now()
    churn(count)
    emit_rate(count, now() - start, unit="create+kill/s")
    gc.collect()
    before = resident()
    kept = started_ports(count)
    emit("bytes/port", (resident() - before) / len(kept))


def selective_receive() -> None:
    """W12: ping-pong while 1,000 messages of another kind wait before the pong."""
    count, done = scaled(2_000), Event()

    def ponger(port: gmp.Port) -> None:
        for _tag, who, value in port:
            send(who, "pong", value)

    def pinger(port: gmp.Port) -> None:
        for value in range(1000):
            send(port, "stranger", value)
        start = now()
        for value in range(count):
            send(pong, "ping", port, value)
            port.receive("pong")
        emit_rate(count, now() - start, unit="rtt/s")
        done.set()

    pong = gmp.port(ponger)
    gevent.sleep(0)
    gmp.port(pinger)
    done.wait()


def monitors() -> None:
    """W13: from the kill of a port to the last of 1,000 messages of its monitors, median of 20."""
    watchers, rounds = 1000, 20
    boss = gmp.port()

    def watcher(port: gmp.Port) -> None:
        for _tag, target in port:
            gmp.monitor(target, port, "down")
            send(boss, "ready")
            port.receive("down")
            send(boss, "saw")

    ports = [gmp.port(watcher) for _ in range(watchers)]
    times = []
    for _ in range(rounds):
        target = gmp.port()
        for port in ports:
            send(port, "watch", target)
        for _ in ports:
            boss.receive("ready")
        start = now()
        target.kill("end")
        for _ in ports:
            boss.receive("saw")
        times.append(now() - start)
    emit("ms", 1e3 * sorted(times)[rounds // 2])


if __name__ == "__main__":
    main(
        {
            "W1": lambda: one_way(handlers=False),
            "W1 handlers": lambda: one_way(handlers=True),
            "W2": ping_pong_bodies,
            "W2 handlers": ping_pong_handlers,
            "W7": plain_ports,
            "W7 bodies": ports_with_a_body,
            "W12": selective_receive,
            "W13": monitors,
        }
    )
