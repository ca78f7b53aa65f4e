"""The far gmp node: counting, echoing and calculating ports, with bodies and with handlers.

Prints its bind and the IDs of its ports; ends when its standard input does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gevent

import gmp
from benchmarks.programs.gmp_settings import settings
from benchmarks.programs.measure import ready, resident
from gmp import send


def sink(port: gmp.Port) -> None:
    """Counts ``("tag", …)``; ``("done", who)`` is answered with the count."""
    count = 0
    for message in port:
        if message[0] == "tag":
            count += 1
        else:
            send(message[1], "ack", count)
            count = 0


def echo(port: gmp.Port) -> None:
    """Answers ``("ping", who, x)``."""
    for _tag, who, value in port:
        send(who, "pong", value)


def calculator(port: gmp.Port) -> None:
    """Answers calls ``("add", a, b)``."""
    for _tag, a, b, reply in port:
        send(reply, a + b)


def sink_with_handlers() -> gmp.Port:
    """As `sink`."""
    port = gmp.port()
    count = 0

    @port.on("tag")
    def tag(*_rest: object) -> None:
        nonlocal count
        count += 1

    @port.on("done")
    def done(who: str) -> None:
        nonlocal count
        send(who, "ack", count)
        count = 0

    return port


def echo_with_handlers() -> gmp.Port:
    """As `echo`."""
    port = gmp.port()
    port.on("ping", lambda who, value: send(who, "pong", value))
    return port


def calculator_with_handlers() -> gmp.Port:
    """As `calculator`."""
    port = gmp.port()
    port.on("add", lambda a, b, reply: send(reply, a + b))
    return port


def member(port: gmp.Port) -> None:
    """One of many in a group: counts, and tells its count to whoever asks."""
    gmp.group("room").join(port)
    sink(port)


def mortal(port: gmp.Port) -> None:
    """Dies when it is told to."""
    port.receive("die")


class Service:
    """What is exposed."""

    def add(self, a: int, b: int) -> int:
        """Their sum."""
        return a + b

    def rows(self, count: int, size: int) -> Iterator[bytes]:
        """So many rows."""
        row = b"x" * size
        for _ in range(count):
            yield row

    def large_rows(self, size: int) -> Iterator[bytes]:
        """Rows without end, each an object of its own."""
        while True:
            yield bytes(size)

    def wait(self) -> None:
        """Work that never ends."""
        gevent.sleep(3600)

    def memory(self) -> int:
        """Bytes of memory that this process has in use."""
        return resident()


def main() -> None:
    """Serve until standard input ends. An argument: so many members of the group, and a seed to join."""
    members, seeds = (int(sys.argv[1]), sys.argv[2:]) if len(sys.argv) > 1 else (0, [])
    node = gmp.configure(node_id=f"far{members}/" if members else "far", binds=["127.0.0.1:0"], seeds=seeds, **settings())
    for _ in range(members):
        gmp.port(member)
    ports = {
        "sink": gmp.port(sink),
        "echo": gmp.port(echo),
        "calculator": gmp.port(calculator),
        "mortal": gmp.port(mortal),
        "sink handlers": sink_with_handlers(),
        "echo handlers": echo_with_handlers(),
        "calculator handlers": calculator_with_handlers(),
    }
    if hasattr(gmp, "expose"):  # not in the releases before services
        ports["service"] = gmp.expose(Service(), concurrency=100)
    ready({"bind": node.binds[0], **{name: port.id for name, port in ports.items()}})
    gevent.get_hub().threadpool.apply(sys.stdin.buffer.read)


if __name__ == "__main__":
    main()
