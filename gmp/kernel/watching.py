"""Monitors and links as a program sets them: what is watched, and which port or callback the monitor notifies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmp.errors import GmpError
from gmp.ids import split_port_id
from gmp.kernel.remote_watchers import RemoteWatcher
from gmp.ports.monitors import KILL_CURRENT, Kind, Monitor, Reason
from gmp.ports.port import Port, current_port

if TYPE_CHECKING:
    from gmp.kernel.host import Host


class Watching:
    """The monitors that one node's own code sets."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def monitor(self, target: Port | str, action: Any, *message: Any) -> Monitor:
        """Watch a port or node; see `gmp.monitor`."""
        if action is KILL_CURRENT:
            action = current_port()
            if action is None:
                raise GmpError("monitor(target) kills the current port, but there is none here: give a callback")
        watcher = self._watcher(action, message) if isinstance(action, Port | str) else None
        if isinstance(watcher, RemoteWatcher):
            return watcher.watch(target)
        if watcher is not None:
            if message:
                monitor = self.watch(target, lambda reason: watcher.put_once((*message, *reason)))
            else:
                monitor = self.watch(target, lambda reason: watcher.kill(*reason) if reason else None, Kind.KILL)
            watcher.watches(monitor)
            return monitor
        if not callable(action) or message:
            raise GmpError(f"monitor of {target}: expected a callback, or a port and a message for it")
        return self.watch(target, lambda reason: self._host.defer(action, *reason), Kind.CALLBACK)

    def _watcher(self, port: Port | str, message: tuple[Any, ...] = ()) -> Port | RemoteWatcher:
        """Return the port that a monitor is set for. *Raises:* `GmpError` if it is not a live port of this node."""
        host = self._host
        node_id, name = split_port_id(port)
        found = port if isinstance(port, Port) else host.ports.by_name.get(name)
        if isinstance(found, Port) and found.ports is host.ports and node_id == host.id:
            return found
        if node_id != host.id:
            host.peer(node_id)
            return RemoteWatcher(host, node_id, name, message)
        raise GmpError(f"{str(port)!r} is no live port of this node")

    def watch(self, target: Any, action: Callable[[Reason], object], kind: Kind = Kind.MESSAGE) -> Monitor:
        """Watch a port or node: `action(reason)` runs in the step of the death, and must not block."""
        host = self._host
        node_id, name = split_port_id(target)
        if node_id != host.id:
            host.peer(node_id)
            return host.monitors.monitor(node_id, name, action, kind)
        port = target if isinstance(target, Port) else host.ports.by_name.get(name)
        if port is not None:
            monitor = Monitor(action, port, kind=kind)
            port.add_monitor(monitor)
            return monitor
        monitor = Monitor(action, _NOBODY, kind=kind)
        if name:
            reason = ("no_such_port", "cannot monitor nonexistent port", f"{node_id}#{name}")
            host.ports.duties.add(lambda: monitor.fire(reason))
        return monitor

    def link(self, a: Port | str, b: Port | str) -> tuple[Monitor, Monitor]:
        """Let two ports die together; see `gmp.link`."""
        for port in (a, b):
            self._watcher(port)  # raises before anything is set
        return self.monitor(a, b), self.monitor(b, a)


class _Nobody:
    """The home of a monitor of a port that is not there."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """There is none."""


_NOBODY = _Nobody()
