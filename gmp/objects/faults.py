"""Exceptions that travel: what a method raised becomes a message, and that an exception at the caller.

Only names, texts and arguments travel. The caller raises an exception type that *it* has declared, if the service has
declared it too, and else `RemoteError`: nothing is imported, or looked up, by what came over the network.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gmp.errors import CallRefused, ConfigError, GmpError, MessageError, NotAllowed, RemoteError
from gmp.objects.forms import RAISE
from gmp.showing import MOST_TOLD, cut, describe, encodable, error_text, show_text, show_typed

NOT_ALLOWED = "not_allowed"  #: the kind of a refusal that is raised as `NotAllowed`
MOST_ARGUMENTS = 16
_OWN_FRAMES = 1  # of gmp, at the beginning of a method's traceback

Declared = Mapping[str, type[Exception]]


class RemoteTraceback(Exception):
    """The traceback of an exception on another node, as the cause of what is raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}\n"""'


def declared(errors: Iterable[Any]) -> Declared:
    """Return a table of the exception types that one side declares, by their names. *Raises:* `ConfigError`."""
    if isinstance(errors, type) or not isinstance(errors, Iterable):
        raise ConfigError(f"errors {show_typed(errors)}: expected a list of exception types")
    found: dict[str, type[Exception]] = {}
    for error in errors:
        if not isinstance(error, type) or not issubclass(error, Exception):
            raise ConfigError(f"errors: {show_typed(error)}: expected an exception type")
        if found.setdefault(error.__qualname__, error) is not error:
            raise ConfigError(f"errors: two types are called {error.__qualname__!r}")
    return found


def fault(error: BaseException, known: Declared, travels: Callable[[Any], bool]) -> tuple[Any, ...]:
    """Return the message for what a method raised. `travels` says whether a value can go to the caller. Never raises."""
    kind = type(error)
    name = next((base.__qualname__ for base in kind.__mro__ if known.get(base.__qualname__) is base), None)
    args = [arg if travels(arg) else describe(arg) for arg in _arguments(error)[:MOST_ARGUMENTS]]
    return RAISE, type_name(kind), encodable(cut(error_text(error), MOST_TOLD)), args, _trace(error), name


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """Return what it was made of, also when its type means something else by `args`."""
    try:
        if isinstance(error.args, tuple):
            return error.args
    except Exception as why:  # the user's code
        return (describe(why),)
    found: tuple[Any, ...] = BaseException.__dict__["args"].__get__(error)
    return found


def type_name(kind: type[BaseException]) -> str:
    """Return the name of an exception type as it travels and is shown: its module goes with it unless it is built in."""
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return encodable(cut(f"{module}{kind.__qualname__}", MOST_TOLD))


def _trace(error: BaseException) -> str:
    own = error.__traceback__
    for _ in range(_OWN_FRAMES):
        own = None if own is None else own.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, own)).rstrip()
    except Exception:
        return ""
    return encodable(cut(text, MOST_TOLD))


def untravelled(error: MessageError, what: str) -> tuple[Any, ...]:
    """Return the message that says that a result, or an item of a stream, cannot travel to the caller."""
    text = encodable(cut(f"{what} cannot travel: {error}", MOST_TOLD))
    return RAISE, type_name(MessageError), text, [text], "", None


def raised(parts: tuple[Any, ...], known: Declared, service: str, method: str) -> Exception:
    """Return the exception that a message ``raise …`` from `service` stands for; `parts` is what is behind that tag."""
    kind, text, args, trace, name = (*parts, *(None,) * 5)[:5]
    arguments = tuple(args) if isinstance(args, list | tuple) else ()
    told = RemoteError(
        show_text(kind or "unknown"), show_text(text or "", MOST_TOLD), arguments,
        show_text(trace or "", MOST_TOLD), service, method,
    )  # fmt: skip
    error: Exception = told
    declared_type = known.get(name) if isinstance(name, str) else None
    if declared_type is not None:
        try:
            error = declared_type(*arguments)
        except Exception as why:  # its arguments did not travel, or it takes others than it keeps
            told.add_note(f"{declared_type.__qualname__} could not be made of {arguments!r:.200}: {describe(why)}")
    if told.traceback:
        error.__cause__ = RemoteTraceback(told.traceback)
    return error


def refusal(parts: tuple[Any, ...], service: str) -> GmpError:
    """Return the exception that a message ``refused KIND TEXT`` stands for."""
    kind, text = (show_text(part) for part in (*parts, "", "")[:2])
    if kind == NOT_ALLOWED:
        return NotAllowed(f"service {service}: {text}")
    return CallRefused(service, kind, text)
