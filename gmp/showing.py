"""How values are shown: in histories, followers, inspection, logs and the texts of errors.

- `show` writes plain data as `repr` would, in bounded space; `show_text` leaves a text as it is; `show_reason` writes the
  reason of a death in one line.
- `show_typed` writes a value's type and the beginning of the value, for the texts of errors.
- `describe` writes what an error or a value is; `portable_reason` makes a reason that every framing carries.
- `printable`, `encodable` and `cut` make a text fit: for a log, for a framing, for the room there is.

To show a message must not change what happens to it, so no code of the user runs here, and it takes bounded time: of an
object that is not plain data only the class is named. (`repr` of an object may raise what it likes, switch greenlets, send,
or compute for ever; so may that of an integer of a million digits.) A subclass of a plain type is shown as the plain value
it is. There are two exceptions: `describe` calls the `str` of an error, and `printable` the `str` of anything but a text.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

MOST = 400  # characters of a value
MOST_TYPED = 80  #: characters of a value in an error text
MOST_TOLD = 16 * 1024  #: characters of a reason that cannot travel as it is
MOST_PARTS = 10  #: elements of it
DEEPEST = 32
MOST_BITS = 8192  # of an integer that is written in digits: to write more of them takes quadratic time, or is refused
_TRACEBACK = "Traceback (most recent call last)"
_ZONES = (type(None), datetime.timezone)
_SCALARS: dict[type, Callable[[Any], str]] = {
    type(None): repr,
    bool: bool.__repr__,
    float: float.__repr__,
    complex: complex.__repr__,
    datetime.date: datetime.date.__repr__,
    datetime.timedelta: datetime.timedelta.__repr__,
}
_SHOW_TYPED = frozenset((type(None), bool, str, int, float, bytes, bytearray))  # the others by their type alone
_known: dict[type, Callable[[Any], str]] = {}  # what `show_by` has added


class _Full(Exception):
    """The text is as long as it may be."""


def show_by(kind: type, shown: Callable[[Any], str]) -> None:
    """Let `show` write the objects of a class of gmp's own by `shown`, which is quick, and cannot fail."""
    _known[kind] = shown


def show(value: object, most: int = MOST) -> str:
    """`value` in at most `most` characters and an ellipsis, as `repr` would write plain data. *Blocks:* never.

    >>> show(("tag", 1, [b"x", {"a": None}]))
    "('tag', 1, [b'x', {'a': None}])"
    >>> show("x" * 1000, 10)
    "'xxxxxxxxx…"
    >>> show(10**5000)
    '<int of 16610 bits>'
    """
    writer = _Writer(most)
    try:
        writer.write(value, 0)
    except _Full:
        return "".join(writer.parts)[:most] + "…"
    return "".join(writer.parts)


def show_text(value: object, most: int = MOST) -> str:
    """As `show`, but a text as it is, as far as there is room: what `str` is for."""
    if not _is(value, str):
        return show(value, most)
    assert isinstance(value, str)
    return str.__str__(value) if str.__len__(value) <= most else str.__getitem__(value, slice(most)) + "…"


def show_reason(reason: Iterable[object], most: int = MOST) -> str:
    """The reason of a death in one line: of each part its first line, and no tracebacks.

    >>> show_reason(("die", "ValueError: one\\ntwo", "Traceback (most recent call last):\\n…"))
    'die, ValueError: one …'
    """
    texts = [show_text(part, 10 * most) for part in reason]
    return ", ".join(_first_line(text, most) for text in texts if not text.startswith(_TRACEBACK))


def _first_line(text: str, most: int) -> str:
    lines = text.strip().splitlines()
    if not lines:
        return text.strip()
    return show_text(lines[0], most) + (" …" if len(lines) > 1 else "")


def show_typed(value: object) -> str:
    """The type of `value` and, if that is a built-in one, the beginning of the value.

    >>> show_typed(b"octets")
    "builtins.bytes b'octets'"
    """
    kind = type(value)
    if type(kind) is not type:  # to compare it, or to look it up, would ask its metaclass
        return type_name(value)
    if kind is int and value.bit_length() > 256:  # type: ignore[attr-defined]
        return f"builtins.int of {value.bit_length()} bits"  # type: ignore[attr-defined]
    if kind in (str, bytes, bytearray):
        value = value[:MOST_TYPED]  # type: ignore[index]
    return f"{type_name(value)} {value!r:.{MOST_TYPED}}" if kind in _SHOW_TYPED else type_name(value)


def type_name(value: object) -> str:
    """The full name of a value's type."""
    kind = type(value)
    return _class_name(kind) if type(kind) is type else "an object of a type with a metaclass"


def describe(value: object, most: int = MOST_TYPED) -> str:
    """What `value` is: a text as it is, an error by its `str` (by its type if that raises), anything else by `show`."""
    if not _is(value, BaseException):
        return cut(encodable(show_text(value, most)), 2 * most)
    try:
        return cut(encodable(cut(f"{type(value).__name__}: {value}", most)), 2 * most)
    except Exception as error:
        return f"<{type_name(value)} whose text cannot be made: {type(error).__name__}>"


def error_text(error: BaseException) -> str:
    """The `str` of an error, or a text that says why there is none. Never raises, as it is the user's code that does."""
    try:
        return str(error)
    except BaseException as second:  # whatever it is, `error` is what is to be told
        return f"<its text cannot be made: {type(second).__name__}>"


def portable_reason(reason: Iterable[Any], most: int = MOST_TOLD) -> tuple[Any, ...]:
    """A form of `reason` that every framing carries, of about `most` characters, as a death always travels.

    Plain elements stay as they are, others become what `describe` makes of them.
    """
    parts = tuple(reason)
    kept = parts[:MOST_PARTS]
    share = max(0, most) // max(1, len(kept))
    form = tuple(_portable(part, share) for part in kept)
    return (*form, f"{len(parts) - MOST_PARTS} further elements") if len(parts) > MOST_PARTS else form


def _portable(part: Any, most: int) -> Any:
    kind = type(part)
    if part is None or kind is bool:
        return part
    if kind is int and -(1 << 63) <= part < 1 << 63:
        return part
    if kind is float and math.isfinite(part):
        return part
    if kind is int:
        return f"an integer of {part.bit_length()} bits"
    return describe(part, most)


def encodable(text: str) -> str:
    """`text` with lone surrogates, which cannot be encoded, as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def printable(value: object, most: int, *, keep: frozenset[str] = frozenset()) -> str:
    """`value` as a text of at most `most` characters and a note, with unprintable ones escaped but for those in `keep`."""
    text = cut(str(value), most)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def cut(text: str, most: int) -> str:
    """`text` in `most` characters and a note of how many are left out: its beginning, and the end, which says most in a
    traceback.
    """
    if len(text) <= most:
        return text
    head, tail = most * 3 // 4, most // 4
    return f"{text[:head]}…[{len(text) - head - tail} characters left out]…{text[len(text) - tail :]}"


def _is(value: object, kind: type) -> bool:
    """As `isinstance`, which asks the value for its `__class__`."""
    return issubclass(type(value), kind)


class _Writer:
    """Writes one value, until it is full."""

    def __init__(self, most: int) -> None:
        self.parts: list[str] = []
        self._room = most

    def add(self, text: str) -> None:
        self.parts.append(text)
        self._room -= len(text)
        if self._room < 0:
            raise _Full

    def write(self, value: Any, depth: int) -> None:
        kind = type(value)
        for base in type.__dict__["__mro__"].__get__(kind):
            if base in _known:
                return self.add(_known[base](value))
            if base in _SCALARS:
                return self.add(_SCALARS[base](value))
            write = _WRITERS.get(base)
            if write is not None:
                return write(self, value, depth)
            for module, name, shown in _RARE:
                if base is class_if_imported(module, name):
                    return self.add(shown(base, value))
        return self.add(_object(kind))

    def integer(self, value: int, depth: int) -> None:
        bits = int.bit_length(value)
        self.add(int.__repr__(value) if bits <= MOST_BITS else f"<int of {bits} bits>")

    def text(self, value: Any, depth: int) -> None:
        """A str, bytes or bytearray: no more of it than there is room for."""
        kind = next(kind for kind in (str, bytes, bytearray) if _is(value, kind))
        length = kind.__len__(value)
        shown = kind.__repr__(kind.__getitem__(value, slice(max(0, self._room) + 1)) if length > self._room else value)
        self.add(shown[:-1] if length > self._room else shown)
        if length > self._room + len(shown):
            raise _Full

    def items(self, opening: str, values: Iterable[Any], closing: str, depth: int) -> None:
        if depth >= DEEPEST:
            return self.add(f"{opening}…{closing}")
        self.add(opening)
        for index, each in enumerate(values):
            if index:
                self.add(", ")
            self.write(each, depth + 1)
        return self.add(closing)

    def tuple(self, value: tuple[Any, ...], depth: int) -> None:
        self.items("(", tuple.__iter__(value), ",)" if tuple.__len__(value) == 1 else ")", depth)

    def list(self, value: list[Any], depth: int) -> None:
        self.items("[", list.__iter__(value), "]", depth)

    def set(self, value: Any, depth: int) -> None:
        kind = frozenset if _is(value, frozenset) else set
        opening, closing = ("frozenset({", "})") if kind is frozenset else ("{", "}")
        if kind.__len__(value) == 0:
            return self.add(f"{kind.__name__}()")
        return self.items(opening, kind.__iter__(value), closing, depth)

    def dict(self, value: dict[Any, Any], depth: int) -> None:
        if depth >= DEEPEST:
            return self.add("{…}")
        self.add("{")
        for index, (key, each) in enumerate(dict.items(value)):
            if index:
                self.add(", ")
            self.write(key, depth + 1)
            self.add(": ")
            self.write(each, depth + 1)
        return self.add("}")

    def moment(self, value: Any, depth: int) -> None:
        """A datetime or time: its zone may be the user's code."""
        kind = datetime.datetime if _is(value, datetime.datetime) else datetime.time
        zone = type(kind.tzinfo.__get__(value))
        known = zone in _ZONES or zone is class_if_imported("zoneinfo", "ZoneInfo")
        self.add(kind.__repr__(value) if known else _object(kind))


def _object(kind: type) -> str:
    return f"<{_class_name(kind)} object>"


def _class_name(kind: type) -> str:
    """The full name of a class, without asking its metaclass, which may say what it likes."""
    names = type.__dict__["__module__"].__get__(kind), type.__dict__["__qualname__"].__get__(kind)
    module, name = (show_text(name, MOST) if isinstance(name, str) else "?" for name in names)
    return f"{module}.{name}"


def class_if_imported(module: str, name: str) -> Any:
    """That class of the standard library; None as long as nobody has imported the module, so that no value is of it."""
    return getattr(sys.modules.get(module), name, None)


def _uuid(kind: Any, value: Any) -> str:
    return f"UUID('{value}')" if type(value) is kind else _object(kind)


_WRITERS: dict[type, Callable[[_Writer, Any, int], None]] = {
    int: _Writer.integer,
    str: _Writer.text,
    bytes: _Writer.text,
    bytearray: _Writer.text,
    tuple: _Writer.tuple,
    list: _Writer.list,
    set: _Writer.set,
    frozenset: _Writer.set,
    dict: _Writer.dict,
    datetime.datetime: _Writer.moment,
    datetime.time: _Writer.moment,
}
_RARE: tuple[tuple[str, str, Callable[[Any, Any], str]], ...] = (
    ("decimal", "Decimal", lambda kind, value: str(kind.__repr__(value))),
    ("uuid", "UUID", _uuid),
)
