"""The slow lane of a connection: large messages that wait for the socket, which small ones may overtake.

It is used only while the socket is full. Order between two ports is kept: a message may overtake only if none for the
same port waits here, and messages to the node port (monitors, kills, spawns, which are about other ports) neither
overtake nor are overtaken: while one waits here, everything behind it waits too.
"""

from __future__ import annotations

from collections import Counter, deque

LARGE = 32 * 1024  #: bytes from which on a message takes the slow lane


class SlowLane:
    """Messages that wait, in their order, and how many of them are for which port."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._ports: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def is_for(self, name: str, data: bytes) -> bool:
        """Whether a message for the port `name` must wait here."""
        if len(data) >= LARGE:
            return True
        ports = self._ports
        return bool(self._waiting) and (not name or name in ports or "" in ports)

    def put(self, name: str, data: bytes) -> None:
        """Let a message wait."""
        self._waiting.append((name, data))
        self._ports[name] += 1

    def pop(self) -> bytes:
        """The next message. *Raises:* `IndexError` when there is none."""
        name, data = self._waiting.popleft()
        self._ports[name] -= 1
        if not self._ports[name]:
            del self._ports[name]
        return data

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._ports.clear()
