"""The bounds on size and nesting that all framings share."""

from __future__ import annotations

from collections.abc import Iterable
from gc import get_referents
from typing import Any

from gmp.errors import MessageError

MAX_NESTING = 64  #: levels in all, the message itself counted
MOST_READ = 1024  #: levels of a message that are read over to find its end; what is nested deeper ends the connection
CONTAINERS = frozenset((list, tuple, dict, set, frozenset))
SHORT = MAX_NESTING  #: a message of so many bytes cannot be nested too deep, as each level takes one at least
TOO_DEEP = f"a message is nested deeper than {MAX_NESTING} levels"


def depth_over(value: Any, limit: int) -> bool:
    """Whether `value` has more than `limit` levels, those of built-in types. Level by level: it must not recurse itself."""
    level: list[Any] = [value] if type(value) in CONTAINERS else []
    for _ in range(limit):
        level = [item for item in get_referents(*level) if type(item) in CONTAINERS]  # of a map the keys too
        if not level:
            return False
    return True


def check_nesting(message: Iterable[Any]) -> str | None:
    """What is wrong with the nesting of a message (a list, or what it is packed from), None when nothing is."""
    for item in message:
        if type(item) in CONTAINERS:
            return TOO_DEEP if depth_over(message, MAX_NESTING) else None
    return None


def check_message(destination: str, message: tuple[Any, ...], size: int, limit: int) -> None:
    """Check a message that packs into `size` bytes. *Raises:* `MessageError`."""
    if size > limit:
        raise MessageError(f"a message to {destination!r} has {size} bytes, which is over the limit of {limit}")
    wrong = check_nesting(message)
    if wrong is not None:
        raise MessageError(f"to {destination!r}: {wrong}")
