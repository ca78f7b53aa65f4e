"""The bounds on size and nesting that all framings share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gmp.errors import MessageError

MAX_NESTING = 64  #: levels in all, the message itself counted
CONTAINERS = frozenset((list, tuple, dict, set, frozenset))
SHORT = MAX_NESTING  #: a message of so many bytes cannot be nested too deep, as each level takes one at least
_CONTAINERS = tuple(CONTAINERS)


def depth_over(value: Any, limit: int) -> bool:
    """Whether `value` has more than `limit` levels of containers. Level by level: it must not recurse itself."""
    level: list[Any] = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(limit):
        following: list[Any] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            following += [item for item in items if isinstance(item, _CONTAINERS)]
            if isinstance(container, dict):
                following += [key for key in container if isinstance(key, _CONTAINERS)]
        if not following:
            return False
        level = following
    return True


def check_nesting(message: Iterable[Any]) -> str | None:
    """What is wrong with the nesting of a message (a list, or what it is packed from), None when nothing is."""
    for item in message:
        if type(item) in CONTAINERS:
            return f"a message is nested deeper than {MAX_NESTING} levels" if depth_over(message, MAX_NESTING) else None
    return None


def check_message(destination: str, message: tuple[Any, ...], size: int, limit: int) -> None:
    """Check a message that packs into `size` bytes. *Raises:* `MessageError`."""
    if size > limit:
        raise MessageError(f"a message to {destination!r} has {size} bytes, which is over the limit of {limit}")
    wrong = check_nesting(message)
    if wrong is not None:
        raise MessageError(f"to {destination!r}: {wrong}")
