"""Following a port: each message that comes to it is told to somebody for a while.

The port's class is exchanged for one whose `put` tells, and back again: a port that nobody follows pays nothing for it. (It
must be the class, as whoever holds the port calls its `put` directly.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from gmp.ports.mailbox import Message
from gmp.ports.port import Port, current_port

Tell = Callable[[str, str, Message], None]  # who sent it ("": another node), to whom, the message


class Followed:
    """What a followed port has before its own class."""

    __slots__ = ()

    def put(self, message: Message) -> None:
        """As `Port.put`, and tell."""
        port: Any = self
        sender = current_port()
        port.ports.followed[port.name]("" if sender is None else sender.id, port.id, message)
        super().put(message)  # type: ignore[misc]  # the port's own


def _followed(kind: type[Port]) -> type[Port]:
    made: Any = type(f"Followed{kind.__name__}", (Followed, kind), {"__slots__": ()})
    return cast("type[Port]", made)


def follow(port: Port, tell: Tell) -> Callable[[], None]:
    """Call `tell` with each message that comes to `port`; returns a function that ends it. One follower at a time."""
    followed, kind = port.ports.followed, type(port)
    followed[port.name] = tell
    port.__class__ = _followed(kind)

    def end() -> None:
        if followed.get(port.name) is tell:
            port.__class__ = kind
            del followed[port.name]

    return end
