"""The cbor framing, for Perl: concatenated CBOR items, each an array. Needs cbor2, the extra ``cbor``.

The reader finds the end of an item by itself (`ItemScanner`), which makes any split of the bytes the same, and bounds size
and nesting before a value is made (`gmp.wire.cbor_values`). Malformed CBOR ends the connection; a message with a value that
has no type here, or that is nested too deep, is lost alone, as its end is known.

What the strings of a Perl node mean is `gmp.wire.perl_strings`' business. Between gmp nodes byte strings are bytes, except
in the place of a port's name, of a tag, and as keys of maps: there they are text, decoded as Latin-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gmp.errors import ConfigError, MessageError, ProtocolError
from gmp.wire.cbor_values import ForeignValue, Reader
from gmp.wire.dispatch import Decoded, Find, Other, Undecodable, check_head, dispatch
from gmp.wire.nesting import MAX_NESTING, MOST_READ, SHORT, TOO_DEEP, check_message
from gmp.wire.perl_strings import PerlStrings, TwoKeys
from gmp.wire.values import CBOR, why

try:
    import cbor2
except ImportError:  # an extra: `require` raises where it is needed
    cbor2 = None  # type: ignore[assignment]

AVAILABLE = cbor2 is not None
# what an item of indefinite length still holds; with each item in it the lowest bit changes, so that a map knows its pairs
_ENDLESS, _ENDLESS_MAP, _AMID_PAIR = -2, -4, -3


def require() -> None:
    """*Raises:* `ConfigError` when cbor2 is not installed."""
    if not AVAILABLE:
        raise ConfigError("the framing 'cbor' needs the package cbor2: pip install 'gevent-mp[cbor]'")


class CborEncoder:
    """Packs messages as CBOR arrays."""

    name = "cbor"

    def __init__(self, max_message: int, perl: PerlStrings | None = None) -> None:
        require()
        self.max_message = max_message
        self._plain = (CBOR if perl is None else perl.cbor).plain

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message. *Raises:* `MessageError`."""
        data = self.repack(destination, [destination, *message])
        if len(data) > SHORT:
            self.check(destination, message, len(data))
        return data

    def pack(self, message: list[Any], /) -> bytes:
        """The bytes of ``[destination, …]``; raises whatever the parts raise."""
        return cbor2.dumps(self._plain(message))

    def repack(self, destination: str, elements: list[Any]) -> bytes:
        """As `framing.Encoder.repack`."""
        try:
            return self.pack(elements)
        except Exception as error:
            raise MessageError(f"message to {destination!r}: {why(error)}") from error

    def check(self, destination: str, message: tuple[Any, ...], size: int) -> None:
        """Check a message that is not short. *Raises:* `MessageError`."""
        check_message(destination, message, size, self.max_message)


class ItemScanner:
    """Finds where CBOR items end, in bytes that come in any pieces."""

    def __init__(self) -> None:
        self._open: list[int] = []  # of each item we are in, how many items it still holds
        self._strings = -1  # the type of the string of indefinite length that we are in: only its pieces may follow
        self.deepest = 0  #: levels of the item so far
        self.position = 0  #: of the next head that was not looked at yet

    def find_end(self, buffer: bytearray) -> int | None:
        """The end of the item, None when it is not there yet. *Raises:* `ProtocolError`."""
        while self.position < len(buffer):
            head = buffer[self.position]
            major, info = head >> 5, head & 31
            if info in (28, 29, 30):
                raise ProtocolError(f"bad cbor: head {head:#04x}")
            width = 1 << (info - 24) if 24 <= info < 28 else 0
            start = self.position + 1 + width
            if start > len(buffer):
                return None
            value = int.from_bytes(buffer[self.position + 1 : start], "big") if width else info
            if major in (2, 3) and info != 31:
                if start + value > len(buffer):
                    return None
                start += value
            self.position = start
            if self._take(major, info, value):
                return start
        return None

    def _take(self, major: int, info: int, value: int) -> bool:
        """Go over a head (and its string); return whether the item as a whole ends here."""
        endless = info == 31
        if self._strings >= 0 and not (major == self._strings and not endless) and not (major == 7 and endless):
            raise ProtocolError("bad cbor: something else within a string")
        if endless and major in (0, 1, 6):
            raise ProtocolError(f"bad cbor: indefinite length of type {major}")
        if major == 7 and endless:
            if not self._open or self._open[-1] >= 0 or self._open[-1] == _AMID_PAIR:
                raise ProtocolError("bad cbor: an end without a begin")
            self._open.pop()
            self._strings = -1
            return self._ended()
        if major == 7 and info == 24 and value < 32:
            raise ProtocolError(f"bad cbor: simple value {value} in two octets")
        holds = {4: value, 5: 2 * value, 6: 1}.get(major, 0)
        if not endless and not holds:
            return self._ended()
        self._strings = major if endless and major in (2, 3) else -1
        self._open.append(holds if not endless else _ENDLESS_MAP if major == 5 else _ENDLESS)
        self.deepest = max(self.deepest, len(self._open))
        if len(self._open) > MOST_READ:
            raise ProtocolError(f"a message is nested deeper than {MOST_READ} levels")
        return False

    def _ended(self) -> bool:
        """An item has ended, and with it perhaps what it was the last one in."""
        while self._open:
            if self._open[-1] < 0:
                self._open[-1] ^= 1
                return False
            self._open[-1] -= 1
            if self._open[-1]:
                return False
            self._open.pop()
        return True


class CborDecoder:
    """Finds CBOR arrays in a stream."""

    def __init__(self, max_message: int, perl: PerlStrings | None = None) -> None:
        require()
        self._max_message = max_message
        self._perl = perl
        self._buffer = bytearray()
        self._scanner = ItemScanner()

    def decode(self, data: bytes | bytearray | memoryview) -> Iterator[Decoded]:
        """Yield each message that `data` completes. *Raises:* `ProtocolError`."""
        self._buffer += data
        start, scanner = 0, self._scanner
        while (end := scanner.find_end(self._buffer)) is not None:
            if end - start > self._max_message:
                break
            deepest, scanner.deepest = scanner.deepest, 0
            yield self._parse(bytes(self._buffer[start:end]), deepest)
            start = end
        del self._buffer[:start]
        scanner.position -= start
        if len(self._buffer) > self._max_message:
            raise ProtocolError(f"a message over the limit of {self._max_message} bytes")

    def dispatch(self, data: bytes | bytearray | memoryview, find: Find, other: Other) -> int:
        """As `framing.Decoder.dispatch`."""
        return dispatch(self.decode(data), find, other)

    def _parse(self, data: bytes, deepest: int) -> Decoded:
        if deepest > MAX_NESTING:
            return self._undecodable(data, TOO_DEEP)
        try:
            message = Reader(data).read()
            if isinstance(message, list):
                message = _with_names(message) if self._perl is None else self._perl.read_message(message)
        except (ForeignValue, TwoKeys) as error:
            return self._undecodable(data, str(error))
        except UnicodeDecodeError:
            raise ProtocolError("bad cbor: a text that is not UTF-8") from None
        return check_head(message)

    def _undecodable(self, data: bytes, what: str) -> Undecodable:
        name = Reader(data).read_name()
        return Undecodable(name if name is None or self._perl is None else self._perl.port_name(name), what)


def _with_names(message: list[Any]) -> list[Any]:
    """A message of a gmp node, with the port's name and the tag as texts."""
    for place in range(min(2, len(message))):
        if isinstance(message[place], bytes):
            message[place] = message[place].decode("latin-1")
    return message
