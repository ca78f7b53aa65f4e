"""The json framing: UTF-8 arrays back to back, with or without white space between them.

Tuples become arrays; what JSON cannot carry raises `MessageError`. The reader finds the end of a message by the
brackets outside strings, remembers how far it has looked, and only then gives it to the parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from gmp.errors import MessageError, ProtocolError
from gmp.wire.dispatch import Decoded, Find, Other, Undecodable, check_head, dispatch
from gmp.wire.nesting import MAX_NESTING, MOST_READ, SHORT, TOO_DEEP, check_message
from gmp.wire.perl_strings import PerlStrings, TwoKeys
from gmp.wire.values import JSON, why

_INTERESTING = re.compile(rb'["\[\]{}]')
_STRING_END = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"


class JsonEncoder:
    """Packs messages as JSON."""

    name = "json"

    def __init__(self, max_message: int, perl: PerlStrings | None = None) -> None:
        self.max_message = max_message
        self._plain = (JSON if perl is None else perl.json).plain
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message. *Raises:* `MessageError`."""
        data = self.repack(destination, [destination, *message])
        if len(data) > SHORT:
            self.check(destination, message, len(data))
        return data

    def pack(self, message: list[Any], /) -> bytes:
        """The bytes of ``[destination, …]``; raises whatever the parts raise."""
        return self._encode(self._plain(message)).encode()

    def repack(self, destination: str, elements: list[Any]) -> bytes:
        """As `framing.Encoder.repack`."""
        try:
            return self.pack(elements)
        except Exception as error:
            raise MessageError(f"message to {destination!r}: {why(error)}") from error

    def check(self, destination: str, message: tuple[Any, ...], size: int) -> None:
        """Check a message that is not short. *Raises:* `MessageError`."""
        check_message(destination, message, size, self.max_message)


class JsonDecoder:
    """Finds JSON arrays in a stream."""

    def __init__(self, max_message: int, perl: PerlStrings | None = None) -> None:
        self._max_message = max_message
        self._perl = perl
        self._buffer = bytearray()
        self._start = self._position = self._depth = self._deepest = 0
        self._in_string = False

    def decode(self, data: bytes | bytearray | memoryview) -> Iterator[Decoded]:
        """Yield each message that `data` completes. *Raises:* `ProtocolError`."""
        self._buffer += data
        while (end := self._find_end()) is not None:
            text = bytes(self._buffer[self._start : end])
            deepest, self._deepest = self._deepest, 0
            self._start = self._position = end
            yield self._parse(text, deepest)
        del self._buffer[: self._start]
        self._position -= self._start
        self._start = 0
        if len(self._buffer) > self._max_message:
            raise ProtocolError(f"a message over the limit of {self._max_message} bytes")

    def dispatch(self, data: bytes | bytearray | memoryview, find: Find, other: Other) -> int:
        """As `framing.Decoder.dispatch`."""
        return dispatch(self.decode(data), find, other)

    def _parse(self, text: bytes, deepest: int) -> Decoded:
        if len(text) > self._max_message:
            raise ProtocolError(f"a message over the limit of {self._max_message} bytes")
        if deepest > MAX_NESTING:
            return Undecodable(self._name_of(text), TOO_DEEP)
        try:
            message = json.loads(text.decode(), parse_constant=_no_constant)
            if self._perl is not None:
                message = self._perl.read_message(message)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"bad json: {error}") from error
        except ValueError:  # Python reads no number of so many digits
            return Undecodable(self._name_of(text), "an integer of more than 4300 digits")
        except TwoKeys as error:
            return Undecodable(self._name_of(text), str(error))
        return check_head(message)

    def _name_of(self, text: bytes) -> str | None:
        """The port's name in a message that cannot be decoded as a whole."""
        try:
            name, _end = json.JSONDecoder().raw_decode(text.decode()[1:].lstrip())
        except (ValueError, RecursionError):
            return None
        if not isinstance(name, str):
            return None
        return name if self._perl is None else self._perl.port_name(name)

    def _find_end(self) -> int | None:
        buffer = self._buffer
        if self._depth == 0:
            while self._start < len(buffer) and buffer[self._start] in _SPACE:
                self._start += 1
            self._position = max(self._position, self._start)
            if self._start < len(buffer) and buffer[self._start] != 0x5B:
                raise ProtocolError(f"expected a json array, not {bytes(buffer[self._start : self._start + 20])!r}")
        while True:
            match = (_STRING_END if self._in_string else _INTERESTING).search(buffer, self._position)
            if match is None:
                self._position = len(buffer)
                return None
            character = match[0]
            if character == b"\\":
                if match.end() == len(buffer):
                    self._position = match.start()
                    return None
                self._position = match.end() + 1
                continue
            self._position = match.end()
            if character == b'"':
                self._in_string = not self._in_string
            elif character in b"[{":
                self._depth += 1
                self._deepest = max(self._deepest, self._depth)
                if self._depth > MOST_READ:
                    raise ProtocolError(f"a message is nested deeper than {MOST_READ} levels")
            else:
                self._depth -= 1
                if self._depth == 0:
                    return self._position


def _no_constant(name: str) -> Any:
    raise ProtocolError(f"bad json: {name}")
