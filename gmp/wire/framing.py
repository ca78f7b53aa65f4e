"""Framings: how messages become bytes. Each direction of a connection has its own; the reader's preference wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gmp.errors import ConfigError
from gmp.wire.json_framing import JsonDecoder, JsonEncoder
from gmp.wire.msgpack_framing import MsgpackDecoder, MsgpackEncoder

Buffer = bytes | bytearray | memoryview


class Encoder(Protocol):
    """Packs messages."""

    name: str

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message to the local name `destination`. *Raises:* `MessageError`."""


class Decoder(Protocol):
    """Finds messages in bytes that come in any pieces."""

    def decode(self, data: Buffer) -> Iterator[list[Any]]:
        """Yield each message that `data` completes: ``[destination, …]``. *Raises:* `ProtocolError`."""


_ENCODERS: dict[str, Callable[[int], Encoder]] = {"msgpack": MsgpackEncoder, "json": JsonEncoder}
_DECODERS: dict[str, Callable[[int], Decoder]] = {"msgpack": MsgpackDecoder, "json": JsonDecoder}


def make_encoder(name: str, max_message: int) -> Encoder:
    """An encoder for the framing `name`; messages over `max_message` bytes are refused."""
    if name not in _ENCODERS:
        raise ConfigError(f"unknown framing {name!r}, expected one of {', '.join(_ENCODERS)}")
    return _ENCODERS[name](max_message)


def make_decoder(name: str, max_message: int) -> Decoder:
    """A decoder for the framing `name`; messages over `max_message` bytes are refused."""
    if name not in _DECODERS:
        raise ConfigError(f"unknown framing {name!r}, expected one of {', '.join(_DECODERS)}")
    return _DECODERS[name](max_message)
