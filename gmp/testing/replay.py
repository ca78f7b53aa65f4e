"""Post-mortem: feed the last messages of a port that died to a fresh one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gmp

Messages = Iterable[tuple[Any, ...]]


def replay(
    messages: Messages,
    body: Callable[..., Any] | None = None,
    *args: Any,
    handlers: dict[Any, Callable[..., Any]] | None = None,
    node: gmp.Node | None = None,
) -> gmp.Port:
    """Make a port with that `body` or those `handlers` (tag → handler, tag None: the default one), and send it `messages`.

    The messages are those of a `Death` (``node.deaths()[-1].history``), or any. Returns the port: `join` it, and look at its
    `reason`. `node` is the default node unless given. *Raises:* as `gmp.port`. *Blocks:* never.

    >>> import gmp
    >>> def halve(port):
    ...     for _, number in port:
    ...         assert number % 2 == 0, f"{number} is odd"
    >>> port = replay([("halve", 4), ("halve", 5)], halve)
    >>> port.join(timeout=5)
    True
    >>> port.reason[1]
    'AssertionError: 5 is odd'
    """
    port = (node or gmp.node()).port(body, *args)
    for tag, handler in (handlers or {}).items():
        port.on(tag, handler)
    for message in messages:
        port.put(message)
    return port
