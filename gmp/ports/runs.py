"""Runs: messages that came together for one handler, which wait as one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter, length_hint
from typing import Any

tag_of = itemgetter(0)  #: the tag of a message
SHORTEST = 16  #: messages: to make a run of fewer costs more than it saves
RUN = object()  #: takes the place of the tag in the message of the call for a run


class Run:
    """Messages of which the same handler gets each. The first ones have been handled; those of `left` wait."""

    __slots__ = ("_messages", "begin", "handler", "left")

    def __init__(
        self, begin: Callable[[Run], None], handler: Callable[..., Any], messages: list[tuple[Any, ...]]
    ) -> None:
        self.begin = begin  #: is called with it when it has a turn
        self.handler = handler
        self._messages = messages
        self.left = iter(messages)

    def __len__(self) -> int:
        return length_hint(self.left)

    def waiting(self) -> list[tuple[Any, ...]]:
        """The messages that wait."""
        return self._messages[len(self._messages) - len(self) :]

    def drop(self) -> None:
        """Forget those that wait: whoever goes through `left` finds no more."""
        deque(self.left, 0)


def same_tag(messages: list[tuple[Any, ...]]) -> Any:
    """The tag of the first if all have that tag, else None, which is nobody's."""
    try:
        tags = [*map(tag_of, messages)]
    except IndexError:
        return None
    return tags[0] if tags.count(tags[0]) == len(tags) else None


def runs_in(calls: Iterable[Any]) -> list[Run]:
    """The runs among handlers and messages in turn."""
    return [message[1] for message in [*calls][1::2] if message and message[0] is RUN]
