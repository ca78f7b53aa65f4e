"""Turns of the event loop while somebody waits for a key: run it until a file descriptor is readable or time is up."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.hub import Waiter

READ = 1


def run_turns(fd: int, seconds: float | None) -> bool:
    """Let greenlets run until `fd` is readable, at most `seconds` (None: without end); return whether it is.

    *Blocks:* so long.
    """
    hub = gevent.get_hub()
    waiter: Waiter[bool] = Waiter(hub)
    reader: Any = hub.loop.io(fd, READ)
    timer: Any = None if seconds is None else hub.loop.timer(seconds)
    try:
        reader.start(waiter.switch, True)
        if timer is not None:
            timer.start(waiter.switch, False, update=True)
        return bool(waiter.get())
    finally:
        reader.close()
        if timer is not None:
            timer.close()
