"""Types of arguments and results (extra ``typed``: msgspec), by the annotations of the methods.

What goes over is plain data: a dataclass as a dict, an enum member as its value, a named tuple as a list. Each side makes of
it what its own annotation declares, and checks it by that; nothing is made by what came over the network alone.
"""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import importlib
import inspect
import typing
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gmp.errors import ConfigError
from gmp.objects.source import is_iterator
from gmp.ports.port import Port
from gmp.showing import show_typed

#: what travels as it is, where msgspec would make texts
_AS_THEY_ARE = (
    *(bytes, bytearray, uuid.UUID, decimal.Decimal),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
)
_STREAMS = (collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator)


def _msgspec() -> Any:
    """*Raises:* `ConfigError` if it is not installed."""
    try:
        return importlib.import_module("msgspec")
    except ImportError:
        raise ConfigError("types are checked by msgspec, which is not installed: pip install 'gevent-mp[typed]'") from None


class Types:
    """The types of one method. *Raises:* `ConfigError` for annotations that cannot be read."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        self._msgspec = _msgspec()
        try:
            self._signature = inspect.signature(function)
            hints = typing.get_type_hints(inspect.unwrap(getattr(function, "__func__", function)))
        except Exception as error:  # an annotation that is a text is evaluated
            raise ConfigError(f"the annotations of {name} cannot be read: {error}") from None
        parameters = self._signature.parameters
        self._arguments = {each: hint for each, hint in hints.items() if each in parameters}
        returns = hints.get("return", Any)
        streams = typing.get_origin(returns) in _STREAMS
        self._item = (*typing.get_args(returns), Any)[0] if streams else Any
        self._result = Any if streams else returns

    def plain_items(self, items: Iterator[Any]) -> Iterator[Any]:
        """Return the items of a stream as plain data."""
        return PlainItems(items, self)

    def arrived(self, args: Sequence[Any], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments that came, as the method declares them. *Raises:* `TypeError`."""
        bound = self._signature.bind(*args, **keywords)
        for name, value in bound.arguments.items():
            hint = self._arguments.get(name, Any)
            kind = self._signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(self._made(f"argument {name}", each, hint) for each in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: self._made(f"argument {key}", each, hint) for key, each in value.items()}
            elif not is_iterator(value):
                bound.arguments[name] = self._made(f"argument {name}", value, hint)
        return bound.args, bound.kwargs

    def result(self, value: Any) -> Any:
        """Return a result that came, as the method declares it. *Raises:* `TypeError`."""
        return self._made("result", value, self._result)

    def item(self, value: Any) -> Any:
        """Return an item of a stream that came, as the method declares it. *Raises:* `TypeError`."""
        return self._made("item", value, self._item)

    def _made(self, what: str, value: Any, hint: Any) -> Any:
        if hint is Any:
            return value
        try:
            return self._msgspec.convert(value, hint, builtin_types=_AS_THEY_ARE)
        except self._msgspec.ValidationError as error:
            raise TypeError(f"{what} of {self._name}: {error}") from None

    def plain(self, value: Any) -> Any:
        """Return plain data for an argument, a result or an item, which has been checked by whoever made it."""
        if is_iterator(value):
            return value
        return self._msgspec.to_builtins(value, builtin_types=_AS_THEY_ARE, enc_hook=_plain_other)


def _plain_other(value: Any) -> Any:
    if isinstance(value, Port):
        return value.id
    raise TypeError(f"{show_typed(value)} is no plain data, and nothing that is made of it by annotations")


class PlainItems:
    """The items of a stream as plain data; what closes this closes that, also before the first item."""

    def __init__(self, items: Iterator[Any], types: Types) -> None:
        self._items = items
        self._plain = types.plain

    def __iter__(self) -> PlainItems:
        return self

    def __next__(self) -> Any:
        return self._plain(next(self._items))

    def close(self) -> None:
        """Close the iterator, if that can be."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


class Interface:
    """The types of a service, as its caller declares them: the annotated methods of a class. *Raises:* `ConfigError`."""

    def __init__(self, declared: object) -> None:
        if not isinstance(declared, type):
            raise ConfigError(f"interface {show_typed(declared)}: expected a class with annotated methods")
        functions = inspect.getmembers(declared, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
        self._methods = {name: Types(_seen(declared, name, function), name) for name, function in functions}

    def of(self, method: str) -> Types | None:
        """Return the types of a method; None: it is not declared."""
        return self._methods.get(method)


def _seen(declared: type, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a class as its callers see it, so without `self`."""
    if inspect.ismethod(function) or isinstance(inspect.getattr_static(declared, name), staticmethod):
        return function
    return function.__get__(object())  # type: ignore[no-any-return]  # only its signature is looked at
