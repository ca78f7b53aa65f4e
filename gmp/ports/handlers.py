"""The handlers of one port: which function gets which message, and the messages that wait for them.

A message is given to its handler when it *arrives*, or, when it had none then and waits still, when its handler is set
(`claim`); handlers that are replaced or removed later do not change that. What was given to handlers and has not begun is
in the order of arrival, whenever each was claimed: `_behind` tells of messages in the mailbox which call they came after.
The handlers run one after another, never two at once. They are a *job* of the node's pool of greenlets: the message that is
next stands in the job itself, with its handler, and those behind it wait in `more` until it is through. So a port with
one message at a time, which is the usual one, has no queue of its own on the way.

race: a kill while a handler runs: it is thrown at the worker only while that still runs for this port.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any, Protocol

from greenlet import greenlet

from gmp.ports.home import Home
from gmp.ports.mailbox import Message, exchanging
from gmp.ports.workers import NOTHING, Call, Job, Worker

A_TURN = 100  # messages that one port's handlers get before others have their turn
MOST_NOTED = 32  # messages that are noted, though they may have been received, before that is looked at
Handler = Callable[..., Any]


class HandledPort(Protocol):
    """A port, as its handlers see it."""

    ports: Home
    queue: deque[Message]
    reason: Message | None

    def failed(self, error: BaseException) -> None:
        """Die of what escaped from a handler."""

    def handler_queue_grew(self, waiting: int) -> None:
        """Die if `waiting` messages, with those in the mailbox, are over the limit."""

    def look_again(self) -> None:
        """Forget how far a search has looked: handlers take some of what waits."""

    def put_unhandled(self, message: Message) -> None:
        """Take a message that has no handler."""


class Handlers(Job):
    """What a port with handlers has besides a mailbox."""

    __slots__ = ("_behind", "_default", "_table")

    more: deque[Call]
    _behind: list[tuple[Message, Call]]  # the last messages without a handler, and the call that had come before each

    def __init__(self, port: HandledPort) -> None:
        self.next = self.worker = None
        self.port = port
        self.more = deque()
        self._behind = []
        self._table: dict[Any, Handler] = {}
        self._default: Handler | None = None
        self._pool = port.ports.workers

    def any(self) -> bool:
        """Whether there is a handler."""
        return bool(self._table) or self._default is not None

    def waiting(self) -> int:
        """How many messages wait for handlers."""
        return len(self.more) + (self.next is not None and self.worker is None)

    def holds(self, message: Message) -> bool:
        """Whether that very message waits for its handler."""
        calls = [*self.more] if self.next is None else [self.next, *self.more]
        return any(waiting is message for _, waiting in calls)

    def set(self, tag: Any, handler: Handler | None) -> None:
        """Set, replace or (None) remove the handler of `tag`; tag None: the default handler."""
        if tag is None:
            self._default = handler
        elif handler is None:
            self._table.pop(tag, None)
        else:
            self._table[tag] = handler

    def match(self, message: Message) -> Call | None:
        """The call that handles `message`; None when it has no handler."""
        try:
            handler = self._table.get(message[0])
        except (TypeError, IndexError):
            handler = None
        if handler is not None:
            return handler, message
        return None if self._default is None else _whole(self._default, message)

    def passed_over(self, message: Message) -> None:
        """`message` had no handler and waits in the mailbox: note what it came after, for `claim`."""
        before = self.more[-1] if self.more else None if self.worker is not None else self.next
        if before is None:
            self._behind.clear()  # what they came after has begun
            return
        self._behind.append((message, before))
        if len(self._behind) > 2 * len(self.port.queue) + MOST_NOTED:
            waiting = tuple(self.port.queue)
            places = zip(waiting, self._places(waiting), strict=True)
            self._behind = [(waiting, call) for waiting, call in places if call is not None]

    def _places(self, waiting: tuple[Message, ...]) -> list[Call | None]:
        """For each of the messages in the mailbox the call that it came behind; None: it came before all that wait.

        Those that are noted are the last ones of the mailbox, without those that were received meanwhile.
        """
        noted = self._behind.copy()
        places: list[Call | None] = []
        for message in reversed(waiting):
            while noted and noted[-1][0] is not message:
                noted.pop()
            places.append(noted.pop()[1] if noted else None)
        return places[::-1]

    def claim(self) -> None:
        """A handler was set: take the waiting messages that it matches from the mailbox, each to its place."""
        port = self.port
        asked = tuple(port.queue)
        # to compare tags may call the user's code, which may do anything: nothing else is looked at before
        claims = {id(message): call for message in asked if (call := self.match(message)) is not None}
        if not claims or port.reason is not None:
            return
        queued = self.next if self.next is not None and self.worker is None else None
        pending = [*self.more] if queued is None else [queued, *self.more]
        position = {id(call): index for index, call in enumerate(pending, 1)}
        merged: list[Call] = []
        kept: list[Message] = []
        behind: list[tuple[Message, Call]] = []
        placed = 0
        waiting = tuple(port.queue)
        for message, before in zip(waiting, self._places(waiting), strict=True):
            place = position.get(id(before), 0)
            merged += pending[placed:place]
            placed = max(placed, place)
            claimed = claims.get(id(message))
            if claimed is not None:
                merged.append(claimed)
                continue
            kept.append(message)
            if merged:
                behind.append((message, merged[-1]))
        merged += pending[placed:]
        if queued is not None:
            del pending[0]
        first = merged.pop(0) if queued is not None else None
        exchange = chain(exchanging(port.queue, len(waiting), kept), exchanging(self.more, len(pending), merged))
        # race: Ctrl-C, and signal handlers that send, strike behind a call of C code: from here to the end of the exchange
        # there is one. What they have sent meanwhile is behind all of these, and stays there
        port.look_again()
        self._behind = behind
        if first is not None:
            self.next = first
        try:
            deque(exchange, 0)
        finally:
            if self.next is None:
                self._queue()

    def put(self, message: Message) -> None:
        """Let a message wait for its handler; without one it is the mailbox's."""
        try:
            handler = self._table.get(message[0])
        except (TypeError, IndexError):
            handler = None  # an unhashable first element matches no tag, nor does an empty message
        if handler is None:
            if self._default is None:
                self.port.put_unhandled(message)
            else:
                self._let_wait(_whole(self._default, message))
            return
        call = handler, message  # race: `__del__`, and signal handlers, may send: not between the next two lines
        if self.next is None:  # as `_let_wait`
            self.next = call
            pool = self._pool
            try:
                pool.jobs.append(self)
            finally:  # as `Workers.add`
                if not pool.scheduled:
                    pool.scheduled = True
                    pool.run_callback(pool.begin)
        else:
            self.more.append(call)

    def put_all(self, messages: list[Message]) -> None:
        """`put` each of them."""
        if self.__class__ is not Handlers:
            for message in messages:
                self.put(message)
            return
        find, default, append = self._table.get, self._default, self.more.append
        try:
            for message in messages:
                try:
                    handler = find(message[0])
                except (TypeError, IndexError):
                    handler = None
                if handler is not None:
                    append((handler, message))
                elif default is not None:
                    append(_whole(default, message))
                else:
                    self.port.put_unhandled(message)
        finally:
            if self.next is None:
                self._queue()

    def _let_wait(self, call: Call) -> None:
        try:
            self.more.append(call)
        finally:
            if self.next is None:
                self._queue()

    def _queue(self) -> None:
        """No worker runs it any more: stand in the pool's queue with the call that is next; nothing when there is none."""
        more, pool = self.more, self._pool
        if not more:
            self.next = self.worker = None
            return
        self.next, self.worker = more[0], None
        del more[0]  # race: signal handlers, as in `put`
        try:
            pool.jobs.append(self)
        finally:
            if not pool.scheduled:
                pool.scheduled = True
                pool.run_callback(pool.begin)

    def go_on(self, worker: Worker, turn: Iterator[Any]) -> None:
        """`Job.go_on`: run the handlers of what waits, for a while."""
        self.next, waiting = NOTHING, self.more  # what is done keeps nothing alive
        for _ in islice(turn, A_TURN - 1):
            if not waiting:  # nothing waits at a dead port
                break
            handler, message = waiting.popleft()
            if worker.context:
                worker.refresh()
            handler(*message[1:])
        self.finish()

    def failed(self, error: BaseException) -> None:
        """`Job.failed`."""
        self.port.failed(error)

    def finish(self) -> None:
        """`Job.finish`."""
        self._queue()

    def runs_in(self, current: greenlet) -> bool:
        """Whether a handler runs in that greenlet now."""
        return self.worker is current

    def stop(self) -> int:
        """The port is dead: forget handlers and messages; return how many those were."""
        waiting = self.waiting()
        self._table.clear()
        self._default = None
        self.more.clear()
        self._behind.clear()
        if self.next is not None and self.worker is None:
            self.next = NOTHING
        return waiting


def _whole(handler: Handler, message: Message) -> Call:
    """The call by which `handler` gets all of the message."""
    return (partial(handler, message[0]), message) if message else (handler, message)


class LimitedHandlers(Handlers):
    """Handlers of a port with ``max_queue``."""

    __slots__ = ()

    def put(self, message: Message) -> None:
        """As `Handlers.put`; over the limit the port dies."""
        super().put(message)
        self.port.handler_queue_grew(self.waiting())
