"""The handlers of one port: which function gets which message, and the messages that wait for them.

A message is given to its handler when it *arrives*; handlers that are set, replaced or removed later do not change that. The
handlers run one after another, never two at once. They are a *job* of the node's pool of greenlets: the message that is
next stands in the job itself, with its handler, and those behind it wait in `more` until it is through. So a port with
one message at a time, which is the usual one, has no queue of its own on the way.

race: a kill while a handler runs: it is thrown at the worker only while that still runs for this port.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from gmp.ports.mailbox import Message
from gmp.ports.workers import NOTHING, Call, Job, Worker

if TYPE_CHECKING:
    from gmp.ports.port import Port

A_TURN = 100  # messages that one port's handlers get before others have their turn
Handler = Callable[..., Any]


class Handlers(Job):
    """What a port with handlers has besides a mailbox."""

    __slots__ = ("_default", "_table")

    more: deque[Call]

    def __init__(self, port: Port) -> None:
        self.next = self.worker = None
        self.port = port
        self.more = deque()
        self._table: dict[Any, Handler] = {}
        self._default: Handler | None = None
        self._pool = port.ports.workers

    def any(self) -> bool:
        """Whether there is a handler."""
        return bool(self._table) or self._default is not None

    def waiting(self) -> int:
        """How many messages wait for handlers."""
        return len(self.more) + (self.next is not None and self.worker is None)

    def set(self, tag: Any, handler: Handler | None) -> None:
        """Set, replace or (None) remove the handler of `tag`; tag None: the default handler."""
        if tag is None:
            self._default = handler
        elif handler is None:
            self._table.pop(tag, None)
        else:
            self._table[tag] = handler

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
