"""The handlers of one port: which function gets which message, and the messages that wait for them.

A message is assigned to its handler when it *arrives*; or, if it had none then and still waits, when a handler is set that
matches it (`claim`). Replacing or removing the handler later does not change that. Assigned messages that have not begun
are in the order of arrival, whenever each was claimed: `_behind` says which call each message in the mailbox came after.
The handlers of a port run one after another, never two at once. They are a *job* of the node's pool of greenlets: the next
message is in the job itself, with its handler, and those after it wait in `more` until that one has been handled. So a port
that gets one message at a time, which is the usual case, uses no queue of its own.

`more` has handlers and messages in turn, and no object for each pair: while thousands wait, Python's garbage collector
would look at them again and again, for half the time that a message takes. (At messages of plain values it looks once.) A
pair goes in, and comes out, in one step of C code that allocates nothing in between, so neither a signal handler nor
`__del__` finds half of one.

Many messages that come at once, over the network, with one tag wait as a single pair, the call of `_handle_run`
(`gmp.ports.runs`): to pair and to part each of them cost as much as its handler. A run that has begun stays in front of
`more` until its last message has been handled, so that what is claimed meanwhile finds its place; that ends its turn.

race: the port is killed while a handler runs: the worker is thrown at only while it still runs for this port.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, repeat, starmap
from typing import Any, Protocol

from greenlet import greenlet

from gmp.ports.home import Home
from gmp.ports.mailbox import Message, exchanging
from gmp.ports.runs import RUN, SHORTEST, Run, runs_in, same_tag, tag_of
from gmp.ports.workers import A_TURN as A_POOLS_TURN
from gmp.ports.workers import NOTHING, Call, Job, Worker

A_TURN = 100  # messages that the handlers of one port get before other ports have their turn
TURNS_ALONE = A_POOLS_TURN // A_TURN  # that a run has one after the other, while no other port waits for its own
MOST_NOTED = 32  # notes that may be of messages received since; with more, those are looked for
Handler = Callable[..., Any]


class HandledPort(Protocol):
    """A port, as its handlers see it."""

    ports: Home
    queue: deque[Message]
    reason: Message | None

    def failed(self, error: BaseException) -> None:
        """Die of `error`, which escaped from a handler."""

    def handler_queue_grew(self, waiting: int) -> None:
        """Die if `waiting` messages, together with those in the mailbox, are over the limit."""

    def look_again(self) -> None:
        """Forget how far a search has looked, as handlers take some of the waiting messages."""

    def put_unhandled(self, message: Message) -> None:
        """Take a message that has no handler."""


class _Last(partial[Any]):
    """A handler in a call that others are known to have come after: so this very call is found among those that wait."""


class Handlers(Job):
    """The handlers of a port, and the messages that wait for them."""

    __slots__ = ("_behind", "_default", "_table")

    more: deque[Any]  # handler, message, handler, message, …
    _behind: list[tuple[Message, _Last]]  # the last messages without a handler, each with the call that came before it

    def __init__(self, port: HandledPort) -> None:
        self.next = self.worker = None
        self.port = port
        self.more = deque()
        self._behind = []
        self._table: dict[Any, Handler] = {}
        self._default: Handler | None = None
        self._pool = port.ports.workers

    def any(self) -> bool:
        """True if there is a handler."""
        return bool(self._table) or self._default is not None

    def waiting(self) -> int:
        """How many calls wait: one for each message, or for a run."""
        return len(self.more) // 2 + self._is_queued()

    def _is_queued(self) -> bool:
        return self.worker is None and self.next is not None and self.next is not NOTHING

    def holds(self, message: Message) -> bool:
        """True if that very object waits for its handler."""
        calls = [*(self.next or ()), *self.more]
        waiting = chain(calls[1::2], *(run.waiting() for run in runs_in(calls)))
        return any(each is message for each in waiting)

    def set(self, tag: Any, handler: Handler | None) -> None:
        """Set, replace or (None) remove the handler of `tag`; tag None: the default handler."""
        if tag is None:
            self._default = handler
        elif handler is None:
            self._table.pop(tag, None)
        else:
            self._table[tag] = handler

    def match(self, message: Message) -> Call | None:
        """Return the call that handles `message`; None if it has no handler."""
        try:
            handler = self._table.get(message[0])
        except (TypeError, IndexError):
            handler = None
        if handler is not None:
            return handler, message
        return None if self._default is None else _whole(self._default, message)

    def passed_over(self, message: Message) -> None:
        """Note, for `claim`, which call came before `message`, which has no handler and waits in the mailbox."""
        before = self._last()
        if before is None:
            self._behind.clear()  # the calls that they came after have begun
            return
        self._behind.append((message, before))
        if len(self._behind) > 2 * len(self.port.queue) + MOST_NOTED:
            waiting = tuple(self.port.queue)
            places = zip(waiting, self._places(waiting), strict=True)
            self._behind = [(waiting, call) for waiting, call in places if call is not None]

    def _last(self) -> _Last | None:
        """Return what the last call that waits is known by from now on; None if none waits."""
        # race: a signal handler, after each call: it may send, kill the port, or block while calls begin
        more = self.more
        while more and (handler := more[-2]).__class__ is not _Last:
            known = _Last(handler)
            if more and more[-2] is handler:
                more[-2] = known
        while not more and self.worker is None and (call := self.next) is not None and call[0].__class__ is not _Last:
            known = _Last(call[0])
            if self.next is call and self.worker is None:
                self.next = known, call[1]
        handler = more[-2] if more else None if self.worker is not None or self.next is None else self.next[0]
        return handler if isinstance(handler, _Last) else None

    def _places(self, waiting: tuple[Message, ...]) -> list[_Last | None]:
        """Return, for each message in the mailbox, the call that it came after; None: it came before all that wait.

        The noted messages are the last ones of the mailbox, and some that have been received since.
        """
        noted = self._behind.copy()
        places: list[_Last | None] = []
        for message in reversed(waiting):
            while noted and noted[-1][0] is not message:
                noted.pop()
            places.append(noted.pop()[1] if noted else None)
        return places[::-1]

    def claim(self) -> None:
        """Take from the mailbox the messages that match a handler that was just set, each to its place in the order."""
        port = self.port
        asked = tuple(port.queue)
        # comparing tags may call the user's code, which may do anything: so nothing else is looked at before it
        claims = {id(message): call for message in asked if (call := self.match(message)) is not None}
        if not claims or port.reason is not None:
            return
        queued = self.next if self.worker is None and self.next is not NOTHING else None
        more = [*self.more]
        pending: list[Call] = [*([] if queued is None else [queued]), *zip(more[::2], more[1::2], strict=True)]
        position = {id(handler): index for index, (handler, _) in enumerate(pending, 1)}
        merged: list[Call] = []
        kept: list[Message] = []
        behind: list[tuple[Message, _Last]] = []
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
                handler, handled = merged[-1]
                known = handler if isinstance(handler, _Last) else _Last(handler)
                merged[-1] = known, handled
                behind.append((message, known))
        merged += pending[placed:]
        first = merged.pop(0) if queued is not None else None
        exchange = chain(
            exchanging(port.queue, len(waiting), kept),
            exchanging(self.more, len(more), [*chain.from_iterable(merged)]),
        )
        # race: Ctrl-C, or a signal handler that sends, strikes after a call of C code: from here to the end of the exchange
        # there is only one. What a handler has sent in the meantime is behind all of these, and stays there
        port.look_again()
        self._behind = behind
        if self.worker is not None:
            self.worker.turn.clear()  # a run that has begun may not be the first any more
        if first is not None:
            self.next = first
        self._take_in(exchange)

    def put(self, message: Message) -> None:
        """Queue a message for its handler; put it into the mailbox if it has none."""
        try:
            handler = self._table.get(message[0])
        except (TypeError, IndexError):
            handler = None  # an unhashable first element matches no tag, neither does an empty message
        if handler is None:
            if self._default is None:
                self.port.put_unhandled(message)
                return
            call = _whole(self._default, message)
        else:
            call = handler, message
        # race: `__del__` or a signal handler may send, but not between the next two lines
        if self.next is None:
            self.next = call
            pool = self._pool
            try:
                pool.jobs.append(self)
            finally:  # as `Workers.add`
                if not pool.scheduled:
                    pool.scheduled = True
                    pool.run_callback(pool.begin)
        else:
            self.more.extend(call)

    def put_all(self, messages: list[Message]) -> None:
        """Do as `put` with each of them; the list is kept."""
        if self.__class__ is not Handlers:
            for message in messages:
                self.put(message)
            return
        if len(messages) >= SHORTEST and self._put_run(messages):
            return
        try:  # by far most often there is a handler for the tag of each
            calls: list[Any] = messages * 2
            calls[::2] = map(self._table.__getitem__, map(tag_of, messages))
            calls[1::2] = messages
        except (LookupError, TypeError):
            self._put_each(messages)
        else:
            self._take_in(map(self.more.extend, (calls,)))

    def _put_run(self, messages: list[Message]) -> bool:
        tag = same_tag(messages)
        try:
            handler = self._table[tag]
        except (LookupError, TypeError):
            return False
        begin = _Last(self._handle_run)
        self._let_wait((begin, (RUN, Run(begin, handler, messages))))
        return True

    def _put_each(self, messages: list[Message]) -> None:
        find, default, calls = self._table.get, self._default, list[Any]()
        if default is None:
            for message in messages:
                self.put(message)
            return
        for message in messages:
            try:
                handler = find(message[0])
            except (TypeError, IndexError):
                handler = None
            calls += _whole(default, message) if handler is None else (handler, message)
        self._take_in(map(self.more.extend, (calls,)))

    def _let_wait(self, call: Call) -> None:
        self._take_in(map(self.more.extend, (call,)))

    def _take_in(self, exchange: Iterator[object]) -> None:
        """Run through `exchange`, which adds to `more`, in one step, and make sure of a turn."""
        pool = self._pool
        try:
            deque(exchange, 0)
        finally:  # race: Ctrl-C: what is in has its turn, so no call of our own comes in between
            if self.next is None:
                self.next = NOTHING
                try:
                    pool.jobs.append(self)
                finally:  # as `Workers.add`
                    if not pool.scheduled:
                        pool.scheduled = True
                        pool.run_callback(pool.begin)

    def go_on(self, worker: Worker, turn: Iterator[Any]) -> None:
        """`Job.go_on`: handle the messages that wait, at most `A_TURN`."""
        self.next, waiting = NOTHING, self.more  # a finished call keeps nothing alive
        taken, context = starmap(waiting.popleft, repeat(())), worker.context
        worker.share = share = islice(turn, A_TURN - 1)
        try:
            for _, function, message in zip(share, taken, taken, strict=False):
                if context:
                    worker.refresh()
                    context = worker.context
                if len(message) == 2:  # as in `Workers._run_jobs`
                    function(message[1])
                elif len(message) == 3:
                    function(message[1], message[2])
                elif len(message) == 4:
                    function(message[1], message[2], message[3])
                else:
                    function(*message[1:])
                if not waiting:  # as at a dead port
                    break
        except IndexError as error:
            # race: a signal handler killed the port when one call was done and the next one not yet taken
            if self.port.reason is None or (error.__traceback__ is not None and error.__traceback__.tb_next is not None):
                raise
        self.finish()

    def _handle_run(self, run: Run) -> None:
        """Have a turn with the messages of `run`: at most `A_TURN`, or more while no other port waits for its own."""
        worker, jobs = self.worker, self._pool.jobs
        assert worker is not None
        again = run.begin, (RUN, run)
        self.more.extendleft(again[::-1])
        if self.next is not NOTHING or not self.more:
            # `go_on` begins it, within the port's turn; race: a signal handler has killed the port, and did not find the run
            return
        function, context, turn = run.handler, worker.context, worker.turn
        for _ in range(TURNS_ALONE):
            for message in islice(run.left, A_TURN):
                if len(message) == 2:  # as in `Workers._run_jobs`
                    function(message[1])
                elif len(message) == 3:
                    function(message[1], message[2])
                else:
                    function(*message[1:])
                if context or not turn:
                    break
            if jobs or context or not turn or not len(run):
                break
            del turn[:A_TURN]  # which counts for that many
        if not context:
            deque(worker.share, 0)  # its turn is over; otherwise it goes on in a fresh context
        more = self.more
        if not len(run) and more and more[1] is again[1]:
            del more[0]
            del more[0]

    def failed(self, error: BaseException) -> None:
        """`Job.failed`."""
        self.port.failed(error)

    def finish(self) -> None:
        """`Job.finish`: queue in the pool again if more wait."""
        more, pool = self.more, self._pool
        call: Call | None = None
        while more:
            call = more[0], more[1]
            if more and more[1] is call[1]:
                break
            call = None  # race: to make a pair may collect garbage, and a `__del__` has killed the port
        if call is not None:
            del more[0]
            del more[0]
        self.worker, self.next = None, call  # race: a signal handler, as in `put`; what `next` was may have a `__del__`
        if call is None:
            return
        try:
            pool.jobs.append(self)
        finally:
            if not pool.scheduled:
                pool.scheduled = True
                pool.run_callback(pool.begin)

    def runs_in(self, current: greenlet) -> bool:
        """True if a handler runs in that greenlet now."""
        return self.worker is current

    def stop(self) -> int:
        """Forget handlers and messages, as the port is dead; return how many messages that were."""
        waiting = self.waiting()
        for run in runs_in([*((self.next or ()) if self._is_queued() else ()), *self.more]):
            waiting += len(run) - 1
            run.drop()
        self._table.clear()
        self._default = None
        self.more.clear()
        self._behind.clear()
        # race: a signal handler killed the port while a message was put: that goes nowhere, and begins nothing
        self.more = deque(maxlen=0)
        if self.worker is None:
            self.next = NOTHING
        return waiting


def _whole(handler: Handler, message: Message) -> Call:
    """Return the call that passes the whole message to `handler`."""
    return (partial(handler, message[0]), message) if message else (handler, message)


class LimitedHandlers(Handlers):
    """The handlers of a port with ``max_queue``."""

    __slots__ = ()

    def put(self, message: Message) -> None:
        """Do as `Handlers.put`; over the limit the port dies."""
        super().put(message)
        self.port.handler_queue_grew(self.waiting())
