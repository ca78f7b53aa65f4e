"""How much still waits of what one node has asked to be sent to another one. Pure.

What still waits is known by its place in what the receiver's connection has to write: messages are written about in the
order in which they arrived.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_STEP = 4096  # bytes within which the places of messages are not distinguished


class Backlog(NamedTuple):
    """The way to a node at one moment."""

    connection: object  #: None: there is none yet
    written: int  #: bytes that the socket has taken
    waiting: int  #: bytes that it has not


class Share:
    """The part of a backlog that one asker has caused."""

    __slots__ = ("_connection", "_places", "waiting")

    def __init__(self) -> None:
        self.waiting = 0  #: bytes, as of the last `clear`
        self._connection: object = None
        self._places: deque[list[int]] = deque()  # for each message, or some, the place of its end and its size

    def add(self, before: Backlog, now: Backlog) -> int:
        """Count a message that was sent between the two moments; return how many bytes had waited before it."""
        self.clear(before)
        waited, size = self.waiting, now.waiting - before.waiting
        if size > 0:
            place = now.written + now.waiting
            if self._places and place - self._places[-1][0] < _STEP:
                self._places[-1][0] = place
                self._places[-1][1] += size
            else:
                self._places.append([place, size])
            self.waiting += size
        return waited

    def clear(self, now: Backlog) -> None:
        """Forget what has been written, or was lost with a connection."""
        if now.waiting == 0 or (self._connection is not now.connection and self._connection is not None):
            self.waiting = 0
            self._places.clear()
        self._connection = now.connection
        while self._places and self._places[0][0] <= now.written:
            self.waiting -= self._places.popleft()[1]
