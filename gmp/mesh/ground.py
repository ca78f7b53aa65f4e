"""What the mesh gets handed in: the few things it needs of its node. Implemented by `gmp.kernel.node`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gmp.config import Address
from gmp.mesh.backlog import Backlog


class Cancellable(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """It does not happen."""


class RelayedWay(Protocol):
    """A relay link of the net layer."""

    def arrived(self, kind: str, args: tuple[Any, ...]) -> None:
        """A piece or sign of the other end."""


class Ground(Protocol):
    """The node as the mesh sees it. None of these blocks, but `dial` and `resolve`."""

    id: str
    incarnation: str

    def request(self, node_id: str, *request: Any) -> None:
        """Send a request to the node port of a node that is up; dropped when it is not."""

    def pass_on(self, asker: str, receiver: str, *request: Any) -> None:
        """As `request`, for the node `asker`: it is lost when more than the high mark of such waits for `receiver`."""

    def complain(self, kind: str, node_id: str, text: str) -> None:
        """Log what that node does wrong."""

    def backlog(self, node_id: str) -> Backlog:
        """What waits for that node."""

    def is_up(self, node_id: str) -> bool:
        """Whether that node is connected, directly or relayed."""

    def is_linked(self, node_id: str) -> bool:
        """Whether that node is connected directly."""

    def admits(self, node_id: str, request: str) -> bool:
        """Whether that node is connected, and knows the request (`gmp.wire.requests`)."""

    def incarnation_of(self, node_id: str) -> str:
        """The newest incarnation of that node that was connected; empty: none, or it is no gmp node."""

    def is_former(self, node_id: str, incarnation: str) -> bool:
        """Whether what comes of that incarnation of a node through seeds is late: a newer one has been connected."""

    def is_near(self, node_id: str) -> bool:
        """Whether that node is seen from loopback: it is on this machine."""

    def may_be_seed(self, node_id: str) -> bool:
        """Whether that node, when it says that it keeps the directory, is believed, and with it what it says of others.

        Of this node itself: whether others will believe it though they do not have it among their seeds.
        """

    def up_nodes(self) -> list[str]:
        """The IDs of the nodes that are connected."""

    def resolve(self, address: Address) -> list[Address]:
        """The numeric addresses that `address` stands for now. *Blocks.* *Raises:* `GmpError`, `OSError`."""

    def dial(self, address: Address, *, expect: str = "") -> str:
        """Connect; return the node's ID. *Blocks.* *Raises:* `GmpError`, `OSError`."""

    def connect(self, node_id: str) -> None:
        """Ask for a connection with that node."""

    def relayed(
        self, node_id: str, incarnation: str, token: str, via: str, carry: Callable[..., None]
    ) -> RelayedWay | None:
        """A way through seeds to that node is open: it is connected now. None when it is of a former incarnation."""

    def probe(self, node_id: str) -> None:
        """Send a no-op to a node that is connected directly, so that a dead connection is found out."""

    def defer(self, function: Callable[..., Any], *args: Any) -> object:
        """Run `function` in a greenlet of its own; what it raises is logged."""

    def portable(self, key: str, value: Any) -> Any:
        """A copy of `value` as every framing carries it that this node offers. *Raises:* `MessageError`."""

    def later(self, seconds: float, function: Callable[[], None]) -> Cancellable:
        """Call `function`, which must not block, after `seconds`."""

    def now(self) -> float:
        """Monotonic seconds."""

    def joined(self) -> None:
        """This node has a master now, or is a seed itself."""

    def addresses(self) -> Iterable[str]:
        """Where this node listens, as told to others."""
