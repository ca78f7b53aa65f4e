"""Programs in the manner of AnyEvent::MP's introduction, each a node in a process of its own.

The node ID says which one: ``receiver…`` takes messages, ``chat…`` is a server with one port for all, ``bridge…`` one that
is code alone, of which each client spawns its own port. Prints where it listens, and ends with its standard input.
"""

from __future__ import annotations

import sys

import gevent

from gmp.compat import aemp
from gmp.compat.aemp import NODE, SELF, configure, grp_reg, mon, port, rcv, snd

clients: dict[str, str] = {}


def tell_all(text: str) -> None:
    for client in clients.values():
        snd(client, text)


def receiver() -> None:
    grp_reg("eg_receivers", rcv(port(), "test", lambda data, reply: snd(reply, "received", data, SELF())))


def chat() -> None:
    def join(client: str, nick: str) -> None:
        def gone(*reason: object) -> None:
            del clients[client]
            tell_all(f"{nick} quits: {' '.join(map(str, reason[:1]))}")

        clients[client] = client
        mon(client, gone)
        tell_all(f"{nick} joins")

    server = rcv(port(), "join", join, "privmsg", lambda nick, text: tell_all(f"{nick}: {text}"))
    grp_reg("eg_chat_server", server)


@aemp.spawnable
def client_connect(client: str, nick: str) -> None:
    def gone(*reason: object) -> None:
        del clients[client]
        tell_all(f"{nick} quits: {' '.join(map(str, reason[:1]))}")

    mon(client)
    mon(client, gone)
    clients[client] = client
    tell_all(f"{nick} joins")
    rcv(SELF(), lambda text: tell_all(f"{nick}: {text}"))  # type: ignore[arg-type]


def bridge() -> None:
    grp_reg("eg_chat_server2", NODE())


def main(node_id: str, *seeds: str) -> None:
    node = configure("nodeid", node_id, "binds", ["127.0.0.1:0"], "seeds", seeds)
    next(start for start in (receiver, chat, bridge) if node_id.startswith(start.__name__))()
    print(*node.binds, flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    node.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
