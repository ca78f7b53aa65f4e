"""What the mesh needs of its node. Implemented by `gmp.kernel.ground`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gmp.config import Address
from gmp.mesh.backlog import Backlog


class Cancellable(Protocol):
    """Something that will happen unless cancelled."""

    def cancel(self) -> None:
        """Keep it from happening."""


class RelayedWay(Protocol):
    """A relay link of the net layer."""

    def arrived(self, kind: str, args: tuple[Any, ...]) -> None:
        """Handle a piece or sign of the other end."""


class Ground(Protocol):
    """The node as the mesh sees it. Only `dial` and `resolve` block."""

    id: str
    incarnation: str

    def request(self, node_id: str, *request: Any) -> None:
        """Send a request to the node port of a node that is up; drop it if it is not."""

    def pass_on(self, asker: str, receiver: str, *request: Any) -> None:
        """Send as `request`, for the node `asker`, which is lost if more than the high mark of that waits for `receiver`."""

    def complain(self, kind: str, node_id: str, text: str) -> None:
        """Log what a node does wrong."""

    def backlog(self, node_id: str) -> Backlog:
        """Return what waits for a node."""

    def is_up(self, node_id: str) -> bool:
        """Return whether a node is connected, directly or relayed."""

    def is_linked(self, node_id: str) -> bool:
        """Return whether a node is connected directly."""

    def admits(self, node_id: str, request: str) -> bool:
        """Return whether a node is connected, and knows the request (`gmp.wire.requests`)."""

    def carries_bytes(self, node_id: str) -> bool:
        """Return whether bytes can be sent to a node that is connected: by json they cannot, and relays need them."""

    def incarnation_of(self, node_id: str) -> str:
        """Return the newest incarnation of a node that was connected; empty: none was, or it is no gmp node."""

    def next_number(self) -> int:
        """Return the number of a request that is sent now; it tells which connections had begun before."""

    def is_former(self, node_id: str, incarnation: str, asked: int | None) -> bool:
        """Return whether what arrives through seeds from that incarnation is late: a newer one has been connected.

        `asked`: the number of the request that it answers; None: it answers none.
        """

    def is_near(self, node_id: str) -> bool:
        """Return whether the connection with a node is on loopback: it is on this machine."""

    def may_be_seed(self, node_id: str) -> bool:
        """Return whether to believe a node that says that it keeps the directory, and what it says of others.

        For this node itself: whether others will believe it though they do not have it among their seeds.
        """

    def up_nodes(self) -> list[str]:
        """Return the IDs of the nodes that are connected."""

    def resolve(self, address: Address) -> list[Address]:
        """Return the numeric addresses that `address` stands for now. *Blocks.* *Raises:* `GmpError`, `OSError`."""

    def dial(self, address: Address, *, expect: str = "") -> str:
        """Connect; return the node's ID. *Blocks.* *Raises:* `GmpError`, `OSError`."""

    def connect(self, node_id: str) -> None:
        """Ask for a connection with a node."""

    def relayed(
        self, node_id: str, incarnation: str, token: str, via: str, carry: Callable[..., None], asked: int | None
    ) -> RelayedWay | None:
        """Make the way through seeds that has opened the way to a node; return None if it `is_former`."""

    def probe(self, node_id: str) -> None:
        """Send a no-op to a node that is connected directly, so that a dead connection is noticed."""

    def defer(self, function: Callable[..., Any], *args: Any) -> object:
        """Run `function` in a greenlet of its own; what it raises is logged."""

    def portable(self, key: str, value: Any) -> Any:
        """Return a copy of `value` as each framing that this node offers carries it. *Raises:* `MessageError`."""

    def later(self, seconds: float, function: Callable[[], None]) -> Cancellable:
        """Call `function`, which must not block, after `seconds`, as `Whole.do` does."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def joined(self) -> None:
        """Note that this node has a master now, or is a seed itself."""

    def addresses(self) -> Iterable[str]:
        """Return where this node listens, as told to others."""
