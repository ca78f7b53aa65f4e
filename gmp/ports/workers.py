"""Pooled greenlets: they run port bodies, handlers and callbacks.

Making and ending a greenlet costs some 20 µs, a pooled one 2 to 6. What is to be run stands in one queue of *jobs*, in the
order it came: a task (a function), or the handlers of a port that has messages. A callback of the loop switches to a
worker, and gets control back when its job blocks or when nothing is left; a worker whose job blocked goes on with the
queue when it is through. So blocking is allowed everywhere, and costs only whoever blocks.

One turn handles messages for `TURN` seconds, looking at the clock every `A_TURN` of them; then timers and sockets have
theirs, and it goes on by a timer of no length. (Less than one read of a socket brings in would pile up, and what piled up
is out of the processor's cache when its turn comes: each message took two thirds more time. Callbacks of the loop would be
run in a row without looking at timers and sockets, and an idle watcher is starved by a busy socket.)

A worker belongs to a job while it runs for it. race: who wants to end a job throws only while the worker still runs for
it, and only from the hub. A switch that is not ours is not believed by a parked worker. Each job, and each handler, starts
with a fresh contextvars context, or the one before would leak into it: an empty one is fresh, so it is exchanged (which
costs as much as a handler) only when somebody has set something.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol
from weakref import WeakSet

import gevent
import gevent.event
from greenlet import GreenletExit, getcurrent, greenlet

log = logging.getLogger("gmp")
MOST_IDLE = 256
A_TURN = 500  # messages that are handled between two looks at the clock
TURN = 0.002  # seconds
_GO = object()


class Worker(greenlet):
    """A greenlet of the pool. `gmp_port` is whose code runs in it now, for `current_port`; see `Port.run`."""

    __slots__ = ("context", "gmp_port")

    context: Context  #: the one that it has now
    gmp_port: Any

    def refresh(self) -> None:
        """Exchange the context for an empty one."""
        self.context = self.gr_context = Context()


class Job(Protocol):
    """What a worker can run."""

    def work(self, worker: Worker) -> int:
        """Run, in `worker`; return how many messages that was. Raises nothing."""


class Task:
    """A function that runs, or will run, in a pooled greenlet; what `Port.spawn` returns."""

    __slots__ = ("_args", "_done", "_function", "_pool", "cancelled", "ended", "worker")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], pool: Workers) -> None:
        self._function = function
        self._args = args
        self._done: gevent.event.Event | None = None
        self._pool = pool
        self.worker: Worker | None = None
        self.cancelled = False
        self.ended = False  #: whether it has returned, or was ended

    def work(self, worker: Worker) -> int:
        """`Job.work`."""
        function, args = self._function, self._args
        self._args, self._function = (), _nothing  # an ended task keeps nothing alive
        if worker.context:
            worker.refresh()
        self.worker = worker
        try:
            if not self.cancelled:
                function(*args)
        except BaseException as error:
            self._pool.failed(error)
        finally:
            del function, args
            self.worker = None
            self.ended = True
            if self._done is not None:
                self._done.set()
        return 1

    def throw(self) -> None:
        """End it by `GreenletExit`; only from the hub. Nothing when it has ended."""
        self.cancelled = True
        if self.worker is not None:
            self._pool.throw(self.worker)

    def kill(self) -> None:
        """End it by `GreenletExit` in the next turn of the loop; nothing when it has ended. *Blocks:* never."""
        self.cancelled = True
        self._pool.run_callback(self.throw)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has ended. *Blocks:* up to `timeout` seconds (None: without end)."""
        if self.ended:
            return True
        if self._done is None:
            self._done = gevent.event.Event()
        return bool(self._done.wait(timeout))


def _nothing() -> None:
    """What an ended task has instead of its function."""


def _stay(*_: object) -> None:
    """What switching to a greenlet of the parent does in a child of `fork`."""


class Workers:
    """The pool of one node."""

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self.run_callback = self.hub.loop.run_callback
        # without the hub's own method, which looks for a hook in the greenlet each time (a seventh of a switch), and whether
        # it is the hub that switches: who calls this has done so
        self.switch_to_hub: Callable[[], Any] = greenlet.switch.__get__(self.hub)
        self._later: Any = None  # the timer that goes on with `_drain`
        self._idle: list[Worker] = []
        self._made: WeakSet[Worker] = WeakSet()
        self.jobs: deque[Job] = deque()
        self.scheduled = False  # whether `_drain` runs or will: true whenever there are jobs
        self._left = 0  # messages that may be handled before the turn is over

    def add(self, job: Job) -> None:
        """Run `job` behind those that wait, from the next turn of the loop on."""
        self.jobs.append(job)
        if not self.scheduled:
            self.schedule()

    def schedule(self) -> None:
        """Go on with the jobs in the next turn of the loop."""
        self.scheduled = True
        self.run_callback(self._drain)

    def spawn(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function(*args)` in a pooled greenlet; what it raises is logged."""
        task = Task(function, args, self)
        self.add(task)
        return task

    def _drain(self) -> None:
        """In the hub: the switch returns when the job blocks, or the worker has found no more of them."""
        self._left, until = A_TURN, time.monotonic() + TURN
        if self._later is not None:
            self._later.close()
            self._later = None
        try:
            while self.jobs and (self._left > 0 or self._has_time(until)):
                worker = self._idle.pop() if self._idle else self._make()
                worker.switch(_GO)
        finally:  # also when a Ctrl-C strikes here
            if self.jobs:
                self._later = self.hub.loop.timer(0)
                self._later.start(self.schedule)  # gevent keeps the loop's clock up to date in callbacks only
            else:
                self.scheduled = False

    def _has_time(self, until: float) -> bool:
        if time.monotonic() >= until:
            return False
        self._left = A_TURN
        return True

    def _make(self) -> Worker:
        worker = Worker(self._work, self.hub)
        worker.gmp_port = None
        self._made.add(worker)
        return worker

    def forked(self) -> None:
        """In a child of `fork`: no job begins, and none goes on: whoever switches to its greenlet finds nothing there."""
        self.jobs.clear()
        self.scheduled = True  # for ever, so that nothing is
        for worker in self._made:
            worker.switch = worker.throw = _stay  # type: ignore[method-assign]

    def _work(self, _: object) -> None:
        me, jobs = getcurrent(), self.jobs
        assert isinstance(me, Worker)
        me.refresh()
        while True:
            while jobs and self._left > 0:
                self._left -= jobs.popleft().work(me)
            if me.context:
                me.refresh()  # what is parked keeps nothing alive
            if len(self._idle) >= MOST_IDLE:
                return
            self._idle.append(me)
            try:
                while self.switch_to_hub() is not _GO:
                    pass
            except GreenletExit:
                if me in self._idle:
                    self._idle.remove(me)
                return

    def throw(self, worker: Worker) -> None:
        """In the hub: end the job that runs in `worker`, which then parks: other jobs are not for the thrower to start."""
        self._left = 0
        worker.throw(GreenletExit)

    def failed(self, error: BaseException) -> None:
        """Something escaped from a job that nobody else answers for: log it, once.

        `SystemExit` and `KeyboardInterrupt` end the program, as from any greenlet: the main one gets them.
        """
        if isinstance(error, GreenletExit):
            return
        if isinstance(error, Exception):
            log.error("a callback failed: %r", error, exc_info=error)
        else:
            self.hub.handle_error(getcurrent(), type(error), error, error.__traceback__)

    def close(self) -> None:
        """End the idle greenlets, in the next turn: a greenlet that ends goes on in the hub, not in its thrower."""
        idle, self._idle = self._idle, []
        for worker in idle:
            self.run_callback(worker.throw, GreenletExit)

