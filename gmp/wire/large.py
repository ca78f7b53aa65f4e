"""Large octets beside a message (`gmp.wire.beside`): how they are sent, neither packed nor copied.

To look for them in each message would cost the small ones something. So the first large message is found by its size when
it is packed whole, and the next messages of the connection are looked at, until some in a row had nothing large in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from gmp.errors import MessageError
from gmp.wire.beside import FRAME, MOST_PLACES, PLACE, WORTH
from gmp.wire.msgpack_framing import pack_by_itself, table_with_octets
from gmp.wire.nesting import CONTAINERS
from gmp.wire.values import Convert, why

OCTETS = frozenset((bytes, bytearray, memoryview))
LOOKED_AT = 32  # messages after a large one


class Large(Exception):
    """A message is not for the plain packer."""


class Pieces:
    """A message as it goes over the wire, in pieces that are not joined. Its length is that of all."""

    __slots__ = ("_length", "pieces", "size")

    def __init__(self, packed: bytes, payloads: list[bytes]) -> None:
        head: bytes = msgpack.packb([FRAME, packed, *map(len, payloads)])
        self.pieces: list[bytes | memoryview] = [head, *(memoryview(payload) for payload in payloads)]
        sizes = sum(map(len, payloads))
        self.size = len(packed) + sizes  #: what is held against the limit on messages
        self._length = len(head) + sizes

    def __len__(self) -> int:
        return self._length


class LargePacker:
    """Packs the messages of one connection while large ones are sent over it."""

    def __init__(self, pack: Callable[[list[Any]], bytes]) -> None:
        self._pack = pack
        self._left = 0

    def expect(self) -> None:
        """Look at the next messages: a large one was sent."""
        self._left = LOOKED_AT

    @property
    def is_done(self) -> bool:
        """Whether nothing large has come for a while."""
        return self._left < 0

    def pack(self, elements: list[Any]) -> bytes:
        """The bytes of a message. *Raises:* `Large` for one to look into, or when `is_done`; and what the packer raises."""
        self._left -= 1
        if self._left < 0:
            raise Large
        for item in elements:
            kind = item.__class__
            if (kind in OCTETS and len(item) >= WORTH) or (kind in CONTAINERS and item):
                raise Large
        return self._pack(elements)

    def repack(self, destination: str, elements: list[Any]) -> bytes | Pieces:
        """The bytes of a message that `pack` refuses, or its pieces. *Raises:* `MessageError`."""
        payloads: list[bytes] = []

        def octets(value: Any, _convert: Convert) -> Any:
            size = value.nbytes if value.__class__ is memoryview else len(value)
            if size < WORTH or len(payloads) >= MOST_PLACES:
                return value
            if value.__class__ is memoryview and not value.c_contiguous:
                return value  # the packer refuses it
            # what the caller can still change is copied
            payloads.append(value if value.__class__ is bytes else bytes(value))
            return msgpack.ExtType(PLACE, (len(payloads) - 1).to_bytes(2, "big"))

        try:
            packed = pack_by_itself(table_with_octets(OCTETS, octets).plain(elements))
        except Exception as error:
            raise MessageError(f"message to {destination!r}: {why(error)}") from error
        if not payloads:
            return packed
        self._left = LOOKED_AT
        return Pieces(packed, payloads)
