"""Texts about values and errors that others gave: bounded, without lone surrogates, whatever their `repr` and `str` do.

No code of the user runs, but for the `str` of an error that `described` is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gmp.showing import show_text

MOST_SHOWN = 80  #: characters of a value in an error text
MOST_TOLD = 16 * 1024  #: characters of a reason that cannot travel as it is
MOST_PARTS = 10  #: elements of it
_SHOWABLE = frozenset((type(None), bool, str, int, float, bytes, bytearray))


def type_name(value: object) -> str:
    """The full name of a value's type. Runs no code of the user."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}" if type(kind) is type else "an object of a type with a metaclass"


def shown(value: object) -> str:
    """A value's type and, if that is a built-in one, its beginning. Runs no code of the user."""
    kind = type(value)
    if kind is int and value.bit_length() > 256:  # type: ignore[attr-defined]
        return f"builtins.int of {value.bit_length()} bits"  # type: ignore[attr-defined]
    if kind in (str, bytes, bytearray):
        value = value[:MOST_SHOWN]  # type: ignore[index]
    return f"{type_name(value)} {value!r:.{MOST_SHOWN}}" if type(kind) is type and kind in _SHOWABLE else type_name(value)


def clean(text: str) -> str:
    """`text` with what cannot be encoded (lone surrogates) as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def cut(text: str, most: int) -> str:
    """`text` in `most` characters and a few: its beginning and its end, as tracebacks say most there."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}… {len(text) - 2 * half} characters left out …{text[len(text) - half :]}"


def described(value: object, most: int = MOST_SHOWN) -> str:
    """What a value is: texts as they are, errors by their `str` (or type, when that raises), others by `show`."""
    if not isinstance(value, BaseException):
        return cut(clean(show_text(value, most)), 2 * most)
    try:
        return cut(clean(cut(f"{type(value).__name__}: {value}", most)), 2 * most)
    except Exception as error:
        return f"<{type_name(value)} whose text cannot be made: {type(error).__name__}>"


def told(reason: Iterable[Any], most: int = MOST_TOLD) -> tuple[Any, ...]:
    """A form of a reason that every framing carries, of `most` characters or little more: deaths always travel.

    Plain elements stay as they are, the others become what `described` says of them.
    """
    parts = tuple(reason)
    kept = parts[:MOST_PARTS]
    share = max(0, most) // max(1, len(kept))
    form = tuple(_told(part, share) for part in kept)
    return (*form, f"{len(parts) - MOST_PARTS} further elements") if len(parts) > MOST_PARTS else form


def _told(part: Any, most: int) -> Any:
    kind = type(part)
    if part is None or kind is bool:
        return part
    if kind is int and -(1 << 63) <= part < 1 << 63:
        return part
    if kind is float and math.isfinite(part):
        return part
    if kind is int:
        return f"an integer of {part.bit_length()} bits"
    return described(part, most)


class Characters(str):
    """A text that goes to Perl nodes as its characters, where a plain `str` goes as its octets in UTF-8.

    In all else it is the text. Texts from Perl with a character over 255 are of this class, so that they go back as they
    came. Towards gmp nodes it travels as a plain `str`.
    """

    __slots__ = ()
