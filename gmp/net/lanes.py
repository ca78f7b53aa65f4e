"""The slow lane of a connection: large messages that wait for the socket, which small ones may overtake.

It is used only while the socket is full. Order between two ports is kept: a message may overtake only if none for the
same port waits here. Messages to the node port (monitors, kills, spawns, which concern other ports) neither overtake
nor are overtaken: while one waits here, everything after it waits too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gmp.wire.large import Pieces

LARGE = 32 * 1024  #: bytes from which on a message takes the slow lane


class SlowLane:
    """Messages that wait, in order, and the number of them for each port."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Sequence[bytes | memoryview]]] = deque()  # the pieces of each
        self._ports: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def is_for(self, name: str, data: bytes | Pieces) -> bool:
        """Return whether a message for the port `name` must wait here."""
        if len(data) >= LARGE:
            return True
        ports = self._ports
        return bool(self._waiting) and (not name or name in ports or "" in ports)

    def put(self, name: str, data: bytes | Pieces) -> None:
        """Add a message."""
        waiting, ports = self._waiting, self._ports
        entry = [(name, data.pieces if isinstance(data, Pieces) else [data])]
        if name in ports:  # race: Ctrl-C, or a signal handler that sends: no call follows, so neither can come in between
            ports[name] += 1
        else:
            ports[name] = 1
        waiting += entry

    def pop_into(self, to: list[bytes | memoryview]) -> bool:
        """Move the next message to `to`; return False if there is none."""
        waiting, ports = self._waiting, self._ports
        if not waiting:
            return False
        name, pieces = waiting[0]
        del waiting[0]  # race: as in `put`
        to += pieces
        left = ports[name] - 1
        if left:
            ports[name] = left
        else:
            del ports[name]
        return True

    def clear(self) -> None:
        """Drop all messages."""
        self._waiting.clear()
        self._ports.clear()
