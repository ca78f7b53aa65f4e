"""Groups and families: the directory as applications see it.

A family is a set of keys with values, each set by one node. A group is a family whose keys are port IDs, so that Perl
nodes see gmp's groups and the other way round.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import gevent
import gevent.event

from gmp.errors import ConfigError, GmpError, MessageError, WaitTimeout
from gmp.mesh.backbone import Backbone
from gmp.mesh.directory import Change
from gmp.mesh.directory import Family as Items
from gmp.mesh.failures import Complaints, Wait

MembersCallback = Callable[[Items, list[str], list[str], list[str]], Any]


class GroupGround(Protocol):
    """What a group needs of the node, beside the directory."""

    id: str

    def send(self, destination: Any, *message: Any) -> None:
        """Send a message."""

    def check_message(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """Check that `message` can travel to all of these ports. *Raises:* `MessageError`."""

    def defer(self, function: Callable[..., Any], *args: Any) -> object:
        """Run `function` in a greenlet of its own."""

    def trouble(self) -> str:
        """Why the network is not seen from here; empty: nothing is known to be wrong."""

    @property
    def complaints(self) -> Complaints:
        """What was logged about waiting in vain."""

    def on_local_death(self, port: Any, callback: Callable[..., Any]) -> str:
        """Call `callback` when the local `port` is dead; return its ID. *Raises:* `GmpError` when it is not local."""


class Subscription:
    """A running monitor of a group or family; `cancel` ends it."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def cancel(self) -> None:
        """No longer call the callback."""
        self._cancel()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def watch(ground: GroupGround, backbone: Backbone, family: str, callback: MembersCallback) -> Subscription:
    """Call `callback(items, added, changed, removed)` at once and after each change; calls never overlap."""
    known: Items = {}
    first = True
    running = False

    def report() -> None:
        nonlocal known, first, running
        try:
            while active:
                items = backbone.items(family)
                added = [key for key in items if key not in known]
                changed = [key for key in items if key in known and known[key] != items[key]]
                removed = [key for key in known if key not in items]
                if not (first or added or changed or removed):
                    return
                known, first = items, False
                callback(dict(items), added, changed, removed)
        finally:
            running = False

    def notice(change: Change | None) -> None:
        nonlocal running
        if not running:
            running = True
            ground.defer(report)

    active = True

    def cancel() -> None:
        nonlocal active
        active = False
        backbone.unwatch(family, notice)

    backbone.watch(family, notice)
    notice(None)
    return Subscription(cancel)


class Family:
    """A network-wide table of keys and values, made by `gmp.family`. Each entry belongs to the node that set it."""

    def __init__(self, name: str, ground: GroupGround, backbone: Backbone) -> None:
        self.name = name
        self._ground = ground
        self._backbone = backbone
        backbone.subscribe(name)

    def set(self, key: str, value: Any = None) -> None:
        """Set an entry of this node. *Raises:* `ConfigError` when the key is no string. *Blocks:* never."""
        if not isinstance(key, str):
            raise ConfigError(f"key {key!r} of family {self.name!r}: expected a string")
        self._backbone.set(self.name, key, value)

    def delete(self, key: str) -> None:
        """Delete an entry of this node; nothing when it has none. *Blocks:* never."""
        self._backbone.delete(self.name, key)

    def items(self) -> Items:
        """All entries of all nodes, as far as this node knows them by now. *Blocks:* never."""
        return self._backbone.items(self.name)

    def monitor(self, callback: MembersCallback) -> Subscription:
        """Call `callback(items, added, changed, deleted)` now and after each change, in a greenlet of its own.

        Returns something with `cancel()`, usable in ``with``. *Blocks:* never.
        """
        return watch(self._ground, self._backbone, self.name, callback)


class Group:
    """A network-wide named set of ports, made by `gmp.group`: how applications find each other."""

    def __init__(self, name: str, ground: GroupGround, backbone: Backbone) -> None:
        self.name = name
        self._ground = ground
        self._backbone = backbone
        backbone.subscribe(name)

    def join(self, port: Any, value: Any = None) -> None:
        """Add a port of this node, with a value others can see; it leaves by itself when it dies.

        *Raises:* `GmpError` when the port is dead or of another node. *Blocks:* never.
        """
        port_id = self._ground.on_local_death(port, lambda *_: self._backbone.delete(self.name, str(port)))
        self._backbone.set(self.name, port_id, value)

    def leave(self, port: Any) -> None:
        """Remove a port of this node; nothing when it is no member. *Blocks:* never."""
        self._backbone.delete(self.name, str(port))

    def members(self) -> Items:
        """The members known by now: port ID → value. Own ones at once, others soon. *Blocks:* never."""
        return self._backbone.items(self.name)

    def monitor(self, callback: MembersCallback) -> Subscription:
        """Call `callback(members, added, changed, removed)` now and after each change, in a greenlet of its own.

        Returns something with `cancel()`, usable in ``with``. *Blocks:* never.
        """
        return watch(self._ground, self._backbone, self.name, callback)

    def wait(self, count: int = 1, timeout: float | None = None) -> Items:
        """Wait until the group has at least `count` members, and return them.

        While it waits in vain because no seed is reached, a warning in the log says why, now and then.
        *Blocks:* up to `timeout` seconds (None: without end). *Raises:* `WaitTimeout`, which says so too.
        """
        members = self.members()
        if len(members) >= count:
            return members
        changed = gevent.event.Event()
        ground = self._ground
        wait = Wait(ground.complaints, lambda: f"members of group {self.name!r} ({len(members)} of {count})", ground.trouble)

        def notice(change: Change) -> None:
            changed.set()

        self._backbone.watch(self.name, notice)
        try:
            with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block in silence
                while len(members := self.members()) < count:
                    changed.clear()
                    wait.pause(changed)
        finally:
            self._backbone.unwatch(self.name, notice)
        if len(members) < count:
            why = ground.trouble()
            text = f"group {self.name!r} has {len(members)} of {count} members after {timeout} s"
            raise WaitTimeout(f"{text}: {why}" if why else text)
        return members

    def send(self, *message: Any) -> None:
        """Send `message` to every member known by now, or, when it cannot travel to one of them, to none.

        *Raises:* `MessageError`. *Blocks:* as `gmp.send`.
        """
        members = self.members()
        self._ground.check_message(members, message)
        refused = None
        for port_id in members:
            try:
                self._ground.send(port_id, *message)
            except MessageError as error:
                # race: it waited for room, and a member's node has connected meanwhile with another framing
                refused = error
        if refused is not None:
            raise refused

    def pick(self) -> str | None:
        """One member, of the own node when it has one, else any; None when the group is empty. *Blocks:* never."""
        members = self.members()
        if not members:
            return None
        own = [port_id for port_id in members if port_id.startswith(self._ground.id + "#")]
        return random.choice(own or list(members))


__all__ = ["Family", "GmpError", "Group", "Subscription"]
