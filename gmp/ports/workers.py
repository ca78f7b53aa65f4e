"""Pooled greenlets that run port bodies, handlers and callbacks.

Making and ending a greenlet costs some 20 µs, using a pooled one 2 to 6. One queue has the *jobs* to run, in the order in
which they came: tasks (functions), and the handlers of ports that have messages. A callback of the loop switches to a
worker, gets control back when the job blocks or no jobs are left, and goes on with another worker; a worker whose job
blocked is idle when that job is done. So blocking is allowed everywhere, and holds up only the code that blocks.

One turn handles messages for `TURN` seconds; the clock is looked at after every `A_TURN` of them, and whenever a job blocks.
Then timers and sockets have their turn, and a timer of no length begins the next one. (If a turn handled less than one read
of a socket brings in, messages would pile up, and be out of the processor's cache when their turn comes: each took two
thirds more time. The loop would run its callbacks in a row without looking at timers and sockets, and a busy socket starves
an idle watcher.)

A worker belongs to a job while it runs for it. race: the job ends before it can be thrown at: a throw comes only from the
hub, and only while the worker still runs for that job. A parked worker goes on only when the pool switches to it, and
ignores other switches. race: a signal handler raises, as that of Ctrl-C does, or sends, wherever Python looks for signals:
where a function begins or a loop jumps back, and after each call of C code. Steps that must not be torn apart have none of
these between them; what begins a turn is a generator, as a function cannot catch what is raised just where it begins.

Each job, and each handler, starts with a fresh contextvars context, or it would see what the one before has set. An empty
context is as good as a fresh one, so it is exchanged (which costs as much as a handler) only when something has been set.
Greenlet-locals (`gevent.local`, and `threading.local` in a patched program) are kept in the greenlet's `__dict__`: a worker
whose `__dict__` has been asked for does not park again, but ends after the running call, and they end with it.

A job is an object with its next call in it, rather than a function: `Workers._run_jobs` makes that call itself, as one more
call in between would cost a fifth of a message from handler to handler.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from itertools import repeat, starmap
from typing import Any
from weakref import WeakSet

import gevent
import gevent.event
from greenlet import GreenletExit, getcurrent, greenlet

from gmp.outside import clock
from gmp.ports.duties import pass_on

log = logging.getLogger("gmp")
ENDS_PROGRAM = (KeyboardInterrupt, SystemExit)
MOST_IDLE = 256
A_TURN = 500  # messages handled between two looks at the clock
TURN = 0.002  # seconds
_GO = object()


_attributes = greenlet.__dict__["__dict__"].__get__


class Worker(greenlet):
    """A greenlet of the pool. `gmp_port` is the port whose code it runs now, for `current_port`; see `Port.run`."""

    __slots__ = ("context", "gmp_port", "share", "soiled", "turn")

    context: Context  #: its present context
    gmp_port: Any
    share: Iterator[Any]  #: an item for each message that the present job may still begin
    soiled: bool  #: True when it may hold something that the next job must not see
    turn: bytearray  #: an item for each message that it may still begin, or more; when cleared, it parks after its job

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """Greenlet-locals and the like of what runs now: the worker must not run anything else afterwards."""
        self.soiled = True
        self.turn.clear()
        attributes: dict[str, Any] = _attributes(self)
        return attributes

    def refresh(self) -> None:
        """Exchange the context for an empty one."""
        self.context = self.gr_context = Context()


Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function, and a message whose elements but the first it gets


class Job:
    """A call, for `port`, that a worker runs. It is in the queue at most once."""

    __slots__ = ("_pool", "more", "next", "port", "worker")

    _pool: Workers
    follows = False  #: True if it is begun in one step with the job before it
    more: Any  #: if true, `go_on` is called after the call
    next: Call | None  #: None when it is neither in the queue nor running
    port: Any  #: what `current_port` returns there
    worker: Worker | None  #: the worker that runs it now

    def throw(self) -> None:
        """End its running call by `GreenletExit`; only in the hub. Does nothing if it does not run."""
        if self.worker is not None:
            self._pool.throw(self.worker)

    def go_on(self, worker: Worker, turn: Iterator[Any]) -> None:
        """Continue in `worker` after the call has returned, for as many messages as `turn` has; call `finish` at the end."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """Handle what escaped from the call or from `go_on`; `finish` is called next."""
        raise NotImplementedError

    def finish(self) -> None:
        """Give up the worker. If interrupted while `worker` is still set, it is called again."""
        raise NotImplementedError


class Task(Job):
    """A function that runs, or will run, in a pooled greenlet; returned by `Port.spawn`."""

    __slots__ = ("_done", "ended")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], pool: Workers, port: Any = None) -> None:
        self.next = function, (None, *arguments)
        self.more = True
        self.port = port
        self.worker = None
        self._done: gevent.event.Event | None = None
        self._pool = pool
        self.ended = False  #: True once it has returned or was ended

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
        """End it by `GreenletExit` in the next turn of the loop. Does nothing if it has ended. *Blocks:* never."""
        self.prevent()
        self._pool.run_callback(self.throw)

    def prevent(self) -> None:
        """Keep it from starting. Does nothing if it has begun."""
        if self.worker is None and not self.ended:
            self.next = NOTHING

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; return True if it has ended. *Blocks:* up to `timeout` seconds (None: without limit)."""
        if self.ended:
            return True
        if self._done is None:
            self._done = gevent.event.Event()
        return bool(self._done.wait(timeout))


class Following(Task):
    """A task that is begun in one step with the job before it: the loop does nothing else in between."""

    __slots__ = ()

    follows = True


class Repeated(Task):
    """A task that must be completed: if interrupted, it is run again from its beginning, so that must be possible."""

    __slots__ = ()

    def failed(self, error: BaseException) -> None:
        """`Job.failed`."""
        if isinstance(error, ENDS_PROGRAM) and self.next is not None:
            function, message = self.next
            self._pool.add(type(self)(function, message[1:], self._pool))
        super().failed(error)


class Lasting(Repeated, Following):
    """The same, begun in one step with the job before it."""

    __slots__ = ()


def nothing() -> None:
    """Do nothing."""


NOTHING: Call = nothing, ()


def _stay(*_: object) -> None:
    """Stand in for `switch` and `throw` of the parent's greenlets, in a child of `fork`."""


class Workers:
    """The pool of greenlets of one node."""

    def __init__(self, node_id: str = "") -> None:
        self._node_id = node_id
        self.hub = gevent.get_hub()
        self.run_callback = self.hub.loop.run_callback
        # past the hub's own method, which each time looks for a hook in the greenlet (a seventh of a switch), and whether
        # it is the hub that switches, which callers of this have made sure of
        self.switch_to_hub: Callable[[], Any] = greenlet.switch.__get__(self.hub)
        self._idle: list[Worker] = []
        self._most_idle = MOST_IDLE
        self._made: WeakSet[Worker] = WeakSet()
        self.jobs: deque[Job] = deque()
        # race: none of our own code runs while a job is taken, so an interrupt cannot lose it
        self._taken = starmap(self.jobs.popleft, repeat(()))
        self.gathered: list[Following] | None = None  #: if set, `spawn` adds to this instead of the queue
        self.scheduled = False  #: True when a turn is on or will be: always while there are jobs
        turns = self._turns()
        next(turns)
        self.begin: Callable[[], Any] = turns.__next__  #: the loop's callback: runs a turn

    def add(self, job: Job) -> None:
        """Queue `job` behind those that wait; the next turn begins in the next pass of the loop."""
        try:
            self.jobs.append(job)
        finally:  # the same wherever a job is added
            if not self.scheduled:
                self.scheduled = True
                self.run_callback(self.begin)

    def spawn(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function(*args)` in a pooled greenlet; log what it raises. An interrupt after the start is passed on."""
        gathered: list[Any] | None = self.gathered
        task = Task(function, args, self) if gathered is None else Following(function, args, self)
        try:
            if gathered is None:
                self.add(task)
            else:
                gathered.append(task)
        except BaseException as error:  # race: Ctrl-C: an interrupted caller may spawn it again
            if task not in (self.jobs if gathered is None else gathered):
                raise
            pass_on(self.hub, error)
        return task

    def complete(self, function: Callable[[], None]) -> Task:
        """As `spawn`; interrupted, `function` is called again, in another greenlet."""
        if self.gathered is not None:
            self.gathered.append(lasting := Lasting(function, (), self))
            return lasting
        self.add(task := Repeated(function, (), self))
        return task

    def _turns(self) -> Iterator[None]:
        """Run one turn each time, in the hub. A switch returns when a job blocks, none is left, or `A_TURN` are done."""
        later, jobs = self.hub.loop.timer(0), self.jobs
        worker: Worker | None
        while True:
            try:
                for _ in repeat(None):  # so that the jump back is inside the `try`, too
                    try:
                        yield
                        until = clock.monotonic() + TURN
                        while jobs:
                            worker = self._idle.pop() if self._idle else self._make()
                            worker.switch(_GO)
                            worker.turn.clear()  # in case its job blocks: when that goes on, it must begin no other
                            if jobs and clock.monotonic() >= until and not jobs[0].follows:
                                break
                    finally:
                        worker = None  # an ended worker must not be kept alive, nor what it holds
                        if jobs:
                            # by a callback, as only for these gevent keeps the loop's clock up to date
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
        worker.share = iter(())
        self._made.add(worker)
        return worker

    def forked(self) -> None:
        """Drop all jobs in a child of `fork`: none begins, and a switch to the greenlet of a running one does nothing."""
        self.jobs.clear()
        self.jobs = deque(maxlen=0)  # it takes none
        for worker in self._made:
            worker.turn.clear()  # race: a handler, or a method of a service, forked: it would go on with what waits
            worker.switch = worker.throw = _stay  # type: ignore[method-assign]

    def _work(self, _: object) -> None:
        me = getcurrent()
        assert isinstance(me, Worker)
        me.refresh()
        while True:
            self._run_jobs(me)
            me.gmp_port = None
            if me.context:
                me.refresh()  # a parked worker keeps nothing alive
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
        """Run jobs from the queue, for at most `A_TURN` messages."""
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
                    function, message = job.next  # type: ignore[misc]  # it has one while it is in the queue
                    count = len(message)
                    if count == 3:  # a call with a tuple goes through C: a tenth of the whole way from handler to handler
                        function(message[1], message[2])
                    elif count == 2:
                        function(message[1])
                    else:
                        function(*message[1:])
                    if job.more:
                        function = message = None  # a finished call keeps nothing alive
                        job.go_on(me, turn)
                    else:  # no more messages wait: does as `finish` of handlers, without a call
                        job.worker = job.next = None
                    if not jobs:
                        break
                return
            except BaseException as error:
                if job is None or job.worker is not me:
                    if isinstance(error, IndexError) and not jobs:
                        return  # race: a signal handler blocked between two jobs, and other workers have run the rest
                    raise  # Ctrl-C, between two jobs
                try:
                    job.failed(error)
                finally:
                    job.finish()

    def throw(self, worker: Worker) -> None:
        """End the job that runs in `worker`, which parks then, so that the thrower starts no other jobs; only in the hub."""
        worker.turn.clear()
        port = worker.gmp_port
        if port is not None and port.reason is not None and port.waking is worker:
            # it waits in the dead port's `receive`, which raises the same: a switch takes 1 µs, a throw 9
            worker.switch()
        else:
            worker.throw(GreenletExit)

    def failed(self, error: BaseException) -> None:
        """Log, once, what escaped from a job that belongs to no port.

        `SystemExit` and `KeyboardInterrupt` end the program, as from any greenlet: they are raised in the main one.
        """
        if isinstance(error, GreenletExit):
            return
        if not isinstance(error, ENDS_PROGRAM):
            log.error("%s: a callback failed: %s", self._node_id, type(error).__name__, exc_info=error)
        else:
            self.hub.handle_error(getcurrent(), type(error), error, error.__traceback__)

    def close(self) -> None:
        """End the idle greenlets, in the next turn, as an ending greenlet continues in the hub, not in its thrower."""
        self._most_idle = 0  # workers whose job still runs end after it
        idle, self._idle = self._idle, []
        for worker in idle:
            self.run_callback(worker.throw, GreenletExit)

