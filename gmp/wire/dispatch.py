"""From decoded messages to where they go, for all framings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gmp.errors import ProtocolError

#: the destination of a local name, something with ``put(tuple)`` and ``put_all(list of tuples)``; None: there is none
Find = Callable[[Any], Any]


class Undecodable(NamedTuple):
    """A message that is well formed and holds a value without a type here: it alone is lost.

    `name` is the port that it was for, None when not even that can be read; `what` says which value it is.
    """

    name: str | None
    what: str


Decoded = list[Any] | Undecodable
#: takes a message that has no destination, whole, or that cannot be decoded; returns whether to stop
Other = Callable[[Any], object]


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


def dispatch(messages: Iterator[Decoded], find: Find, other: Other) -> int:
    """What `framing.Decoder.dispatch` does, for messages that are checked already."""
    count = 0
    for message in messages:
        count += 1
        destination = None if isinstance(message, Undecodable) else find(message[0])
        if destination is not None:
            assert isinstance(message, list)
            del message[0]
            destination.put(tuple(message))
        elif other(message):
            break
    return count
