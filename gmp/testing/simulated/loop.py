"""An event loop of gevent's kind in plain Python, whose time is virtual: when there is nothing to do, it is later.

One pass: the callbacks that wait, in their order; the watchers of descriptors that are ready; the timers that are due. If
nothing of it is left, the time jumps to the next timer. So an hour of sleeping takes no time, and everything happens in the
same order each time.

Time also goes by where work is done, otherwise two ports that answer each other for ever would stop it: a microsecond for
each look at the clock, ten for each pass that leaves callbacks behind.

Each callback and watcher belongs to the host whose program has made it (`running`), so that one host can be held: what is
its own waits until it goes on, as in a process that is stopped, or computes. What the ``with`` block does belongs to none.

What has no meaning here raises at once: signals, child processes, files, descriptors of the system, other native threads.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any

from gevent import getcurrent, hub

from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulated.watchers import Async, Callback, Idle, Io, Pollable, Timer

CALLBACKS_A_PASS = 1000
LOOK = 1e-6  # seconds that a look at the clock takes
BUSY_PASS = 1e-5  # seconds that a pass takes that leaves callbacks behind
MOST_STALE = 1000  # entries of timers that were stopped


thread_ident: Callable[[], int] = hub.get_thread_ident  # type: ignore[attr-defined]  # native, in patched programs too


class VirtualLoop:
    """The loop. `limit`: how much virtual time it may run before it takes the program for one that waits for ever."""

    default = False
    MINPRI, MAXPRI = -2, 2
    approx_timer_resolution = 1e-6
    starting_timer_may_update_loop_time = False

    def __init__(self, limit: float) -> None:
        self.error_handler: Any = None
        self.iteration = 0
        self.time = 0.0  #: seconds since the beginning
        self.limit = limit
        self.pollables: dict[int, Pollable] = {}  #: by descriptor
        self.ready: deque[Io] = deque()  #: watchers whose descriptor may be ready
        self.idlers: dict[Idle, None] = {}
        self.references = 0  #: active watchers that keep the loop going
        self.host: Any = None  #: whose callback runs
        self._held: dict[Any, list[Callable[[], None]]] = {}  # by host: how each thing goes on that waits
        self._outside: dict[Any, Any] = {getcurrent(): None}  # greenlets that act for a host, or as the test does for none
        self._thread = thread_ident()
        self._callbacks: deque[Callback] = deque()
        self._heap: list[tuple[float, int, Timer | None, Any, Any]] = []
        self._sequence = self._stale = 0

    # ---- the time

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self.time

    def update_now(self) -> None:
        """Do nothing: the time is what it is."""

    update = update_now

    def look(self) -> float:
        """Return the time as a program sees it that looks at the clock, which takes a while."""
        self.time += LOOK
        return self.time

    # ---- whose program it is

    def running(self) -> Any:
        """Return the host whose program runs; None: what is outside of all hosts, as their kernels and the test."""
        return self._outside.get(getcurrent(), self.host)

    @contextmanager
    def acting_for(self, host: Any) -> Iterator[None]:
        """Let what this greenlet does be a part of the program of `host`."""
        me = getcurrent()
        before = self._outside.get(me, self)
        self._outside[me] = host
        try:
            yield
        finally:
            if before is self:
                del self._outside[me]
            else:
                self._outside[me] = before

    def hold(self, host: Any) -> None:
        """Let nothing of the program of `host` run until `release`."""
        self._held.setdefault(host, [])

    def release(self, host: Any) -> None:
        """Let it go on, with what has waited."""
        for go_on in self._held.pop(host, ()):
            go_on()

    # ---- what is to run

    def run_callback(self, function: Callable[..., Any], *args: Any) -> Callback:
        """Call `function(*args)` in the next pass."""
        return self.run_callback_of(self.running(), function, *args)

    def run_callback_of(self, host: Any, function: Callable[..., Any], *args: Any) -> Callback:
        """Call it in the next pass as a part of the program of `host`."""
        callback = Callback(function, args, host)
        self._callbacks.append(callback)
        return callback

    def run_callback_threadsafe(self, function: Callable[..., Any], *args: Any) -> Callback:
        """As `run_callback`. *Raises:* `SimulationError` in another native thread."""
        self.check_thread()
        return self.run_callback(function, *args)

    def check_thread(self) -> None:
        """*Raises:* `SimulationError` in another native thread than the simulation's."""
        if thread_ident() != self._thread:
            raise SimulationError(
                "another native thread calls into a simulation, whose order of events would be another each time:"
                " let a greenlet do it, by gevent.spawn"
            )

    def call_at(self, due: float, function: Callable[..., Any], *args: Any) -> None:
        """Call `function(*args)` at that time; it does not keep the loop going."""
        self._sequence += 1
        heappush(self._heap, (due, self._sequence, None, function, args))

    def add_timer(self, timer: Timer, due: float) -> int:
        """Let `timer` fire then; return the number of its entry, which it is to compare."""
        self._sequence += 1
        heappush(self._heap, (due, self._sequence, timer, None, None))
        return self._sequence

    def _push(self, entry: tuple[float, int, Timer | None, Any, Any]) -> None:
        heappush(self._heap, entry)

    def timer_stopped(self) -> None:
        """Note that an entry is stale."""
        self._stale += 1
        if self._stale > MOST_STALE and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] is None or entry[2].entry == entry[1]]
            heapify(self._heap)
            self._stale = 0

    # ---- running

    def run(self, nowait: bool = False, once: bool = False) -> None:
        """Run until nothing is left that could happen."""
        while True:
            self.iteration += 1
            self._run_callbacks()
            self._run_ready()
            self._run_timers()
            if once or nowait:
                return
            idlers = self._free_idlers()
            if not self._callbacks and not self.ready and idlers:
                self._run_idlers(idlers)
                idlers = self._free_idlers()
            if self._callbacks or idlers:
                self.time += BUSY_PASS
            elif not self.ready and not self._advance():
                return

    def _run_callbacks(self) -> None:
        callbacks = self._callbacks
        for _ in range(CALLBACKS_A_PASS):
            if not callbacks:
                return
            callback = callbacks.popleft()
            if self._held and callback.owner in self._held:
                self._held[callback.owner].append(partial(callbacks.append, callback))
                continue
            self.host = callback.owner
            function, args = callback.callback, callback.args
            callback.callback = None
            if function is None or args is None:
                continue  # it was stopped
            try:
                function(*args)
            except BaseException:
                self.handle_error(callback, *sys.exc_info())
            finally:
                callback.args = None

    def _run_ready(self) -> None:
        ready = self.ready
        for _ in range(len(ready)):
            watcher = ready.popleft()
            if self._held and watcher.owner in self._held:
                self._held[watcher.owner].append(partial(ready.append, watcher))
                continue
            self.host = watcher.owner
            watcher.poll()

    def _free_idlers(self) -> list[Idle]:
        """Return the watchers of idleness, but for those of hosts that are held."""
        return [idler for idler in self.idlers if idler.owner not in self._held] if self.idlers else []

    def _run_idlers(self, idlers: list[Idle]) -> None:
        for idler in idlers:
            if idler.callback is not None:
                self.host = idler.owner
                try:
                    idler.callback(*idler.args)
                except BaseException:
                    self.handle_error(idler, *sys.exc_info())

    def _run_timers(self) -> None:
        last = self._sequence  # those that begin now have their turn in the next pass
        while (heap := self._heap) and heap[0][0] <= self.time and heap[0][1] <= last:
            entry = heappop(heap)
            _, number, timer, function, args = entry
            self.host = None
            if timer is not None:
                if timer.entry != number:
                    self._stale -= 1
                    continue
                if self._held and timer.owner in self._held:
                    self._held[timer.owner].append(partial(self._push, entry))
                    continue
                self.host = timer.owner
                function, args = timer.fires()
            try:
                function(*args)
            except BaseException:
                self.handle_error(timer, *sys.exc_info())

    def _advance(self) -> bool:
        """Jump to the next timer; return whether there is anything to wait for."""
        heap = self._heap
        while heap and heap[0][2] is not None and heap[0][2].entry != heap[0][1]:
            heappop(heap)
            self._stale -= 1
        if not heap or self.references <= 0:
            return False
        self.time = max(self.time, heap[0][0])
        if self.time > self.limit:
            limit, self.limit = self.limit, float("inf")  # whoever catches it may clean up
            text = f"nothing ended within {limit:g} s of virtual time: somebody waits for ever, or raise the limit"
            self.error_handler.parent.throw(SimulationError(text))
        return True

    def handle_error(self, context: Any, kind: Any, value: Any, trace: Any) -> None:
        """Report what a callback has raised, as gevent does."""
        self.error_handler.handle_error(context, kind, value, trace)

    # ---- watchers

    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: int | None = None) -> Timer:
        """Return a timer."""
        return Timer(self, after, repeat, ref)

    def io(self, fd: int, events: int, ref: bool = True, priority: int | None = None) -> Io:
        """Return a watcher of a simulated socket. *Raises:* `SimulationError` for any other descriptor."""
        pollable = self.pollables.get(fd)
        if pollable is None:
            raise SimulationError(
                f"descriptor {fd} belongs to a real socket or file, for which a simulation cannot wait:"
                " open it outside, or put a port in the place of what it talks to"
            )
        return Io(self, pollable, events, ref)

    def async_(self, ref: bool = True, priority: int | None = None) -> Async:
        """Return a watcher that another greenlet rings."""
        return Async(self, ref)

    def idle(self, ref: bool = True, priority: int | None = None) -> Idle:
        """Return a watcher that is called when there is nothing else to do."""
        return Idle(self, ref)

    prepare = check = idle  # gevent's `os.close` waits for one, in a patched program

    def closing_fd(self, fd: int) -> bool:
        """Return whether watchers of a real descriptor have to end before it is closed: there are none."""
        return False

    def _none(self, *args: Any, **kwargs: Any) -> Any:
        raise SimulationError("signals, child processes, files and fork cannot be simulated: let a port stand for them")

    signal = child = stat = fork = reinit = _none

    # ---- what gevent asks besides

    def destroy(self) -> None:
        """Forget everything that waits."""
        self._callbacks.clear()
        self._held.clear()
        self._heap.clear()
        self.ready.clear()

    def ref(self) -> None:
        """Keep the loop going."""
        self.references += 1

    def unref(self) -> None:
        """Keep it going no more."""
        self.references -= 1

    @property
    def activecnt(self) -> int:
        """How many watchers keep it going."""
        return self.references

    def _format(self) -> str:
        return f"virtual time {self.time:.6f}"

    def debug(self) -> list[Any]:
        """Return nothing: gevent shows it in errors."""
        return []


class VirtualHub(hub.Hub):
    """The hub of a simulation: it has no thread pool, in which real time would go by."""

    def _no_pool(self) -> Any:
        raise SimulationError("a thread pool cannot be simulated (names are looked up in one too): do it in a greenlet")

    def __init__(self, loop: VirtualLoop) -> None:
        anything: Any = loop
        super().__init__(anything)

    threadpool = property(_no_pool)
    resolver = property(_no_pool)
