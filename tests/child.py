"""A gmp node in a process of its own, for tests: ``python -m tests.child NODE_ID [SEED …]``.

Prints its bind (a node whose ID begins with ``private`` has none); its port ``echo`` is in the group ``children``. Ends
when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time

import gevent

import gmp


@gmp.spawnable
def echo(port: gmp.Port, *_: object) -> None:
    for message in port:
        gmp.send(message[-1], "echo", *message[:-1])


@gmp.spawnable
def report_then_fail(port: gmp.Port, boss: str, text: str) -> None:
    gmp.send(boss, "started", port, text)
    port.receive("fail")
    raise ValueError(text)


@gmp.spawnable
def compute(port: gmp.Port, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def not_spawnable(port: gmp.Port) -> None:
    raise AssertionError("this must never run")


def main(node_id: str, *seeds: str) -> None:
    binds = [] if node_id.startswith("private") else ["127.0.0.1:0"]
    node = gmp.configure(node_id=node_id, binds=binds, seeds=seeds)
    gmp.group("children").join(gmp.port(echo))
    print(*node.binds, flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    node.close()


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    main(*sys.argv[1:])
