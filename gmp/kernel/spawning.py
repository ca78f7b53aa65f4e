"""What other nodes may start here: functions marked `spawnable` in modules already imported, and plain functions of
modules that match the `allow` setting, which may also be imported. Everything else is refused before any import."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from gmp.errors import GmpError, NotAllowed

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "__gmp_spawnable__"


def spawnable(function: Function) -> Function:
    """Allow other nodes to spawn this function here, by its module and name. A decorator; returns the function.

    *Blocks:* never.
    """
    setattr(function, _MARK, True)
    return function


def function_name(function: str | Callable[..., Any]) -> str:
    """``"package.module:function"`` for a function, or a name as it is. *Raises:* `GmpError` when it has none."""
    if isinstance(function, str):
        module, colon, name = function.partition(":")
        if (colon and module and name.isidentifier()) or "::" in function:
            return function
        raise GmpError(f"{function!r} names no function: expected 'package.module:function'")
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not module or not name.isidentifier():
        raise GmpError(f"{function!r} has no name that another node could find: expected a function of a module")
    return f"{_real_name(module)}:{name}"


def _real_name(module: str) -> str:
    """The importable name of ``__main__`` when it was started by ``python -m``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if module == "__main__" and spec is not None else module


def resolve(name: object, allow: Sequence[str], *, for_spawn: bool) -> Callable[..., Any]:
    """The function that a peer named. *Raises:* `NotAllowed` telling why not; nothing was imported then."""
    if not isinstance(name, str):
        raise NotAllowed(f"{name!r} names no function")
    module_name, colon, function = name.partition(":") if "::" not in name else _perl_name(name)
    if not colon or not module_name or not function.isidentifier():
        raise NotAllowed(f"{name!r} names no function: expected 'package.module:function'")
    allowed = any(fnmatchcase(module_name, pattern) for pattern in allow)
    main = _real_name("__main__") == module_name
    module = sys.modules.get("__main__" if main else module_name)
    if module is None and allowed:
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise NotAllowed(f"module {module_name!r} cannot be imported: {error}") from error
    found = getattr(module, function, None)
    if for_spawn and callable(found) and getattr(found, _MARK, False) is True:
        function_found: Callable[..., Any] = found
        return function_found
    if allowed and inspect.isfunction(found) and found.__module__ in (module_name, "__main__" if main else module_name):
        return found
    raise NotAllowed(f"{name!r} is not allowed here: no such function, not marked spawnable and not in 'allow'")


def _perl_name(name: str) -> tuple[str, str, str]:
    module, colon, function = name.rpartition("::")
    return module.replace("::", "."), colon, function
