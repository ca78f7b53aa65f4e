"""From one CBOR item, whole and well formed (`cbor_framing` has found its end), to the value it stands for.

It is read here and not by a library, as what these make of a tag, of what is inside one, and of large integers depends on
their version. Nesting is bounded before, so this may recurse.

Tags have the meaning of IANA's registry. Those that Perl's CBOR::XS writes by itself (big numbers, URI, references to
scalars) and the usual ones become what Python has for them. All others, `undefined` and other simple values are foreign:
shared references would let a short message become an endless value, and a sender must not choose an object's class.
"""

from __future__ import annotations

import datetime
import math
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from gmp.wire.keys import build_map

_BREAK = object()  # the end of an item of indefinite length
_INDIRECTION, _SELF_DESCRIBED = 22098, 55799  # a Perl reference to a scalar; "this is CBOR"
MOST_BITS = 2048  #: of the parts of a fraction, as the work with them grows by the square
MOST_EXPONENT_BITS = 59  #: of a decimal's exponent, as that is what `Decimal` takes
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


class ForeignValue(Exception):
    """A value that has no type here; the text says which."""


class Reader:
    """Reads one item. Keys of maps that are byte strings become text, decoded as Latin-1."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def read_name(self) -> str | None:
        """The first element of the array, when it is a name: for a message that cannot be read as a whole."""
        try:
            while self._data[self._position] >> 5 == 6:
                self._head()
            major, _info, _count = self._head()
            name = self._read() if major == 4 else None
        except (ForeignValue, ValueError, IndexError):
            return None
        return name.decode("latin-1") if isinstance(name, bytes) else name if isinstance(name, str) else None

    def read(self) -> Any:
        """The value. *Raises:* `ForeignValue`; `ProtocolError` if keys collide; `ValueError` for malformed UTF-8."""
        return self._read()

    def _head(self) -> tuple[int, int, int]:
        """Major type, additional information, and the argument."""
        head = self._data[self._position]
        info = head & 31
        width = 1 << (info - 24) if 24 <= info < 28 else 0
        start = self._position + 1
        self._position = start + width
        return head >> 5, info, int.from_bytes(self._data[start : self._position], "big") if width else info

    def _read(self) -> Any:
        major, info, argument = self._head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return b"".join(self._chunks(info, argument))
        if major == 3:
            return "".join(chunk.decode() for chunk in self._chunks(info, argument))
        if major == 4:
            return self._items(info, argument)
        if major == 5:
            return self._map(info, argument)
        return self._tagged(argument) if major == 6 else self._simple(info, argument)

    def _chunks(self, info: int, size: int) -> list[bytes]:
        if info == 31:
            chunks = []
            while self._data[self._position] != 0xFF:
                _major, info, size = self._head()
                chunks += self._chunks(info, size)
            self._position += 1
            return chunks
        start = self._position
        self._position += size
        return [self._data[start : self._position]]

    def _items(self, info: int, count: int) -> list[Any]:
        if info != 31:
            return [self._read() for _ in range(count)]
        items = []
        while (item := self._read()) is not _BREAK:
            items.append(item)
        return items

    def _map(self, info: int, count: int) -> dict[Any, Any]:
        pairs: list[tuple[Any, Any]] = []
        while info == 31 or count:
            count -= 1
            key = self._read()
            if key is _BREAK:
                break
            if isinstance(key, bytes):
                key = key.decode("latin-1")
            elif isinstance(key, list | dict | set):
                raise ForeignValue("a map or an array as the key of a map")
            pairs.append((key, self._read()))
        return build_map(pairs)

    def _simple(self, info: int, argument: int) -> Any:
        if info == 31:
            return _BREAK
        if info in _FLOATS:
            (number,) = struct.unpack(_FLOATS[info], argument.to_bytes(1 << (info - 24), "big"))
            return number
        if argument in (20, 21, 22):
            return {20: False, 21: True, 22: None}[argument]
        raise ForeignValue("undefined" if argument == 23 else f"cbor's simple value {argument}")

    def _tagged(self, tag: int) -> Any:
        content = self._read()
        meaning = _TAGS.get(tag)
        if meaning is None:
            raise ForeignValue(f"a value with cbor's tag {tag}")
        try:
            return meaning(content)
        except (TypeError, ValueError, ArithmeticError):
            raise ForeignValue(f"cbor's tag {tag} with a value that it does not go with") from None


def _same(content: Any) -> Any:
    return content


def _octets(content: Any) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError
    return content


def _text(content: Any) -> str:
    """As CBOR::XS writes it: octets unless there is a character over 255."""
    if isinstance(content, bytes):
        return content.decode("latin-1")
    if not isinstance(content, str):
        raise TypeError
    return content


def _bounded(number: Any, bits: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number.bit_length() > bits:
        raise ValueError
    return number


def _decimal(content: Any) -> Decimal:
    exponent, mantissa = content
    sign, digits, _ = Decimal(_bounded(mantissa, MOST_BITS)).as_tuple()
    return Decimal((sign, digits, _bounded(exponent, MOST_EXPONENT_BITS)))


def _fraction(content: Any) -> Fraction:
    numerator, denominator = content
    return Fraction(_bounded(numerator, MOST_BITS), _bounded(denominator, MOST_BITS))


def _binary_fraction(content: Any) -> Fraction:
    exponent, mantissa = content
    if not -MOST_BITS <= _bounded(exponent, 64) <= MOST_BITS:
        raise ValueError
    numerator = _bounded(mantissa, MOST_BITS)
    return Fraction(numerator << exponent) if exponent >= 0 else Fraction(numerator, 1 << -exponent)


def _epoch(content: Any) -> datetime.datetime:
    if isinstance(content, bool) or not isinstance(content, int | float) or not math.isfinite(content):
        raise TypeError
    return _EPOCH + datetime.timedelta(seconds=content)


def _date_text(content: Any) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(content))
    if moment.tzinfo is None:
        raise ValueError
    return moment


_TAGS: dict[int, Callable[[Any], Any]] = {
    0: _date_text,
    1: _epoch,
    2: lambda content: int.from_bytes(_octets(content), "big"),
    3: lambda content: -1 - int.from_bytes(_octets(content), "big"),
    4: _decimal,
    5: _binary_fraction,
    21: _same,  # to become base 64, or 16, in a text format: no matter here
    22: _same,
    23: _same,
    24: _octets,
    30: _fraction,
    32: _text,  # a URI
    33: _text,
    34: _text,
    36: _text,
    37: lambda content: uuid.UUID(bytes=_octets(content)),
    264: _decimal,
    265: _binary_fraction,
    _INDIRECTION: _same,
    _SELF_DESCRIBED: _same,
}
