"""The handlers of one port: which function gets which message, and the messages that wait for them.

A message is given to its handler when it *arrives*; handlers that are set, replaced or removed later do not change that. The
handlers run one after another, never two at once: `busy` from the first message that waits until none does. They are a
job of the node's pool of greenlets, and take their turns there with the other ports.

race: a kill while a handler runs: it is thrown at the worker only while that still runs for this port.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from gmp.ports.mailbox import Message
from gmp.ports.workers import Worker

if TYPE_CHECKING:
    from gmp.ports.port import Port

A_TURN = 100  # messages that one port's handlers get before others have their turn
Handler = Callable[..., Any]


class Handlers:
    """What a port with handlers has besides a mailbox."""

    __slots__ = ("_busy", "_default", "_limited", "_port", "_table", "_waiting", "_workers", "worker")

    def __init__(self, port: Port, limited: bool) -> None:
        self._port = port
        self._table: dict[Any, Handler] = {}
        self._default: Handler | None = None
        self._waiting: deque[tuple[Handler, Message]] = deque()
        self._busy = False
        self._limited = limited
        self._workers = port.ports.workers
        self.worker: Worker | None = None

    def any(self) -> bool:
        """Whether there is a handler."""
        return bool(self._table) or self._default is not None

    def waiting(self) -> int:
        """How many messages wait for handlers."""
        return len(self._waiting)

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
        if handler is not None:
            self._waiting.append((handler, message[1:]))
        elif self._default is not None:
            self._waiting.append((self._default, message))
        else:
            self._port.put_unhandled(message)
            return
        if not self._busy:
            self._busy = True
            workers = self._workers
            workers.jobs.append(self)
            if not workers.scheduled:
                workers.schedule()
        if self._limited:
            self._port.handler_queue_grew(len(self._waiting))

    def put_all(self, messages: list[Message]) -> None:
        """`put` each of them."""
        if self._limited or self.__class__ is not Handlers:
            for message in messages:
                self.put(message)
            return
        find, default, append = self._table.get, self._default, self._waiting.append
        for message in messages:
            try:
                handler = find(message[0])
            except (TypeError, IndexError):
                handler = None
            if handler is not None:
                append((handler, message[1:]))
            elif default is not None:
                append((default, message))
            else:
                self._port.put_unhandled(message)
        if self._waiting and not self._busy:
            self._busy = True
            self._workers.add(self)

    def work(self, worker: Worker) -> int:
        """`Job.work`: run the handlers of what waits, for a while."""
        waiting, count = self._waiting, 0
        self.worker, worker.gmp_port = worker, self._port
        try:
            while waiting and count < A_TURN:  # nothing waits at a dead port
                handler, message = waiting.popleft()
                count += 1
                if worker.context:
                    worker.refresh()
                handler(*message)
        except BaseException as error:
            self._port.failed(error)
        finally:
            handler = message = None  # type: ignore[assignment]  # what is done keeps nothing alive
            self.worker = worker.gmp_port = None
        if waiting:
            self._workers.add(self)
        else:
            self._busy = False
        return count

    def runs_in(self, current: greenlet) -> bool:
        """Whether a handler runs in that greenlet now."""
        return self.worker is current

    def stop(self) -> int:
        """The port is dead: forget handlers and messages; return how many those were."""
        waiting = len(self._waiting)
        self._table.clear()
        self._default = None
        self._waiting.clear()
        return waiting

    def throw(self) -> None:
        """End the handler that runs, if one does; only from the hub."""
        if self.worker is not None:
            self._workers.throw(self.worker)
