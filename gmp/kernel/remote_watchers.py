"""Monitors that are set here for a port of another node: ``monitor(target, port_elsewhere)``, and so `link`.

Such a monitor stands on this node, as any other that its code sets, and acts from here: it sends ``kil1``, or the message,
to the watcher. Another one, the *guard*, watches the watcher: when that is dead the first has no one to notify and ends.
A lost way to the watcher is not its death: it may live on, so the monitor stays until the target's end, and what it then
sends goes by the next connection (if there is one within `connect_timeout`).

race: target and watcher may be on one node, the way to which is lost: what is sent in that step would be dropped. So the end
of a target elsewhere is reported in a greenlet, when the peer is idle again. That of a port of this node is reported in its
burial, which comes before anything else is sent: also when this node is about to leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gmp.errors import GmpError
from gmp.ids import split_port_id
from gmp.ports.monitors import Kind, Monitor, Reason
from gmp.wire.framing import make_encoder
from gmp.wire.requests import KIL1

if TYPE_CHECKING:
    from gmp.kernel.host import Host


class RemoteWatcher:
    """Another node's port as the watcher of a monitor."""

    def __init__(self, host: Host, node_id: str, name: str, message: tuple[Any, ...]) -> None:
        if not name:
            raise GmpError(f"{node_id!r} is a node: expected a port, for a monitor to kill or to send a message to")
        self._host, self._node_id, self._name = host, node_id, name
        self._message = message
        self._guard: Monitor | None = None

    def watch(self, target: Any) -> Monitor:
        """Set a monitor of `target` for this port. *Raises:* `MessageError` for a message that cannot travel."""
        host, local = self._host, split_port_id(target)[0] == self._host.id
        make_encoder("msgpack", host.settings.max_message).encode(self._name, self._message)  # raises here, not at the death
        kind = Kind.MESSAGE if local else Kind.CALLBACK
        monitor = host.watch(target, self._tell if local else self._tell_later, kind)
        if monitor.watch_for(self):
            self._guard = host.watch(f"{self._node_id}#{self._name}", lambda reason: self._ended(monitor, reason))
        return monitor

    def _ended(self, monitor: Monitor, reason: Reason) -> None:
        self._guard = None
        if reason[:1] != ("transport_error",):
            monitor.cancel()

    def watches_no_more(self, monitor: Monitor) -> None:
        """`Watcher.watches_no_more`."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.cancel()

    def _tell_later(self, reason: Reason) -> None:
        if not self._host.closed:
            self._host.defer(self._tell, reason)

    def _tell(self, reason: Reason) -> None:
        peer = self._host.network.peer(self._node_id)
        if self._message:
            peer.send(self._name, (*self._message, *reason))
        elif reason:
            peer.send("", (KIL1, self._name, *reason))
