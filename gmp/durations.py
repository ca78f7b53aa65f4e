"""How long things took, as counts: one bucket for each power of two of microseconds.

A quantile of them is no more than a factor of two off, however many there were. Bucket *n* counts what took less than 2**n
microseconds and no less than half of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

MICROSECOND = 1e-6
MOST = 2**63  # in a bucket; what is told beyond is nonsense
BUCKETS = 64  # the last one is for half a million years


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the seconds within which that share of the calls ended, between half and twice of it; None without calls."""
    before, rank = 0, share * sum(buckets)
    for number, count in enumerate(buckets):
        if count and before + count >= rank:
            upper = MICROSECOND * 2.0**number
            lower = upper / 2 if number else 0.0
            return lower + (upper - lower) * (rank - before) / count
        before += count
    return None


def added(several: Iterable[Sequence[int]]) -> list[int]:
    """Return the sums of buckets, without the empty ones at the end."""
    sums = [0] * BUCKETS
    for buckets in several:
        for number, count in enumerate(buckets[:BUCKETS]):
            sums[number] += count
    while sums and not sums[-1]:
        sums.pop()
    return sums


def told(figures: Any) -> list[int]:
    """Return the buckets of all methods of a service together, of what its node told; none of what makes no sense."""
    methods = figures.get("methods") if isinstance(figures, dict) else None
    return added(_told(each) for each in (methods.values() if isinstance(methods, dict) else ()))


def _told(method: Any) -> list[int]:
    buckets = method.get("buckets") if isinstance(method, dict) else None  # a former version tells none
    counts = buckets if isinstance(buckets, list | tuple) else []
    return [each if isinstance(each, int) and 0 <= each < MOST else 0 for each in counts]


def since(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return what was counted between two looks."""
    former = [*before, *[0] * (len(after) - len(before))]
    return [max(0, count - then) for count, then in zip(after, former, strict=False)]
