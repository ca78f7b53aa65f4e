"""Which port a call goes to: a given one, or a live member of a group."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from gmp.ids import is_port_id, split_port_id
from gmp.mesh.groups import Group, wait_for
from gmp.objects.context import left
from gmp.outside import chance

if TYPE_CHECKING:
    from gmp.kernel.core import Core


class Target(Protocol):
    """What a remote object stands for."""

    name: str

    def pick(self, avoid: Collection[str], until: float | None) -> str:
        """Return a port, not one of `avoid` if there are others. *Blocks:* while there is none, `until` then at most.

        *Raises:* `WaitTimeout`.
        """

    def at_once(self) -> str | None:
        """Do as `pick`, but return None if there is none. *Blocks:* never."""

    def others(self, avoid: Collection[str]) -> bool:
        """Return True if there is a port that is not one of `avoid`."""

    def all(self, timeout: float | None) -> list[str]:
        """Return every port. *Blocks:* as `pick`. *Raises:* `WaitTimeout`."""


def _is_of_this_host(core: Core, node_id: str) -> bool:
    peer = core.network.peers.get(node_id)
    return peer is not None and peer.connection is not None and peer.connection.on_this_host


class OnePort:
    """A port."""

    def __init__(self, port_id: str) -> None:
        self.name = port_id

    def pick(self, avoid: Collection[str], until: float | None) -> str:
        """`Target.pick`."""
        return self.name

    def at_once(self) -> str | None:
        """`Target.at_once`."""
        return self.name

    def others(self, avoid: Collection[str]) -> bool:
        """`Target.others`."""
        return self.name not in avoid

    def all(self, timeout: float | None) -> list[str]:
        """`Target.all`."""
        return [self.name]


class Members:
    """The members of a group, of one node alone if `node_id` is given; with `near`, the nearest are picked first."""

    def __init__(self, core: Callable[[], Core], group: Group, node_id: str | None, near: bool) -> None:
        self.name = group.name if node_id is None else f"{group.name} on {node_id}"
        self._core = core
        self._group = group
        self._node_id = node_id
        self._near = near

    def pick(self, avoid: Collection[str], until: float | None) -> str:
        """`Target.pick`."""
        found = self._now() or self.all(left(until))
        return self._one_of([port_id for port_id in found if port_id not in avoid] or found)

    def at_once(self) -> str | None:
        """`Target.at_once`."""
        found = self._now()
        return self._one_of(found) if found else None

    def _one_of(self, found: list[str]) -> str:
        if self._near and len(found) > 1:
            found = self._nearest(found)
        return found[0] if len(found) == 1 else chance.choice(found)

    def others(self, avoid: Collection[str]) -> bool:
        """`Target.others`."""
        return any(port_id not in avoid for port_id in self._now())

    def all(self, timeout: float | None) -> list[str]:
        """`Target.all`."""
        return list(wait_for(self._group, 1, timeout, counts=self._is_one, name=self.name))

    def _is_one(self, port_id: str) -> bool:
        return is_port_id(port_id) and (self._node_id is None or split_port_id(port_id)[0] == self._node_id)

    def _now(self) -> list[str]:
        return [port_id for port_id in self._group.members() if self._is_one(port_id)]

    def _nearest(self, found: list[str]) -> list[str]:
        """Of this node; if there is none, of this host, as far as is known by a connection; if there is none, all."""
        core = self._core()
        nodes = {port_id: split_port_id(port_id)[0] for port_id in found}
        own = [port_id for port_id, node_id in nodes.items() if node_id == core.id]
        return own or [port_id for port_id, node_id in nodes.items() if _is_of_this_host(core, node_id)] or found
