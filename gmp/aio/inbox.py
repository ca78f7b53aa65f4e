"""Messages for the loop, and who waits for them: what `Port` and `Events` have in common.

They wait at a port of the node, in whose mailbox they are counted and bounded as everywhere in gmp. Only when a task
waits are they handed over, as many as wait there, `AHEAD` at most; so nothing piles up on the way, and the next ones
cost no hand-over.

A message that was handed over stays here until a task takes it: one that was cancelled, or for whom it was too late,
loses none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import gevent.event

from gmp.aio.desk import Desk
from gmp.aio.handover import Handover
from gmp.aio.jobs import Ask
from gmp.aio.weighing import with_ids
from gmp.errors import GmpError, PortDied, ReceiveTimeout
from gmp.outside import clock
from gmp.ports.port import Port as NodePort

AHEAD = 64  # messages that are taken from the node at once
Message = tuple[Any, ...]
Start = Callable[[Desk, "Source"], Callable[[], object]]


class Source:
    """The port of the node. Used in the node's thread alone."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self._name = name
        self._port: NodePort | None = None
        self._end: Callable[[], object] | None = None
        self._taken: gevent.event.Event | None = None

    def make(self, max_queue: int | None, died: Callable[[Message], None], failed: Callable[[Exception], None]) -> None:
        """Make the port; `died` is called in the loop when it dies, `failed` when it cannot be made."""
        core = self.desk.core
        try:
            self._port = core.ports.make(max_queue=max_queue, name=self._name)
        except GmpError as error:
            self.desk.say(failed, error.with_traceback(None))
            return
        core.watch(self._port, lambda reason: self.desk.say(died, reason))

    def begin(self, start: Start, failed: Callable[[Exception], None]) -> None:
        """Let `start` begin to put events here; what it returns ends that."""
        if self._port is None:
            return
        try:
            self._end = start(self.desk, self)
        except GmpError as error:
            self.desk.say(failed, error.with_traceback(None))
            self._port.kill()
            return
        self._port.own(self)

    def put(self, *event: Any) -> None:
        """Add an event."""
        if self._port is not None:
            self._port.put(event)

    def put_and_wait(self, *event: Any) -> None:
        """Add an event, and wait until it was taken, or the port is dead. *Blocks:* until then."""
        if self._port is not None and self._port.alive:
            self._taken = gevent.event.Event()
            self.put(*event)
            self._taken.wait()

    @property
    def port_id(self) -> str:
        """Its ID, for monitors."""
        return f"{self.desk.core.id}#{self._name}"

    def close(self) -> None:
        """Add no more events; the port is dead."""
        if self._end is not None:
            self._end()
        if self._taken is not None:
            self._taken.set()

    def end(self, *reason: Any) -> Message:
        """Kill the port, if it lives; return what it died with."""
        if self._port is None:
            return ()
        self._port.kill(*reason)
        return self._port.reason or ()

    def join(self, timeout: float | None) -> bool:
        """Wait for the death of the port. *Blocks:* up to `timeout` seconds."""
        return self._port is None or self._port.join(timeout)

    def take(self, most: int, timeout: float | None) -> list[Message]:
        """Take the messages that wait, at least one; ports in them are given by their IDs, as those of other nodes are.

        *Blocks:* for that. *Raises:* as `gmp.Port.receive`.
        """
        port = self._port
        if port is None:
            raise PortDied(self.port_id, ())
        found = [with_ids(port.receive(timeout=timeout))]
        while len(found) < most and len(port):
            found.append(with_ids(port.receive()))
        if self._taken is not None:
            self._taken.set()
        return found


class Inbox:
    """The loop's side of a `Source`."""

    def __init__(self, handover: Handover, desk: Desk, max_queue: int | None = None) -> None:
        self._handover, self._core, self._max_queue = handover, desk.core, max_queue
        name = desk.core.ports.new_name()  # one call of C code: it may be made in any thread
        self.id = f"{desk.core.id}#{name}"
        self.reason: Message | None = None  #: what the port died with, as far as is known here
        self._source = Source(desk, name)
        self._messages: deque[Message] = deque()
        self._asking: Ask | None = None  # what is on its way, perhaps for a task that was cancelled
        self._settled = asyncio.Event()  # set when it is no longer
        self._has_waiter = False
        self._error: Exception | None = None
        handover.order(self._source.make, max_queue, self._died, self._failed)

    def begin(self, start: Start) -> None:
        """Let `start`, in the node's thread, begin to put events here."""
        self._handover.order(self._source.begin, start, self._failed)

    def kill(self, *reason: Any) -> None:
        """Kill the port. In any thread."""
        if self.reason is None:
            self._handover.order(self._source.end, *reason)

    async def ready(self) -> None:
        """Wait until the port is there. *Raises:* `GmpError` when it cannot be made."""
        await self._handover.ask(Ask(_nothing))
        if self._error is not None:
            raise self._error

    async def join(self, timeout: float | None) -> bool:
        """Wait for its death; return True if it is dead."""
        return self.reason is not None or bool(await self._handover.ask(Ask(self._source.join, timeout, blocks=True)))

    async def end(self, *reason: Any) -> None:
        """Kill the port, and wait until it is dead."""
        if self.reason is None:
            self._died(await self._handover.ask(Ask(self._source.end, *reason)))

    async def receive(self, match: Callable[[Message], object] | None, timeout: float | None) -> Message:
        """Take the first message that matches. *Raises:* as `Port.receive`."""
        if self._has_waiter:
            raise GmpError(f"another task already waits for a message at {self.id}: only one may at a time")
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
            raise GmpError(f"timeout {timeout!r}: expected a number of seconds, or None")
        deadline = None if timeout is None else clock.monotonic() + timeout
        self._has_waiter, seen = True, 0
        try:
            while True:
                messages = self._messages
                for index in range(seen, len(messages)):
                    if match is None or match(messages[index]):
                        message = messages[index]
                        del messages[index]
                        return message
                seen = len(messages)
                self._check_alive()
                self._handover.check()
                await self._wait(timeout, deadline)
        finally:
            self._has_waiter = False

    def _check_alive(self) -> None:
        if self._error is not None:
            raise self._error
        if self.reason is not None:
            raise PortDied(self.id, self.reason)

    async def _wait(self, timeout: float | None, deadline: float | None) -> None:
        """Wait until more messages have come. *Raises:* `ReceiveTimeout`."""
        try:
            left = None if deadline is None else max(0.0, deadline - clock.monotonic())
            if self._asking is not None:  # it was asked for a task that was cancelled
                async with asyncio.timeout(left):
                    await self._settled.wait()
                return
            most = AHEAD if self._max_queue is None else max(1, min(AHEAD, self._max_queue))
            ask = self._asking = Ask(
                self._source.take, most, left,
                blocks=True, deadline=deadline, late=ReceiveTimeout, answered=self._landed,
            )  # fmt: skip
            self._settled.clear()
            await self._handover.ask(ask)
        except TimeoutError:
            what = "no matching message is waiting" if timeout == 0 else f"no matching message came within {timeout} s"
            raise ReceiveTimeout(f"{what} at {self.id}") from None
        except PortDied as error:
            self._died(error.reason)
        except GmpError:
            if not self._core.closed:
                raise
            self._died(("leaving", self._core.id))

    def _landed(self, is_result: bool, value: Any) -> None:
        self._asking = None
        self._settled.set()
        if is_result and self.reason is None:
            self._messages += value
            waiting = len(self._messages)
            if self._max_queue is not None and waiting > self._max_queue:
                self.kill("queue_overflow", waiting)

    def _died(self, reason: Message) -> None:
        if self.reason is None:
            self.reason = reason
        self._messages.clear()

    def _failed(self, error: Exception) -> None:
        self._error = error


class Events:
    """What is watched, as an async iterator of what happens; made by `Node.monitor` and its like.

    Usable in ``with``, which cancels it at the end; it is cancelled too when nobody holds it any more. The iteration
    ends when it was cancelled, or the node is closed.
    """

    def __init__(self, inbox: Inbox, start: Start, *, last: int | None = None) -> None:
        self._inbox = inbox
        self._left = last  # events that are to come, if that is known
        inbox.begin(start)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next event; waits for it. *Raises:* `GmpError` when it cannot be watched."""
        if self._left == 0:
            raise StopAsyncIteration
        try:
            event = await self._inbox.receive(None, None)
        except PortDied:
            raise StopAsyncIteration from None
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.cancel()
        return event

    def cancel(self) -> None:
        """Watch no more. Does nothing if it was cancelled already. Never waits."""
        self._left = 0
        self._inbox.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cancel()

    def __del__(self) -> None:
        self._inbox.kill()


def _nothing() -> None:
    """Be behind what was handed over before."""
