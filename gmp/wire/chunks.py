"""How a stream without TLS says where it ends: chunks, each behind its length in four octets; an empty one is the end.

TCP's own end proves nothing: the kernel sends it for a process that was killed, too. `Chunks` has the methods that a stream
needs of `gmp.net.tls.Tls`; so has `Raw`, for an other side that does not know chunks (its greeting has no key for it): there
the end of TCP has to pass for an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gmp.errors import ProtocolError
from gmp.wire.requests import PIECES, admits

HEADER = 4
_NOTHING = memoryview(b"")


class Layer(Protocol):
    """What makes the bytes of a stream out of those of a socket, and the other way round."""

    ended: bool  #: whether the other side has closed its direction in order

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """What to send for `data`."""

    def output(self) -> bytes:
        """What the layer itself wants to be sent."""

    def feed(self, data: bytes | memoryview) -> None:
        """Take what came from the socket; it must stay as it is until `read` has nothing more."""

    def feed_end(self) -> None:
        """The socket has ended. *Raises:* `ProtocolError` when that is a cut and no end."""

    def read(self) -> memoryview:
        """Some of what was fed; empty: nothing is left. *Raises:* `ProtocolError`."""

    def end(self) -> bytes:
        """What to send to close our direction."""


class Raw:
    """Bytes as they are."""

    def __init__(self) -> None:
        self.ended = False
        self._data: memoryview = _NOTHING

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """`Layer.encrypt`."""
        return bytes(data)

    def output(self) -> bytes:
        """`Layer.output`."""
        return b""

    def feed(self, data: bytes | memoryview) -> None:
        """`Layer.feed`."""
        self._data = memoryview(data)

    def feed_end(self) -> None:
        """`Layer.feed_end`: without chunks an end cannot be distinguished from a cut."""
        self.ended = True

    def read(self) -> memoryview:
        """`Layer.read`."""
        data, self._data = self._data, _NOTHING
        return data

    def end(self) -> bytes:
        """`Layer.end`: TCP's end is it."""
        return b""


class Chunks(Raw):
    """Chunks, with an end that can be distinguished from a cut."""

    def __init__(self) -> None:
        super().__init__()
        self._header = bytearray()  # what has come of the next one's length
        self._left = 0  # bytes of the present chunk that have not come

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """`Layer.encrypt`: one chunk; nothing for no bytes, as an empty chunk is the end."""
        return b"".join((len(data).to_bytes(HEADER, "big"), data)) if len(data) else b""

    def feed_end(self) -> None:
        """`Layer.feed_end`."""
        if not self.ended:
            raise ProtocolError("the stream was cut off: the other side has not closed it")

    def read(self) -> memoryview:
        """`Layer.read`."""
        data = self._data
        while not self._left and data:
            if self.ended:
                raise ProtocolError("data behind the end of the stream")
            missing = HEADER - len(self._header)
            self._header += data[:missing]
            data = data[missing:]
            if len(self._header) == HEADER:
                self._left = int.from_bytes(self._header, "big")
                self._header.clear()
                self.ended = not self._left
        piece, self._data = data[: self._left], data[self._left :]
        self._left -= len(piece)
        return piece

    def end(self) -> bytes:
        """`Layer.end`."""
        return bytes(HEADER)


def layer_for(keys: Mapping[str, str]) -> Raw:
    """What a stream without TLS goes through, with a side whose greeting has these `keys`."""
    return Chunks() if admits(keys, PIECES) else Raw()
