"""What Perl's strings are here, and the other way round: one rule for cbor and json.

Perl has one kind of string: a row of characters, each a number. Whether those up to 255 are octets or letters is known to
the program alone. Its encoders show even less: json writes all strings as text, and cbor as octets those that Perl happens
to keep as such. So it never matters in which way a string came, only which characters it has. With the setting
``perl_strings="text"``:

- Octets that are UTF-8, as ASCII is, become the text, and a text goes to Perl as its octets in UTF-8.
- Other octets become `bytes`, and these go as octets; where a name must stand (a port's, a key of a map), they become a
  `Characters`.
- What has a character over 255 is text beyond doubt: it becomes a `Characters`, which goes to Perl as its characters.

With ``perl_strings="characters"`` each string becomes the text of its characters, and each text goes as those. Either way,
what came from Perl goes back to it as it was.

An integer that Perl does not read as one goes as its digits, which is what its json makes of it. Its cbor would make an
object of a great one, which a Perl node cannot pass on by json, and 0 of a small one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gmp.characters import Characters
from gmp.wire.values import CBOR, JSON, Convert, Table, json_integer, key_text, pairs

Name = Callable[[str | bytes], str]
LEAST_INTEGER, MOST_INTEGER = 1 - (1 << 63), (1 << 64) - 1  #: that Perl reads as such in both framings


class TwoKeys(Exception):
    """A map of which two keys would be one; the text says so."""


class PerlStrings(NamedTuple):
    """One way of reading and writing them: a value of the setting `perl_strings`."""

    setting: str
    string: Callable[[str | bytes], str | bytes]  #: what a string becomes, given as characters or as octets
    name: Name  #: the same where it must be a text
    cbor: Table
    json: Table

    def read_message(self, message: list[Any]) -> list[Any]:
        """A decoded message, with its strings as they are here. *Raises:* `TwoKeys`."""
        result = [self._read(item) for item in message]
        if message and isinstance(message[0], str | bytes):
            result[0] = self.port_name(message[0])
        return result

    def port_name(self, name: str | bytes) -> str:
        """The name of a port here, for which a message is: a plain text."""
        return str(self.name(name))

    def _read(self, value: Any) -> Any:
        kind = type(value)
        if kind is str or kind is bytes:
            return self.string(value)
        if kind is list:
            return [self._read(item) for item in value]
        if kind is not dict:
            return value
        result = {self._key(key): self._read(item) for key, item in value.items()}
        if len(result) != len(value):
            raise TwoKeys("two keys of a map are the same text, once as octets and once as characters")
        return result

    def _key(self, key: Any) -> Any:
        return self.name(key) if isinstance(key, str | bytes) else key


def _octets(string: str | bytes) -> bytes | None:
    """A string of Perl's as octets, None when it has a character that is none."""
    if isinstance(string, bytes):
        return string
    try:
        return string.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _text_or_octets(string: str | bytes) -> str | bytes:
    if string.isascii():
        return string if isinstance(string, str) else string.decode()
    octets = _octets(string)
    if octets is None:
        assert isinstance(string, str)
        return Characters(string)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets


def text_of(string: str | bytes) -> str:
    """What came from Perl, by ``perl_strings="text"``, where it must be a text; it goes back as it came."""
    value = _text_or_octets(string)
    return value if isinstance(value, str) else Characters(value.decode("latin-1"))


def _characters(string: str | bytes) -> str:
    return string if isinstance(string, str) else string.decode("latin-1")


def _in_utf8(text: str) -> str:
    """A text as Perl is to have it, each octet a character."""
    return text if text.isascii() else text.encode().decode("latin-1")


def _for_cbor(characters: str) -> str | bytes:
    """As Perl's own encoder writes it: octets unless there is a character over 255."""
    octets = _octets(characters)
    return characters if octets is None else octets


def _table(base: Table, text: Callable[[str], str | bytes], characters: Callable[[str], str | bytes]) -> Table:
    def as_dict(value: dict[Any, Any], convert: Convert) -> dict[Any, Any]:
        return pairs(value, convert, lambda key: convert(key_text(key)))

    def integer(value: int, convert: Convert) -> int | str | bytes:
        return value if LEAST_INTEGER <= value <= MOST_INTEGER else characters(str(json_integer(value, convert)))

    return base.changed({
        str: lambda value, _: text(value),
        Characters: lambda value, _: characters(str.__str__(value)),
        bytes: lambda value, _: characters(value.decode("latin-1")),
        dict: as_dict,
        int: integer,
    })


def _strings(
    setting: str, string: Callable[[str | bytes], str | bytes], name: Name, text: Callable[[str], str]
) -> PerlStrings:
    cbor = _table(CBOR, lambda value: _for_cbor(text(value)), _for_cbor)
    return PerlStrings(setting, string, name, cbor, _table(JSON, text, lambda value: value))


PERL_STRINGS = {
    "text": _strings("text", _text_or_octets, text_of, _in_utf8),
    "characters": _strings("characters", _characters, _characters, lambda text: text),
}


def has_characters(value: Any) -> bool:
    """Whether there is a `Characters` in a value that can travel."""
    kind = type(value)
    if kind is dict:
        return any(map(has_characters, value)) or any(map(has_characters, value.values()))
    return kind is Characters or (kind in (list, tuple) and any(map(has_characters, value)))


def marked(copy: Any, original: Any) -> Any:
    """`copy`, which is equal to `original` and made of plain texts, with a `Characters` wherever `original` has one."""
    kind = type(original)
    if kind is Characters:
        return original
    if kind is list or kind is tuple:
        return kind(map(marked, copy, original))
    if kind is dict:
        keys = map(marked, copy, original)
        return dict(zip(keys, map(marked, copy.values(), original.values()), strict=True))
    return copy
