"""Maps and sets of what a peer sent, built only if their keys do not collide.

A dict whose keys share their places costs the square of their number: half a megabyte of such keys, which are easily made,
holds up a node for many seconds. The hashes of text and bytes come from a random seed, so that no sender makes them collide;
all others (of ints, floats, tuples, …) are known, and so is where CPython's tables look for a free place. So with many keys
of other kinds the looks are counted before the table is built. That takes a microsecond a key, so a program may still send
a table of a million numbers.

A table of 2^n places is looked into at the hash, modulo its size, then at five times the place and 1, plus what is left of
the hash, which is shifted by `_SHIFT` bits each time; a set looks at the next `_NEARBY` places as well. It grows when it is
filled to 2/3, to twice its size; a set at 3/5, to four times. What is counted is right for CPython 3.11 to 3.14; another
table would only make the count an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gmp.errors import ProtocolError

FEW = 64  #: keys that are not counted: if all of them collide, building takes as long as decoding does
MOST_LOOKS = 20  #: vain looks for each key, on average; regular numbers that were not chosen to collide need 13
COLLIDE = "the keys of a map or set are made so that they collide"
_SAFE = frozenset((str, bytes))
_SHIFT, _NEARBY, _WORD = 5, 9, (1 << 64) - 1


class _Table(NamedTuple):
    """How a kind of table is filled."""

    smallest: int  #: places of the first that holds more than `FEW` keys or that grows into one
    growth: int
    full: float
    nearby: int


_DICT, _SET = _Table(64, 2, 2 / 3, 0), _Table(128, 4, 3 / 5, _NEARBY)


def build_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The map of these keys and values. *Raises:* `ProtocolError`; `TypeError` for a key that cannot be one."""
    try:
        if len(pairs) > FEW:
            _check([key for key, _ in pairs], _DICT)
        return dict(pairs)
    except TypeError:
        raise TypeError(no_key(_first_without_hash([key for key, _ in pairs]))) from None


def build_set(kind: type[set[Any]] | type[frozenset[Any]], items: Sequence[Any]) -> set[Any] | frozenset[Any]:
    """The set or frozenset of these items. *Raises:* as `build_map`."""
    try:
        if len(items) > FEW:
            _check(items, _SET)
        return kind(items)
    except TypeError:
        raise TypeError(no_key(_first_without_hash(items))) from None


def no_key(kind: type) -> str:
    """What is wrong with a key of this kind."""
    return f"a {kind.__name__} cannot be a key of a map, nor in a set"


def _first_without_hash(keys: Sequence[Any]) -> type:
    """The kind of the first of the keys, or of what is in a tuple among them, that has no hash."""
    left = [*reversed(keys)]
    while left:
        key = left.pop()
        if type(key) is tuple:
            left += reversed(key)
            continue
        try:
            hash(key)
        except TypeError:
            return type(key)
    return object


def _check(keys: Sequence[Any], table: _Table) -> None:
    if _SAFE.issuperset(map(type, keys)):
        return
    hashes = [hash(key) for key in keys if type(key) not in _SAFE]
    size, count = table.smallest, 0
    while count < len(hashes):  # each size that the table has had
        count = int(size * table.full)
        if _collide(hashes[:count], size, table.nearby):
            raise ProtocolError(COLLIDE)
        size *= table.growth


def _collide(hashes: list[int], size: int, nearby: int) -> bool:
    """Whether keys with these hashes, put in this order into a table of `size` places, take too many looks."""
    taken, mask, left = bytearray(size), size - 1, MOST_LOOKS * max(len(hashes), FEW)
    for rest in hashes:
        place = rest & mask
        if taken[place]:
            rest &= _WORD
            while taken[place]:
                if nearby and place + nearby <= mask:
                    free = taken.find(0, place, place + nearby + 1)
                    if free >= 0:
                        place = free
                        break
                left -= 1
                rest >>= _SHIFT
                place = (place * 5 + 1 + rest) & mask
            if left < 0:
                return True
        taken[place] = 1
    return False
