"""Who may be in handshake, and how long a refusal takes: pure decisions, told the time.

Accepted connections that have not proved themselves are *visitors*. There are at most `limit` of them, and at most
`limit_per_address` from one address; for one more the oldest is closed. A visitor is *in handshake*, or *refused*: its login
was wrong, but it learns so only after a delay that grows with each failure of its address, up to `LONGEST_DELAY`. In
total a visitor stays for `patience` seconds at most.

The refusal is delayed, not the handshake: a guesser waits, and an honest node that shares its address (one host, one
NAT) does not. For the same reason the refused are closed first when room is needed. A success clears an address.

Every table is bounded, as anybody can fill them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Visitor = TypeVar("Visitor")

FREE_FAILURES = 3  #: refused at once: a wrong setting is found soon
FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0  # seconds
FORGET_AFTER = 60.0  #: seconds without a failure
MOST_ADDRESSES = 1024


class _Address:
    """The failures of one address."""

    __slots__ = ("failures", "last_failure")

    def __init__(self) -> None:
        self.failures = 0
        self.last_failure = float("-inf")


class Admission(Generic[Visitor]):
    """The visitors of one node, and the addresses that fail."""

    def __init__(self, limit: int, limit_per_address: int, patience: float) -> None:
        self._limit, self._limit_per_address, self._patience = limit, limit_per_address, patience
        self._in_handshake: dict[Visitor, str] = {}
        self._since: dict[Visitor, float] = {}
        self._refused: dict[Visitor, str] = {}
        self._addresses: dict[str, _Address] = {}

    def make_room(self, host: str) -> Visitor | None:
        """Return the visitor that must be closed before another one from `host` may `enter`; None if there is room."""
        by_age = [*self._refused.items(), *self._in_handshake.items()]
        same = [visitor for visitor, address in by_age if address == host]
        if len(same) >= self._limit_per_address:
            return same[0]
        return by_age[0][0] if len(by_age) >= self._limit else None

    def enter(self, visitor: Visitor, host: str, now: float) -> None:
        """Add a connection accepted from `host`."""
        self._in_handshake[visitor] = host
        self._since[visitor] = now

    def leave(self, visitor: Visitor) -> None:
        """Remove a visitor that has proved itself or is closed."""
        self._in_handshake.pop(visitor, None)
        self._refused.pop(visitor, None)
        self._since.pop(visitor, None)

    def refuse(self, visitor: Visitor, now: float) -> float:
        """Mark a visitor as refused; return for how many seconds to keep it before it is closed and has to `leave`."""
        host = self._in_handshake.pop(visitor)
        self._refused[visitor] = host
        return max(0.0, min(self.failed(host, now), self._since[visitor] + self._patience - now))

    def failed(self, host: str, now: float) -> float:
        """Count a failure of an address; return by how many seconds to delay its refusal."""
        address = self._touch(host)
        address.failures = 1 if now - address.last_failure > FORGET_AFTER else address.failures + 1
        address.last_failure = now
        beyond = address.failures - FREE_FAILURES
        return 0.0 if beyond <= 0 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(beyond - 1, 10))

    def succeeded(self, host: str) -> None:
        """Forget the failures of an address, as a node there has proved itself."""
        if host in self._addresses:
            self._addresses[host].failures = 0

    def _touch(self, host: str) -> _Address:
        """Return the entry of an address, and make it the youngest."""
        address = self._addresses.pop(host, None) or _Address()
        self._addresses[host] = address
        if len(self._addresses) > MOST_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]
        return address
