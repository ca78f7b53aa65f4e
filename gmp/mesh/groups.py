"""Groups and families: the directory as applications see it.

A family is a set of keys with values, each set by one node. A group is a family whose keys are port IDs, so that Perl
nodes see gmp's groups and the other way round.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from weakref import ref

import gevent
import gevent.event

from gmp.errors import ConfigError, GmpError, MessageError, WaitTimeout
from gmp.ids import is_port_id
from gmp.mesh.backbone import Backbone
from gmp.mesh.directory import Change, is_same
from gmp.mesh.directory import Family as Items
from gmp.mesh.failures import Complaints, Wait
from gmp.mesh.ground import Cancellable

MembersCallback = Callable[[Mapping[str, Any], list[str], list[str], list[str]], Any]


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

    def on_local_death(self, port: Any, callback: Callable[[], None]) -> Cancellable:
        """Call `callback` when the local `port` is dead. *Raises:* `GmpError` when it is dead or not local."""


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


class Snapshot(Mapping[str, Any]):
    """Entries as they are at one moment, read-only. To make one costs nothing: it is copied when they change, if it is still
    kept then.
    """

    __slots__ = ("__weakref__", "_items")

    def __init__(self, items: Items) -> None:
        self._items = items

    def detach(self) -> None:
        """What it was made of is about to change."""
        self._items = dict(self._items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __repr__(self) -> str:
        return repr(self._items)


class _Seen:
    """What the callback of one monitor was told of, and the keys that may have changed since."""

    def __init__(self, backbone: Backbone, family: str) -> None:
        self._backbone = backbone
        self._family = family
        self._items: Items | None = None
        self._touched: dict[str, None] = {}
        self._last: Callable[[], Snapshot | None] = lambda: None  # the snapshot that was given out last

    def touch(self, change: Change) -> None:
        """Something changed."""
        self._touched.update(dict.fromkeys(change.set))
        self._touched.update(dict.fromkeys(change.deleted))

    def next(self) -> tuple[Snapshot, list[str], list[str], list[str]] | None:
        """What to tell now, None for nothing: all entries, and the keys that were added, changed and removed."""
        touched, self._touched = self._touched, {}
        if self._items is None:
            self._items = self._backbone.items(self._family)
            return self._tell([*self._items], [], [])
        known, now = self._items, self._backbone.pick(self._family, touched)
        added = [key for key in now if key not in known]
        changed = [key for key in now if key in known and not is_same(known[key], now[key])]
        removed = [key for key in touched if key in known and key not in now]
        if not (added or changed or removed):
            return None
        last = self._last()
        if last is not None:
            last.detach()
        known.update(now)
        for key in removed:
            del known[key]
        return self._tell(added, changed, removed)

    def _tell(self, *keys: list[str]) -> tuple[Snapshot, list[str], list[str], list[str]]:
        assert self._items is not None
        snapshot = Snapshot(self._items)
        self._last = ref(snapshot)
        return snapshot, *keys  # type: ignore[return-value]  # three of them


def watch(ground: GroupGround, backbone: Backbone, family: str, callback: MembersCallback) -> Subscription:
    """Call `callback(items, added, changed, removed)` at once and after each change; calls never overlap."""
    seen = _Seen(backbone, family)
    running = False

    def report() -> None:
        nonlocal running
        try:
            while active and (news := seen.next()) is not None:
                callback(*news)
                del news  # or a snapshot that nobody keeps would be copied
        finally:
            running = False

    def notice(change: Change | None) -> None:
        nonlocal running
        if change is not None:
            seen.touch(change)
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
        self._interest = backbone.subscribe(name)

    def set(self, key: str, value: Any = None) -> None:
        """Set an entry of this node; of the value a copy is kept.

        Others may read it in each of this node's framings, so it must travel in all of them: None, booleans, integers,
        finite floats, text, bytes, ports, and lists, tuples and dicts of these. (With the setting ``framings=["msgpack"]``,
        for networks without Perl nodes, whatever `gmp.send` takes; with json and without msgpack no bytes, and a gmp node
        that is set so does not see those of others.)
        *Raises:* `ConfigError` when the key is no string; `MessageError` for such a value; `GmpError` when this node has as
        many entries as one may have (the settings `max_entries`, `max_entries_size`). Nothing has changed then.
        *Blocks:* never.
        """
        if not isinstance(key, str):
            raise ConfigError(f"key {key!r} of family {self.name!r}: expected a string")
        self._backbone.set(self.name, str.__str__(key), value)

    def delete(self, key: str) -> None:
        """Delete an entry of this node; nothing when it has none. *Blocks:* never."""
        self._backbone.delete(self.name, key)

    def items(self) -> Items:
        """All entries of all nodes, as far as this node knows them by now. *Blocks:* never."""
        return self._backbone.items(self.name)

    def monitor(self, callback: MembersCallback) -> Subscription:
        """Call `callback(items, added, changed, deleted)` now and after each change, in a greenlet of its own.

        `items` are all entries at that moment, a read-only mapping. Returns something with `cancel()`, usable in ``with``.
        *Blocks:* never.
        """
        return watch(self._ground, self._backbone, self.name, callback)


class Group:
    """A network-wide named set of ports, made by `gmp.group`: how applications find each other."""

    def __init__(self, name: str, ground: GroupGround, backbone: Backbone) -> None:
        self.name = name
        self._ground = ground
        self._backbone = backbone
        self._interest = backbone.subscribe(name)

    def join(self, port: Any, value: Any = None) -> None:
        """Add a port of this node, with a value others can see; it leaves by itself when it dies.

        What the value may be: as for `Family.set`. *Raises:* `GmpError` when the port is dead or of another node, or as
        `Family.set`; the port is no member then (or still with the value it had). *Blocks:* never.
        """
        name, port_id, backbone = self.name, str(port), self._backbone
        monitor = self._ground.on_local_death(port, lambda: backbone.leave(name, port_id))
        backbone.join(name, port_id, value, monitor)

    def leave(self, port: Any) -> None:
        """Remove a port of this node; nothing when it is no member. *Blocks:* never."""
        self._backbone.leave(self.name, str(port))

    def members(self) -> Items:
        """The members known by now: port ID → value. Own ones at once, others soon. *Blocks:* never."""
        return self._backbone.items(self.name)

    def monitor(self, callback: MembersCallback) -> Subscription:
        """Call `callback(members, added, changed, removed)` now and after each change, in a greenlet of its own.

        `members` are all members at that moment, a read-only mapping. Returns something with `cancel()`, usable in ``with``.
        *Blocks:* never.
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
        members = self._ports()
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
        members = self._ports()
        if not members:
            return None
        own = [port_id for port_id in members if port_id.startswith(self._ground.id + "#")]
        return random.choice(own or members)

    def _ports(self) -> list[str]:
        """The members that are ports: any node may set an entry of that name, whatever its key."""
        return list(filter(is_port_id, self.members()))


__all__ = ["Family", "GmpError", "Group", "Subscription"]
