"""The ports of one node: names, look-up, delivery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gevent.hub import get_thread_ident  # type: ignore[attr-defined]  # the native thread's, also in patched programs

from gmp.errors import GmpError
from gmp.ids import NameMaker
from gmp.ports.mailbox import Message
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.port import Port
from gmp.ports.workers import Workers

ENDS_REMEMBERED = 1000


class Destination(Protocol):
    """What has a name of its own on this node: a port, or the entry of a call that waits for its reply."""

    def put(self, message: Message) -> None:
        """Take a message."""

    def kill(self, *reason: Any) -> None:
        """End."""

    def add_monitor(self, monitor: Monitor) -> None:
        """Fire `monitor` at its end."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """Forget `monitor`."""


class Ports:
    """All ports of a node. `by_id` and `by_name` have the live ones under their full ID and their local name."""

    def __init__(self, node_id: str, incarnation: str) -> None:
        self.node_id = node_id
        self.by_name: dict[str, Destination] = {}
        self.by_id: dict[str, Destination] = {}
        self.dropped = 0  #: messages for dead and unknown ports
        self.ended: dict[str, Reason] = {}  #: what the last ports that peers had spawned here died with
        self._incarnation = incarnation
        self.workers = Workers()
        self.new_name = NameMaker(incarnation).next
        self._thread = get_thread_ident()

    def check_thread(self) -> None:
        """*Raises:* `GmpError` in any native thread but the one that made this."""
        if get_thread_ident() != self._thread:
            raise GmpError(
                f"node {self.node_id} belongs to another native thread: call it by node.from_thread from this one"
            )

    def make(
        self,
        body: Callable[..., Any] | None = None,
        *args: Any,
        max_queue: int | None = None,
        name: str | None = None,
    ) -> Port:
        """Make a port; `body(port, *args)` starts in the next turn of the loop. *Raises:* `GmpError`."""
        self.check_thread()
        if body is not None and not callable(body):
            raise GmpError(f"{body!r} cannot be a port's body: expected something to call")
        if max_queue is not None and (not isinstance(max_queue, int) or max_queue < 1):
            raise GmpError(f"max_queue {max_queue!r}: expected a whole number over 0, or None")
        port = Port(name or self.new_name(), self, max_queue)
        self.by_name[port.name] = self.by_id[port.id] = port
        if body is not None:
            port.start_body(body, args)
        return port

    def add(self, name: str, destination: Destination) -> None:
        """Give `destination` a name."""
        self.by_name[name] = self.by_id[f"{self.node_id}#{name}"] = destination

    def remove(self, name: str) -> None:
        """Take a name away."""
        self.by_name.pop(name, None)
        self.by_id.pop(f"{self.node_id}#{name}", None)

    def forget(self, port: Port) -> None:
        """A port died."""
        self.remove(port.name)
        if not port.name.startswith(self._incarnation):
            self.remember_end(port.name, port.reason or ())

    def is_used(self, name: str) -> bool:
        """Whether a peer may not spawn a port of that name: it is or was in use, or is one that this node makes."""
        return name in self.by_name or name in self.ended or name.startswith(self._incarnation)

    def remember_end(self, name: str, reason: Reason) -> None:
        """race: a spawned port may die before the ``mon1`` that follows it is read; it must tell the true reason."""
        self.ended[name] = reason
        if len(self.ended) > ENDS_REMEMBERED:
            del self.ended[next(iter(self.ended))]

    def close(self, reason: tuple[Any, ...]) -> None:
        """Kill every port."""
        for destination in list(self.by_name.values()):
            destination.kill(*reason)
