"""The chat server: a port in the group `chat` that tells everybody what one says, and forgets those that die."""

from __future__ import annotations

import argparse

import gmp


class Room:
    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # client's port → name
        self.port = gmp.port()
        self.port.on("join", self.join)
        self.port.on("say", self.say)
        self.port.on("left", self.left)
        gmp.group("chat").join(self.port)

    def join(self, client: str, name: str) -> None:
        if client not in self.names:
            self.names[client] = name
            gmp.monitor(client, self.port, "left", client)
            self.tell("*", f"{name} is here")

    def say(self, client: str, text: str) -> None:
        self.tell(self.names.get(client, "?"), text)

    def left(self, client: str, *reason: object) -> None:
        self.tell("*", f"{self.names.pop(client)} left")

    def tell(self, name: str, text: str) -> None:
        print(f"<{name}> {text}", flush=True)
        for client in self.names:
            gmp.send(client, "said", name, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", default="127.0.0.1:4040", help="where to listen (default: %(default)s)")
    node = gmp.configure(node_id="chat/", binds=[parser.parse_args().bind])
    Room()
    print(f"the room is open at {node.binds[0]}", flush=True)
    gmp.serve_forever()
