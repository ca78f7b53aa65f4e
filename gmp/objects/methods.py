"""The methods of an object that a service answers, and how they are described to others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gmp.errors import ConfigError
from gmp.objects.marks import UNMARKED, Mark, mark_of
from gmp.objects.typed import Types
from gmp.showing import MOST_TOLD, cut, encodable, show, show_typed

_P = inspect.Parameter
_KINDS = {
    each.name: each
    for each in (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD, _P.VAR_POSITIONAL, _P.KEYWORD_ONLY, _P.VAR_KEYWORD)
}


class Method(NamedTuple):
    """A method that may be called."""

    name: str
    function: Callable[..., Any]
    mark: Mark
    is_generator: bool = False  #: to call it runs nothing of it yet
    types: Types | None = None  #: of its arguments and result, if these are checked

    def checked(self, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """Call it with arguments that are of its types. *Raises:* `TypeError` if they are not."""
        assert self.types is not None
        positional, named = self.types.arrived(args, keywords)
        return self.function(*positional, **named)


def methods_of(thing: Any, names: Iterable[str] | None, check: bool = False) -> dict[str, Method]:
    """Return the methods of `thing` that are answered: the public ones and the marked ones; with `names`, only these.

    `check`: their types, too. *Raises:* `ConfigError` for a name without a method, and if there are none at all.
    """
    if isinstance(names, str) or not (names is None or isinstance(names, Iterable)):
        raise ConfigError(f"methods {names!r}: expected a list of names")
    if names is None:
        found = {name: method for name in dir(thing) if (method := _method(thing, name)) is not None}
    else:
        found = {}
        for name in names:
            method = _method(thing, name, named=True) if isinstance(name, str) else None
            if method is None:
                raise ConfigError(f"{show_typed(thing)} has no method {name!r}")
            found[name] = method
    if not found:
        raise ConfigError(f"{show_typed(thing)} cannot be exposed: it has no public method")
    if check:
        found = {name: method._replace(types=Types(method.function, name)) for name, method in found.items()}
    return found


def _method(thing: Any, name: str, named: bool = False) -> Method | None:
    static = inspect.getattr_static(thing, name, None)
    if static is None or (not callable(static) and not isinstance(static, classmethod | staticmethod)):
        return None  # a property, which is not asked for its value, or data
    function = getattr(thing, name)
    if isinstance(function, type) or not callable(function):
        return None
    mark = mark_of(function)
    if mark is None and name.startswith("_") and not named:
        return None
    return Method(name, function, mark or UNMARKED, inspect.isgeneratorfunction(function))


def describe_methods(methods: dict[str, Method]) -> dict[str, Any]:
    """Return what others are told of the methods: plain data that travels in every framing."""
    return {name: _describe(method) for name, method in methods.items()}


def _describe(method: Method) -> dict[str, Any]:
    try:
        signature = inspect.signature(method.function)
    except (TypeError, ValueError):  # one that is written in C may have none
        parameters, returns = None, ""
    else:
        parameters = [_parameter(parameter) for parameter in signature.parameters.values()]
        returns = _annotation(signature.return_annotation)
    doc = inspect.getdoc(method.function) or ""
    return {
        "parameters": parameters,
        "returns": returns,
        "doc": encodable(cut(doc, MOST_TOLD)),
        "streams": method.mark.streams or method.is_generator,
        "finish": method.mark.finish,
        "idempotent": method.mark.idempotent,
    }


def _parameter(parameter: inspect.Parameter) -> list[Any]:
    has_default = parameter.default is not inspect.Parameter.empty
    default = encodable(show(parameter.default, 100)) if has_default else None
    return [parameter.name, parameter.kind.name, default, _annotation(parameter.annotation)]


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, str):
        return encodable(annotation)
    return encodable(cut(inspect.formatannotation(annotation), MOST_TOLD))


class _Shown:
    """Stands for a value of another node that is only known by how it is shown."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_of(told: Any) -> inspect.Signature | None:
    """Return the signature in what `describe_methods` told of a method; None: it has none, or it cannot be read."""
    if not isinstance(told, dict) or not isinstance(told.get("parameters"), list):
        return None
    try:
        parameters = [_read_parameter(*parameter) for parameter in told["parameters"]]
        return inspect.Signature(parameters, return_annotation=_read_annotation(told.get("returns")))
    except (TypeError, ValueError, KeyError):  # of another version, or of no gmp service
        return None


def _read_parameter(name: Any, kind: Any, default: Any, annotation: Any) -> inspect.Parameter:
    shown = inspect.Parameter.empty if default is None else _Shown(str(default))
    return inspect.Parameter(name, _KINDS[kind], default=shown, annotation=_read_annotation(annotation))


def _read_annotation(text: Any) -> Any:
    return _Shown(text) if isinstance(text, str) and text else inspect.Parameter.empty
