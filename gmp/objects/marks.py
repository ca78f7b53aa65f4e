"""What a class says of its own methods: the decorators `method` and `stream`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from gmp.errors import ConfigError
from gmp.showing import show_typed

Function = TypeVar("Function", bound=Callable[..., Any])
_ATTRIBUTE = "__gmp_mark__"


class Mark(NamedTuple):
    """What was said of a method."""

    streams: bool = False  #: what it returns goes over item by item
    finish: bool = False  #: it runs to its end though its caller has given up
    idempotent: bool = False  #: it may be called again when it is not known whether it has run


UNMARKED = Mark()


@overload
def method(function: Function) -> Function: ...
@overload
def method(*, finish: bool = False, idempotent: bool = False) -> Callable[[Function], Function]: ...


def method(function: Any = None, *, finish: bool = False, idempotent: bool = False) -> Any:
    """Mark a method that a service answers, also one whose name begins with an underscore.

    `finish`: it runs to its end though its caller has given up, died or been cut off; without it, it is stopped then by
    `GreenletExit`. `idempotent`: calling it twice does what calling it once does, so callers may use `gmp.Retry`.
    *Raises:* `ConfigError`. *Blocks:* never.

    >>> import gmp
    >>> class Jobs:
    ...     @gmp.method(idempotent=True)
    ...     def add(self, a, b):
    ...         return a + b
    """
    return _marking(function, Mark(finish=finish, idempotent=idempotent))


@overload
def stream(function: Function) -> Function: ...
@overload
def stream(*, idempotent: bool = False) -> Callable[[Function], Function]: ...


def stream(function: Any = None, *, idempotent: bool = False) -> Any:
    """Mark a method that streams: the items of what it returns go to the caller one by one, as the caller takes them.

    Generators, and other iterators, stream without it. `idempotent` as for `gmp.method`. *Raises:* `ConfigError`.
    *Blocks:* never.

    >>> import gmp
    >>> class Logs:
    ...     @gmp.stream
    ...     def lines(self, path):
    ...         return open(path)
    """
    return _marking(function, Mark(streams=True, idempotent=idempotent))


def _marking(function: Any, mark: Mark) -> Any:
    return (lambda function: _mark(function, mark)) if function is None else _mark(function, mark)


def _mark(function: Any, mark: Mark) -> Any:
    """Mark a function, in addition to what it is marked as already."""
    inner = getattr(function, "__func__", function)  # a static or class method is not seen from outside, what is in it is
    try:
        if isinstance(inner, type) or not callable(inner):
            raise TypeError
        setattr(inner, _ATTRIBUTE, Mark(*map(max, mark, mark_of(inner) or UNMARKED)))
    except (AttributeError, TypeError):  # it cannot be set on one that is written in C
        text = "cannot be a service's method: expected a function that is written in Python"
        raise ConfigError(f"{show_typed(function)} {text}") from None
    return function


def mark_of(function: Any) -> Mark | None:
    """What was said of a method; None: it is not marked."""
    mark = getattr(function, _ATTRIBUTE, None)
    return mark if isinstance(mark, Mark) else None
