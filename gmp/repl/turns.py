"""Turns of the event loop while something else has the main greenlet: until a key is there, or nothing is left to do."""

from __future__ import annotations

from enum import Enum
from itertools import count
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


class Found(Enum):
    """What `run_ready` has found to do."""

    NOTHING = "nothing"
    SOMETHING = "something, and it is done"
    MORE = "more than the time was enough for"


def run_ready(seconds: float) -> Found:
    """Let greenlets run until none has anything to do at present, at most `seconds`; return what there was to do.

    libev calls an idle watcher in an iteration that has found no event, and in which no callback waits.
    *Blocks:* so long.
    """
    hub = gevent.get_hub()
    waiter: Waiter[Found] = Waiter(hub)
    iterations = count()
    begins: Any = hub.loop.prepare()
    idle: Any = hub.loop.idle()
    timer: Any = hub.loop.timer(seconds)
    try:
        begins.start(iterations.__next__)
        idle.start(waiter.switch, Found.NOTHING)
        timer.start(waiter.switch, Found.MORE, update=True)
        found = waiter.get()
    finally:
        begins.close()
        idle.close()
        timer.close()
    return Found.SOMETHING if found is Found.NOTHING and next(iterations) > 1 else found
