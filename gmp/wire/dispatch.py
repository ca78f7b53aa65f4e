"""From decoded messages to where they go, for all framings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gmp.errors import ProtocolError

#: the destination of a local name, something with ``put(tuple)`` and ``put_all(list of tuples)``; None: there is none
Find = Callable[[Any], Any]
#: takes a message that has no destination, whole; returns whether to stop
Other = Callable[[list[Any]], object]


def check_head(message: Any) -> list[Any]:
    """Bring a decoded message into form: it begins with a name. *Raises:* `ProtocolError`."""
    if message.__class__ is not list:
        raise ProtocolError(f"a message must be an array, not {type(message).__name__}")
    if not message:
        message.append("")
    elif message[0] is None:
        message[0] = ""
    elif message[0].__class__ is not str:
        raise ProtocolError(f"a message must begin with a port name, not {message[0]!r:.40}")
    return message


def dispatch(messages: Iterator[list[Any]], find: Find, other: Other) -> int:
    """What `framing.Decoder.dispatch` does, for messages that are checked already."""
    count = 0
    for message in messages:
        count += 1
        destination = find(message[0])
        if destination is not None:
            del message[0]
            destination.put(tuple(message))
        elif other(message):
            break
    return count
