"""The class of texts that go to Perl nodes as they are."""

from __future__ import annotations


class Characters(str):
    """A text that goes to Perl nodes as its characters, where a plain `str` goes as its octets in UTF-8.

    In all else it is the text. Texts from Perl with a character over 255 are of this class, so that they go back as they
    came. Towards gmp nodes it travels as a plain `str`.
    """

    __slots__ = ()


def own_text(text: str) -> str:
    """`text` as a `str` or a `Characters`, whatever else a subclass of the caller's is."""
    return text if type(text) in (str, Characters) else str.__str__(text)
