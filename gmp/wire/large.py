"""Large octets beside a message (`gmp.wire.beside`): how they are sent, neither packed nor copied.

To look for them in each message would cost the small ones something. So the first large message is found by its size when
it is packed whole, and the next messages of the connection are looked at, until some in a row had nothing large in them. The
look ends after a few values: what holds many is packed faster than it is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import msgpack

from gmp.errors import MessageError
from gmp.wire.beside import FRAME, MOST_PLACES, PLACE, PLACE_SIZE, WORTH
from gmp.wire.msgpack_framing import pack_by_itself, table_with_octets
from gmp.wire.nesting import CONTAINERS
from gmp.wire.values import Convert, why

OCTETS = frozenset((bytes, bytearray, memoryview))
LOOKED_AT = 32  # messages after a large one
SEARCHED = 64  # values in a message


class Large(Exception):
    """A message is not for the plain packer."""


def _size(octets: Any) -> int:
    size: int = octets.nbytes if octets.__class__ is memoryview else len(octets)
    return size


def holds_large(elements: Iterable[Any]) -> bool:
    """Whether there are large octets among the first values of a message, those in containers too."""
    values = [*islice(elements, SEARCHED)]
    for value in values:  # which grows meanwhile
        kind = value.__class__
        if kind in OCTETS:
            if _size(value) >= WORTH:
                return True
        elif kind in CONTAINERS:
            values += islice(value.values() if kind is dict else value, SEARCHED - len(values))
    return False


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


class _Taker:
    """Takes the large octets out of a message, while its values are made plain."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.table = table_with_octets(OCTETS, self._octets)

    def _octets(self, value: Any, _convert: Convert) -> Any:
        place = len(self.payloads)
        if _size(value) < WORTH or place == MOST_PLACES:
            return value
        if value.__class__ is memoryview and not value.c_contiguous:
            return value  # the packer refuses it
        # what the caller can still change is copied
        self.payloads.append(value if value.__class__ is bytes else bytes(value))
        return msgpack.ExtType(PLACE, place.to_bytes(PLACE_SIZE, "big"))


_spare: list[_Taker] = []  # idle ones: as many as messages were ever made plain within one another, as user code may send


class LargePacker:
    """Packs the messages of one connection while large ones are sent over it."""

    def __init__(self, pack: Callable[[list[Any]], bytes]) -> None:
        self._pack = pack
        self._left = 0

    def expect(self, message: Iterable[Any]) -> bool:
        """Look at the next messages if this one, which was packed whole, holds large octets; return whether it does."""
        if holds_large(message):
            self._left = LOOKED_AT
            return True
        return False

    @property
    def is_done(self) -> bool:
        """Whether nothing large has come for a while."""
        return self._left < 0

    def pack(self, elements: list[Any]) -> bytes:
        """The bytes of a message. *Raises:* `Large` for one to look into, or when `is_done`; and what the packer raises."""
        self._left -= 1
        if self._left < 0 or holds_large(elements):
            raise Large
        return self._pack(elements)

    def repack(self, destination: str, elements: list[Any]) -> bytes | Pieces:
        """The bytes of a message that `pack` refuses, or its pieces. *Raises:* `MessageError`."""
        try:
            taker = _spare.pop()
        except IndexError:
            taker = _Taker()
        try:
            packed = pack_by_itself(taker.table.plain(elements))
        except Exception as error:
            raise MessageError(f"message to {destination!r}: {why(error)}") from error
        finally:
            payloads, taker.payloads = taker.payloads, []
            _spare.append(taker)
        if not payloads:
            return packed
        self._left = LOOKED_AT
        return Pieces(packed, payloads)
