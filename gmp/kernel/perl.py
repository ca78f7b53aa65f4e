"""What a Perl node's request means: null stands for the empty name, and where a name must stand, text is meant.

What strings from Perl become is `gmp.wire.perl_strings`' business: octets that are no UTF-8 may be left. Names, IDs and what
is for a service here are text even so. The arguments of functions, reasons, and the values of the directory are the
application's: they stay as they came.
"""

from __future__ import annotations

from typing import Any

from gmp.errors import NotAllowed
from gmp.wire.perl_strings import text_of
from gmp.wire.requests import CAN, CONNECT, EVAL, EXPECT, KEY, KIL0, KIL1, MON0, MON1, SND, SPAWN, TIME

_ALL = 1 << 30
#: how many of the first arguments are text, when they are octets
_TEXTS = {MON1: 1, MON0: 1, KIL0: 1, KIL1: 1, SND: 1, TIME: 1, CAN: 2, EVAL: 2, SPAWN: 2, KEY: 2}
_TEXTS.update({EXPECT: 4, CONNECT: _ALL})


def understood(name: str, args: tuple[Any, ...], *, offered: bool) -> tuple[Any, ...]:
    """The arguments of the request `name` of a Perl node; `offered`: a service here has that name."""
    if name.startswith("g_"):
        return tuple(_names(arg) for arg in args)
    count = _ALL if offered else _TEXTS.get(name, 0)
    return tuple(_text(arg) for arg in args[:count]) + args[count:]


def request_name(value: Any) -> Any:
    """The name of a request: null is the empty one."""
    return "" if value is None else _text(value)


def port_name(value: Any) -> str:
    """The name of a port in a request. *Raises:* `NotAllowed` for what cannot be one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NotAllowed(f"expected a name, not {value!r:.80}")
    return value


def _text(value: Any) -> Any:
    return text_of(value) if isinstance(value, bytes) else value


def _names(value: Any) -> Any:
    """An argument of the global protocol: a name, a list of names or addresses, or a map, whose keys are text already."""
    return [_text(item) for item in value] if isinstance(value, list) else _text(value)
