"""Monitors across nodes.

Watcher's side: for each remote node the monitors of each of its ports; the first one sends ``mon1``, the last one that
is cancelled sends ``mon0``. Owner's side: for each peer the monitors it has set here; they go with its connection, and a
second ``mon1`` for the same port changes nothing.

When a node is lost, `gmp.kernel.losing` fires what was set here, in the order of `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable

from gmp.ports.monitors import Kind, Monitor, Reason
from gmp.ports.table import Ports
from gmp.wire.requests import KIL0, MON0, MON1

Send = Callable[..., None]


class RemotePort:
    """The home of the monitors of one port of another node, or of that node (empty name)."""

    __slots__ = ("_table", "monitors", "name", "node_id")

    def __init__(self, table: RemoteMonitors, node_id: str, name: str) -> None:
        self._table = table
        self.node_id = node_id
        self.name = name
        self.monitors: dict[Monitor, None] = {}

    def __str__(self) -> str:
        return f"{self.node_id}#{self.name}" if self.name else self.node_id

    def discard_monitor(self, monitor: Monitor) -> None:
        """A monitor was cancelled."""
        self.monitors.pop(monitor, None)
        if not self.monitors:
            self._table.unwatch(self)


class RemoteMonitors:
    """All monitors between this node and others."""

    def __init__(self, ports: Ports, request: Send, want: Callable[[str], None]) -> None:
        self._ports = ports
        self._request = request
        self._want = want
        self._watching: dict[str, dict[str, RemotePort]] = {}
        self._watched: dict[str, dict[str, Monitor]] = {}

    # ---- watcher's side

    def monitor(self, node_id: str, name: str, action: Callable[[Reason], object], kind: Kind) -> Monitor:
        """Monitor a port of another node, or that node; connects to it."""
        names = self._watching.setdefault(node_id, {})
        remote = names.get(name)
        new = remote is None
        if remote is None:
            remote = names[name] = RemotePort(self, node_id, name)
        monitor = Monitor(action, remote, kind=kind)
        remote.monitors[monitor] = None
        if new:
            if name:
                self._request(node_id, MON1, name)
            else:
                self._want(node_id)
        return monitor

    def unwatch(self, remote: RemotePort) -> None:
        """The last monitor of a remote port was cancelled."""
        names = self._watching.get(remote.node_id, {})
        if names.get(remote.name) is remote:
            del names[remote.name]
            if remote.name:
                self._request(remote.node_id, MON0, remote.name)

    def port_died(self, node_id: str, name: str, reason: Reason) -> None:
        """``kil0``: a port that is monitored from here is dead."""
        names = self._watching.get(node_id, {})
        remote = names.get(name)
        if remote is not None:
            for monitor in list(remote.monitors):
                monitor.fire(reason)
            names.pop(name, None)  # last: a watcher that Ctrl-C kept from being notified hears of the connection's end

    def node_lost(self, node_id: str, left: list[Monitor]) -> None:
        """The way to a node is gone: the monitors there go to `left`, in the order in which to fire them; those it set end.

        Interrupted, it is called again; then some of them may stand in `left` twice.
        """
        for monitor in list(self._watched.get(node_id, {}).values()):
            monitor.cancel()
        self._watched.pop(node_id, None)
        remotes = self._watching.get(node_id, {}).values()
        found = [*left, *(each for remote in remotes for each in remote.monitors)]
        found.sort(key=lambda monitor: monitor.kind)
        left[:] = found
        self._watching.pop(node_id, None)

    # ---- owner's side

    def mon1(self, node_id: str, name: str) -> None:
        """A peer monitors a port of this node."""
        watched = self._watched.setdefault(node_id, {})
        if name in watched or not name:
            return
        port = self._ports.by_name.get(name)
        if port is None:
            if name in self._ports.ended:
                self._request(node_id, KIL0, name, *self._ports.ended[name])
                return
            port_id = f"{self._ports.node_id}#{name}"
            self._request(node_id, KIL0, name, "no_such_port", "cannot monitor nonexistent port", port_id)
            return

        def died(reason: Reason) -> None:
            watched.pop(name, None)
            self._request(node_id, KIL0, name, *reason)

        watched[name] = Monitor(died, port)
        port.add_monitor(watched[name])

    def mon0(self, node_id: str, name: str) -> None:
        """A peer no longer monitors a port of this node."""
        monitor = self._watched.get(node_id, {}).pop(name, None)
        if monitor is not None:
            monitor.cancel()

    def message_lost(self, node_id: str, name: str, what: str) -> None:
        """A message of a peer to a port of this node could not be delivered: its monitors of that port fire."""
        monitor = self._watched.get(node_id, {}).pop(name, None)
        if monitor is not None:
            monitor.cancel()
            text = f"a message was lost: {what}"
            self._request(node_id, KIL0, name, "transport_error", self._ports.node_id, text)
