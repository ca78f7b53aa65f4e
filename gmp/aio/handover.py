"""The hand-over between an event loop of asyncio and the native thread of a node, in both directions; the loop's side
of it.

Towards the node: `jobs`, a queue that `desk.Desk` works off in its order, after one ring of a bell for all that has
come since the last. Towards the loop: `_answers`, worked off by `_drain`, after one call of `call_soon_threadsafe`
per turn of the node.

Both are bounded. Of sends, at most about the high mark is on its way to each node; a sender above it waits for room,
in the loop alone. Everything else that is handed over is waited for by the one who did it. The node sends nothing
unasked: an answer for each `Ask`, once, of a bounded size, and a note of each port that dies.

race: a queue is added to while its flag (`_rung`, `_awake`) is being taken back. The flag is taken back before the
queue is looked at, and set after it was added to; so what is added behind the look rings again, and at worst there is
nothing to do.
race: the node takes what a sender is about to wait for. `wanted` is set before the sender looks again, and read by
the node after `taken` was raised.
race: a waiter is cancelled while its answer is on the way. The answer comes all the same: `Ask.answered` keeps what
must not be lost, and the `Cancel` finds nothing to end.
race: the thread ends while jobs are handed over: its last words, `end`, raise in every waiter, those included.
race: the loop is closed first: the thread finds that out when it has something to say, or within a second, and closes
the node.
"""

from __future__ import annotations

import _thread
import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from gmp.aio.jobs import Ask, Cancel, Job, Line, Order, Send
from gmp.aio.weighing import weigh
from gmp.errors import GmpError
from gmp.ids import split_port_id
from gmp.outside import clock

log = logging.getLogger("gmp")
LOOK = 0.1  # seconds between two looks whether the node's thread is late with an answer
LATE = 0.25  # seconds that it may be late
MOST_LINES = 1000


class Handover:
    """What the two sides share. Unless it says otherwise, a method is for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.jobs: deque[Job] = deque()
        self.high_mark, self.max_message = 0, 0  #: settings of the node, once that is started
        self.ended: asyncio.Future[None] = loop.create_future()  #: done when the thread has ended
        self.why_ended = ""  #: why nothing can be handed over any more, if so
        self._answers: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._asked: set[Ask] = set()
        self._lines: dict[str, Line] = {}
        self._rung = self._awake = False
        self._bell: Any = None
        # race: garbage is collected while it is held, and some of that hands over (`Events`): so not a plain lock
        self._lock: Any = _thread.RLock()
        self._looking: asyncio.TimerHandle | None = None

    # ---- towards the node

    def check(self) -> None:
        """Check that something can be handed over here. *Raises:* `GmpError`."""
        if self.why_ended:  # first, as asyncio says in a child of `fork` that no loop runs
            raise GmpError(self.why_ended)
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            raise GmpError("a node of gmp.aio can be used in its event loop only, and none runs here") from None
        if here is not self.loop:
            raise GmpError("a node of gmp.aio can be used in the event loop that it was started in only, not in another one")

    def put(self, job: Job) -> None:
        """Hand `job` over; does nothing when the thread has ended. In any thread."""
        if self.why_ended:
            return
        self.jobs.append(job)
        if not self._rung:
            self._rung = True
            with self._lock:
                if self._bell is not None:
                    self._bell.send()

    def order(self, function: Callable[..., Any], *args: Any, line: Line | None = None) -> None:
        """Let the node's thread call a function of gmp's own; nobody waits for it. In any thread."""
        self.put(Order(function, *args, line=line))

    async def ask(self, ask: Ask) -> Any:
        """Hand `ask` over, and return what comes of it or raise that; when cancelled, end it."""
        self.check()
        future = ask.future = self.loop.create_future()
        self._asked.add(ask)
        if ask.deadline is not None and self._looking is None:
            self._looking = self.loop.call_later(LOOK, self._look)
        self.put(ask)
        try:
            return await future
        except asyncio.CancelledError:
            if ask in self._asked:
                self.put(Cancel(ask))
            raise

    def _look(self) -> None:
        """Raise in those who have waited beyond their time, as the node's thread is too busy to say so."""
        self._looking = None
        now = clock.monotonic()
        timed = [ask for ask in self._asked if ask.deadline is not None]
        for ask in timed:
            future, late = ask.future, ask.late
            if future is not None and not future.done() and late is not None and (ask.deadline or 0.0) + LATE <= now:
                future.set_exception(late())
                self.put(Cancel(ask))
        if timed:
            self._looking = self.loop.call_later(LOOK, self._look)

    # ---- sends

    def line(self, node_id: str) -> Line:
        """The way to that node."""
        line = self._lines.get(node_id)
        if line is None:
            if len(self._lines) >= MOST_LINES:
                self._lines = {each: kept for each, kept in self._lines.items() if not kept.idle}
            line = self._lines[node_id] = Line()
        return line

    async def send(self, send: Callable[..., Any], dest: Any, message: tuple[Any, ...]) -> None:
        """Hand a message over, when there is room; if it is not sure that it can travel, wait until `send` has taken it."""
        self.check()
        dest, line = self._way(dest)
        message, size = weigh(message, self.max_message)
        if line.size > self.high_mark or line.waiting:
            await self._wait_room(line)
            self.check()
        if size is None:
            await self.ask(Ask(send, dest, *message, line=line, blocks=True, sends=True))
        else:
            line.handed += size
            self.put(Send(line, dest, message, size))

    def try_send(self, dest: Any, message: tuple[Any, ...]) -> bool:
        """Hand a message over, or return False where `send` would wait for room."""
        self.check()
        dest, line = self._way(dest)
        message, size = weigh(message, self.max_message)
        if line.size > self.high_mark or line.waiting or line.busy:
            return False
        size = self.high_mark if size is None else size  # it is checked there, and the next one waits for that
        line.handed += size
        self.put(Send(line, dest, message, size))
        return True

    def _way(self, dest: Any) -> tuple[str, Line]:
        node_id, name = split_port_id(dest)
        return (f"{node_id}#{name}" if name else node_id), self.line(node_id)

    async def _wait_room(self, line: Line) -> None:
        """Wait for room, behind those that wait already."""
        future: asyncio.Future[None] = self.loop.create_future()
        line.waiting.append(future)
        line.wanted = True
        if line.size <= self.high_mark:  # race: the node has taken it in the meantime
            self.wake(line)
        try:
            await future
        finally:
            if future in line.waiting:
                line.waiting.remove(future)
            elif line.waiting:
                self.loop.call_soon(self.wake, line)  # each wakes the next, which finds what this one has handed over
            line.wanted = bool(line.waiting)

    def wake(self, line: Line) -> None:
        """Let the first of those who wait for room go on, if there is room."""
        while line.waiting and line.size <= self.high_mark:
            future = line.waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    # ---- in the node's thread

    def open(self, bell: Any) -> None:
        """Use `bell`, an async watcher, from now on."""
        self._bell = bell

    def heard(self) -> None:
        """The bell has rung, and `jobs` is looked at next."""
        self._rung = False

    def close(self) -> None:
        """Ring no more."""
        with self._lock:
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    def say(self, function: Callable[..., Any], *args: Any) -> None:
        """Let the loop call `function`; it is woken by `wake_loop`."""
        self._answers.append((function, args))

    def wake_loop(self) -> bool:
        """Wake the loop, unless that is on its way; return False if it is closed."""
        if not self._awake:
            self._awake = True
            try:
                self.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                return False
        return True

    def abandon(self, why: str) -> None:
        """In a child of `fork`, which has no such thread: end here, and leave the bell alone, which is the parent's, too."""
        self._lock = _thread.RLock()  # race: that thread may have had it
        self._bell = None
        self._answers.clear()
        if self.loop.is_closed():
            self.why_ended = why  # nobody waits any more
        else:
            self.end(why)

    # ---- back in the loop

    def _drain(self) -> None:
        self._awake = False
        answers = self._answers
        while answers:
            function, args = answers.popleft()
            try:
                function(*args)
            except Exception:
                log.exception("what a node's thread had to say was not understood")

    def answer(self, ask: Ask, is_result: bool, value: Any) -> None:
        """The outcome of `ask`: its result, or what it has raised."""
        self._asked.discard(ask)
        if ask.answered is not None:
            ask.answered(is_result, value)
        future = ask.future
        if future is not None and not future.done():
            if is_result:
                future.set_result(value)
            else:
                future.set_exception(value)

    def end(self, why: str) -> None:
        """The thread has ended: raise `GmpError` in all who wait."""
        self.why_ended = why
        for ask in list(self._asked):
            self.answer(ask, False, GmpError(why))
        for line in self._lines.values():
            for future in line.waiting:
                if not future.done():
                    future.set_exception(GmpError(why))
        self.jobs.clear()
        self._lines.clear()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if not self.ended.done():
            self.ended.set_result(None)
