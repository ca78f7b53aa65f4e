"""What a service counts."""

from __future__ import annotations

from typing import Any

from gmp.durations import BUCKETS, added, quantile


class MethodFigures:
    """What became of the calls of one method."""

    __slots__ = ("buckets", "calls", "errors", "seconds")

    def __init__(self) -> None:
        self.calls = self.errors = 0
        self.seconds = 0.0
        self.buckets = [0] * BUCKETS  #: calls by how long they took

    def count(self, raised: bool, seconds: float) -> None:
        """Count a call that has ended."""
        self.calls += 1
        self.seconds += seconds
        self.buckets[int(seconds * 1_000_000).bit_length()] += 1
        if raised:
            self.errors += 1


class Figures:
    """What became of all calls of one service. `methods` has the figures of each method."""

    def __init__(self, methods: dict[str, MethodFigures]) -> None:
        self._methods = methods
        self.untravelled = 0  #: calls whose result cannot travel
        self.refused = 0  #: that were not begun
        self.stopped = 0  #: that nobody waited for any more
        self.late = 0  #: that ended when nobody waited for them any more
        self.streams = 0  #: that were begun

    def of_methods(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each method that was called: plain data."""
        return {
            name: {
                "calls": each.calls,
                "errors": each.errors,
                "seconds": each.seconds,
                "buckets": added([each.buckets]),
                "median": quantile(each.buckets, 0.5),
                "p99": quantile(each.buckets, 0.99),
            }
            for name, each in self._methods.items()
            if each.calls
        }

    def of_durations(self) -> dict[str, float | None]:
        """Return the median and the 99th percentile of the seconds that calls of any method took."""
        buckets = added(each.buckets for each in self._methods.values())
        return {"median": quantile(buckets, 0.5), "p99": quantile(buckets, 0.99)}

    def of_all(self) -> dict[str, int]:
        """Return the figures of the service: plain data. ``calls``: that have ended; ``errors``: of these, that raised, or
        gave what cannot travel."""
        methods = self._methods.values()
        return {
            "calls": sum(each.calls for each in methods),
            "errors": sum(each.errors for each in methods) + self.untravelled,
            "refused": self.refused,
            "stopped": self.stopped,
            "late": self.late,
            "streams": self.streams,
        }
