"""What commands talk to: node IDs, port IDs, groups; and what it takes to be sure of an answer.

A node is asked for nothing before it is connected: a message on its way to a node that cannot be reached tells nobody.
The request ``time`` is the barrier: every node answers it, Perl's too, after all that was sent to it before.
"""

from __future__ import annotations

from typing import Any

import gevent

import gmp
from gmp.cli.common.access import Access, seed_nodes
from gmp.cli.common.failures import NO_ANSWER, Failure, Unreachable
from gmp.wire.requests import TIME


def destinations(access: Access, node: gmp.Node, text: str) -> list[str]:
    """The ports that a destination on the command line means: itself, or with ``@`` the members of a group.

    *Raises:* `Unreachable` when the group has none, `ConfigError` when it is no port ID.
    """
    if text.startswith("@"):
        return sorted(members(access, node, text[1:]))
    gmp.node_of(text)
    return [text]


def members(access: Access, node: gmp.Node, name: str) -> dict[str, Any]:
    """The members of a group. *Raises:* `Unreachable` when it has none."""
    group = node.group(name)
    settle(access, node)
    if not group.members():
        raise Unreachable(f"group {name!r} has no member")
    return group.members()


def settle(access: Access, node: gmp.Node) -> None:
    """What was asked of the directory by now has been answered afterwards."""
    gevent.joinall([gevent.spawn(_ask_time, node, seed, access.left) for seed in seed_nodes(node)])


def _ask_time(node: gmp.Node, node_id: str, timeout: float) -> None:
    try:
        node.call(node_id, TIME, timeout=timeout)
    except gmp.GmpError:
        pass  # whoever asks for its data sees that it is not there


def reach(access: Access, node: gmp.Node, node_id: str) -> None:
    """Be connected with a node. *Raises:* `Unreachable` telling why not."""
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
    """Whether a port lives: a monitor, whose answer is there for sure after `confirm`."""

    def __init__(self, access: Access, node: gmp.Node, port_id: str) -> None:
        self.reason: tuple[Any, ...] | None = None
        self.port_id = port_id
        self._access, self._node = access, node
        self._node_id = gmp.node_of(port_id)
        self._port = node.port()
        reach(access, node, self._node_id)
        node.monitor(port_id, self._port, "died")

    def confirm(self) -> None:
        """Whatever was sent to that node by now has arrived there."""
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
        """Whether there was no such port."""
        return self.reason is not None and self.reason[:1] == ("no_such_port",)

    def wait(self, timeout: float | None) -> tuple[Any, ...]:
        """Wait for its death. *Raises:* `ReceiveTimeout`."""
        if self.reason is None:
            self.reason = self._port.receive("died", timeout=timeout)
        return self.reason
