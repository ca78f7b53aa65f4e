"""What other nodes may start here: functions marked `spawnable` in modules already imported, and plain functions of
modules that match the `allow` setting, which may also be imported. Everything else is refused before any import, and
without running any code: names are looked up in the module's own table, no attribute of what is found there is asked for.

And under which names: each only once. A gmp node's names are its incarnation and a count that only grows, so the last one
is all that needs to be remembered; of other names (Perl's) the last `NAMES_REMEMBERED` are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from types import FunctionType
from typing import Any, TypeVar

from gmp.errors import GmpError, NotAllowed

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "__gmp_spawnable__"
LONGEST_NAME = 255
NAMES_REMEMBERED = 100_000
MAKERS_REMEMBERED = 10_000


def spawnable(function: Function) -> Function:
    """Allow other nodes to spawn this function here, by its module and name. A decorator; returns the function.

    *Raises:* `GmpError` if it is not a function of a module. *Blocks:* never.
    """
    if not isinstance(function, FunctionType | type):
        raise GmpError(f"{function!r} cannot be spawned by others: expected a function of a module")
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
        raise NotAllowed(f"{name!r:.80} names no function")
    module_name, colon, function = name.partition(":") if "::" not in name else _perl_name(name)
    if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise NotAllowed(f"{name[:LONGEST_NAME]!r} names no function: expected 'package.module:function'")
    allowed = any(fnmatchcase(module_name, pattern) for pattern in allow)
    main = _real_name("__main__") == module_name
    module = sys.modules.get("__main__" if main else module_name)
    if module is None and allowed:
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            raise NotAllowed(f"module {module_name!r} cannot be imported: {error}") from error
    found = getattr(module, "__dict__", {}).get(function)
    if for_spawn and isinstance(found, FunctionType | type) and found.__dict__.get(_MARK) is True:
        return found
    home = "__main__" if main else module_name
    if allowed and isinstance(found, FunctionType) and found.__module__ in (module_name, home):
        return found
    name = name[:LONGEST_NAME]
    raise NotAllowed(f"{name!r} is not allowed here: no such function, not marked spawnable and not in 'allow'")


def _perl_name(name: str) -> tuple[str, str, str]:
    module, colon, function = name.rpartition("::")
    return module.replace("::", ".") or "__main__", colon, function  # "::name" is one of the main program


def run_function(port: Any, function: Callable[..., Any] | None, name: str, args: tuple[Any, ...]) -> None:
    """The body of a port that is spawned on the own node: `function`, or whatever has that name."""
    if function is None:
        try:
            function = resolve(name, ("*",), for_spawn=True)
        except GmpError as error:
            port.kill("not_allowed", str(error))
            return
    function(port, *args)


class SpawnedNames:
    """The names that peers have given to ports here."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, str]] = {}  # by incarnation of the maker
        self._others: dict[str, None] = {}

    def claim(self, name: str, maker: str) -> bool:
        """Take this name; return False if it was taken before. `maker`: the asker's incarnation, or nothing."""
        if not name or len(name) > LONGEST_NAME:
            return False
        if maker and name.startswith(maker):
            size = (len(name), name)  # in this order counts grow, in any base
            if size <= self._last.get(maker, (0, "")):
                return False
            self._last.pop(maker, None)
            self._last[maker] = size
            _trim(self._last, MAKERS_REMEMBERED)
            return True
        if name in self._others:
            return False
        self._others[name] = None
        _trim(self._others, NAMES_REMEMBERED)
        return True


def _trim(table: dict[str, Any], most: int) -> None:
    if len(table) > most:
        del table[next(iter(table))]
