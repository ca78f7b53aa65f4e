"""A node in a network namespace, for tests: ``python -m tests.namespace_child NODE_ID BIND [SEED …]``.

Writes what it sees as lines of JSON, each with the monotonic time, which is the same in all processes of a host. Reads
commands as lines: ``flow NODE`` (send numbered messages to that node's sink until ``stop``), ``compute SECONDS``, ``count``,
``end``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gevent
import gevent.fileobject

import gmp


class Child:
    def __init__(self, node: gmp.Node) -> None:
        self._node = node
        self._received = self._sent = 0
        self._gaps = 0
        self._flowing = False
        node.monitor_nodes(lambda node_id, up, *reason: self.tell("node", node_id, up, *reason))
        node.monitor_busy(lambda node_id, busy, seconds: self.tell("busy", node_id, busy, seconds))
        sink = node.port()
        sink.on("n", self._take)
        node.group("sinks").join(sink)

    def tell(self, *what: Any) -> None:
        print(json.dumps([time.monotonic(), *what]), flush=True)

    def _take(self, number: int, _: bytes) -> None:
        self._gaps += number != self._received
        self._received += 1

    def flow(self, node_id: str) -> None:
        (sink,) = [port for port in self._node.group("sinks").wait(2, timeout=30) if gmp.node_of(port) == node_id]
        self._flowing = True
        while self._flowing:
            self._node.send(sink, "n", self._sent, b"x" * 20_000)
            self._sent += 1
            gevent.sleep(0.01)
        self.tell("sent", self._sent)

    def compute(self, seconds: str) -> None:
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            sum(range(10_000))
        self.tell("computed")

    def stop(self) -> None:
        self._flowing = False

    def count(self) -> None:
        self.tell("count", self._received, self._gaps)


def main(node_id: str, bind: str, *seeds: str) -> None:
    node = gmp.configure(node_id=node_id, binds=[bind], seeds=seeds)
    child = Child(node)
    child.tell("ready")
    for line in gevent.fileobject.FileObjectPosix(sys.stdin.buffer, "rb"):
        command, *args = line.decode().split()
        if command == "end":
            break
        getattr(child, command)(*args) if command != "flow" else gevent.spawn(child.flow, *args)
    node.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
