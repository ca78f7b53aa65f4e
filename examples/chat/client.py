"""A chat client: it finds the server in the group `chat`, joins, and joins again whenever there is a new one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import gevent

import gmp


class Client:
    def __init__(self, name: str) -> None:
        self.name = name
        self.server: str | None = None
        self.unsaid: list[str] = []
        self.port = gmp.port()
        self.port.on("said", self.said)
        self.port.on("gone", self.gone)
        self.port.on("servers", self.servers)
        gmp.group("chat").monitor(lambda members, *_: gmp.send(self.port, "servers", sorted(members)))

    def servers(self, servers: list[str]) -> None:
        if self.server is None and servers:
            self.server = servers[0]
            gmp.monitor(self.server, self.port, "gone", self.server)
            gmp.send(self.server, "join", self.port, self.name)
            unsaid, self.unsaid = self.unsaid, []
            for text in unsaid:
                self.say(text)

    def gone(self, server: str, *reason: object) -> None:
        show("* the server is gone, waiting for another")
        self.server = None
        self.servers([other for other in sorted(gmp.group("chat").members()) if other != server])

    def said(self, name: str, text: str) -> None:
        show(f"<{name}> {text}")

    def say(self, text: str) -> None:
        if self.server is None:
            self.unsaid.append(text)
        else:
            gmp.send(self.server, "say", self.port, text)


def show(text: str) -> None:
    print(text, flush=True)


def lines(read: Callable[[], str]) -> None:
    """Say every line of standard input; a thread waits for it, so that greenlets run meanwhile."""
    while text := gevent.get_hub().threadpool.apply(read):
        client.port.run(client.say, text.rstrip("\n"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seed", default="127.0.0.1:4040", help="where the server listens (default: %(default)s)")
    arguments = parser.parse_args()
    node = gmp.configure(node_id=f"{arguments.name}/", seeds=[arguments.seed])
    client = Client(arguments.name)
    try:
        lines(sys.stdin.readline)
    except KeyboardInterrupt:
        pass
    node.close()
