"""Monitors of groups and families, and waits for them, on the node that they began on and on the one that replaces it.

The default node before `gmp.configure` is a local one, and another takes its place: what watches there goes on at that one,
and is told what differs. When a node is closed, what watches there ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from greenlet import GreenletExit

from gmp.mesh.directory import Change, is_same
from gmp.mesh.directory import Family as Items

if TYPE_CHECKING:
    from gmp.mesh.backbone import Backbone
    from gmp.mesh.failures import Complaints
    from gmp.mesh.ground import Cancellable

MembersCallback = Callable[[Mapping[str, Any], list[str], list[str], list[str]], Any]


class Deferred(Protocol):
    """What was given a greenlet of its own."""

    ended: bool  #: whether it has returned, or was ended


class GroupGround(Protocol):
    """What a group needs of the node besides the directory."""

    id: str

    def send(self, destination: Any, *message: Any) -> None:
        """Send a message."""

    def check_message(self, destinations: Iterable[str], message: tuple[Any, ...]) -> None:
        """Check that `message` can travel to all of these ports. *Raises:* `MessageError`."""

    def complete(self, function: Callable[[], None]) -> Deferred:
        """Run `function` in a greenlet of its own; if it is interrupted, run it again."""

    def failed(self, error: BaseException) -> None:
        """Log what a callback raised."""

    def trouble(self) -> str:
        """Return why the network is not seen from here; empty if nothing is known to be wrong."""

    @property
    def backbone(self) -> Backbone:
        """The directory as that node sees it."""

    @property
    def gathering(self) -> bool:
        """True within the step of a loss: what is to be completed now begins in its aftermath."""

    def follow(self, successor: Callable[[GroupGround | None], None]) -> Callable[[], None]:
        """Call `successor` once: with the node that takes this one's place, or with None when this one is closed.

        Returns a function that cancels this.
        """

    def why_closed(self) -> str:
        """Return what is wrong with the node once it is closed."""

    @property
    def complaints(self) -> Complaints:
        """What was logged about waiting in vain."""

    def on_local_death(self, port: Any, callback: Callable[[], None]) -> Cancellable:
        """Call `callback` when the local `port` dies. *Raises:* `GmpError` if it is dead or not local."""


class Changes:
    """Reports each change of a family, on whatever node it is watched.

    `begins(ground)` is called at once, and when another node takes the place of the one that it was watched on; `changed`
    with each change; `ended` when the node is closed.
    """

    def __init__(
        self,
        ground: GroupGround,
        family: str,
        *,
        begins: Callable[[GroupGround], None],
        changed: Callable[[Change], None],
        ended: Callable[[], None],
    ) -> None:
        self._family = family
        self._begins, self._changed, self._ended = begins, changed, ended
        self._begin(ground)

    def _begin(self, ground: GroupGround) -> None:
        self.ground = ground
        self._unfollow = ground.follow(self._go_on_at)
        ground.backbone.watch(self._family, self._changed)
        self._begins(ground)

    def _go_on_at(self, ground: GroupGround | None) -> None:
        self.cancel()
        if ground is None:
            self._ended()
        else:
            self._begin(ground)

    def cancel(self) -> None:
        """Stop calling the callbacks."""
        self._unfollow()
        self.ground.backbone.unwatch(self._family, self._changed)


class Snapshot(Mapping[str, Any]):
    """Entries as they are at one moment, read-only. To make one costs nothing: it is copied when they change, if it is still
    kept then.
    """

    __slots__ = ("__weakref__", "_items")

    def __init__(self, items: Items) -> None:
        self._items = items

    def detach(self) -> None:
        """Copy the entries, as those it was made of are about to change."""
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


News = tuple[Items, list[str], list[str], list[str]]  # the touched entries, and the keys added, changed and removed


class _Seen:
    """What the callback of one monitor has been told, and the keys that may have changed since.

    What is set and deleted again meanwhile is no news, but for what a loss has deleted: who knew of it, by `items` perhaps,
    may have sent to it, so it is always reported, as removed, and before that as added if even that had not been reported.
    Until the aftermath of the loss it is as it was: who heard of it earlier might send to that node, and lose that untold.
    """

    def __init__(self, family: str) -> None:
        self._family = family
        self._items: Items | None = None
        self._touched: Items = {}  # with the value that was seen last
        self._losing: dict[str, None] = {}  # deleted by losses whose aftermath has not begun
        self._lost: Items = {}  # deleted by losses, and not reported, with the values that they had
        self._last: Callable[[], Snapshot | None] = lambda: None  # the snapshot that was given out last
        self._news: News | None = None  # found, and not reported

    def look_at(self, backbone: Backbone) -> None:
        """Take the entries from this directory from now on."""
        self._backbone = backbone
        self._touched.update({**(self._items or {}), **backbone.items(self._family)})

    def touch(self, change: Change, *, by_loss: bool) -> None:
        """Note which keys a change touches; an empty one may touch all."""
        if not change.set and not change.deleted:
            self.look_at(self._backbone)
        known = self._items or {}
        for key in change.deleted:
            value = self._touched.setdefault(key, known.get(key))
            if by_loss:
                self._losing[key] = None
                self._lost[key] = value
        self._touched.update(change.set)

    def begin_aftermath(self, keys: Iterable[str]) -> None:
        """Report from now on that a loss has deleted these keys."""
        for key in keys:
            self._losing.pop(key, None)

    def next(self) -> tuple[Snapshot, list[str], list[str], list[str]] | None:
        """Return all entries and the keys that were added, changed and removed; None if there is nothing to report.

        Interrupted, it can be called again, and returns the same until `taken` is called.
        """
        if self._news is None:
            touched, self._touched = self._touched, {}
            try:
                self._news = self._find_news(touched)
            except BaseException:  # race: Ctrl-C
                self._touched = {**touched, **self._touched}
                raise
        if self._news is None:
            return None
        now, added, changed, removed = self._news
        last, known = self._last(), self._items
        assert known is not None
        if last is not None:
            last.detach()
        known.update(now)
        for key in removed:
            known.pop(key, None)
            self._lost.pop(key, None)
        snapshot = Snapshot(known)
        self._last = ref(snapshot)
        return snapshot, added, changed, removed

    def taken(self) -> None:
        """Note that what `next` returned is about to be reported."""
        self._news = None

    def _find_news(self, touched: Items) -> News | None:
        known, lost, losing = self._items, self._lost, self._losing
        new = {} if known is None else {key: lost[key] for key in lost if key not in known and key not in losing}
        if new:
            self._touched.update(touched)
            return new, [*new], [], []
        self._touched.update({key: touched[key] for key in lost if key in touched})  # they may be back: the next news
        if known is None:
            self._items = {**lost, **self._backbone.items(self._family)}
            return {}, [*self._items], [], []
        now = self._backbone.pick(self._family, [key for key in touched if key not in lost])
        added = [key for key in now if key not in known]
        changed = [key for key in now if key in known and not is_same(known[key], now[key])]
        removed = [key for key in touched if key in known and key not in now and key not in losing]
        return (now, added, changed, removed) if added or changed or removed else None


class Subscription:
    """A running monitor of a group or family; `cancel` ends it.

    `callback(items, added, changed, removed)` is called at once and after each change; calls never overlap.
    """

    def __init__(self, ground: GroupGround, family: str, callback: MembersCallback) -> None:
        self._seen = _Seen(family)
        self._callback = callback
        self._scheduled: Deferred | None = None  # the report that is on its way, not counting those in an aftermath
        self._reporting = False
        self._active = True
        self._changes = Changes(ground, family, begins=self._begin_at, changed=self._change, ended=self._end)

    def _begin_at(self, ground: GroupGround) -> None:
        self._ground = ground
        self._seen.look_at(ground.backbone)
        self._report_soon()

    def _change(self, change: Change) -> None:
        if self._ground.gathering:
            self._report_in_aftermath(change.deleted)  # first: interrupted, a loss that is noted has its report
            self._seen.touch(change, by_loss=True)
        else:
            self._seen.touch(change, by_loss=False)
            self._report_soon()

    def _report_soon(self) -> None:
        if self._scheduled is None or self._scheduled.ended:  # it is asked itself: Ctrl-C may strike anywhere in it
            self._scheduled = self._ground.complete(self._report)

    def _report_in_aftermath(self, lost: list[str]) -> None:
        """race: two nodes are lost, and the aftermath of the first is held up until behind that of the second.

        Its report would come too late: the second node may be up again by then, and nothing seen of its loss (promise 1). So
        each loss has a report in its own aftermath, whatever is on its way.
        """
        self._ground.complete(partial(self._report, lost))

    def _report(self, lost: Iterable[str] = ()) -> None:
        self._seen.begin_aftermath(lost)
        if self._reporting:
            return  # the call that goes on now is followed by the next
        self._reporting = True
        try:
            while self._active and (news := self._seen.next()) is not None:
                self._seen.taken()
                try:
                    self._callback(*news)
                except (GreenletExit, KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # the news behind it, of a loss perhaps, must not wait for the next change
                    self._ground.failed(error)
                del news  # otherwise a snapshot that the callback has not kept would be copied
        finally:
            self._reporting = False

    def _end(self) -> None:
        self._active = False

    def cancel(self) -> None:
        """Stop calling the callback."""
        self._active = False
        self._changes.cancel()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
