"""Pooled greenlets: they run port bodies, handlers and callbacks.

Making and ending a greenlet costs some 20 µs, a pooled one 2 to 6. What is to be run stands in one queue of *jobs*, in the
order it came: a task (a function), or the handlers of a port that has messages. A callback of the loop switches to a
worker, and gets control back when its job blocks or when nothing is left, and goes on with another worker; one whose job
blocked is idle when it is through. So blocking is allowed everywhere, and costs only whoever blocks.

One turn handles messages for `TURN` seconds, looking at the clock every `A_TURN` of them, and whenever a job blocks; then
timers and sockets have theirs, and it goes on by a timer of no length. (Less than one read of a socket brings in would
pile up, and what piled up is out of the processor's cache when its turn comes: each message took two thirds more time.
Callbacks of the loop would be run in a row without looking at timers and sockets, and an idle watcher is starved by a busy
socket.)

A worker belongs to a job while it runs for it. race: who wants to end a job throws only while the worker still runs for
it, and only from the hub. A switch that is not ours is not believed by a parked worker. race: a signal handler raises, as
that of Ctrl-C does, or sends, wherever Python looks for signals: where a function begins or a loop goes back, and behind
each call of C code. What must not be torn apart has nothing of that between; what begins a turn is a generator, since what
is raised where a function begins cannot be caught in it. Each job, and each handler, starts
with a fresh contextvars context, or the one before would leak into it: an empty one is fresh, so it is exchanged (which
costs as much as a handler) only when somebody has set something. Greenlet-locals (`gevent.local`, and `threading.local` in a
patched program) are kept in the greenlet's `__dict__`: a worker whose `__dict__` somebody has asked for parks no more, but
ends behind the call that runs, and takes them with it.

A job is an object with its next call in it, and not a function to call: `Workers._run_jobs` makes that call, and to call
something in between would cost a fifth of a message from handler to handler.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from itertools import repeat, starmap
from typing import Any
from weakref import WeakSet

import gevent
import gevent.event
from greenlet import GreenletExit, getcurrent, greenlet

from gmp.ports.duties import pass_on

log = logging.getLogger("gmp")
ENDS_PROGRAM = (KeyboardInterrupt, SystemExit)
MOST_IDLE = 256
A_TURN = 500  # messages that are handled between two looks at the clock
TURN = 0.002  # seconds
_GO = object()


_attributes = greenlet.__dict__["__dict__"].__get__


class Worker(greenlet):
    """A greenlet of the pool. `gmp_port` is whose code runs in it now, for `current_port`; see `Port.run`."""

    __slots__ = ("context", "gmp_port", "soiled", "turn")

    context: Context  #: the one that it has now
    gmp_port: Any
    soiled: bool  #: whether something may have been kept in it that the next job must not see
    turn: bytearray  #: an item for each message that it may still begin with, and more: cleared, it parks behind its job

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """Where others keep what belongs to the greenlet that runs: it is to run nothing else."""
        self.soiled = True
        self.turn.clear()
        attributes: dict[str, Any] = _attributes(self)
        return attributes

    def refresh(self) -> None:
        """Exchange the context for an empty one."""
        self.context = self.gr_context = Context()


Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and a message, of which it gets all but the first element


class Job:
    """What a worker runs next: a call, for `port`. It stands in the queue once at most."""

    __slots__ = ("_pool", "more", "next", "port", "worker")

    _pool: Workers
    follows = False  #: whether it is begun in one step with the job before it
    more: Any  #: when that is true, `go_on` is called behind the call
    next: Call | None  #: None when it neither stands in the queue nor runs
    port: Any  #: what `current_port` is there
    worker: Worker | None  #: which one runs it now

    def throw(self) -> None:
        """End by `GreenletExit` what runs of it; only from the hub. Nothing when it does not run."""
        if self.worker is not None:
            self._pool.throw(self.worker)

    def go_on(self, worker: Worker, turn: Iterator[Any]) -> None:
        """The call has returned: do what follows, in `worker`, for as many messages as `turn` has; `finish` at last."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """Something escaped from the call, or from `go_on`; `finish` comes next."""
        raise NotImplementedError

    def finish(self) -> None:
        """No worker runs it any more. As long as `worker` is set, an interrupted `finish` is called again."""
        raise NotImplementedError


class Task(Job):
    """A function that runs, or will run, in a pooled greenlet; what `Port.spawn` returns."""

    __slots__ = ("_done", "ended")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], pool: Workers, port: Any = None) -> None:
        self.next = function, (None, *arguments)
        self.more = True
        self.port = port
        self.worker = None
        self._done: gevent.event.Event | None = None
        self._pool = pool
        self.ended = False  #: whether it has returned, or was ended

    def go_on(self, worker: Worker, turn: Iterator[Any]) -> None:
        """`Job.go_on`: nothing follows."""
        self.finish()

    def failed(self, error: BaseException) -> None:
        """`Job.failed`."""
        self._pool.failed(error)

    def finish(self) -> None:
        """`Job.finish`."""
        self.ended = True
        if self._done is not None:
            self._done.set()
        self.worker = self.next = self.port = None  # an ended task keeps nothing alive

    def kill(self) -> None:
        """End it by `GreenletExit` in the next turn of the loop; nothing when it has ended. *Blocks:* never."""
        self.prevent()
        self._pool.run_callback(self.throw)

    def prevent(self) -> None:
        """Let it do nothing when its turn comes; nothing when it has begun."""
        if self.worker is None and not self.ended:
            self.next = NOTHING

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has ended. *Blocks:* up to `timeout` seconds (None: without end)."""
        if self.ended:
            return True
        if self._done is None:
            self._done = gevent.event.Event()
        return bool(self._done.wait(timeout))


class Following(Task):
    """A task that is begun in one step with the job before it: nothing else of the loop comes between them."""

    __slots__ = ()

    follows = True


class Lasting(Following):
    """A task that has to be done: interrupted, it is begun again, so it can be."""

    __slots__ = ()

    def failed(self, error: BaseException) -> None:
        """`Job.failed`."""
        if isinstance(error, ENDS_PROGRAM) and self.next is not None:
            function, message = self.next
            self._pool.add(Lasting(function, message[1:], self._pool))
        super().failed(error)


def nothing() -> None:
    """What is called where nothing is to be."""


NOTHING: Call = nothing, ()


def _stay(*_: object) -> None:
    """What switching to a greenlet of the parent does in a child of `fork`."""


class Workers:
    """The pool of one node."""

    def __init__(self, node_id: str = "") -> None:
        self._node_id = node_id
        self.hub = gevent.get_hub()
        self.run_callback = self.hub.loop.run_callback
        # without the hub's own method, which looks for a hook in the greenlet each time (a seventh of a switch), and whether
        # it is the hub that switches: who calls this has done so
        self.switch_to_hub: Callable[[], Any] = greenlet.switch.__get__(self.hub)
        self._idle: list[Worker] = []
        self._most_idle = MOST_IDLE
        self._made: WeakSet[Worker] = WeakSet()
        self.jobs: deque[Job] = deque()
        self._taken = starmap(self.jobs.popleft, repeat(()))  # race: who goes on in it has the job, as it is no call of ours
        self.gathered: list[Following] | None = None  #: what `spawn` adds to now, in the place of the queue
        self.scheduled = False  #: whether a turn is on or will be: true whenever there are jobs
        turns = self._turns()
        next(turns)
        self.begin: Callable[[], Any] = turns.__next__  #: the callback of the loop that is a turn

    def add(self, job: Job) -> None:
        """Run `job` behind those that wait, from the next turn of the loop on."""
        try:
            self.jobs.append(job)
        finally:  # as wherever a job is added
            if not self.scheduled:
                self.scheduled = True
                self.run_callback(self.begin)

    def spawn(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function(*args)` in a pooled greenlet; what it raises is logged. What strikes behind that is passed on."""
        gathered: list[Any] | None = self.gathered
        task = Task(function, args, self) if gathered is None else Following(function, args, self)
        try:
            if gathered is None:
                self.add(task)
            else:
                gathered.append(task)
        except BaseException as error:  # race: Ctrl-C: who is interrupted may spawn it again
            if task not in (self.jobs if gathered is None else gathered):
                raise
            pass_on(self.hub, error)
        return task

    def _turns(self) -> Iterator[None]:
        """In the hub, a turn each time: a switch returns when the job blocks, or no more are there, or `A_TURN` are done."""
        later, jobs = self.hub.loop.timer(0), self.jobs
        worker: Worker | None
        while True:
            try:
                for _ in repeat(None):  # going back is in the `try`, too
                    try:
                        yield
                        until = time.monotonic() + TURN
                        while jobs:
                            worker = self._idle.pop() if self._idle else self._make()
                            worker.switch(_GO)
                            worker.turn.clear()  # if its job blocks: when that goes on, whose turn is it?
                            if jobs and time.monotonic() >= until and not jobs[0].follows:
                                break
                    finally:
                        worker = None  # one that has ended goes with what was kept in it
                        if jobs:
                            # by a callback, as gevent keeps the loop's clock up to date in these only
                            later.start(self.run_callback, self.begin)
                        else:
                            self.scheduled = False
            except (GreenletExit, GeneratorExit):
                raise
            except BaseException as error:
                pass_on(self.hub, error)

    def _make(self) -> Worker:
        worker = Worker(self._work, self.hub)
        worker.gmp_port = None
        worker.soiled = False
        worker.turn = bytearray()
        self._made.add(worker)
        return worker

    def forked(self) -> None:
        """In a child of `fork`: no job begins, and none goes on: whoever switches to its greenlet finds nothing there."""
        self.jobs.clear()
        self.scheduled = True  # for ever, so that nothing is
        for worker in self._made:
            worker.switch = worker.throw = _stay  # type: ignore[method-assign]

    def _work(self, _: object) -> None:
        me = getcurrent()
        assert isinstance(me, Worker)
        me.refresh()
        while True:
            self._run_jobs(me)
            me.gmp_port = None
            if me.context:
                me.refresh()  # what is parked keeps nothing alive
            if me.soiled or len(self._idle) >= self._most_idle:
                return
            self._idle.append(me)
            try:
                while self.switch_to_hub() is not _GO:
                    pass
            except GreenletExit:
                if me in self._idle:
                    self._idle.remove(me)
                return

    def _run_jobs(self, me: Worker) -> None:
        """Run jobs of the queue, `A_TURN` messages at most."""
        jobs = self.jobs
        me.turn = bytearray(A_TURN)
        turn = iter(me.turn)
        following = zip(turn, self._taken, strict=False)
        job: Job | None = None
        while me.turn and jobs:
            try:
                for _, job in following:
                    job.worker = me
                    me.gmp_port = job.port
                    if me.context:
                        me.refresh()
                    function, message = job.next  # type: ignore[misc]  # it has one, while it stands in the queue
                    count = len(message)
                    if count == 3:  # with a tuple, a call goes through C: a tenth of the whole way from handler to handler
                        function(message[1], message[2])
                    elif count == 2:
                        function(message[1])
                    else:
                        function(*message[1:])
                    if job.more:
                        function = message = None  # what is done keeps nothing alive
                        job.go_on(me, turn)
                    else:  # nobody waits: as `job.finish` for handlers, without a call
                        job.worker = job.next = None
                    if not jobs:
                        break
                return
            except BaseException as error:
                if job is None or job.worker is not me:
                    if isinstance(error, IndexError) and not jobs:
                        return  # race: a signal handler has waited between two jobs, and others have run the rest
                    raise  # Ctrl-C, between two jobs
                try:
                    job.failed(error)
                finally:
                    job.finish()

    def throw(self, worker: Worker) -> None:
        """In the hub: end the job that runs in `worker`, which then parks: other jobs are not for the thrower to start."""
        worker.turn.clear()
        port = worker.gmp_port
        if port is not None and port.reason is not None and port.waking is worker:
            # it waits in the dead port's `receive`, which raises what we would throw: a switch takes 1 µs, a throw 9
            worker.switch()
        else:
            worker.throw(GreenletExit)

    def failed(self, error: BaseException) -> None:
        """Something escaped from a job that nobody else answers for: log it, once.

        `SystemExit` and `KeyboardInterrupt` end the program, as from any greenlet: the main one gets them.
        """
        if isinstance(error, GreenletExit):
            return
        if not isinstance(error, ENDS_PROGRAM):
            log.error("%s: a callback failed: %s", self._node_id, type(error).__name__, exc_info=error)
        else:
            self.hub.handle_error(getcurrent(), type(error), error, error.__traceback__)

    def close(self) -> None:
        """End the idle greenlets, in the next turn: a greenlet that ends goes on in the hub, not in its thrower."""
        self._most_idle = 0  # those whose job is not through yet end when it is
        idle, self._idle = self._idle, []
        for worker in idle:
            self.run_callback(worker.throw, GreenletExit)

