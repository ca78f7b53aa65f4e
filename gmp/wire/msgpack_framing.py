"""The msgpack framing: arrays back to back, with ext types for what msgpack has no type for.

Values arrive as they were sent: tuple (inside a message), set, frozenset, int beyond 64 bit, Decimal and UUID are ext
types of their own, aware datetime is msgpack's timestamp (it arrives in UTC). Inside an ext type is again msgpack.

Nesting counts through ext types and is refused *before* the next decoder call: each level of an ext hook is a level of
the C stack, and about 200 of them crash the interpreter.
"""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Iterator
from typing import Any

import msgpack

from gmp.errors import MessageError, ProtocolError
from gmp.wire.nesting import CONTAINERS, MAX_NESTING, check_shape, depth_over

TUPLE, SET, FROZENSET, INTEGER, DECIMAL, UUID = 1, 2, 3, 4, 5, 6
_SEQUENCES: dict[int, Any] = {TUPLE: tuple, SET: set, FROZENSET: frozenset}
_CODES: dict[type, int] = {tuple: TUPLE, set: SET, frozenset: FROZENSET}
_SPARE = 1024 * 1024  # the decoder's buffer must hold one message and what was read behind it


def _default(value: Any) -> Any:
    """What msgpack itself cannot pack."""
    code = _CODES.get(type(value))
    if code is not None:
        return msgpack.ExtType(code, _pack_inner(list(value)))
    if type(value) is int:
        return msgpack.ExtType(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if type(value) is decimal.Decimal:
        return msgpack.ExtType(DECIMAL, str(value).encode())
    if type(value) is uuid.UUID:
        return msgpack.ExtType(UUID, value.bytes)
    port_id = getattr(value, "__gmp_port_id__", None)
    if port_id is not None:
        return str(port_id)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} {value!r:.80} cannot travel in a message")


def _pack_inner(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, strict_types=True, default=_default, datetime=True)
    return packed


class MsgpackEncoder:
    """Packs messages as msgpack arrays, with one kept packer."""

    name = "msgpack"

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._packer = msgpack.Packer(strict_types=True, default=_default, datetime=True)
        self._pack = self._packer.pack

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message. *Raises:* `MessageError` naming the value."""
        for item in message:
            if item.__class__ in CONTAINERS and depth_over(message, MAX_NESTING):
                raise MessageError(f"a message to {destination!r} is nested deeper than {MAX_NESTING} levels")
        try:
            data: bytes = self._pack([destination, *message])
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._packer.reset()
            raise MessageError(f"message to {destination!r}: {error}") from error
        if len(data) > self._max_message:
            raise MessageError(f"message of {len(data)} bytes is over the limit of {self._max_message}")
        return data


class MsgpackDecoder:
    """Finds msgpack arrays in a stream."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._level = 0
        self._unpacker = self._make_unpacker(max_message + _SPARE)
        self._before = 0

    def _make_unpacker(self, size: int) -> Any:
        return msgpack.Unpacker(
            use_list=True, strict_map_key=False, ext_hook=self._ext, max_buffer_size=size, timestamp=3
        )

    def decode(self, data: bytes | bytearray | memoryview) -> Iterator[list[Any]]:
        """Yield each message that `data` completes. *Raises:* `ProtocolError`."""
        unpacker = self._unpacker
        try:
            unpacker.feed(data)
            for message in unpacker:
                wrong = check_shape(message)
                if wrong is not None:
                    raise ProtocolError(wrong)
                yield message
        except (msgpack.exceptions.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ProtocolError(f"bad msgpack: {error or type(error).__name__}") from error

    def _ext(self, code: int, data: bytes) -> Any:
        if code in _SEQUENCES:
            return _SEQUENCES[code](self._inner(data))
        if code == INTEGER:
            return int.from_bytes(data, "big", signed=True)
        if code == DECIMAL:
            try:
                return decimal.Decimal(data.decode())
            except decimal.InvalidOperation:
                raise ValueError(f"bad decimal {data[:40]!r}") from None
        if code == UUID:
            return uuid.UUID(bytes=data)
        raise ValueError(f"unknown ext type {code}")

    def _inner(self, data: bytes) -> Any:
        if self._level >= MAX_NESTING:
            raise ValueError(f"nested deeper than {MAX_NESTING} levels")
        self._level += 1
        try:
            value = msgpack.unpackb(data, use_list=True, strict_map_key=False, ext_hook=self._ext, timestamp=3)
        finally:
            self._level -= 1
        if not isinstance(value, list):
            raise ValueError("an ext type of a sequence must hold an array")
        return value
