"""What others can make this node log is bounded: one line a minute for each of them, which tells how many there were."""

from __future__ import annotations

BETWEEN_LINES = 60.0  # seconds
MOST_KEYS = 1000  # of which the last line is remembered


class LineLimit:
    """One kind of line. Pure; times are handed in."""

    def __init__(self) -> None:
        self._logged: dict[str, tuple[float, int]] = {}  # when the last line was, and how many are counted since

    def left_out(self, key: str, now: float) -> int | None:
        """How many lines of `key` were left out before the one that is due now; None: leave this one out too."""
        last, count = self._logged.get(key, (now - BETWEEN_LINES, 0))
        if now - last < BETWEEN_LINES:
            self._logged[key] = last, count + 1
            return None
        self._logged.pop(key, None)  # so that the oldest is always the first
        if len(self._logged) >= MOST_KEYS:
            del self._logged[next(iter(self._logged))]
        self._logged[key] = now, 0
        return count
