"""From what an unpacker that makes tuples of arrays gives, to the values that were sent.

An array within a message becomes a list, a `SentTuple` the tuple that it holds, and a map is built anew. What is inside an
ext type was decoded on its own and is already as it was sent.

No map can have a list as a key, so an array as one is refused. A `SentTuple` never equals such an array, else the map
would have lost the one for the other before anybody could look.
"""

from __future__ import annotations

from collections.abc import Iterable
from gc import get_referents
from typing import Any

from gmp.errors import ProtocolError
from gmp.wire.keys import build_map, no_key
from gmp.wire.nesting import CONTAINERS, MAX_NESTING, TOO_DEEP


class SentTuple:
    """A tuple that was sent as one, not as an array."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = items


class Foreign:
    """In the place of a value that is well formed and has no type here. A message that holds one is not delivered."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


class NotRestored(Exception):
    """A message that cannot be delivered as it was sent; the text says why."""


DECODED = CONTAINERS | {SentTuple, Foreign}  #: what may have to be restored, or nest too deep
is_flat = DECODED.isdisjoint  #: whether these types are of values that are as they were sent


def restore_message(message: tuple[Any, ...]) -> tuple[Any, ...]:
    """A message, or its elements without the name, with what is in it as it was sent.

    *Raises:* `ProtocolError`, `NotRestored`.
    """
    return message if is_flat(map(type, message)) else tuple(_restore_items(message, 1))


def restore(value: Any, level: int = 1) -> Any:
    """Anything that was decoded, as it was sent; it is at this level of nesting. *Raises:* `ProtocolError`, `NotRestored`.

    What an unpacker that makes lists gives is only checked.
    """
    kind = value.__class__
    if kind not in DECODED:
        return value
    if level > MAX_NESTING:
        raise NotRestored(TOO_DEEP)
    if kind is Foreign:
        raise NotRestored(value.what)
    if kind is tuple:
        return list(value) if is_flat(map(type, value)) else _restore_items(value, level)
    if kind is dict:
        return _restore_dict(value, level)
    if kind is SentTuple:
        value = value.items
    if (problem := problem_of(value, MAX_NESTING + 1 - level)) is not None:
        raise NotRestored(problem)
    return value


def problem_of(value: Any, limit: int = MAX_NESTING) -> str | None:
    """Why what an unpacker that makes lists has decoded cannot be delivered: nested too deep, or something foreign in it."""
    level: list[Any] = [value]
    for _ in range(limit):
        items = get_referents(*level)
        kinds = DECODED.intersection(map(type, items))
        if not kinds:
            return None
        level = [item for item in items if item.__class__ in kinds]
        if Foreign in kinds:
            return next(item.what for item in level if item.__class__ is Foreign)
    return TOO_DEEP


def _restore_items(items: Iterable[Any], level: int) -> list[Any]:
    return [restore(item, level + 1) if item.__class__ in DECODED else item for item in items]


def _restore_dict(value: dict[Any, Any], level: int) -> dict[Any, Any]:
    if any(key.__class__ is tuple for key in value):
        raise ProtocolError(f"bad msgpack: {no_key(list)}")
    keys, values = _restore_items(value, level), _restore_items(value.values(), level)
    try:
        return build_map(list(zip(keys, values, strict=True)))
    except TypeError as error:  # a tuple that holds a list, as a key
        raise ProtocolError(f"bad msgpack: {error}") from error
