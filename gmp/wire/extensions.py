"""The ext types of the msgpack framing, decoded: what msgpack has no type for, and octets that travel beside a message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack

from gmp.later import later
from gmp.wire.beside import PLACE, PLACE_SIZE, Frame
from gmp.wire.keys import build_map, build_set
from gmp.wire.nesting import MAX_NESTING, SHORT, TOO_DEEP
from gmp.wire.restore import Foreign, SentTuple

if TYPE_CHECKING:
    import decimal
    import uuid
else:
    decimal, uuid = later("decimal"), later("uuid")

TUPLE, SET, FROZENSET, INTEGER, DECIMAL, UUID = 1, 2, 3, 4, 5, 6
_SEQUENCES: dict[int, Callable[[list[Any]], Any]] = {
    TUPLE: tuple,
    SET: partial(build_set, set),
    FROZENSET: partial(build_set, frozenset),
}


class Extensions:
    """The extension types of one decoder, kept apart from it: an unpacker that refers to its decoder would be a cycle, and a
    connection's buffers would stay until a full collection.
    """

    def __init__(self) -> None:
        self._level = 0
        self._payloads: list[bytes | None] | None = None  # of the frame that is decoded
        self.short = SHORT  #: a message of more bytes must be looked at: all, when something foreign is in the one at hand

    def ext(self, code: int, data: bytes) -> Any:
        """The unpacker's hook, for one that makes lists of arrays."""
        if code in _SEQUENCES:
            items = self._inner(data)
            return items if items.__class__ is Foreign else _SEQUENCES[code](items)
        if code == INTEGER:
            return int.from_bytes(data, "big", signed=True)
        if code == DECIMAL:
            try:
                return decimal.Decimal(data.decode("ascii"))
            except (decimal.InvalidOperation, UnicodeDecodeError):
                raise ValueError(f"bad decimal {data[:40]!r}") from None
        if code == UUID:
            return uuid.UUID(bytes=data)
        if code == PLACE and self._payloads is not None:
            return self._payload(self._payloads, data)
        return self._foreign(f"ext type {code}")

    def _payload(self, payloads: list[bytes | None], data: bytes) -> bytes:
        place = int.from_bytes(data, "big")
        payload = payloads[place] if len(data) == PLACE_SIZE and place < len(payloads) else None
        if payload is None:
            raise ValueError(f"octets {data[:8].hex()} of a frame, expected one of {len(payloads)}, each once")
        payloads[place] = None
        return payload

    def unpack_frame(self, frame: Frame) -> Any:
        """What a frame that is whole holds. *Raises:* what the unpacker raises for what is malformed."""
        self._payloads = frame.payloads
        try:
            message = self._unpack(frame.packed)
        finally:
            self._payloads = None
        if any(payload is not None for payload in frame.payloads):
            raise ValueError("octets of a frame that have no place in its message")
        return message

    def _foreign(self, what: str) -> Foreign:
        """Note that the message that is decoded cannot be delivered, and go on, to find its end."""
        self.short = -1
        return Foreign(what)

    def ext_among_tuples(self, code: int, data: bytes) -> Any:
        """The same for one that makes tuples of arrays."""
        value = self.ext(code, data)
        return SentTuple(value) if value.__class__ is tuple else value

    def _inner(self, data: bytes) -> Any:
        if self._level >= MAX_NESTING:
            return self._foreign(TOO_DEEP)
        self._level += 1
        try:
            value = self._unpack(data)
        finally:
            self._level -= 1
        if not isinstance(value, list):
            raise ValueError("an ext type of a sequence must hold an array")
        return value

    def _unpack(self, data: bytes) -> Any:
        # the limits are what `data` can hold unless given, and to give them costs as much
        return msgpack.unpackb(
            data, use_list=True, strict_map_key=False, ext_hook=self.ext, object_pairs_hook=build_map, timestamp=3
        )
