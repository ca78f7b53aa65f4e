"""A batch that is being collected: messages in a row for one port, which go out as one piece (`gmp.wire.batches`).

`gmp.send` adds to it by itself as long as there is *room*: it packs and appends, and checks nothing else. Room is counted
in messages, each assumed to be as long as a short one can be, so that lengths need not be added up; when it is used up,
or a message is not short, the `Outbox` takes a closer look.

race: a signal handler that sends, or Python's `__del__`, runs while a message is packed, and the batch ends. Its room is 0
from then on, so the code that appends to it notices that afterwards, and sends the message in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.wire.nesting import SHORT

KEPT = 40  # bytes of memory that a message takes besides its own as long as it is kept by itself: most of a tiny one
ROW_BITS = 7
ROW = 1 << ROW_BITS  #: bytes that a short message takes at most, with those


class Batch:
    """Messages for the port `name`. Code that appends one to `rows` when there was no room calls `Outbox.make_room`."""

    __slots__ = ("_size", "bits", "given", "longest", "measured", "name", "pack", "room", "rows", "short")

    def __init__(self, name: str, pack: Callable[[list[Any]], bytes], room: int, longest: int) -> None:
        self.name = name
        self.longest = longest  #: bytes of a message that may go in a batch
        self.pack: Any = pack  #: makes octets of the elements; None when it has ended, as it belongs to the connection
        self.room = room  #: how many rows may be there before the outbox must be asked; 0 when it has ended
        self.rows: list[bytes] = []  #: the messages, packed without the name
        self.short, self.bits = SHORT, ROW_BITS  #: bytes of a message that may be appended as it is
        self.given = room  #: the room without what long ones have taken
        self.measured = 0  #: rows of which the size is known
        self._size = 0  # of these

    def is_flat(self, message: tuple[Any, ...], size: int) -> bool:
        """Return whether only octets at its end make a message long: then it cannot be nested too deep."""
        last = message[-1]
        return type(last) is bytes and size - len(last) <= SHORT

    def end(self) -> None:
        """End the batch and drop what is in it. Nothing is called here, so a signal handler runs before or after it all."""
        del self.rows[:]
        self.room, self.pack = 0, None

    def measure(self) -> int:
        """Return the bytes of memory that it takes with its present rows."""
        start, size = self.measured, self._size
        new = self.rows[start:]
        count = len(new)
        self._size = size = size + sum(map(len, new)) + KEPT * count
        self.measured = start + count  # race: a signal handler has measured meanwhile: this is just as true
        return size
