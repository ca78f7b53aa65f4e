"""Groups and families of a node of gmp.aio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.aio.desk import Desk
from gmp.aio.handover import Handover
from gmp.aio.inbox import Events, Inbox, Source
from gmp.aio.jobs import Ask
from gmp.aio.weighing import with_ids
from gmp.errors import WaitTimeout
from gmp.outside import clock


class Group:
    """A network-wide named set of ports, made by `Node.group`: `gmp.Group` for tasks.

    What is not in the node's thread takes a hand-over, so each method is to be awaited. *Raises:* as those of `gmp.Group`.
    """

    def __init__(self, name: str, handover: Handover, desk: Desk) -> None:
        self.name = name
        self._handover, self._desk = handover, desk
        if name not in desk.groups:
            handover.order(desk.group, name)  # which begins to learn of its members

    async def _ask(self, method: str, *args: Any) -> Any:
        return await self._handover.ask(Ask(lambda: getattr(self._desk.group(self.name), method)(*args)))

    async def join(self, port: Any, value: Any = None) -> None:
        """Add a port of this node, with a value that others can see; it leaves by itself when it dies."""
        await self._ask("join", str(port), value)

    async def leave(self, port: Any) -> None:
        """Remove a port of this node. Does nothing if it is no member."""
        await self._ask("leave", str(port))

    async def members(self) -> dict[str, Any]:
        """The members known by now: port ID → value."""
        return dict(await self._ask("members"))

    async def wait(self, count: int = 1, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the group has at least `count` members, at most `timeout` seconds, and return them.

        *Raises:* `WaitTimeout`.
        """
        ask = Ask(
            lambda: dict(self._desk.group(self.name).wait(count, timeout)),
            blocks=True,
            deadline=None if timeout is None else clock.monotonic() + timeout,
            late=lambda: WaitTimeout(f"group {self.name!r} has not {count} members after {timeout} s: the node is busy"),
        )
        members: dict[str, Any] = await self._handover.ask(ask)
        return members

    async def send(self, *message: Any) -> None:
        """Send `message` to every member known by now, or, when it cannot travel to one of them, to none.

        Waits until the node has taken it. *Raises:* `MessageError`.
        """
        ask = Ask(self._desk.send_to_group, self.name, with_ids(message), blocks=True, sends=True)
        await self._handover.ask(ask)

    async def pick(self) -> str | None:
        """Return a member, of this node if it has one, else any; None if the group is empty."""
        picked: str | None = await self._ask("pick")
        return picked

    def monitor(self) -> Events:
        """Iterate over what becomes of it: ``(members, added, changed, removed)`` now, and after each change.

        `members` are all at that moment, a dict, the others lists of port IDs. Changes that come while nobody waits
        are told as one.
        """
        return _watch(self._handover, self._desk, lambda desk: desk.group(self.name).monitor)


class Family:
    """A network-wide table of keys and values, made by `Node.family`: `gmp.Family` for tasks.

    *Raises:* as the methods of `gmp.Family`.
    """

    def __init__(self, name: str, handover: Handover, desk: Desk) -> None:
        self.name = name
        self._handover, self._desk = handover, desk
        if name not in desk.families:
            handover.order(desk.family, name)

    async def _ask(self, method: str, *args: Any) -> Any:
        return await self._handover.ask(Ask(lambda: getattr(self._desk.family(self.name), method)(*args)))

    async def set(self, key: str, value: Any = None) -> None:
        """Set an entry of this node; of the value a copy is kept."""
        await self._ask("set", key, value)

    async def delete(self, key: str) -> None:
        """Delete an entry of this node. Does nothing if it has none."""
        await self._ask("delete", key)

    async def items(self) -> dict[str, Any]:
        """Return all entries of all nodes, as far as this node knows them by now."""
        return dict(await self._ask("items"))

    def monitor(self) -> Events:
        """Iterate over what becomes of it, as `Group.monitor`: ``(items, added, changed, deleted)``."""
        return _watch(self._handover, self._desk, lambda desk: desk.family(self.name).monitor)


def _watch(handover: Handover, desk: Desk, monitor: Callable[[Desk], Callable[..., Any]]) -> Events:
    handover.check()

    def start(desk: Desk, source: Source) -> Callable[[], object]:
        def changed(items: Any, *keys: list[str]) -> None:
            source.put_and_wait(dict(items), *keys)

        cancel: Callable[[], object] = monitor(desk)(changed).cancel
        return cancel

    return Events(Inbox(handover, desk), start)
