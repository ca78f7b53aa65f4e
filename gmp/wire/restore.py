"""From what an unpacker that makes tuples of arrays gives, to the values that were sent.

An array within a message becomes a list, a `SentTuple` the tuple that it holds, and a map is built anew. What is inside an
ext type was decoded on its own and is already as it was sent.

No map can have a list as a key, so an array as one is refused. A `SentTuple` never equals such an array, else the map
would have lost the one for the other before anybody could look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gmp.errors import ProtocolError
from gmp.wire.keys import build_map
from gmp.wire.nesting import CONTAINERS, MAX_NESTING, TOO_DEEP, depth_over


class SentTuple:
    """A tuple that was sent as one, not as an array."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = items


DECODED = CONTAINERS | {SentTuple}  #: what may have to be restored, or nest too deep
_is_flat = DECODED.isdisjoint


def restore_message(message: tuple[Any, ...]) -> tuple[Any, ...]:
    """A message, or its elements without the name, with what is in it as it was sent. *Raises:* `ProtocolError`."""
    return message if _is_flat(map(type, message)) else tuple(_restore_items(message, 1))


def restore(value: Any, level: int = 1) -> Any:
    """Anything that was decoded, as it was sent; it is at this level of nesting. *Raises:* `ProtocolError`.

    What an unpacker that makes lists gives is only checked.
    """
    kind = value.__class__
    if kind not in DECODED:
        return value
    if level > MAX_NESTING:
        raise ProtocolError(TOO_DEEP)
    if kind is tuple:
        return list(value) if _is_flat(map(type, value)) else _restore_items(value, level)
    if kind is dict:
        return _restore_dict(value, level)
    if kind is SentTuple:
        value = value.items
    if depth_over(value, MAX_NESTING + 1 - level):
        raise ProtocolError(TOO_DEEP)
    return value


def _restore_items(items: Iterable[Any], level: int) -> list[Any]:
    return [restore(item, level + 1) if item.__class__ in DECODED else item for item in items]


def _restore_dict(value: dict[Any, Any], level: int) -> dict[Any, Any]:
    if any(key.__class__ is tuple for key in value):
        raise ProtocolError("bad msgpack: unhashable type: 'list'")
    keys, values = _restore_items(value, level), _restore_items(value.values(), level)
    try:
        return build_map(list(zip(keys, values, strict=True)))
    except TypeError as error:  # a tuple that holds a list, as a key
        raise ProtocolError(f"bad msgpack: {error}") from error
