"""A port of a node of gmp.aio, as tasks see it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from gmp.aio.handover import Handover
from gmp.aio.inbox import Inbox, Message
from gmp.errors import PortDied
from gmp.ids import SentAsId


class Port(SentAsId):
    """A mailbox that tasks read; made by `Node.port`. It equals, hashes and travels as its ID.

    One task at a time reads it: by ``async for message in port``, which ends when the port dies, or by `receive`.
    ``async with`` kills it at the end.
    """

    __slots__ = ("_handover", "_inbox")

    def __init__(self, handover: Handover, inbox: Inbox) -> None:
        self._handover, self._inbox = handover, inbox
        self.sent_as = inbox.id

    @property
    def id(self) -> str:
        """The port ID, ``nodeid#name``."""
        return self._inbox.id

    @property
    def alive(self) -> bool:
        """False once the loop has been told of its death."""
        return self._inbox.reason is None

    @property
    def reason(self) -> Message | None:
        """What it died with; None while it lives."""
        return self._inbox.reason

    async def receive(self, *prefix: Any, timeout: float | None = None) -> Message:
        """Take the first message that begins with `prefix`, without that; no prefix: the next one, whole.

        Others stay, in their order. Waits for it, at most `timeout` seconds (0: does not; None: without end).
        *Raises:* `ReceiveTimeout`; `PortDied`; `GmpError` if another task waits here.
        """
        if not prefix:
            return await self._inbox.receive(None, timeout)
        length = len(prefix)
        message = await self._inbox.receive(lambda message: message[:length] == prefix, timeout)
        return message[length:]

    async def receive_if(self, predicate: Callable[..., object], timeout: float | None = None) -> Message:
        """Take the first message for which `predicate(*message)` is true, whole. *Raises:* as `receive`, and `predicate`."""
        return await self._inbox.receive(lambda message: predicate(*message), timeout)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message; waits for it."""
        try:
            return await self._inbox.receive(None, None)
        except PortDied:
            raise StopAsyncIteration from None

    async def kill(self, *reason: Any) -> None:
        """Kill it; waits until it is dead. Does nothing if it is."""
        await self._inbox.end(*reason)

    async def join(self, timeout: float | None = None) -> bool:
        """Wait for its death, at most `timeout` seconds (None: without end); return True if it is dead."""
        return await self._inbox.join(timeout)

    async def __aenter__(self) -> Self:
        await self._inbox.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inbox.kill()

    @property
    def __gmp_port_id__(self) -> str:
        return self._inbox.id

    def __str__(self) -> str:
        return self._inbox.id

    def __repr__(self) -> str:
        return f"<gmp.aio.Port {self._inbox.id}>"

    def __hash__(self) -> int:
        return hash(self._inbox.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Port):
            return self is other
        return self._inbox.id == other if isinstance(other, str) else NotImplemented

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self._inbox.id,)
