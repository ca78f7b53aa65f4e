"""A port's identity. A port may be used wherever a port ID may: it equals, hashes and pickles as its ID."""

from __future__ import annotations

from typing import Any, Self

from gmp.ids import SentAsId
from gmp.ports.home import Home


class Identity(SentAsId):
    """The part of a port that says which one it is. Its ID is made on first use."""

    __slots__ = ("_id", "name", "ports")

    _id: str | None
    name: str  #: its local name: the part of the port ID after ``#``
    ports: Home  #: the table that it is in

    @property
    def id(self) -> str:
        """The port ID, ``nodeid#name``."""
        if self._id is None:
            self._id = self.sent_as = f"{self.ports.node_id}#{self.name}"
        return self._id

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Identity):
            return self is other
        return self.id == other if isinstance(other, str) else NotImplemented

    @property
    def __gmp_port_id__(self) -> str:
        return self.id

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Pickle the port as its ID: a port cannot leave its node, and its ID may stand in its place everywhere."""
        return str, (self.id,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @property
    def node(self) -> Any:
        """The `Node` that this port is on, for spawned functions, which may run on another than the default node."""
        return self.ports.node
