"""What *every* framing of a node carries: for values that any node may read.

Nor may a value differ from itself, as NaN does: who watches entries compares them to see what has changed.

The directory goes on from node to node, each time in the framing that those two use. A value that only msgpack carries would
keep Perl nodes from learning of anything else in the same report. A node that offers msgpack alone may share whatever that
carries.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gmp.errors import MessageError
from gmp.wire.framing import Decoder, Encoder, default_framings, make_decoder, make_encoder
from gmp.wire.perl_strings import PerlStrings, marked
from gmp.wire.tables import enveloped

SHORT_TEXT = 1000  #: characters of a text that need not be tried


class Portable:
    """The values that all of `framings` (empty: the default ones) carry, in at most half of what one message may have.

    Where msgpack is one of them, gmp nodes use that, and the others are for Perl nodes.
    """

    def __init__(self, framings: Collection[str], max_message: int, perl: PerlStrings) -> None:
        self._most, self._perl = max(1, max_message // 2), perl
        self._encoders: list[Encoder] = []
        if framings:
            self._make_encoders(framings)  # one that cannot be used raises here
        self._msgpack = make_encoder("msgpack", self._most)
        self._max_message = max_message
        self._decoder: Decoder | None = None  # made when it is needed

    def _make_encoders(self, framings: Collection[str]) -> None:
        reader = self._perl if "msgpack" in framings else None
        self._encoders = [make_encoder(framing, self._most, reader) for framing in framings]

    def copy(self, key: str, value: Any) -> Any:
        """`value` as others will see it: made of built-in values, and shared with no one.

        *Raises:* `MessageError`, also when `key` cannot travel.
        """
        if _is_short_text(key) and (value is None or type(value) is bool or _is_short_text(value)):
            return value
        if _is_short_text(key) and _is_short_list(value):  # such as a node's addresses
            return value.copy()
        nested = enveloped(value)
        if not self._encoders:
            self._make_encoders(default_framings())
        for encoder in self._encoders:
            try:
                encoder.encode("", (key, nested))
            except MessageError as error:
                names = ", ".join(each.name for each in self._encoders)
                text = str(error).partition(": ")[2] or str(error)
                raise MessageError(f"{key[:80]!r}: {text}; others may read it in {names} (setting framings)") from error
        data = self._msgpack.encode("", (key, value))
        copy = self._value_in(data)
        try:
            same = copy == self._value_in(data)
        except ArithmeticError:  # a `Decimal` that must not be compared
            same = False
        if not same:
            raise MessageError(f"{key[:80]!r}: a value that is not equal to itself (NaN) seems to change all the time")
        return marked(copy, value)

    def _value_in(self, data: bytes) -> Any:
        if self._decoder is None:
            self._decoder = make_decoder("msgpack", self._max_message)
        (message,) = self._decoder.decode(data)
        assert isinstance(message, list)
        return message[2]


def _is_short_text(value: Any) -> bool:
    return type(value) is str and value.isascii() and len(value) <= SHORT_TEXT


def _is_short_list(value: Any) -> bool:
    return type(value) is list and all(map(_is_short_text, value)) and sum(map(len, value), len(value)) <= SHORT_TEXT
