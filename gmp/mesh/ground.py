"""What the mesh gets handed in: the few things it needs of its node. Implemented by `gmp.kernel.node`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gmp.config import Address


class Ground(Protocol):
    """The node as the mesh sees it. None of these blocks, but `dial`."""

    id: str

    def request(self, node_id: str, *request: Any) -> None:
        """Send a request to the node port of a node that is up; dropped when it is not."""

    def is_up(self, node_id: str) -> bool:
        """Whether that node is connected."""

    def up_nodes(self) -> list[str]:
        """The IDs of the nodes that are connected."""

    def dial(self, address: Address, *, expect: str = "") -> str:
        """Connect; return the node's ID. *Blocks.* *Raises:* `SelfDial`, `GmpError`, `OSError`."""

    def connect(self, node_id: str) -> None:
        """Ask for a connection with that node."""

    def defer(self, function: Callable[..., Any], *args: Any) -> object:
        """Run `function` in a greenlet of its own; what it raises is logged."""

    def addresses(self) -> Iterable[str]:
        """Where this node listens, as told to others."""
