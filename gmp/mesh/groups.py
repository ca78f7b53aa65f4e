"""Groups and families: the directory as applications see it.

A family is a set of keys with values, each set by one node. A group is a family whose keys are port IDs, so that Perl
nodes see gmp's groups and the other way round.

A handle has a name, and looks up its node at each use: one that was made on the default node before `gmp.configure` is
one of the configured node afterwards, and one of a node that was closed raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from gmp.characters import own_text
from gmp.errors import ConfigError, GmpError, MessageError, WaitTimeout
from gmp.ids import is_port_id
from gmp.mesh.directory import Family as Items
from gmp.mesh.failures import Wait
from gmp.mesh.subscriptions import Changes, GroupGround, MembersCallback, Subscription
from gmp.outside import chance

if TYPE_CHECKING:
    from gmp.mesh.copies import Interest

Find = Callable[[], GroupGround]


class _Handle:
    """A name in the directory of the node that `find` returns; `find` raises `GmpError` if that is closed."""

    def __init__(self, name: str, find: Find) -> None:
        self.name = name
        self._find = find
        self._last: GroupGround | None = None
        self._interest: Interest | None = None  # keeps the node's copy
        self._at()

    def _at(self) -> GroupGround:
        ground = self._find()
        if ground is not self._last:
            self._interest = ground.backbone.subscribe(self.name)
            self._last = ground
        return ground


class Family(_Handle):
    """A network-wide table of keys and values, made by `gmp.family`. Each entry belongs to the node that set it."""

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
        self._at().backbone.set(self.name, own_text(key), value)

    def delete(self, key: str) -> None:
        """Delete an entry of this node. Does nothing if it has none. *Blocks:* never."""
        self._at().backbone.delete(self.name, key)

    def items(self) -> Items:
        """Return all entries of all nodes, as far as this node knows them by now. *Blocks:* never."""
        return self._at().backbone.items(self.name)

    def monitor(self, callback: MembersCallback) -> Subscription:
        """Call `callback(items, added, changed, deleted)` now and after each change, in a greenlet of its own.

        `items` are all entries at that moment, a read-only mapping. Returns something with `cancel()`, usable in ``with``.
        *Blocks:* never.
        """
        return Subscription(self._at(), self.name, callback)


class Group(_Handle):
    """A network-wide named set of ports, made by `gmp.group`: how applications find each other."""

    def join(self, port: Any, value: Any = None) -> None:
        """Add a port of this node, with a value others can see; it leaves by itself when it dies.

        What the value may be: as for `Family.set`. *Raises:* `GmpError` when the port is dead or of another node, or as
        `Family.set`; the port is no member then (or still with the value it had). *Blocks:* never.
        """
        ground = self._at()
        name, port_id, backbone = self.name, str(port), ground.backbone
        monitor = ground.on_local_death(port, lambda: backbone.leave(name, port_id))
        backbone.join(name, port_id, value, monitor)

    def leave(self, port: Any) -> None:
        """Remove a port of this node. Does nothing if it is no member. *Blocks:* never."""
        self._at().backbone.leave(self.name, str(port))

    def members(self) -> Items:
        """Return the members known by now: port ID → value. Own ones at once, others soon. *Blocks:* never."""
        return self._at().backbone.items(self.name)

    def monitor(self, callback: MembersCallback) -> Subscription:
        """Call `callback(members, added, changed, removed)` now and after each change, in a greenlet of its own.

        `members` are all members at that moment, a read-only mapping. Returns something with `cancel()`, usable in ``with``.
        *Blocks:* never.
        """
        return Subscription(self._at(), self.name, callback)

    def wait(self, count: int = 1, timeout: float | None = None) -> Items:
        """Wait until the group has at least `count` members, and return them.

        While it waits in vain because no seed is reached, a warning in the log says why, now and then.
        *Blocks:* up to `timeout` seconds (None: without end). *Raises:* `WaitTimeout`, which says so too.
        """
        return wait_for(self, count, timeout)

    def send(self, *message: Any) -> None:
        """Send `message` to every member known by now, or, when it cannot travel to one of them, to none.

        *Raises:* `MessageError`. *Blocks:* as `gmp.send`.
        """
        ground, members = self._at(), self._ports()
        ground.check_message(members, message)
        refused = None
        for port_id in members:
            try:
                ground.send(port_id, *message)
            except MessageError as error:
                # race: the send waited for room, and a member's node has connected meanwhile with another framing
                refused = error
        if refused is not None:
            raise refused

    def pick(self) -> str | None:
        """Return a member, of this node if it has one, else any; None if the group is empty. *Blocks:* never."""
        members = self._ports()
        if not members:
            return None
        own = [port_id for port_id in members if port_id.startswith(self._at().id + "#")]
        return chance.choice(own or members)

    def _ports(self) -> list[str]:
        """Return the members that are ports: any node may set an entry of that name, whatever its key."""
        return list(filter(is_port_id, self.members()))


def wait_for(
    group: Group, count: int, timeout: float | None, *, counts: Callable[[str], object] | None = None, name: str = ""
) -> Items:
    """Wait until `group` has at least `count` members, of those that `counts` takes by their IDs; return these.

    `name` is what errors call these members. *Blocks:* and *Raises:* as `Group.wait`.
    """
    name = name or group.name

    def of(members: Items) -> Items:
        return members if counts is None else {key: members[key] for key in members if counts(key)}

    members = of(group.members())
    if len(members) >= count:
        return members
    changed, closed = gevent.event.Event(), False

    def ended() -> None:
        nonlocal closed
        closed = True
        changed.set()

    changes = Changes(
        group._at(),
        group.name,
        begins=lambda _: changed.set(),
        changed=lambda _: changed.set(),
        ended=ended,
    )
    text = f"members of group {name!r}"
    ground = changes.ground
    wait = Wait(ground.complaints, lambda: f"{text} ({len(members)} of {count})", lambda: changes.ground.trouble())
    try:
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block in silence
            while len(members) < count:
                changed.clear()
                wait.pause(changed)
                if closed:
                    raise GmpError(f"nobody can wait for {text}: {changes.ground.why_closed()}")
                members = of(changes.ground.backbone.items(group.name))
    finally:
        changes.cancel()
    if len(members) < count:
        why = changes.ground.trouble()
        text = f"group {name!r} has {len(members)} of {count} members after {timeout} s"
        raise WaitTimeout(f"{text}: {why}" if why else text)
    return members


__all__ = ["Family", "GmpError", "Group", "GroupGround", "Subscription", "wait_for"]
