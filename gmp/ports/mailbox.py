"""The messages that wait at a port, and the one greenlet that may wait for them: what `Port` is built on.

`put` is the hot path: one length, one comparison, one append. `room` is how many messages may wait before `put` has to
look closer; it is 0 whenever there is more to it than an append (somebody waits, there is no queue yet, the port has
handlers or is dead), so that all those cases cost the usual one nothing.

The queue is made with the first message or the first wait (an empty deque is 750 bytes). The waiting greenlet is woken
once per batch (`gmp.ports.wakeups`), and takes its message itself after it woke: a timeout or a kill in between loses
nothing.

race: a wake-up is on its way when the wait ends otherwise (timeout, kill): `waking` is None then, and the greenlet is passed
over. Whoever switched to a waiting greenlet, and why, is not asked: it looks whether there is a message.

race: the port dies while its receiver is woken, or asks a predicate that blocks: it sees that itself, and ends.

Selective receive looks only at what is new since it last looked, also from one `receive` to the next: `_scanned` says of how
many messages at the front it is known that they do not begin with a prefix.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat, starmap
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

from gmp.errors import GmpError, PortDied, ReceiveTimeout
from gmp.ports.duties import pass_on
from gmp.ports.home import Message as Message
from gmp.ports.identity import Identity

log = logging.getLogger("gmp")
Find = Callable[[deque[Message], Any, int], int]
NO_QUEUE: Any = ()  # what `queue` is before the first message and after death: false, of length 0, and for all ports one
FIRST_MARK = 15  # messages that wait before a peak is noted, and noted again at each doubling
WARN_AT = 100_000  # messages that wait when a warning names the port
_TIMED_OUT = object()
_CLAIMED = ((), 0)  # `_scanned` while somebody waits in a selective receive: it has to look at all messages again


class MessageHandlers(Protocol):
    """The handlers of a port, as its mailbox sees them."""

    def put(self, message: Message) -> None:
        """Take a message."""

    def put_all(self, messages: list[Message]) -> None:
        """Take messages in this order."""

    def holds(self, message: Message) -> bool:
        """Whether that very message waits for its handler."""


class Mailbox(Identity):
    """The part of a port that messages wait in. `put` is called by whoever sends, `receive` by one greenlet at a time."""

    __slots__ = ("_limit", "_mark", "_receiver", "_scanned", "_sleeper", "handlers", "queue", "reason", "room", "waking")

    _limit: int | None  # of messages that wait; over it the port dies
    _mark: int  # the length that `room` is set to, where the next closer look is due anyway
    queue: deque[Message]
    _receiver: greenlet | None  # who waits
    room: int
    _scanned: tuple[Message, int] | None
    _sleeper: greenlet | None  # the receiver while it sleeps and nobody has called for its waking
    handlers: MessageHandlers | None  #: who gets what comes in, if there are any; `gmp.send` asks for them too
    reason: Message | None  #: what the port died with; None while it lives
    waking: greenlet | None  #: the receiver, when it is to go on; see `wakeups.Place`

    def put(self, message: Message) -> None:
        """Deliver a message: to its handler, else into the mailbox; dropped and counted when the port is dead."""
        queue = self.queue
        if len(queue) < self.room:
            queue.append(message)
        elif self.handlers is not None:
            self.handlers.put(message)
        elif self._sleeper is not None:
            # race: Ctrl-C, or a signal handler that sends, behind each call: whoever strikes finds the receiver on its way
            self.waking = self._sleeper
            self._sleeper = None
            self.room = self._mark
            wakeups = self.ports.wakeups
            try:
                queue.append(message)
            finally:
                try:
                    wakeups.pending.append(self)
                finally:
                    if not wakeups.scheduled:
                        wakeups.scheduled = True
                        wakeups.run_callback(wakeups.begin)
            if len(queue) > self._mark:
                self._much_waits(len(queue))
        else:
            self._put_closely(message)

    def put_all(self, messages: list[Message]) -> None:
        """`put` each of them."""
        if self.__class__.put is not Mailbox.put:
            for message in messages:
                self.put(message)
            return
        if self.handlers is not None:
            self.handlers.put_all(messages)
            return
        start = 0
        while start < len(messages):
            room = self.room - len(self.queue)
            if room > 0:
                self.queue.extend(messages[start : start + room])
                start += room
            else:
                self.put(messages[start])
                start += 1

    def _make_queue(self) -> None:
        made: deque[Message] = deque()
        if self.queue is NO_QUEUE:  # race: a signal handler has sent meanwhile
            self.queue = made

    def look_again(self) -> None:
        """Handlers take some of what waits: what a search knew of the first ones does not hold any more."""
        self._scanned = None if self._receiver is None else _CLAIMED

    def _put_closely(self, message: Message) -> None:
        """`put` where there is more to it than an append."""
        if self.reason is not None:
            self.ports.dropped += 1
            return
        if self.queue is NO_QUEUE:
            self._make_queue()
        queue = self.queue
        sleeper, self._sleeper = self._sleeper, None
        self.room = self._mark
        if sleeper is not None:
            self.waking = sleeper
        try:  # race: as in `put`
            queue.append(message)
        finally:
            if sleeper is not None:
                self.ports.wakeups.add(self)
        if len(queue) > self._mark:
            self._much_waits(len(queue))

    def _much_waits(self, count: int) -> None:
        """More wait than `_mark`: over the limit the port dies, or the peak is noted, with a warning at `WARN_AT`."""
        if self._limit is not None:
            self._die(("queue_overflow", count))
            return
        self.ports.note_peak(self, count)
        if count == WARN_AT:
            log.warning("port %s has %d messages waiting", self.id, count)
        double = 2 * self._mark + 1
        self._mark = WARN_AT - 1 if self._mark < WARN_AT - 1 < double else double
        if self.room:
            self.room = self._mark

    def put_once(self, message: Message) -> None:
        """`put`, for who puts it again when it is interrupted: what strikes once it is in is passed on."""
        try:
            self.put(message)
        except BaseException as error:  # race: Ctrl-C
            if not self._holds(message):
                raise
            pass_on(self.ports.hub, error)

    def _holds(self, message: Message) -> bool:
        if any(waiting is message for waiting in self.queue):
            return True
        return self.handlers is not None and self.handlers.holds(message)

    def _die(self, reason: Message) -> None:
        raise NotImplementedError

    def _check_receive(self) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        """How many messages wait for `receive`."""
        return len(self.queue)

    @property
    def peak(self) -> int:
        """The most messages that ever waited at once; once fewer do, rounded down to a power of two (under 16: to 0)."""
        noted = 0 if self._limit is not None or self._mark == FIRST_MARK else (self._mark + 1) // 2
        return max(len(self.queue), noted)

    def __bool__(self) -> bool:
        return True

    # ---- receiving

    def receive(self, *prefix: Any, timeout: float | None = None) -> Message:
        """Take the first waiting message that begins with `prefix`, and return it without that prefix.

        Without a prefix: the next message whole. The others stay queued, in order.
        *Blocks:* until there is one, at most `timeout` seconds (0: look, do not wait; None: without end).
        *Raises:* `ReceiveTimeout`; `PortDied` when the port is dead or dies meanwhile (the port's own greenlets end
        instead); `GmpError` when another greenlet is already waiting here.

        >>> import gmp
        >>> port = gmp.port()
        >>> for message in [("log", "one"), ("pong", 7), ("log", "two")]:
        ...     gmp.send(port, *message)
        >>> port.receive("pong")
        (7,)
        >>> port.receive(timeout=5)
        ('log', 'one')
        >>> port.receive("pong", timeout=0)
        Traceback (most recent call last):
        gmp.errors.ReceiveTimeout: none waits at ...
        """
        if prefix:
            return self._take(_find_prefix, prefix, timeout)[len(prefix) :]
        queue = self.queue
        if queue and self._scanned is None and self._receiver is None and self.ports.hold._is_owned():
            message = queue[0]
            del queue[0]  # race: as in `_next`
            return message  # no timer, no greenlet, no search
        return self._next() if timeout is None else self._take(None, None, timeout)

    def receive_if(self, predicate: Callable[..., Any], timeout: float | None = None) -> Message:
        """Take the first waiting message for which `predicate(*message)` is true, and return it whole.

        *Blocks:* and *Raises:* as `receive`, and whatever the predicate raises (the message stays where it is then).

        >>> import gmp
        >>> port = gmp.port()
        >>> for number in range(5):
        ...     gmp.send(port, "n", number)
        >>> port.receive_if(lambda tag, number: number > 2)
        ('n', 3)
        """
        if not callable(predicate):
            raise GmpError(f"receive_if: {predicate!r} cannot be asked: expected something to call")
        return self._take(_find_if, predicate, timeout)

    def __iter__(self) -> Iterator[Message]:
        """The messages as they come, until the port dies; made for ``match``. *Blocks:* between them."""
        self.ports.check_thread()
        while True:
            queue = self.queue
            if queue and self._scanned is None and self._receiver is None:
                for message in starmap(queue.popleft, repeat(())):  # race: as in `_next`: no call of our own
                    yield message
                    if not queue or self._scanned is not None or self._receiver is not None:
                        break  # it is empty when the port has died meanwhile
            if self.reason is not None:
                return
            try:
                message = self._next()
            except PortDied as error:
                if error.port != str(self):
                    raise
                return
            yield message

    def _next(self) -> Message:
        """The usual case of `_take`, which is what a ping-pong costs: nothing waits, and whatever comes next will do."""
        ports, me = self.ports, getcurrent()
        # race: a signal handler sends. No call is between here and what makes it wake this greenlet
        if (
            not ports.hold._is_owned() or self._receiver is not None or me is ports.hub
            or self.queue or self.queue is NO_QUEUE  # as it is when the port is dead
        ):  # fmt: skip
            return self._take(None, None, None)
        self._receiver = me
        try:
            self.room = 0
            self._sleeper = me
            ports.wakeups.sleep()
            queue = self.queue
            if queue:
                message = queue[0]
                del queue[0]  # race: Ctrl-C cannot strike between this and the caller, as it could behind `popleft`
                return message
        finally:
            self._receiver = self._sleeper = self.waking = None
        return self._take(None, None, None)  # it was a switch of somebody else, or the port is dead

    def _take(self, find: Find | None, what: Any, timeout: float | None) -> Message:
        """Remove and return the first message that `find(queue, what, start)` gives the index of (-1: none).

        `find` is None for any message.
        """
        ports = self.ports
        if self.reason is not None or self._receiver is not None or not ports.hold._is_owned():
            self._check_receive()
        seen = 0
        if self.queue:
            if find is None:
                return self._remove(0, find, what)
            seen = self._known(what)
            index = find(self.queue, what, seen)
            if index >= 0:
                return self._remove(index, find, what)
            seen = len(self.queue)
            if self.reason is not None:
                self._check_receive()
        me = getcurrent()
        timer = None if timeout is None else self._make_timer(timeout, find, what, seen)
        if me is ports.hub:
            raise GmpError(f"receive at {self} in the hub: a callback of the event loop must not block")
        if self.queue is NO_QUEUE:
            self._make_queue()
        wakeups, woken = ports.wakeups, None
        self._receiver = me
        self._scanned = None
        try:
            if timer is not None:
                timer.start(me.switch, _TIMED_OUT)
            while True:
                self.room = 0
                self._sleeper = me
                if len(self.queue) <= seen:  # race: a signal handler has sent before it could wake this greenlet
                    woken = wakeups.sleep()
                self._sleeper = self.waking = None
                if self.reason is not None:
                    self._check_receive()
                if self._scanned is not None:
                    self._scanned, seen = None, 0
                queue = self.queue
                if len(queue) > seen:
                    if find is None:
                        return self._remove(0, find, what)
                    index = find(queue, what, seen)
                    if index >= 0:
                        return self._remove(index, find, what)
                    seen = len(queue)
                if woken is _TIMED_OUT:
                    raise self._timed_out(timeout, find, what, seen)
        finally:
            self._receiver = self._sleeper = self.waking = None
            if timer is not None:
                timer.close()

    def _make_timer(self, timeout: float, find: Find | None, what: Any, seen: int) -> Any:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise GmpError(f"timeout {timeout!r}: expected a number of seconds, or None")
        if timeout <= 0:
            raise self._timed_out(0, find, what, seen)
        return self.ports.hub.loop.timer(timeout)

    def _timed_out(self, timeout: float | None, find: Find | None, what: Any, seen: int) -> Exception:
        """The error for that; remembers for the next `receive` of the same prefix how far this one has looked."""
        if find is _find_prefix and seen and self.reason is None:
            self._scanned = (what, seen)
        return ReceiveTimeout(f"no such message came to {self} within {timeout} s" if timeout else f"none waits at {self}")

    def _known(self, what: Any) -> int:
        """How many messages at the front need not be looked at for `what`."""
        scanned = self._scanned
        return scanned[1] if scanned is not None and scanned[0] == what else 0

    def _remove(self, index: int, find: Find | None, what: Any) -> Message:
        queue = self.queue
        message = queue[index]
        del queue[index]
        if find is _find_prefix:
            self._scanned = (what, index) if index else None
        elif self._scanned is not None:
            prefix, count = self._scanned
            count -= index < count
            self._scanned = (prefix, count) if count else None
        return message


def exchanging(queue: deque[Any], count: int, items: list[Any]) -> Iterator[Any]:
    """An iterator that takes the first `count` from the queue and puts these in their place, all in C code."""
    return chain(starmap(queue.popleft, repeat((), count)), map(queue.appendleft, items[::-1]))


def _find_prefix(queue: deque[Message], prefix: Message, start: int) -> int:
    length = len(prefix)
    if length == 1:  # by far the most usual: compared without making a tuple of each first element
        tag = prefix[0]
        for index, message in enumerate(islice(queue, start, None) if start else queue, start):
            if message and message[0] == tag:
                return index
        return -1
    for index, message in enumerate(islice(queue, start, None), start):
        if message[:length] == prefix:
            return index
    return -1


def _find_if(queue: deque[Message], predicate: Callable[..., Any], start: int) -> int:
    """Asks about each message once; the predicate may itself block, and send to or take from this mailbox."""
    while asked := tuple(islice(queue, start, None)):
        for index, message in enumerate(asked, start):
            if predicate(*message):
                if index < len(queue) and queue[index] is message:
                    return index
                return next((index for index, other in enumerate(queue) if other is message), -1)
        start += len(asked)
        if len(queue) < start or queue[start - 1] is not asked[-1]:  # it has taken some
            ids = set(map(id, asked))
            start = 1 + max((index for index, message in enumerate(queue) if id(message) in ids), default=-1)
    return -1
