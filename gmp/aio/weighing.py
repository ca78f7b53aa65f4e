"""Tells in the event loop, without the node's thread, whether a message surely can travel, and about how long it is.

A message of which that is sure is handed over, and its sender goes on at once. Any other is not wrong: its sender
waits until the node has taken it, or refused it, so that the error is raised where it was sent.
"""

from __future__ import annotations

import math
from typing import Any

from gmp.ids import SentAsId, is_encodable, port_id_of

UNSURE = 1 << 62
DEPTH = 8  # levels of nesting that are looked into
_INT = 1 << 63


def weigh(message: tuple[Any, ...], most: int) -> tuple[tuple[Any, ...], int | None]:
    """Return the message, with IDs in the place of ports, and about its size in bytes.

    None as the size: it is not sure that it can travel, or it may have more than `most` bytes.
    """
    message = with_ids(message)
    size = 0
    for value in message:
        size += _size(value, DEPTH)
    return message, size if 4 * size <= most else None


def with_ids(message: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the message with IDs in the place of ports, which are of use on one side of the hand-over only."""
    for value in message:
        if isinstance(value, SentAsId):
            return tuple([port_id_of(value) if isinstance(value, SentAsId) else value for value in message])
    return message


def _size(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is str:
        return 8 + len(value) if value.isascii() or is_encodable(value) else UNSURE
    if value is None or kind is bool:
        return 8
    if kind is int:
        return 8 if -_INT <= value < _INT else UNSURE
    if kind is float:
        return 8 if math.isfinite(value) else UNSURE
    if depth == 0:
        return UNSURE
    if kind is list or kind is tuple:
        size = 8
        for each in value:
            size += _size(each, depth - 1)
        return size
    if kind is dict:
        size = 8
        for key, each in value.items():
            if type(key) is not str:
                return UNSURE
            size += _size(key, 0) + _size(each, depth - 1)
        return size
    return UNSURE
