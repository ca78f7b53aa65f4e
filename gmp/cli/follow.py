"""`gmp trace --messages`: shows the messages of one port as lines, or as a Mermaid sequence diagram."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

import gmp
from gmp.cli.common.access import Access
from gmp.cli.common.failures import FAILED, Failure
from gmp.cli.common.output import print_json
from gmp.cli.common.show import safe
from gmp.cli.common.targets import reach
from gmp.wire.requests import FOLLOW

OTHERS = "another node"  # a message from elsewhere carries no sender
MOST_DRAWN = 60  # characters of a message in a diagram


class Seen(NamedTuple):
    """One message."""

    time: float
    sender: str
    dest: str
    text: str


def follow(access: Access, port_id: str, seconds: float, *, mermaid: bool, output: Path | None) -> None:
    """Follow the port and print its messages. *Raises:* `Failure`. *Blocks:* for that many seconds."""
    node_id, _, name = port_id.partition("#")
    if not name:
        raise Failure(f"{port_id!r} is a node: expected a port, node#name", FAILED)
    with access.join() as node:
        reach(access, node, node_id)
        seen = _messages(access, node, node_id, name, seconds)
        if mermaid:
            text = diagram(list(seen))
            if output is None:
                click.echo(text)
            else:
                output.write_text(text + "\n", encoding="utf-8")
            return
        for message in seen:
            if access.json:
                print_json(message._asdict())
            else:
                when = time.strftime("%H:%M:%S", time.localtime(message.time)) + f".{int(message.time * 1000) % 1000:03}"
                click.echo(f"{when} {safe(message.sender or OTHERS)} → {safe(message.dest)}  {safe(message.text)}")


def _messages(access: Access, node: gmp.Node, node_id: str, name: str, seconds: float) -> Iterator[Seen]:
    me = node.port()
    node.monitor(node_id, me, "lost")
    node.send(node_id, FOLLOW, name, seconds, me)
    answer = me.receive_if(lambda tag, *_: tag in ("following", "lost"), timeout=access.left)
    if answer[0] == "lost" or answer[1]:
        raise Failure(str(answer[1]) if answer[0] == "following" else f"{node_id} was lost", FAILED)
    while True:
        match me.receive(timeout=seconds + access.timeout):
            case ("message", when, sender, dest, text):
                yield Seen(when, sender, dest, text)
            case ("ended", why):
                click.echo(f"ended: {safe(why)}", err=True)
                return
            case ("lost", *reason):
                raise Failure(f"{node_id} was lost: {', '.join(map(str, reason))}", FAILED)


def diagram(messages: list[Seen]) -> str:
    """Return a Mermaid sequence diagram. Characters with a meaning in Mermaid are removed from names and texts."""
    names: dict[str, str] = {}
    for message in messages:
        for party in (message.sender, message.dest):
            names.setdefault(party, f"p{len(names)}")
    lines = ["sequenceDiagram"]
    lines += [f"    participant {alias} as {_clean(party or OTHERS)}" for party, alias in names.items()]
    for message in messages:
        text = message.text if len(message.text) <= MOST_DRAWN else message.text[:MOST_DRAWN] + "…"
        lines.append(f"    {names[message.sender]}->>{names[message.dest]}: {_clean(text)}")
    return "\n".join(lines)


def _clean(text: str) -> str:
    special = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "&": "#amp;"}
    return "".join(special.get(character, character) for character in safe(text))
