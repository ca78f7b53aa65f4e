"""The setting ``services``: which functions a node starts, and with which arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from gmp.errors import ConfigError
from gmp.later import later

if TYPE_CHECKING:
    import json
else:
    json = later("json")


class Service(NamedTuple):
    """A function that a node starts, with what it gets beside its port."""

    function: str | Callable[..., Any]  #: ``package.module:function``, or ``package.module:`` to import it only
    args: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = MappingProxyType({})

    def __str__(self) -> str:
        return self.function if isinstance(self.function, str) else getattr(self.function, "__qualname__", "?")


_SERVICE = "module:function, module:function=JSON, or a list of such a text and arguments"


def parse_service(text: str) -> Service:
    """Take ``module:function[=JSON]`` apart. *Raises:* `ConfigError`.

    A JSON array has the arguments, an object the keyword arguments, and anything else is one argument.
    """
    name, equals, given = text.partition("=")
    module, colon, function = name.strip().partition(":")
    if not colon or not module or (function and not function.isidentifier()):
        raise ConfigError(f"service {text!r}: expected {_SERVICE}")
    if not equals:
        return Service(name.strip())
    value = _json(text, given)
    if isinstance(value, dict):
        return Service(name.strip(), (), value)
    return Service(name.strip(), tuple(value) if isinstance(value, list) else (value,))


def _json(text: str, given: str) -> Any:
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise ConfigError(f"service {text!r}: {given!r} is no JSON: {error}") from None


def parse_services(value: object) -> tuple[Service, ...]:
    """The services of the setting: texts, lists or functions. *Raises:* `ConfigError`, `ValueError`."""
    if isinstance(value, str):
        if value.startswith("["):
            value = _json(value, value)
        else:
            value = [value] if "=" in value else [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"a list, each {_SERVICE}")
    return tuple(_service(item) for item in value)


def _service(item: object) -> Service:
    if isinstance(item, Service):
        return item
    if isinstance(item, str):
        return parse_service(item)
    if callable(item):
        return Service(item)
    if not isinstance(item, Sequence) or not item or not (callable(item[0]) or isinstance(item[0], str)):
        raise ValueError(f"a list, each {_SERVICE}")
    first = item[0]
    return Service(first if not isinstance(first, str) else parse_service(first).function, tuple(item[1:]))
