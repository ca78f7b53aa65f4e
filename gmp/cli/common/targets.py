"""Finds the nodes, ports and groups that commands talk to, and makes sure that they were reached.

Nothing is sent to a node before it is connected: a message to a node that cannot be reached fails silently. The request
``time`` is the barrier: every node, Perl's too, answers it after everything that was sent to it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gmp
from gmp.cli.common.access import Access, seed_nodes
from gmp.cli.common.failures import NO_ANSWER, Failure, Unreachable
from gmp.later import later
from gmp.wire.requests import TIME

if TYPE_CHECKING:
    import gevent
else:
    gevent = later("gevent")


def destinations(access: Access, node: gmp.Node, text: str) -> list[str]:
    """Return the ports that a destination on the command line stands for: itself or, with ``@``, the members of a group.

    *Raises:* `Unreachable` if the group has none, `ConfigError` if it is not a port ID.
    """
    if text.startswith("@"):
        return sorted(members(access, node, text[1:]))
    gmp.node_of(text)
    return [text]


def members(access: Access, node: gmp.Node, name: str) -> dict[str, Any]:
    """Return the members of a group. *Raises:* `Unreachable` if it has none."""
    group = node.group(name)
    settle(access, node)
    if not group.members():
        raise Unreachable(f"group {name!r} has no member")
    return group.members()


def settle(access: Access, node: gmp.Node) -> None:
    """Wait until the directory has answered all earlier requests."""
    gevent.joinall([gevent.spawn(_ask_time, node, seed, access.left) for seed in seed_nodes(node)])


def _ask_time(node: gmp.Node, node_id: str, timeout: float) -> None:
    try:
        node.call(node_id, TIME, timeout=timeout)
    except gmp.GmpError:
        pass  # whoever asks for its data sees that it is not there


def reach(access: Access, node: gmp.Node, node_id: str) -> None:
    """Connect to a node. *Raises:* `Unreachable`, with the reason."""
    down: list[tuple[Any, ...]] = []
    with node.monitor(node_id, lambda *reason: down.append(reason)):
        while not node.is_up(node_id):
            try:
                node.wait_up(node_id, timeout=min(access.left, 0.1))
            except gmp.WaitTimeout:
                if down or access.left <= 0.001:
                    raise Unreachable(_why(node_id, down)) from None


def _why(node_id: str, down: list[tuple[Any, ...]]) -> str:
    told = str(down[0][2]) if down and len(down[0]) > 2 else "no answer in time"
    return f"node {node_id} cannot be reached: {told}"


class Watch:
    """A monitor that tells whether a port is alive; after `confirm` its answer is certain."""

    def __init__(self, access: Access, node: gmp.Node, port_id: str) -> None:
        self.reason: tuple[Any, ...] | None = None
        self.port_id = port_id
        self._access, self._node = access, node
        self._node_id = gmp.node_of(port_id)
        self._port = node.port()
        reach(access, node, self._node_id)
        node.monitor(port_id, self._port, "died")

    def confirm(self) -> None:
        """Wait until everything sent to that node so far has arrived."""
        try:
            self._node.call(self._node_id, TIME, timeout=self._access.left)
        except gmp.CallTimeout:
            raise Failure(f"node {self._node_id} does not answer in time", NO_ANSWER) from None
        except gmp.PortDied as died:
            raise Unreachable(f"node {self._node_id} was lost: {died}") from None
        if len(self._port):
            self.reason = self._port.receive("died")

    @property
    def is_absent(self) -> bool:
        """True if there was no such port."""
        return self.reason is not None and self.reason[:1] == ("no_such_port",)

    def wait(self, timeout: float | None) -> tuple[Any, ...]:
        """Wait until the port is dead. *Raises:* `ReceiveTimeout`."""
        if self.reason is None:
            self.reason = self._port.receive("died", timeout=timeout)
        return self.reason
