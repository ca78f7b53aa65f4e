"""Follow a port: for a while, a function is called with each message that arrives at it.

`follow` exchanges the port's class for one whose `put` calls that function, and the returned function changes it back, so a
port that is not followed pays nothing. (It must be the class, as senders call the `put` of the port that they hold.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from gmp.ports.mailbox import Message
from gmp.ports.port import Port, current_port

Tell = Callable[[str, str, Message], None]  # the sender's port ID ("" for another node), the receiver's, the message


class Followed:
    """Mixed in before the class of a port that is followed."""

    __slots__ = ()

    def put(self, message: Message) -> None:
        """Call the follower, then do as `Port.put`."""
        port: Any = self
        sender = current_port()
        port.ports.followed[port.name]("" if sender is None else sender.id, port.id, message)
        super().put(message)  # type: ignore[misc]  # the port's own


def _followed(kind: type[Port]) -> type[Port]:
    made: Any = type(f"Followed{kind.__name__}", (Followed, kind), {"__slots__": ()})
    return cast("type[Port]", made)


def follow(port: Port, tell: Tell) -> Callable[[], None]:
    """Call `tell` with each message that arrives at `port`; return a function that ends this. One follower at a time."""
    followed, kind = port.ports.followed, type(port)
    followed[port.name] = tell
    port.__class__ = _followed(kind)

    def end() -> None:
        if followed.get(port.name) is tell:
            port.__class__ = kind
            del followed[port.name]

    return end
