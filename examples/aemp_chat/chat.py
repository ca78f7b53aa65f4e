"""A chat written as one would with Coro::MP: rooms are threads that take the messages they want, and so is every client."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent

from gmp.compat.aemp import (
    SELF,
    after,
    configure,
    db_mon,
    db_reg,
    get,
    get_cond,
    guard,
    kil,
    mon,
    peval_async,
    port,
    port_async,
    rcv_async,
    snd,
    syncal,
)

ROOMS = "aemp_chat_rooms"  # the family that rooms are registered in, with their topics
QUIET = 600  # seconds without a message after which a room says so
PATIENCE = 10  # seconds that a client waits for an answer


def show(text: str) -> None:
    print(text, flush=True)


# ---- the server


def journal() -> None:
    """A thread that writes down what is said, until it gets `close`."""
    while message := get_cond(lambda tag, *rest: tag in ("line", "close")):
        if message[0] == "close":
            show("the journal is closed")
            return
        _, when, name, text = message
        show(f"{time.strftime('%H:%M:%S', time.localtime(when))} <{name}> {text}")


def room(log: Any) -> None:
    """A thread that is a room: it knows its clients by their ports, and forgets those that die."""
    names: dict[str, str] = {}  # client's port → name

    def tell(name: str, text: str) -> None:
        snd(log, "line", time.time(), name, text)
        for client in names:
            snd(client, "said", name, text)

    def find(name: str) -> str | None:
        return next((client for client, known in names.items() if known == name), None)

    def join(_: str, client: str, name: str, reply: str) -> None:
        if find(name) is not None:
            snd(reply, "refused", f"there is a {name} already")
            return
        names[client] = name
        mon(client, SELF(), "left", client)
        snd(reply, "welcome", sorted(names.values()))
        tell("*", f"{name} is here")

    def left(_: str, client: str, *reason: Any) -> None:
        name = names.pop(client, None)
        if name is not None:
            tell("*", f"{name} left ({reason[0]})" if reason else f"{name} left")

    def say(_: str, client: str, text: str) -> None:
        if client in names:
            tell(names[client], text)

    def rename(_: str, client: str, name: str, reply: str) -> None:
        if client not in names or find(name) is not None:
            snd(reply, "refused", f"you cannot be {name}")
            return
        before, names[client] = names[client], name
        snd(reply, "renamed", name)
        tell("*", f"{before} is {name} now")

    def whisper(_: str, client: str, name: str, text: str, reply: str) -> None:
        to = find(name)
        if to is None:
            snd(reply, "refused", f"there is no {name}")
            return
        snd(to, "whispered", names.get(client, "?"), text)
        snd(reply, "whispered")

    def who(_: str, reply: str) -> None:
        snd(reply, "names", sorted(names.values()))

    commands = {"join": join, "left": left, "say": say, "rename": rename, "whisper": whisper, "who": who}

    def choose(tag: str, *rest: Any) -> Callable[..., None]:
        if tag not in commands:
            raise ValueError(f"unexpected message {tag}")
        return commands[tag]  # which `get_cond` calls with the message

    while True:
        if not get_cond(choose, QUIET):
            tell("*", "it is quiet here")


def serve(bind: str, topic: str) -> None:
    node = configure("nodeid", "aemp_chat/%n/%u", "binds", [bind])
    log = rcv_async(port(), journal)
    open_room(log, topic)
    show(f"the room is open at {node.binds[0]}")
    try:
        gevent.wait()
    except KeyboardInterrupt:
        snd(log, "close")
        log.join(PATIENCE)


def open_room(log: Any, topic: str) -> None:
    """The supervisor: a room that dies is opened anew; its clients see the death, and come back."""
    opened = port_async(lambda: room(log))
    db_reg(ROOMS, opened, topic)

    def closed(*reason: Any) -> None:
        if reason[:1] == ("leaving",):
            return  # the program ends
        show(f"the room is closed ({reason[1] if reason else 'normally'}), opening another")
        open_room(log, topic)

    mon(opened, closed)


# ---- the client


def talk(name: str) -> None:
    """The client's thread: it looks for a room, joins, and goes on until the room is gone; then it looks again."""
    me = SELF()
    found: dict[str, str] = {}

    def changed(entries: dict[str, str], *_: Any) -> None:
        snd(me, "rooms", entries)

    watching = guard(db_mon(ROOMS, changed))
    while True:
        while not found:
            (found,) = get("rooms")
        where, topic = next(iter(found.items()))
        found = {}
        answer = syncal(PATIENCE, where, "join", me, name)
        if not answer:
            continue  # it died meanwhile, and the family will say so
        if answer[0] == "refused":
            show(f"* {answer[1]}")
            break
        show(f"* in the room about {topic} with {', '.join(answer[1])}")
        mon(where, me, "gone")
        if not stay(where):
            break
        show("* the room is gone, waiting for another")
    del watching
    kil(me)


def stay(where: str) -> bool:
    """Talk in a room; returns whether it is gone, and False when the user has had enough."""
    wanted = ("said", "whispered", "typed", "gone")
    while True:
        tag, *rest = get_cond(lambda tag, *_: tag in wanted)
        if tag == "gone":
            return True
        if tag == "typed":
            if rest == ["/quit"]:
                return False
            typed(where, rest[0])
        else:
            show(f"<{rest[0]}>{' (to you)' if tag == 'whispered' else ''} {rest[1]}")


def typed(where: str, line: str) -> None:
    """One line of the user; what has to be answered is asked apart, so that the room's messages go on coming."""
    me = SELF()
    command, _, rest = line.partition(" ")
    first, _, text = rest.partition(" ")

    def ask(*message: Any) -> None:
        peval_async(me, lambda: show(f"* {' '.join(map(str, syncal(PATIENCE, where, *message) or ['no answer']))}"))

    if command == "/who":
        ask("who")
    elif command == "/nick":
        ask("rename", me, first)
    elif command == "/tell":
        ask("whisper", me, first, text)
    elif command == "/later":
        after(float(first), where, "say", me, text)
    else:
        snd(where, "say", me, line)


def join(name: str, seed: str) -> None:
    configure("nodeid", f"{name}/%u", "seeds", [seed])
    client = port_async(talk, name)
    peval_async(client, keyboard)
    try:
        client.join()
    except KeyboardInterrupt:
        kil(client)


def keyboard() -> None:
    """Every line is a message to the client; a native thread waits for it, so that other threads run meanwhile."""
    while line := gevent.get_hub().threadpool.apply(sys.stdin.readline):
        snd(SELF(), "typed", line.rstrip("\n"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="'serve' to open a room, else the name to join one with")
    parser.add_argument("--at", default="127.0.0.1:4040", help="where the server listens (default: %(default)s)")
    parser.add_argument("--topic", default="everything", help="what the room is about (default: %(default)s)")
    given = parser.parse_args()
    if given.name == "serve":
        serve(given.at, given.topic)
    else:
        join(given.name, given.at)
