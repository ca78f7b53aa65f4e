"""Batches: messages in a row for one port as one msgpack array, ``[0, name, [element, …], …]``, between gmp nodes.

The name goes over the wire once, and a decoder delivers thousands of messages by a few calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from gc import get_referents
from typing import Any

import msgpack

from gmp.errors import ProtocolError
from gmp.wire.dispatch import Undecodable
from gmp.wire.nesting import MAX_NESTING
from gmp.wire.requests import ROWS, admits
from gmp.wire.restore import DECODED, NotRestored, problem_of, restore, restore_message

LONGEST_ROW = 8 * 1024  #: bytes of a message that goes in a batch: larger ones gain nothing
LONGEST_BATCH = 128 * 1024  #: bytes of a batch that must be read, whatever the limit on messages is


def longest_row(framing: str, keys: Mapping[str, str], max_message: int) -> int:
    """Bytes of a message that may go in a batch to a side that reads `framing` and greeted with these `keys`; -1: none.

    That is without the name, for which there is room under `max_message` too.
    """
    return min(LONGEST_ROW, max_message // 2) if framing == "msgpack" and admits(keys, ROWS) else -1


def batch_head(name: str, count: int) -> bytes:
    """What comes before the packed elements of `count` messages to the port `name`."""
    packed_name: bytes = msgpack.packb(name)
    return b"\xdd%b\x00%b" % ((2 + count).to_bytes(4, "big"), packed_name)


def split_batch(
    batch: list[Any] | tuple[Any, ...], size: int, max_message: int
) -> tuple[str, list[Any], bool]:
    """Take apart a batch of `size` bytes that was decoded, its arrays as lists or as tuples. *Raises:* `ProtocolError`.

    Returns the name, the messages, each a tuple or `Undecodable`, and whether no value in them is a container.
    """
    if batch[0] != 0 or len(batch) < 3 or batch[1].__class__ is not str:
        begin = _as_sent(batch[:3])
        expected = "begin with a port name, or be a batch, [0, name, …], or a frame, [1, octets, size, …]"
        raise ProtocolError(f"a message must {expected}, not {begin!r:.60}")
    if size > LONGEST_BATCH and size > max_message:
        raise ProtocolError(f"a batch of {size} bytes, which is over the limit of {LONGEST_BATCH}")
    _zero, name, *messages = batch
    if list(map(type, messages)).count(batch.__class__) != len(messages):
        raise ProtocolError(f"a batch must hold arrays: {_as_sent(batch[2:])!r:.60}…")
    plain = _are_plain(get_referents(*batch))  # what the arrays in the batch hold; its name and its 0 hold nothing
    if plain:
        return name, messages if batch.__class__ is tuple else list(map(tuple, messages)), True
    if batch.__class__ is list and problem_of(messages, 1 + MAX_NESTING) is None:
        return name, list(map(tuple, messages)), False
    return name, [_restored(name, message) for message in messages], False


def _as_sent(part: list[Any] | tuple[Any, ...]) -> Any:
    """Return a part of a malformed batch, for an error text."""
    try:
        return restore(part)
    except NotRestored as error:
        raise ProtocolError(str(error)) from None


def _restored(name: str, message: list[Any] | tuple[Any, ...]) -> tuple[Any, ...] | Undecodable:
    try:
        if message.__class__ is tuple:
            return restore_message(message)
        problem = problem_of(message)
    except NotRestored as error:
        problem = str(error)
    return tuple(message) if problem is None else Undecodable(name, problem)


def _are_plain(values: list[Any]) -> bool:
    """Whether none of them is a container: an empty one is false, and any other refers to something."""
    return (all(values) and not get_referents(*values)) or DECODED.isdisjoint(map(type, values))
