"""Turns of the event loop while somebody waits for a key: run it until a file descriptor is readable or time is up."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.hub import Waiter
from greenlet import getcurrent

READ = 1


def computes(*, again: bool) -> bool:
    """In a signal handler, while turns are run: whether it has struck a greenlet's code.

    `again`: nobody has heeded the signal before. The event loop itself waits for the next event most of the time, and need
    not be struck to let go; when it does not, a callback of it computes.
    """
    hub, current = gevent.get_hub(), getcurrent()
    return again if current is hub else current is not hub.parent


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
