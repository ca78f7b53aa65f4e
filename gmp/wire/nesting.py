"""The bound on nesting that all framings share."""

from __future__ import annotations

from typing import Any

MAX_NESTING = 64  #: levels in all, the message itself counted
CONTAINERS = (list, tuple, dict, set, frozenset)


def depth_over(value: Any, limit: int) -> bool:
    """Whether `value` has more than `limit` levels of containers. Level by level: it must not recurse itself."""
    level = [value] if isinstance(value, CONTAINERS) else []
    for _ in range(limit):
        following: list[Any] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            following += [item for item in items if isinstance(item, CONTAINERS)]
            if isinstance(container, dict):
                following += [key for key in container if isinstance(key, CONTAINERS)]
        if not following:
            return False
        level = following
    return True


def check_shape(message: Any) -> str | None:
    """Bring the head of a decoded message into form; return what is wrong with it, None when nothing is."""
    if message.__class__ is not list:
        return f"a message must be an array, not {type(message).__name__}"
    if not message:
        message.append("")
    elif message[0].__class__ is not str:
        if message[0] is not None:
            return f"a message must begin with a port name, not {message[0]!r:.40}"
        message[0] = ""
    for item in message:
        if item.__class__ in CONTAINERS and depth_over(message, MAX_NESTING):
            return f"a message is nested deeper than {MAX_NESTING} levels"
    return None
