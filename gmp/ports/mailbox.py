"""The messages that wait at a port: a deque and at most one waiting greenlet.

The deque is made with the first message (an empty one is 750 bytes). The waiting greenlet is woken once per batch,
through the loop; the callback that wakes it is kept and stopped when the wait ends otherwise, so that no stale switch
hits a greenlet that has gone on. A message is taken by the receiver itself after it woke: a timeout or a kill in
between loses nothing. Selective receive looks only at what is new since it last looked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from gmp.errors import GmpError, ReceiveTimeout

Message = tuple[Any, ...]
_WOKEN, _TIMED_OUT = object(), object()
WARN_AT = 100_000


class Mailbox:
    """The queue of one port. `put` is called by whoever sends, `take` by one greenlet at a time."""

    __slots__ = ("_queue", "_waiter", "_wake", "peak")

    def __init__(self) -> None:
        self._queue: deque[Message] | None = None
        self._waiter: greenlet | None = None
        self._wake: Any = None
        self.peak = 0

    def __len__(self) -> int:
        return 0 if self._queue is None else len(self._queue)

    def put(self, message: Message) -> int:
        """Append a message and wake the waiting greenlet; return how many wait now."""
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        queue.append(message)
        if self._waiter is not None and self._wake is None:
            self._wake = gevent.get_hub().loop.run_callback(self._waiter.switch, _WOKEN)
        count = len(queue)
        self.peak = max(self.peak, count)
        return count

    def clear(self) -> int:
        """Drop what waits; return how much it was."""
        count = len(self)
        self._queue = None
        return count

    @property
    def waiter(self) -> greenlet | None:
        """The greenlet that waits, if any."""
        return self._waiter

    def take(self, find: Callable[[deque[Message], int], int], timeout: float | None, owner: object) -> Message:
        """Remove and return the first message that `find(queue, start)` gives the index of (-1: none).

        *Blocks:* up to `timeout` seconds. *Raises:* `ReceiveTimeout`.
        """
        queue = self._queue
        seen = 0
        if queue:
            index = find(queue, 0)
            if index >= 0:
                return _remove(queue, index)
            seen = len(queue)
        if timeout is not None and timeout <= 0:
            raise ReceiveTimeout(f"no such message waits at {owner}")
        return self._wait(find, seen, timeout, owner)

    def _wait(
        self, find: Callable[[deque[Message], int], int], seen: int, timeout: float | None, owner: object
    ) -> Message:
        me, hub = getcurrent(), gevent.get_hub()
        if me is hub:
            raise GmpError(f"receive at {owner} in the hub: a callback of the event loop must not block")
        if self._waiter is not None:
            raise GmpError(f"another greenlet already waits in receive at {owner}: only one may at a time")
        timer = None
        self._waiter = me
        try:
            if timeout is not None:
                timer = hub.loop.timer(timeout)
                timer.start(me.switch, _TIMED_OUT)
            while True:
                woken = hub.switch()
                if woken is not _WOKEN and woken is not _TIMED_OUT:
                    continue
                self._forget_wake()
                queue = self._queue
                if queue is not None and len(queue) > seen:
                    index = find(queue, seen)
                    if index >= 0:
                        return _remove(queue, index)
                    seen = len(queue)
                if woken is _TIMED_OUT:
                    raise ReceiveTimeout(f"no such message came to {owner} within {timeout} s")
        finally:
            self._waiter = None
            self._forget_wake()
            if timer is not None:
                timer.close()

    def _forget_wake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.stop()


def _remove(queue: deque[Message], index: int) -> Message:
    if index == 0:
        return queue.popleft()
    message = queue[index]
    del queue[index]
    return message


def find_first(queue: deque[Message], start: int) -> int:
    """`find` for any message."""
    return start


def find_prefix(prefix: Message) -> Callable[[deque[Message], int], int]:
    """`find` for messages that begin with `prefix`."""
    length = len(prefix)

    def find(queue: deque[Message], start: int) -> int:
        for index, message in enumerate(islice(queue, start, None), start):
            if message[:length] == prefix:
                return index
        return -1

    return find


def find_if(predicate: Callable[..., Any]) -> Callable[[deque[Message], int], int]:
    """`find` for messages for which `predicate(*message)` is true; asked about each one once."""

    def find(queue: deque[Message], start: int) -> int:
        for index, message in enumerate(tuple(islice(queue, start, None)), start):
            if predicate(*message):
                return index
        return -1

    return find
