"""A million messages through one port, and 100,000 idle ports: ``python -m benchmarks.ports``.

Prints messages per second for a body, for handlers and with the sender far ahead, and bytes per port for plain ports, ports
with a handler and ports with a body. `python -m benchmarks` has the same beside other systems.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable

import gevent
from gevent.event import Event

import gmp
from benchmarks.programs.measure import resident

MESSAGES = 1_000_000
PORTS = 100_000
BURST = 100


def through_one_port(count: int, burst: int, *, handlers: bool = False) -> float:
    """Send `count` messages in bursts to a port that counts them; return messages per second."""
    received, done = 0, Event()

    def take(_value: int) -> None:
        nonlocal received
        received += 1
        if received == count:
            done.set()

    def body(port: gmp.Port) -> None:
        for _tag, value in port:
            take(value)

    port = gmp.port() if handlers else gmp.port(body)
    if handlers:
        port.on("tag", take)
    gevent.sleep(0)
    start = time.perf_counter()
    for first in range(0, count, burst):
        for value in range(first, first + burst):
            gmp.send(port, "tag", value)
        gevent.sleep(0)
    done.wait()
    seconds = time.perf_counter() - start
    assert received == count, f"{received} of {count} messages arrived"
    port.kill()
    return count / seconds


def idle_ports(count: int, make: Callable[[], gmp.Port]) -> tuple[float, float, float]:
    """Make `count` ports and let them be: bytes per port, and ports made, and killed, per second."""
    gc.collect()
    before = resident()
    start = time.perf_counter()
    ports = [make() for _ in range(count)]
    gevent.sleep(0)
    made = time.perf_counter() - start
    gevent.sleep(0.1)
    each = (resident() - before) / count
    start = time.perf_counter()
    for port in ports:
        port.kill()
    gevent.sleep(0)
    return each, count / made, count / (time.perf_counter() - start)


def with_handler() -> gmp.Port:
    """A port with one handler."""
    port = gmp.port()
    port.on("tag", print)
    return port


def main(messages: int = MESSAGES, ports: int = PORTS) -> None:
    """Run everything and print it."""
    print(f"{messages:,} messages through one port, messages/s")
    for name, burst, handlers in (
        ("a body, bursts of 100", BURST, False),
        ("a handler, bursts of 100", BURST, True),
        ("a body, all sent before it runs", messages, False),
    ):
        print(f"    {name:34} {through_one_port(messages, burst, handlers=handlers):12,.0f}")
    print(f"{ports:,} idle ports        bytes each       made/s     killed/s")
    kinds: dict[str, Callable[[], gmp.Port]] = {
        "plain": gmp.port,
        "with a handler": with_handler,
        "with a body": lambda: gmp.port(lambda port: port.receive("stop")),
    }
    for name, make in kinds.items():
        each, made, killed = idle_ports(ports, make)
        print(f"    {name:18} {each:13,.0f} {made:12,.0f} {killed:12,.0f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
