"""The tables of entries within requests, and what one framing carries of them.

The nodes of a network offer different framings, so an entry of the directory may be fit for one peer and not for another:
bytes go to Perl nodes by json, as characters, but not to a gmp node that reads json alone. One entry must not keep a node
from learning of all the others in the same report. So the entries that a peer's framing cannot carry are left out alone.

An entry is whole or left out: its value is never changed. In a change, the key of one that is left out is listed as
deleted, or the receiver would keep the value that it had before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gmp.errors import MessageError
from gmp.wire.framing import Encoder
from gmp.wire.requests import (
    ATTACH,
    CHANGE,
    CLAIM,
    G_CHG1,
    G_CHG2,
    G_REPLY,
    G_SET,
    G_SLAVE,
    G_UPD,
    SET,
    UPDATE,
)

ENVELOPE = 4  #: levels around an entry in the longest report, ``gmp.set {owner: [version, database]}``, besides the message
OWNERS = 3  # levels of a table that has the owners as its keys


class Place(NamedTuple):
    """Where a request has its table; all numbers are places within the request, its name being at 0."""

    table: int
    levels: int  #: of dicts: 1 for {key: value}, 2 for {family: …}, 3 for {owner: [incarnation, counter, {family: …}]}
    family: int = 0  #: 0: within the table, or nowhere
    owner: int = 0
    deleted: int = 0  #: the list of deleted keys


PLACES = {
    G_SLAVE: Place(1, 2),
    G_SET: Place(1, 2),
    G_UPD: Place(2, 1, family=1, deleted=3),
    G_CHG1: Place(2, 1, family=1),
    G_CHG2: Place(2, 1, family=1, deleted=3),
    G_REPLY: Place(2, 1),
    ATTACH: Place(3, 2),
    UPDATE: Place(3, 1, family=2, deleted=4),
    SET: Place(1, 3),
    CLAIM: Place(4, 2, owner=1),
    CHANGE: Place(5, 1, family=4, owner=1, deleted=6),
}


class LeftOut(NamedTuple):
    """An entry that a framing cannot carry, or a whole family or owner whose name it cannot carry."""

    owner: str  #: empty when the request does not name it
    path: tuple[Any, ...]  #: family and key, as far as the request names them
    why: str


def without_unfit(request: tuple[Any, ...], encoder: Encoder) -> tuple[tuple[Any, ...], list[LeftOut]]:
    """`request` without the entries that `encoder` cannot carry, and those; unchanged when it has no table."""
    place = PLACES.get(request[0]) if request and isinstance(request[0], str) else None
    if place is None or len(request) <= place.table:
        return request, []
    sieve = _Sieve(encoder)
    path = (request[place.owner] if place.owner else "", *(request[place.family : place.family + 1] if place.family else ()))
    parts = list(request)
    parts[place.table] = sieve.table(parts[place.table], place.levels, path)
    if place.deleted and len(request) > place.deleted:
        gone = [left.path[-1] for left in sieve.left_out if sieve.why_unfit(left.path[-1]) is None]
        parts[place.deleted] = [*parts[place.deleted], *gone]
    return tuple(parts), sieve.left_out


def enveloped(value: Any) -> Any:
    """`value` as deep within a message as an entry can be."""
    for _ in range(ENVELOPE):
        value = [value]
    return value


class _Sieve:
    """Takes tables apart, and notes what does not pass."""

    def __init__(self, encoder: Encoder) -> None:
        self.left_out: list[LeftOut] = []
        self._encoder = encoder

    def table(self, table: Any, levels: int, path: tuple[Any, ...]) -> Any:
        """`table` without the entries that do not pass: the items of the innermost dicts, or of a list in their place."""
        if type(table) is dict:
            return self._items(table, levels, path)
        if type(table) not in (list, tuple):
            return table
        if levels == 1:
            return [item for number, item in enumerate(table) if self._passes((*path, number), item)]
        return [self.table(item, levels, path) for item in table]  # what stands beside a dict is no table

    def _items(self, table: dict[Any, Any], levels: int, path: tuple[Any, ...]) -> dict[Any, Any]:
        kept = {}
        for key, value in table.items():
            inner = (key,) if levels == OWNERS else (*path, key)
            if levels > 1:
                if self._passes(inner, key):
                    kept[key] = self.table(value, levels - 1, inner)
            elif self._passes(inner, {key: value}):
                kept[key] = value
        return kept

    def _passes(self, path: tuple[Any, ...], value: Any) -> bool:
        why = self.why_unfit(value)
        if why is not None:
            self.left_out.append(LeftOut(str(path[0]), path[1:], why))
        return why is None

    def why_unfit(self, value: Any) -> str | None:
        """Why `value` cannot travel; None when it can."""
        try:
            self._encoder.encode("", (enveloped(value),))
        except MessageError as error:
            return str(error).partition(": ")[2] or str(error)
        return None
