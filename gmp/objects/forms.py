"""The messages of services, as `docs/protocol.md` has them: tags, options, and reading what any node may have sent.

To a service: ``call METHOD [ARG…] {NAME: VALUE} {OPTION: VALUE} REPLY``, of which the two dicts may be left out, the second
or both; in short, ``do METHOD SECONDS ARG… REPLY``, with the time-out or None; ``send METHOD [ARG…] {NAME: VALUE}
{OPTION: VALUE}``; ``cancel ID KEY``; ``describe REPLY``.

From it: ``return VALUE``; ``raise TYPE TEXT [ARG…] TRACEBACK DECLARED``; ``refused KIND TEXT``; ``stream PORT TOKEN``;
``described {…}``.

A stream is two ports. To the one that has the items: ``more COUNT READER TOKEN``. To the one that reads: ``item VALUE``,
``end``, or ``raise …``. Either ends it by dying.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from gmp.errors import ConfigError
from gmp.ids import is_peer_node_id, split_port_id
from gmp.showing import show_typed

CALL, DO, SEND, CANCEL, DESCRIBE = "call", "do", "send", "cancel", "describe"
RETURN, RAISE, REFUSED, STREAM, DESCRIBED = "return", "raise", "refused", "stream", "described"
MORE, ITEM, END = "more", "item", "end"

LEAVING = "leaving"  #: the kind of refusal of a node that leaves

ID, TIMEOUT, WITHIN, CHAIN, RETRY, UPLOADS, KEY = (
    "id", "timeout", "within", "chain", "retry", "streams", "key",
)  # fmt: skip
END_OF_ITEMS = object()
MOST_CHAIN = 64  #: calls, each of which waits for the next


class Malformed(ValueError):
    """A message has not the form; the text says what was expected."""


class Refused(Exception):
    """A call is not begun: the kind and the text that its caller is told."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Asked:
    """A call as it came."""

    __slots__ = ("args", "keywords", "method", "node_id", "options", "reply")

    def __init__(
        self, method: str, args: list[Any], keywords: dict[str, Any], options: dict[str, Any], reply: tuple[str, str]
    ) -> None:
        self.method = method
        self.args = args
        self.keywords = keywords
        self.options = options
        self.reply, self.node_id = reply  #: a port ID, empty for what nobody waits for; and its node's


def read_call(rest: tuple[Any, ...]) -> Asked:
    """Read what came behind ``call``. *Raises:* `Malformed`."""
    if len(rest) == 5:  # as gmp's own callers send it
        method, args, keywords, options, reply = rest
        if type(method) is str and type(args) is list and not keywords and (options is None or type(options) is dict):
            return Asked(method, args, {}, options or {}, reply_port(reply))
    if not 3 <= len(rest) <= 5:
        raise Malformed("expected a method, a list of arguments, up to two tables, and a reply port")
    return _read(rest[:-1], reply_port(rest[-1]))


def read_do(rest: tuple[Any, ...]) -> Asked:
    """Read what came behind ``do``. *Raises:* `Malformed`."""
    if len(rest) < 3:
        raise Malformed("expected a method, seconds or null, arguments, and a reply port")
    return _read((rest[0], rest[2:-1], None, {TIMEOUT: rest[1]}), reply_port(rest[-1]))


def read_send(rest: tuple[Any, ...]) -> Asked:
    """Read what came behind ``send``. *Raises:* `Malformed`."""
    if not 2 <= len(rest) <= 4:
        raise Malformed("expected a method, a list of arguments, and up to two tables")
    return _read(rest, ("", ""))


def _read(parts: tuple[Any, ...], reply: tuple[str, str]) -> Asked:
    method, args, *tables = parts
    if isinstance(method, bytes):
        method = method.decode("latin-1")
    if not isinstance(method, str):
        raise Malformed(f"expected the name of a method, not {show_typed(method)}")
    if not isinstance(args, list | tuple):
        raise Malformed(f"expected a list of arguments, not {show_typed(args)}")
    read = [_table(table) for table in tables]
    keywords, options = [*read, {}, {}][:2]
    return Asked(method, list(args), keywords, options, reply)


def _table(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise Malformed(f"expected a table whose keys are texts, not {show_typed(value)}")
    return value


def reply_port(value: Any) -> tuple[str, str]:
    """Return the ID of a reply port, and its node's. *Raises:* `Malformed`."""
    if type(value) is str:
        node_id, _, name = value.partition("#")
        if name and value.isascii() and _is_node_id(node_id):
            return value, node_id
    try:
        node_id, name = split_port_id(value)
    except ConfigError:
        name = ""
    if not name:  # a node's own port takes requests, not replies
        raise Malformed(f"expected the ID of a reply port, not {show_typed(value)}")
    return f"{node_id}#{name}", node_id


_is_node_id = lru_cache(1000)(is_peer_node_id)


def reply_of(rest: tuple[Any, ...]) -> str:
    """Return the reply port of a call that may be malformed otherwise; empty if there is none."""
    try:
        return reply_port(rest[-1])[0] if rest else ""
    except Malformed:
        return ""


def seconds(options: dict[str, Any], name: str) -> float | None:
    """Return an option that is a time in seconds; None: not given. *Raises:* `Malformed`."""
    value = options.get(name)
    if value is None or (type(value) is float and 0.0 <= value <= sys.float_info.max):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise Malformed(f"option {name}: expected seconds, not {show_typed(value)}")
    return float(value)


def chain(options: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the calls that wait for this one. *Raises:* `Malformed`."""
    value = options.get(CHAIN)
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or len(value) > MOST_CHAIN:
        raise Malformed(f"option {CHAIN}: expected a list of at most {MOST_CHAIN} calls")
    links = []
    for link in value:
        match link:
            case [str(port_id), str(called)]:
                links.append((port_id, called))
            case _:
                raise Malformed(f"option {CHAIN}: expected pairs of a port ID and a text")
    return tuple(links)


def uploads(asked: Asked) -> list[tuple[int | str, str, str]]:
    """Return which arguments are streams: place or name, the port that has the items, its token. *Raises:* `Malformed`."""
    value = asked.options.get(UPLOADS, [])
    if not isinstance(value, list | tuple):
        raise Malformed(f"option {UPLOADS}: expected a list, not {show_typed(value)}")
    found: list[tuple[int | str, str, str]] = []
    for item in value:
        match item:
            case [int(place), source, str(token)] if 0 <= place < len(asked.args):
                found.append((place, reply_port(source)[0], token))
            case [str(place), source, str(token)] if place in asked.keywords:
                found.append((place, reply_port(source)[0], token))
            case _:
                raise Malformed(f"option {UPLOADS}: expected lists of an argument's place or name, a port, and its token")
    return found


def call_id(asked: Asked) -> str:
    """Return what the call is cancelled by. *Raises:* `Malformed`."""
    if ID not in asked.options:
        return asked.reply
    value = asked.options[ID]
    if not isinstance(value, str):
        raise Malformed(f"option {ID}: expected a text, not {show_typed(value)}")
    return value
