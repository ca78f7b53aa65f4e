"""The messages that wait at a port, and the one greenlet that may wait for them: what `Port` is built on.

`put` is the hot path: one length, one comparison, one append. `_room` is how many messages may wait before `put` has to
look closer; it is 0 whenever there is more to it than an append (somebody waits, there is no queue yet, the port has
handlers or is dead), so that all those cases cost the usual one nothing.

The queue is made with the first message (an empty deque is 750 bytes). The waiting greenlet is woken once per batch,
through the loop, and takes its message itself after it woke: a timeout or a kill in between loses nothing.

race: a wake-up is on its way when the wait ends otherwise (timeout, kill). The callback is kept, and stopped then, or it
would switch to a greenlet that has gone on. A switch that is not ours (the token is the port itself) is not believed.

Selective receive looks only at what is new since it last looked, also from one `receive` to the next: `_scanned` says of how
many messages at the front it is known that they do not begin with a prefix.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from gmp.errors import GmpError, PortDied, ReceiveTimeout

if TYPE_CHECKING:
    from gmp.ports.table import Ports

Message = tuple[Any, ...]
Find = Callable[["deque[Message]", Any, int], int]
NO_QUEUE: Any = ()  # what `_queue` is before the first message and after death: false, of length 0, and for all ports one
FIRST_MARK = 15  # messages that wait before a peak is noted, and noted again at each doubling
WARN_AT = 100_000  # messages that wait when a warning names the port
_TIMED_OUT = object()


class Mailbox:
    """The part of a port that messages wait in. `put` is called by whoever sends, `receive` by one greenlet at a time."""

    __slots__ = ("_mark", "_queue", "_receiver", "_room", "_scanned", "_wake", "ports", "reason")

    _mark: int  # the length that `_room` is set to, where the next closer look is due anyway
    _queue: deque[Message]
    _receiver: greenlet | None  # who waits
    _room: int
    _scanned: tuple[Message, int] | None
    _wake: Any  # the callback that will switch to the receiver
    ports: Ports
    reason: Message | None  #: what the port died with; None while it lives

    def put(self, message: Message) -> None:
        """Deliver a message: to its handler, else into the mailbox; dropped and counted when the port is dead."""
        queue = self._queue
        if len(queue) < self._room:
            queue.append(message)
        else:
            self._put_closely(message)

    def _put_closely(self, message: Message) -> None:
        raise NotImplementedError

    def _check_receive(self) -> None:
        raise NotImplementedError

    def _append(self, message: Message) -> int:
        """Put a message into the queue, wake who waits, and return how many wait now."""
        queue = self._queue
        if queue is NO_QUEUE:
            queue = self._queue = deque()
        queue.append(message)
        self._room = self._mark
        if self._receiver is not None and self._wake is None:
            self._wake = self.ports.run_callback(self._receiver.switch, self)
        return len(queue)

    def __len__(self) -> int:
        """How many messages wait for `receive`."""
        return len(self._queue)

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
        gmp.errors.ReceiveTimeout: no such message waits at ...
        """
        queue = self._queue
        if queue and not prefix and self._scanned is None and self._receiver is None and self.ports.hold._is_owned():
            return queue.popleft()  # no timer, no greenlet, no search
        if not prefix:
            return self._take(_find_first, None, timeout)
        return self._take(_find_prefix, prefix, timeout)[len(prefix) :]

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
            queue = self._queue
            if queue and self._scanned is None and self._receiver is None:
                yield queue.popleft()
            elif self.reason is not None:
                return
            else:
                try:
                    message = self._take(_find_first, None, None)
                except PortDied as error:
                    if error.port != str(self):
                        raise
                    return
                yield message

    def _take(self, find: Find, what: Any, timeout: float | None) -> Message:
        """Remove and return the first message that `find(queue, what, start)` gives the index of (-1: none)."""
        self._check_receive()
        scanned = self._scanned
        seen = scanned[1] if scanned is not None and scanned[0] == what else 0
        if len(self._queue) > seen:
            index = find(self._queue, what, seen)
            if index >= 0:
                return self._remove(index, find, what)
            seen = len(self._queue)
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, int | float):
                raise GmpError(f"timeout {timeout!r}: expected a number of seconds, or None")
            if timeout <= 0:
                self._remember(find, what, seen)
                raise ReceiveTimeout(f"no such message waits at {self}")
        return self._wait(find, what, seen, timeout)

    def _wait(self, find: Find, what: Any, seen: int, timeout: float | None) -> Message:
        me, hub = getcurrent(), self.ports.hub
        if me is hub:
            raise GmpError(f"receive at {self} in the hub: a callback of the event loop must not block")
        switch, timer = hub.switch, None
        self._receiver, self._room = me, 0
        try:
            if timeout is not None:
                timer = hub.loop.timer(timeout)
                timer.start(me.switch, _TIMED_OUT)
            while True:
                woken = switch()
                if woken is self:
                    self._wake = None
                elif woken is not _TIMED_OUT:
                    continue
                queue = self._queue
                if len(queue) > seen:
                    index = find(queue, what, seen)
                    if index >= 0:
                        return self._remove(index, find, what)
                    seen = len(queue)
                if woken is _TIMED_OUT:
                    self._remember(find, what, seen)
                    raise ReceiveTimeout(f"no such message came to {self} within {timeout} s")
                self._room = 0
        finally:
            self._receiver = None
            wake, self._wake = self._wake, None
            if wake is not None:
                wake.stop()
            if timer is not None:
                timer.close()

    def _remove(self, index: int, find: Find, what: Any) -> Message:
        queue = self._queue
        if index == 0:
            message = queue.popleft()
        else:
            message = queue[index]
            del queue[index]
        if find is _find_prefix:
            self._scanned = (what, index) if index else None
        elif self._scanned is not None:
            prefix, count = self._scanned
            count -= index < count
            self._scanned = (prefix, count) if count else None
        return message

    def _remember(self, find: Find, what: Any, seen: int) -> None:
        if find is _find_prefix and seen and self.reason is None:
            self._scanned = (what, seen)


def _find_first(queue: deque[Message], what: None, start: int) -> int:
    return start


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
    """Asks about each message once; the predicate may itself send to or take from this mailbox."""
    for index, message in enumerate(tuple(islice(queue, start, None)), start):
        if predicate(*message):
            if index < len(queue) and queue[index] is message:
                return index
            return next((index for index, other in enumerate(queue) if other is message), -1)
    return -1
