"""Protocols between ports and the table that they are in.

The table (`gmp.ports.table.Ports`) makes ports, so it imports them; they know it as their `Home`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gmp.ports.duties import Duties
from gmp.ports.monitors import Reason
from gmp.ports.wakeups import Wakeups
from gmp.ports.workers import Workers

Message = tuple[Any, ...]


class Resident(Protocol):
    """A port, as its table sees it."""

    name: str
    ports: Home
    reason: Reason | None  #: what it died with; None while it lives
    _id: str | None  # None before its first use

    @property
    def id(self) -> str:
        """The full port ID."""


class Home(Protocol):
    """The table of a node's ports, as a port sees it."""

    node_id: str
    node: Any  #: the `gmp.Node` that users see
    host: Any  #: the same node from within, a `gmp.kernel.host.Host`
    hold: Any  #: the lock that the node's thread owns while the node is open; see `gmp.ports.table`
    hub: Any
    workers: Workers
    wakeups: Wakeups
    duties: Duties
    dropped: int  #: messages for dead and unknown ports
    leaving: bool  #: True once the node has begun to end
    followed: dict[str, Callable[[str, str, Message], None]]  #: by port name, what is called with each message to it

    def check(self) -> None:
        """Check that the node can be used here. *Raises:* `GmpError` in another native thread, and when it is closed."""

    def check_thread(self) -> None:
        """Check the thread. *Raises:* `GmpError` in any native thread but the node's own, and in a child of `fork`."""

    def forget(self, port: Resident) -> None:
        """Take `port`, which died, out of the table."""

    def note_peak(self, port: Resident, waiting: int) -> None:
        """Note that `waiting` messages wait at `port`, more than at its last doubling."""
