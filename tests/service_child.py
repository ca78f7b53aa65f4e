"""A caller, or a service, in a process of its own: ``python -m tests.service_child NODE_ID SEED WHAT [PORT]``.

``call`` and ``read`` call `work`, and read `rows`, of the service PORT; ``serve`` exposes `Rows` as the group ``rows``.
Prints its bind; ends when its standard input does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gevent

import gmp


class Rows:
    def rows(self, count: int) -> Iterator[int]:
        yield from range(count)

    def wait(self) -> None:
        gevent.sleep(3600)

    def echo(self, value: object) -> object:
        return value


def read(port: str) -> None:
    for _ in gmp.remote(port, timeout=None).rows(10**9):
        pass


def main(node_id: str, seed: str, what: str = "serve", port: str = "") -> None:
    node = gmp.configure(node_id=node_id, binds=["127.0.0.1:0"], seeds=[seed])
    if what == "serve":
        gmp.expose(Rows(), "rows", concurrency=10)
    elif what == "call":
        gevent.spawn(gmp.remote(port).work)
    else:
        gevent.spawn(read, port)
    print(*node.binds, flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    node.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
