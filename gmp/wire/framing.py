"""Framings: how messages become bytes. Each direction of a connection has its own; the reader's preference wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from gmp.errors import ConfigError
from gmp.later import later
from gmp.wire.dispatch import Decoded, Find, Other
from gmp.wire.msgpack_framing import MsgpackDecoder, MsgpackEncoder
from gmp.wire.perl_strings import PerlStrings

if TYPE_CHECKING:
    from gmp.wire import cbor_framing, json_framing
else:
    cbor_framing, json_framing = later("gmp.wire.cbor_framing"), later("gmp.wire.json_framing")

Buffer = bytes | bytearray | memoryview


class Encoder(Protocol):
    """Packs messages.

    `encode` does all of it. The hot path does without its frame: it calls `pack` with ``[destination, …]``, then `repack` if
    that raises, whatever that is, and `check` when more than `nesting.SHORT` bytes come out.
    """

    name: str
    max_message: int

    def pack(self, message: list[Any], /) -> bytes:
        """The bytes of ``[destination, …]``."""

    def repack(self, destination: str, elements: list[Any]) -> bytes:
        """The bytes of what `pack` refuses, as there is more to it. *Raises:* `MessageError`, which says why."""

    def check(self, destination: str, message: tuple[Any, ...], size: int) -> None:
        """Check a message of so many bytes that is not short. *Raises:* `MessageError`."""

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message to the local name `destination`. *Raises:* `MessageError`."""


class Decoder(Protocol):
    """Finds messages in bytes that come in any pieces."""

    def decode(self, data: Buffer) -> Iterator[Decoded]:
        """Yield each message that `data` completes: ``[destination, …]``, or `Undecodable`. *Raises:* `ProtocolError`."""

    def dispatch(self, data: Buffer, find: Find, other: Other) -> int:
        """Decode, and `put` the arguments of each message, a tuple, to what `find` gives for its name.

        A message without a destination goes to `other`, whole, which returns whether to stop. Returns how many messages
        there were. *Raises:* `ProtocolError`, and what a destination raises.
        """


#: by name, best first: what makes an encoder, of the most bytes of a message and the strings of the Perl node that it is for
ENCODERS: dict[str, Callable[[int, PerlStrings | None], Encoder]] = {
    "msgpack": lambda most, _: MsgpackEncoder(most),
    "cbor": lambda most, perl: cbor_framing.CborEncoder(most, perl),
    "json": lambda most, perl: json_framing.JsonEncoder(most, perl),
}
DECODERS: dict[str, Callable[[int, PerlStrings | None], Decoder]] = {  #: the same for decoders
    "msgpack": lambda most, _: MsgpackDecoder(most),
    "cbor": lambda most, perl: cbor_framing.CborDecoder(most, perl),
    "json": lambda most, perl: json_framing.JsonDecoder(most, perl),
}
NAMES = tuple(ENCODERS)
MODULES = {"cbor": "gmp.wire.cbor_framing", "json": "gmp.wire.json_framing"}  #: of those that are imported later


def default_framings() -> tuple[str, ...]:
    """Return what a node offers by default, best first: msgpack for gmp; for Perl cbor, if it is installed, and json."""
    return tuple(name for name in NAMES if name != "cbor" or cbor_framing.AVAILABLE)


def make_encoder(name: str, max_message: int, perl: PerlStrings | None = None) -> Encoder:
    """Make an encoder for the framing `name`, for a gmp node, or a Perl node whose strings are `perl`.

    Messages over `max_message` bytes are refused. *Raises:* `ConfigError`.
    """
    _check(name)
    return ENCODERS[name](max_message, perl)


def make_decoder(name: str, max_message: int, perl: PerlStrings | None = None) -> Decoder:
    """Make a decoder for the framing `name`; the parameters are those of `make_encoder`. *Raises:* `ConfigError`."""
    _check(name)
    return DECODERS[name](max_message, perl)


def _check(name: str) -> None:
    if name not in NAMES:
        raise ConfigError(f"unknown framing {name!r}, expected one of {', '.join(NAMES)}")
