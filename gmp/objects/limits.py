"""How much one service takes at a time."""

from __future__ import annotations

from gmp.errors import ConfigError


class Limits:
    """The bounds of one service. *Raises:* `ConfigError`."""

    def __init__(self, concurrency: object, max_waiting: object, max_streams: object) -> None:
        self.concurrency = _whole("concurrency", concurrency, 1)
        self.max_waiting = _whole("max_waiting", max_waiting, 0)
        self.max_streams = _whole("max_streams", max_streams, 0)


def _whole(what: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} {value!r}: expected a whole number from {least} on")
    return value
