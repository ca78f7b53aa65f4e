"""What may travel in a message, and as what: one table for each framing.

A message is made plain *before* a packer begins with it, so that no code of the user runs while anything is packed:
neither `repr` nor `__getattr__`, no iteration of a subclass, no time zone's `utcoffset`. Nor can a signal handler strike, as
a packer of plain values executes no Python. What a value is, is asked of its type, never of itself.

Types are taken exactly: a subclass may hold more than its base, which would be lost, or show other items than it has. Text's
subclasses are the exception (`StrEnum` and the like). What stands for a port travels as its ID.

What is refused raises `Refused`, and so does what the other side would not decode to the same value: a moment outside the
calendar of UTC, two keys that are one there.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

from gmp.ids import port_id_of
from gmp.showing import class_if_imported, show_typed
from gmp.wire.nesting import CONTAINERS, MAX_NESTING, TOO_DEEP

Convert = Callable[[Any], Any]
Rare = tuple[tuple[str, str, Callable[[Any, Convert], Any]], ...]  #: module, class, and what becomes of its values
UTC_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MOST_JSON_BITS = 14_284  #: an integer of so many bits has 4300 decimal digits at most, and longer ones Python does not read
_EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC) - UTC_EPOCH
_LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC) - UTC_EPOCH


class Refused(ValueError):
    """A value that cannot travel; the text says why."""


class Table:
    """What one framing carries. `kept` go as they are; `converted` says what becomes of the others, and `rare` of classes of
    modules that are not imported for it.

    Each level of a message has a `Table` of its own, and the last one refuses containers. So conversion takes a bounded
    number of stack frames: at the interpreter's own limit nothing else could run, neither a signal handler nor a callback
    of the garbage collector. A level is made when a message first comes so deep.
    """

    __slots__ = ("_converted", "_framing", "_here", "_inner", "_kept", "_levels", "_rare")

    def __init__(
        self,
        framing: str,
        kept: frozenset[type],
        converted: dict[type, Callable[[Any, Convert], Any]],
        levels: int = MAX_NESTING - 1,
        rare: Rare = (),
    ) -> None:
        self._framing = framing
        self._kept = kept
        self._converted = converted
        self._inner: Convert | None = None if levels else _too_deep
        self._levels = levels
        self._rare = rare
        self._here: dict[type, Callable[[Any, Convert], Any]] = converted
        if not levels:
            self._here = {kind: _too_deep if kind in CONTAINERS else convert for kind, convert in converted.items()}

    def plain(self, message: list[Any]) -> list[Any]:
        """`message` made of what the framing's packer knows.

        *Raises:* `Refused`, and what a user's time zone raises; `RecursionError` near the interpreter's limit.
        """
        return [self._convert(item) for item in message]

    def _convert(self, value: Any) -> Any:
        kind = type(value)
        if kind in self._kept:
            return value
        convert = self._here.get(kind)
        if convert is not None:
            return convert(value, self._inner or self._next_level())
        if issubclass(kind, str):  # asks no metaclass, as `str` has none
            return self._convert(str.__str__(value))
        port_id = port_id_of(value)
        if port_id is not None:
            return self._convert(port_id)
        for module, name, rarely in self._rare:
            if kind is class_if_imported(module, name):
                self._here[kind] = rarely  # the next one is found sooner
                return rarely(value, self._inner or self._next_level())
        raise Refused(f"{show_typed(value)} cannot travel as {self._framing}")

    def _next_level(self) -> Convert:
        self._inner = Table(self._framing, self._kept, self._converted, self._levels - 1, self._rare)._convert
        return self._inner

    def changed(self, converted: dict[type, Callable[[Any, Convert], Any]]) -> Table:
        """A table in which these types become something else."""
        return Table(self._framing, self._kept - converted.keys(), {**self._converted, **converted}, rare=self._rare)


def _too_deep(_value: Any, _convert: Convert | None = None) -> Any:
    raise Refused(TOO_DEEP)


def pairs(items: dict[Any, Any], convert: Convert, key_of: Convert | None = None) -> dict[Any, Any]:
    """The items of a dict, converted. *Raises:* `Refused` when two keys become one."""
    result = {}
    for key, value in items.items():
        new = (key_of or convert)(key)
        if type(new) in (list, dict):
            raise Refused(f"a dict with the key {show_typed(key)} cannot travel in this framing")
        result[new] = convert(value)
    if len(result) != len(items):
        raise Refused("two keys of a dict would be one on the other side")
    return result


def moment(value: datetime.datetime) -> tuple[int, int]:
    """An aware datetime as seconds and nanoseconds since 1970. *Raises:* `Refused`, and what its time zone raises."""
    if value.tzinfo is not datetime.UTC and (value.tzinfo is None or value.utcoffset() is None):
        raise Refused(f"a datetime without a time zone, {value.replace(tzinfo=None)}, cannot travel")
    since = value - UTC_EPOCH
    if not _EARLIEST <= since <= _LATEST:
        raise Refused(f"a datetime outside the years 1 to 9999 of UTC, {value.replace(tzinfo=None)}, cannot travel")
    return since.days * 86_400 + since.seconds, since.microseconds * 1000


def _finite(value: float, _convert: Convert) -> float:
    if not math.isfinite(value):
        raise Refused(f"{value} cannot travel as json")
    return value


def json_integer(value: int, _convert: Convert) -> int:
    """An integer that others can read from its digits. *Raises:* `Refused`."""
    if value.bit_length() > MOST_JSON_BITS:
        raise Refused(f"an integer of {value.bit_length()} bits cannot travel as its digits")
    return value


def key_text(key: Any) -> Any:
    """Return the text that a key becomes where keys must be texts: constants and numbers are converted, others stay."""
    if key is None or key is True or key is False:
        return {None: "null", True: "true", False: "false"}[key]
    return repr(key) if type(key) in (int, float) else key


def _cbor_key(key: Any) -> Any:
    """The key that the other side will have."""
    key = CBOR._convert(key)
    return key.decode("latin-1") if type(key) is bytes else key


def _cbor_dict(value: dict[Any, Any], convert: Convert) -> dict[Any, Any]:
    pairs(value, lambda item: None, _cbor_key)
    return pairs(value, convert)


def _as_list(value: Any, convert: Convert) -> list[Any]:
    return [convert(item) for item in value]


_PLAIN: frozenset[type] = frozenset((type(None), bool, str))
CBOR = Table("cbor", _PLAIN | {int, float, bytes}, {list: _as_list, tuple: _as_list, dict: _cbor_dict})
JSON = Table(
    "json",
    _PLAIN,
    {
        int: json_integer,
        float: _finite,
        list: _as_list,
        tuple: _as_list,
        dict: lambda value, convert: pairs(value, convert, lambda key: key_text(convert(key))),
    },
)


def why(error: Exception) -> str:
    """What is wrong with a value that raised while it was made plain or packed, in our words."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return f"a text with a lone surrogate, {error.object[error.start : error.start + 20]!r}, cannot travel"
    if isinstance(error, RecursionError):
        return TOO_DEEP
    return f"it cannot be packed, {type(error).__name__} came up"
