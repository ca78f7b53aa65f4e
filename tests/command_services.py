"""Services for the tests of `gmp run`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gevent.os import make_nonblocking, nb_read

import gmp


@gmp.spawnable
def echo(port: gmp.Port, group: str = "echo", **keywords: Any) -> None:
    """Answers in a group; fails, or ends, when it is told to."""
    gmp.group(group).join(port, keywords or None)
    for message in port:
        match message:
            case ("fail", *_):
                raise ValueError("told to")
            case ("end", *_):
                return
            case ("quiet", *_):
                continue
        gmp.send(message[-1], "echo", *message[:-1])


class Jobs:
    """Does jobs."""

    def add(self, a: int, b: int = 0) -> int:
        """Add two numbers."""
        return a + b

    def rows(self, count: int) -> Iterator[dict[str, int]]:
        for number in range(count):
            yield {"row": number}

    def fail(self) -> None:
        raise LookupError("nothing there")


def jobs(port: gmp.Port) -> None:
    """A service in the group `jobs`."""
    port.own(gmp.expose(Jobs(), "jobs"))
    port.receive()


def tell(port: gmp.Port, *words: str) -> None:
    """Prints what it got, in order, and stays."""
    print("service", *words, flush=True)
    port.receive()


def flood(port: gmp.Port) -> None:
    """Joins, waits for the end of standard input, then queues more for its seed than any socket takes."""
    gmp.node().wait_up("seed", timeout=40)
    print("joined", flush=True)
    make_nonblocking(0)
    while nb_read(0, 100):
        pass
    for _ in range(40):
        gmp.node().try_send("seed#nobody", b"x" * 500_000)
    print("full", flush=True)
    port.receive()
