"""When a call is made again."""

from __future__ import annotations

from collections.abc import Iterable

from gmp.errors import CallRefused, ConfigError, PortDied
from gmp.outside import chance


class Retry:
    """How often, and after what, a call of a method is made again: at most `times` calls in all.

    `on` is an exception type or several; the first pause is `pause` seconds, each further one twice as long, up to `most`,
    and each is made shorter by up to half, at random, so that many callers do not come back at once. All of it stays within
    the call's time-out. The method must be marked ``@gmp.method(idempotent=True)``. *Raises:* `ConfigError`.

    >>> import gmp
    >>> gmp.Retry(times=3, on=gmp.PortDied)
    Retry(times=3, on=(PortDied), pause=0.1, most=5.0)
    """

    def __init__(
        self,
        times: int = 3,
        on: type[Exception] | Iterable[type[Exception]] = (PortDied, CallRefused),
        *,
        pause: float = 0.1,
        most: float = 5.0,
    ) -> None:
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ConfigError(f"times {times!r}: expected a whole number over 0")
        kinds = (on,) if isinstance(on, type) else tuple(on)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise ConfigError(f"on {on!r}: expected exception types")
        for what, value in (("pause", pause), ("most", most)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ConfigError(f"{what} {value!r}: expected seconds")
        self.times = times
        self.on = kinds
        self.pause = pause
        self.most = most

    def __repr__(self) -> str:
        kinds = ", ".join(kind.__name__ for kind in self.on)
        return f"Retry(times={self.times}, on=({kinds}), pause={self.pause}, most={self.most})"

    def pause_before(self, call: int) -> float:
        """Return the seconds before call number `call`, the second one being 2. *Blocks:* never."""
        return min(self.pause * 2.0 ** min(call - 2, 60), self.most) * (1 - chance.random() / 2)
