"""The messages that wait at a port, and the one greenlet that may wait for them. The base of `Port`.

`put` is the hot path: one length, one comparison, one append. `room` is how many messages may wait before `put` has to
look closer. It is 0 whenever more than an append is to be done (a greenlet waits, there is no queue yet, the port has
handlers or is dead), so those cases cost the usual one nothing.

The queue is made with the first message or the first wait (an empty deque is 750 bytes). The waiting greenlet is woken
once per turn (`gmp.ports.wakeups`), and takes its message itself when it runs: a timeout or a kill in between loses no
message.

race: the wait ends otherwise (timeout, kill) while a wake-up is on its way: `waking` is None then, and the greenlet is not
woken. A waiting greenlet that is switched to does not ask why: it looks whether there is a message.

race: the port dies while its receiver is being woken, or runs a predicate that blocks: the receiver sees that itself, and
ends.

Selective receive looks only at messages that it has not seen yet, also from one `receive` to the next: `_scanned` has a
prefix, and how many messages at the front are known not to begin with it.
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
NO_QUEUE: Any = ()  # `queue` before the first message and after death: false, of length 0, shared by all ports
FIRST_MARK = 15  # when more messages wait the peak is noted, and again at each doubling
WARN_AT = 100_000  # when so many messages wait a warning names the port
_TIMED_OUT = object()
_CLAIMED = ((), 0)  # `_scanned` when a waiting selective receive has to look at all messages again


class MessageHandlers(Protocol):
    """The handlers of a port, as its mailbox sees them."""

    def put(self, message: Message) -> None:
        """Queue a message for its handler; put it into the mailbox if it has none."""

    def put_all(self, messages: list[Message]) -> None:
        """Do as `put` with each of them, in this order."""

    def holds(self, message: Message) -> bool:
        """True if that very object waits for its handler."""


class Mailbox(Identity):
    """The part of a port that messages wait in. Senders call `put`; one greenlet at a time may call `receive`."""

    __slots__ = ("_limit", "_mark", "_receiver", "_scanned", "_sleeper", "handlers", "queue", "reason", "room", "waking")

    _limit: int | None  # with more messages waiting the port dies
    _mark: int  # what `room` is set to: at this length `put` must look closer anyway
    queue: deque[Message]
    _receiver: greenlet | None  # the greenlet that waits
    room: int
    _scanned: tuple[Message, int] | None
    _sleeper: greenlet | None  # the receiver while it sleeps and no wake-up is on its way
    handlers: MessageHandlers | None  #: they get incoming messages first, if there are any; `gmp.send` reads this too
    reason: Message | None  #: what the port died with; None while it lives
    waking: greenlet | None  #: the receiver, when it is to be woken; see `wakeups.Place`

    def put(self, message: Message) -> None:
        """Deliver a message to its handler, or else to the mailbox; if the port is dead, drop and count it."""
        queue = self.queue
        if len(queue) < self.room:
            queue.append(message)
        elif self.handlers is not None:
            self.handlers.put(message)
        elif self._sleeper is not None:
            # race: Ctrl-C, or a signal handler that sends, after each call: it finds the receiver being woken already
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
        """Do as `put` with each of them."""
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
        if self.queue is NO_QUEUE:  # race: a signal handler has sent in the meantime
            self.queue = made

    def look_again(self) -> None:
        """Forget how far a search has looked, as handlers take some of the waiting messages."""
        self._scanned = None if self._receiver is None else _CLAIMED

    def _put_closely(self, message: Message) -> None:
        """Do as `put` where more than an append is to be done."""
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
        """Handle that more wait than `_mark`: with a limit, die; otherwise note the peak, and warn at `WARN_AT`."""
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
        """Do as `put`, for callers that repeat it when interrupted: once the message is in, an interrupt is passed on."""
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
        """The number of messages that wait for `receive`."""
        return len(self.queue)

    @property
    def peak(self) -> int:
        """The most messages that ever waited at once; when fewer do now, rounded down to a power of two (under 16: to 0)."""
        noted = 0 if self._limit is not None or self._mark == FIRST_MARK else (self._mark + 1) // 2
        return max(len(self.queue), noted)

    def __bool__(self) -> bool:
        return True

    # ---- receiving

    def receive(self, *prefix: Any, timeout: float | None = None) -> Message:
        """Take the first waiting message that begins with `prefix`, and return it without that prefix.

        Without a prefix, take and return the next message whole. Other messages stay queued, in order.
        *Blocks:* until there is one, at most `timeout` seconds (0: do not wait; None: without limit).
        *Raises:* `ReceiveTimeout`; `PortDied` if the port is dead or dies while waiting (the port's own greenlets end
        instead); `GmpError` if another greenlet is already waiting here.

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
        gmp.errors.ReceiveTimeout: no matching message is waiting at ...
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

        *Blocks:* as `receive`. *Raises:* as `receive`, and what the predicate raises (the message stays queued then).

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
        """Yield messages as they come, until the port dies; made for ``match``. *Blocks:* while none waits."""
        self.ports.check_thread()
        while True:
            queue = self.queue
            if queue and self._scanned is None and self._receiver is None:
                for message in starmap(queue.popleft, repeat(())):  # race: as in `_next`: none of our own code is called
                    yield message
                    if not queue or self._scanned is not None or self._receiver is not None:
                        break  # it is empty if the port has died in the meantime
                del message  # it may be large
            if self.reason is not None:
                return
            try:
                yield self._next()
            except PortDied as error:
                if error.port != str(self):
                    raise
                return

    def _next(self) -> Message:
        """Do as `_take` in the usual case, as of a ping-pong: no message waits, and any message will do."""
        ports, me = self.ports, getcurrent()
        # race: a signal handler sends. From here there is no call until `_sleeper` is set, which makes it wake this greenlet
        if (
            not ports.hold._is_owned() or self._receiver is not None or me is ports.hub
            or self.queue or self.queue is NO_QUEUE  # as at a dead port
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
                del queue[0]  # race: Ctrl-C cannot strike between this and the caller, as it could after `popleft`
                return message
        finally:
            self._receiver = self._sleeper = self.waking = None
        return self._take(None, None, None)  # other code switched to this greenlet, or the port is dead

    def _take(self, find: Find | None, what: Any, timeout: float | None) -> Message:
        """Remove and return the first message that matches: `find(queue, what, start)` returns its index, or -1.

        With `find` None any message matches.
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
                if len(self.queue) <= seen:  # race: a signal handler sent before it could wake this greenlet
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
        """Make the error, and remember for the next `receive` of the same prefix how far this one has looked."""
        if find is _find_prefix and seen and self.reason is None:
            self._scanned = (what, seen)
        if timeout:
            return ReceiveTimeout(f"no matching message came to {self} within {timeout} s")
        return ReceiveTimeout(f"no matching message is waiting at {self}")

    def _known(self, what: Any) -> int:
        """Return how many messages at the front need not be looked at for `what`."""
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
    """Return an iterator that exchanges the first `count` items of the queue for `items`, all in C code."""
    return chain(starmap(queue.popleft, repeat((), count)), map(queue.appendleft, items[::-1]))


def _find_prefix(queue: deque[Message], prefix: Message, start: int) -> int:
    length = len(prefix)
    if length == 1:  # by far the most common: compare without making a tuple of each first element
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
    """Ask about each message once; the predicate may block, send to this mailbox or take from it."""
    while asked := tuple(islice(queue, start, None)):
        for index, message in enumerate(asked, start):
            if predicate(*message):
                if index < len(queue) and queue[index] is message:
                    return index
                return next((index for index, other in enumerate(queue) if other is message), -1)
        start += len(asked)
        if len(queue) < start or queue[start - 1] is not asked[-1]:  # the predicate has taken some
            ids = set(map(id, asked))
            start = 1 + max((index for index, message in enumerate(queue) if id(message) in ids), default=-1)
    return -1
