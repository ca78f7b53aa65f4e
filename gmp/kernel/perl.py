"""What a Perl node's request means: its strings may come as octets, and null stands for the empty name.

Perl has one kind of string, which cbor carries as octets, whatever is meant. Where a request has names, IDs, tags or
reasons, text is meant; everything of the global protocol is text. The arguments of functions are the application's: they
stay as they came.
"""

from __future__ import annotations

from typing import Any

from gmp.errors import NotAllowed
from gmp.kernel.streams import CONNECT, EXPECT

SPAWN = "AnyEvent::MP::_spawn"
UP_NODES = "AnyEvent::MP::Kernel::up_nodes"  #: what ``aemp trace`` lets each node evaluate: whom it is connected with
_ALL = 1 << 30
#: how many of the first arguments are text, when they are octets
_TEXTS = {"mon1": 1, "mon0": 1, "kil0": _ALL, "kil1": _ALL, "snd": 2, "time": 2, "can": 3, "eval": 3, SPAWN: 2}
_TEXTS.update({EXPECT: 4, CONNECT: _ALL})


def understood(name: str, args: tuple[Any, ...], *, offered: bool) -> tuple[Any, ...]:
    """The arguments of the request `name` of a Perl node; `offered`: a service here has that name."""
    if name.startswith("g_"):
        return tuple(_text_within(arg) for arg in args)
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
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _text_within(value: Any) -> Any:
    """As `_text`, in lists and hashes too; the framing bounds their depth."""
    if isinstance(value, list | tuple):
        return [_text_within(item) for item in value]
    if isinstance(value, dict):
        return {_text(key): _text_within(item) for key, item in value.items()}
    return _text(value)
