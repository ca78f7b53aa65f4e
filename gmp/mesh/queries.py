"""Answers to what gmp and Perl nodes ask a global node about the directory, and their subscriptions to families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gmp.mesh.addresses import ADDRESSES
from gmp.mesh.border import Border
from gmp.mesh.directory import Change, Directory, Family
from gmp.mesh.ground import Ground
from gmp.wire.requests import G_CHG1, G_CHG2, G_DB_FAMILY, G_DB_KEYS, G_DB_VALUES, G_FIND, G_FOUND, G_MON0, G_MON1, G_REPLY

LONGEST_NAME = 1000  #: characters of the name of a family


class Queries:
    """The queries that one node answers; one that is not global has an empty directory."""

    def __init__(self, ground: Ground, directory: Directory, most: int, border: Border) -> None:
        self._ground = ground
        self._border = border
        self._directory = directory
        self._most = most  # families that one node may subscribe to
        self._subscribers: dict[str, dict[str, str]] = {}  # family → node → its name as that gave it, see `Characters`
        self._subscriptions: dict[str, dict[str, None]] = {}  # the same the other way round: node → families
        self.requests: Mapping[str, Callable[..., None]] = {
            G_FIND: self._find,
            G_MON1: self._subscribe,
            G_MON0: self._unsubscribe,
            G_DB_FAMILY: self._entries,
            G_DB_KEYS: self._keys,
            G_DB_VALUES: self._values,
            G_REPLY: self._reply,
        }

    def tell(self, changes: list[Change]) -> None:
        """Tell the subscribers how the merged view has changed."""
        for family, changed, deleted in changes:
            for node_id, name in self._subscribers.get(family, {}).items():
                shown = self._border.shown(node_id, family, changed)
                self._ground.request(node_id, G_CHG2, name, shown, deleted)

    def node_down(self, node_id: str) -> None:
        """Remove the subscriptions of a node that is gone."""
        for family in list(self._subscriptions.get(node_id, ())):
            self._discard(node_id, family)

    def _discard(self, node_id: str, family: str) -> None:
        subscribers = self._subscribers.get(family, {})  # race: Ctrl-C: it may be done in part
        subscribers.pop(node_id, None)
        if not subscribers:
            self._subscribers.pop(family, None)
        subscriptions = self._subscriptions.get(node_id, {})
        subscriptions.pop(family, None)
        if not subscriptions:
            self._subscriptions.pop(node_id, None)

    def _view(self, sender: str, family: Any) -> Family:
        view = self._directory.view(family) if isinstance(family, str) else {}
        return self._border.shown(sender, str(family), view)

    def _find(self, sender: str, node_id: Any, *_: Any) -> None:
        if isinstance(node_id, str):
            found = self._directory.lookup(ADDRESSES, node_id)
            shown = self._border.shown_addresses(sender, found)
            self._ground.request(sender, G_FOUND, node_id, shown)

    def _subscribe(self, sender: str, family: Any, *_: Any) -> None:
        if isinstance(family, str):
            if len(family) > LONGEST_NAME or len(self._subscriptions.get(sender, ())) >= self._most:
                limits = f"over {self._most}, or the name over {LONGEST_NAME} characters"
                raise ValueError(f"subscription to {family!r:.80}: {limits}")
            self._subscribers.setdefault(family, {})[sender] = family
            self._subscriptions.setdefault(sender, {})[family] = None
            self._ground.request(sender, G_CHG1, family, self._view(sender, family) or None)

    def again(self) -> None:
        """Tell each subscriber all of what it subscribed to."""
        for sender, families in list(self._subscriptions.items()):
            for family in list(families):
                self._ground.request(sender, G_CHG1, family, self._view(sender, family) or None)

    def _unsubscribe(self, sender: str, family: Any, *_: Any) -> None:
        if isinstance(family, str) and sender in self._subscribers.get(family, ()):
            self._discard(sender, family)

    def _entries(self, sender: str, family: Any, request_id: Any = None, *_: Any) -> None:
        self._ground.request(sender, G_REPLY, request_id, self._view(sender, family))

    def _keys(self, sender: str, family: Any, request_id: Any = None, *_: Any) -> None:
        self._ground.request(sender, G_REPLY, request_id, list(self._view(sender, family)))

    def _values(self, sender: str, family: Any, request_id: Any = None, *_: Any) -> None:
        self._ground.request(sender, G_REPLY, request_id, list(self._view(sender, family).values()))

    def _reply(self, sender: str, *_: Any) -> None:
        """Ignore the answer to a ``g_db_*`` query: this node keeps copies, and sends none."""
