"""Large octets beside a message: how they arrive.

A message with large octets in it goes, between gmp nodes that read msgpack, as a *frame*: the array
``[1, packed message, size, …]``, and behind it the octets themselves, raw. In the packed message an ext type stands in the
place of each. So the receiver reads them from the socket straight into the object that is delivered.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from gmp.errors import ProtocolError
from gmp.wire.requests import PAYLOADS, admits

LEAST = 64 * 1024  #: octets that may go beside the message, not in it
WORTH = 256 * 1024  #: octets that do: for fewer the two writes and the two reads cost more than the copies
FRAME = 1  #: what a frame begins with
PLACE, PLACE_SIZE = 7, 2  #: the ext type in the place of octets: which ones, from 0, in two octets, big-endian
MOST_PLACES = 1 << 8 * PLACE_SIZE


def reads_frames(framing: str, keys: Mapping[str, str]) -> bool:
    """Whether a side that reads `framing` and greeted with these `keys` reads frames."""
    return framing == "msgpack" and admits(keys, PAYLOADS)


class Frame:
    """A message whose large octets are on their way; it takes them in their order."""

    def __init__(self, packed: bytes, sizes: list[int]) -> None:
        self.packed = packed
        self.payloads: list[bytes | None] = []
        self.size = len(packed) + sum(sizes)
        self._sizes = sizes
        self._begin()

    @property
    def is_whole(self) -> bool:
        """Whether everything has come."""
        return len(self.payloads) == len(self._sizes)

    def _begin(self) -> None:
        # memory that the system zeroes when it is first used; `getvalue` gives this very object, without a copy
        self._file = io.BytesIO(bytes(self._sizes[len(self.payloads)]))
        self.room = self._file.getbuffer()  #: what is missing of the present octets: read into this, then call `advance`

    def advance(self, count: int) -> bool:
        """Note that `count` octets are in `room`; return whether everything has come."""
        room = self.room
        self.room = room[count:]
        room.release()
        if not self.room:
            self.room.release()
            self.payloads.append(self._file.getvalue())
            if self.is_whole:
                del self._file
            else:
                self._begin()
        return self.is_whole

    def take(self, data: memoryview) -> memoryview:
        """Copy from `data` what belongs to the frame; return the rest."""
        while data and not self.is_whole:
            count = min(len(data), len(self.room))
            self.room[:count] = data[:count]
            self.advance(count)
            data = data[count:]
        return data


def read_frame(array: list[Any] | tuple[Any, ...], max_message: int) -> Frame | None:
    """Make a frame of the array that was decoded; None if it is none. *Raises:* `ProtocolError` for sizes out of bounds."""
    if len(array) < 3 or array[0] != FRAME or array[1].__class__ is not bytes or {*map(type, array[2:])} != {int}:
        return None
    _one, packed, *sizes = array
    if min(sizes) < LEAST:
        raise ProtocolError(f"a frame with octets of the size {min(sizes)}, expected {LEAST} at least")
    if len(packed) + sum(sizes) > max_message:
        raise ProtocolError(f"a message of {len(packed) + sum(sizes)} bytes, which is over the limit of {max_message}")
    return Frame(packed, sizes)
