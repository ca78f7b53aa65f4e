"""What is imported before a node's first connection: one that nobody talks to needs none of it.

Handshakes and messages are handled in callbacks of the event loop, where an import must not happen (`gmp.later`). So the
greenlet that dials first imports it; for those that are accepted first, in a callback as well, there is a greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gevent

from gmp.later import import_now
from gmp.wire.framing import MODULES, NAMES

#: what handshakes with others, and their messages, may need in a callback of the event loop
FOR_OTHERS = ("decimal", "hashlib", "hmac", "ipaddress", "urllib.parse", "uuid")
_imported: set[str] = set()  # of this process


class FirstOther:
    """Imports it for one node, with the modules of `framings`. `is_closed` returns whether the node is closed."""

    def __init__(self, framings: Iterable[str], is_closed: Callable[[], bool]) -> None:
        self._names = {*FOR_OTHERS, *(MODULES[framing] for framing in framings if framing in MODULES)}
        self._is_closed = is_closed

    def appears(self) -> None:
        """Import it; not in a callback of the event loop."""
        if not self._names <= _imported:
            import_now(*sorted(self._names))
            _imported.update(self._names)

    def before(self, accepted: Callable[..., None]) -> Callable[..., None]:
        """Return what may be called in the place of `accepted`, with the socket first, before it was imported."""

        def accept(sock: Any, *where: Any) -> None:
            if self._names <= _imported:
                accepted(sock, *where)
            else:
                gevent.spawn(self._accept, accepted, sock.dup(), where)  # the server closes `sock` when this returns

        return accept

    def _accept(self, accepted: Callable[..., None], sock: Any, where: tuple[Any, ...]) -> None:
        try:
            self.appears()
            if not self._is_closed():
                accepted(sock, *where)
        finally:
            sock.close()  # unless it was detached


def import_all(framings: Iterable[str] = NAMES) -> None:
    """Import it, with the modules of `framings`."""
    FirstOther(framings, lambda: False).appears()
