"""Pooled greenlets: they run port bodies, handlers and callbacks.

Making and ending a greenlet costs some 20 µs, a pooled one 2 to 6. A worker belongs to a *task* while it runs for it
and is parked in the pool between tasks; whoever wants to end a task throws only while the worker still runs for it, and
only from the hub. Each task starts with a fresh contextvars context, or the one before would leak into it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from greenlet import GreenletExit, getcurrent, greenlet

log = logging.getLogger("gmp")
MOST_IDLE = 256


class Task:
    """A function that runs, or will run, in a pooled greenlet."""

    __slots__ = ("_args", "_done", "_function", "cancelled", "ended", "worker")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._done: gevent.event.Event | None = None
        self.worker: greenlet | None = None
        self.cancelled = False
        self.ended = False

    def run(self) -> None:
        """Run it, in the worker."""
        function, args = self._function, self._args
        self._args = ()
        try:
            if not self.cancelled:
                function(*args)
        finally:
            del function, args
            self.worker = None
            self.ended = True
            self._function = _nothing
            if self._done is not None:
                self._done.set()

    def throw(self) -> None:
        """End it by `GreenletExit`; only from the hub. Nothing when it has ended."""
        self.cancelled = True
        if self.worker is not None and self.worker is not getcurrent():
            self.worker.throw(GreenletExit)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has ended. *Blocks:* up to `timeout` seconds."""
        if self.ended:
            return True
        if self._done is None:
            self._done = gevent.event.Event()
        return bool(self._done.wait(timeout))


def _nothing() -> None:
    """What an ended task has instead of its function, so that it keeps nothing alive."""


class Workers:
    """The pool of one node."""

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self._run_callback = self.hub.loop.run_callback
        self._idle: list[greenlet] = []
        self._tasks: deque[Task] = deque()
        self._scheduled = False

    def spawn(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function(*args)` in a pooled greenlet, from the next turn of the loop on."""
        task = Task(function, args)
        self._tasks.append(task)
        if not self._scheduled:
            self._scheduled = True
            self._run_callback(self._start_tasks)
        return task

    def _start_tasks(self) -> None:
        """In the hub: the switch returns when the task blocks, or the worker has found no more of them."""
        self._scheduled = False
        while self._tasks:
            worker = self._idle.pop() if self._idle else greenlet(self._work, self.hub)
            worker.switch()

    def _work(self) -> None:
        me = getcurrent()
        while True:
            while self._tasks:
                task = self._tasks.popleft()
                me.gr_context = None
                task.worker = me
                self._run(task)
                del task
            if len(self._idle) >= MOST_IDLE:
                return
            self._idle.append(me)
            me.gr_context = None
            try:
                self.hub.switch()
            except GreenletExit:
                return

    def _run(self, task: Task) -> None:
        try:
            task.run()
        except GreenletExit:
            return
        except Exception:
            log.exception("a callback failed")
        except BaseException as error:
            # SystemExit and KeyboardInterrupt end the program, as from any greenlet
            self.hub.handle_error(task, type(error), error, error.__traceback__)

    def close(self) -> None:
        """End the idle greenlets, in the next turn: a greenlet that ends goes on in the hub, not in its thrower."""
        idle, self._idle = self._idle, []
        for worker in idle:
            self._run_callback(worker.throw, GreenletExit)
