"""The mesh of one node: backbone, seeds, and the searches for ways to other nodes, joined.

A way to a node is searched for in this order: dial its addresses; when this node listens, ask the other through a seed to
dial it; relay through seeds. While a node is relayed, a direct connection is tried again, after 2 s and then ever more
seldom, up to once a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gmp.config import Address, Settings
from gmp.errors import GmpError
from gmp.mesh.backbone import Backbone
from gmp.mesh.connector import Search
from gmp.mesh.detours import Detours
from gmp.mesh.failures import Complaints
from gmp.mesh.ground import Cancellable, Ground
from gmp.mesh.quota import Limits
from gmp.mesh.relay import Router
from gmp.mesh.seeds import SeedManager
from gmp.wire.requests import RELAY

DIAL_BACK = 1.0  # seconds that a node gets to dial us before it is relayed, or to come back, before nothing leads to it
MOST_DIALLING_BACK = 64  # nodes that are dialled at once, or were in the last second, because they have asked for it
UPGRADE, MOST_UPGRADE = 2.0, 60.0  # seconds before a direct connection with a relayed node is tried again


class Mesh:
    """Finds ways to other nodes, for one node."""

    def __init__(self, ground: Ground, settings: Settings) -> None:
        self.backbone = Backbone(ground, self._poke, Limits(settings.max_entries, settings.max_entries_size))
        self.router = Router(ground, self.backbone.registry, self.backbone.border, high_mark=settings.high_mark)
        self.detours = Detours(ground, self.backbone, self.router, self._dial_back)
        self.complaints = Complaints(ground.id)
        self._ground = ground
        self._connect_timeout = settings.connect_timeout
        self._seeds: SeedManager | None = None
        self._searches: dict[str, Search] = {}
        self._dialling_back: dict[str, float] = {}  # and until when it is not dialled again
        self._upgrades: dict[str, Cancellable] = {}

    @property
    def joined(self) -> bool:
        """Whether this node has a master, or is a seed itself."""
        return self.backbone.is_global or self.backbone.master is not None

    def start(self, seeds: Iterable[Address], self_dial: type[GmpError]) -> None:
        """Begin to join the network. `self_dial`: what a dial raises that reached this node itself."""
        backbone = self.backbone
        self._seeds = SeedManager(
            self._ground,
            seeds,
            seed_up=self._seed_up,
            found_self=self._found_self,
            wanted=backbone.wanted,
            self_dial=self_dial,
        )
        if not self._seeds.seeds:
            backbone.become_global()
        backbone.announce()
        self._seeds.start()

    def mend(self) -> None:
        """Go on with what Ctrl-C has struck."""
        if self._seeds is not None:
            self._seeds.mend()

    def stop(self) -> None:
        """Stop dialling seeds. *Blocks:* until the dials have ended."""
        if self._seeds is not None:
            self._seeds.stop()
        self.backbone.stop()
        for upgrade in self._upgrades.values():
            upgrade.cancel()

    def forked(self) -> None:
        """Stop searching, in a child of `fork`. The greenlets end when the loop runs; none of them is a user's."""
        if self._seeds is not None:
            self._seeds.forked()

    def stats(self) -> list[dict[str, Any]]:
        """Return figures of the seeds."""
        return [] if self._seeds is None else self._seeds.stats()

    def trouble(self) -> str:
        """Return why the network, or a part of it, is not seen from here; empty if nothing is known to be wrong."""
        if self._seeds is None:
            return "this node is local only, call gmp.configure first"
        return self._seeds.trouble(joined=self.backbone.master is not None and not self.backbone.is_global)

    def owner_of(self, family: Any, key: Any = None, *_: Any) -> str:
        """Return the node whose entry is seen under that key of a family; the own node when there is none."""
        return self.backbone.registry.directory.owner(family, key) or self._ground.id

    def is_seed(self, node_id: str) -> bool:
        """Return whether a configured seed was this node ID when it was last dialled."""
        return self._seeds is not None and self._seeds.is_seed(node_id)

    def _seed_up(self, node_id: str) -> None:
        self.backbone.seed_up(node_id)
        self._ground.joined()  # race: the peer came up before it was known to be a seed

    def _found_self(self) -> None:
        self.backbone.become_global()
        self._ground.joined()

    def look_again(self) -> None:
        """Look up the seeds that are names at once, as they may stand for others."""
        if self._seeds is not None:
            self._seeds.look_again()

    def _poke(self) -> None:
        if self._seeds is not None:
            self._seeds.poke()

    def find_way(self, node_id: str) -> str:
        """Connect to `node_id`; return what went wrong. *Blocks:* up to the time for it."""
        search = self._searches[node_id] = Search(self._ground, self.backbone, node_id)
        try:
            problem = search.run(self._detour, self._connect_timeout)
            trouble = self.trouble() if problem else ""
            return f"{problem}; {trouble}" if trouble else problem
        finally:
            if self._searches.get(node_id) is search:
                del self._searches[node_id]

    def _detour(self, search: Search) -> bool:
        """Try a dial from the other side, then seeds, as none from here works. Return whether to try a direct way again."""
        node_id = search.node_id
        failures: list[str] = []

        def failed(why: str) -> None:
            failures.append(why)
            search.changed.set()

        if self._ask_to_dial(node_id, failed):
            try:
                search.wait(DIAL_BACK)
            finally:
                self.detours.dialled_no_more(node_id)
        failures.clear()  # race: what seeds know changes
        if search.found or not self.detours.open(node_id, failed):
            return False
        try:
            while not search.found and not failures:
                search.wait(self._connect_timeout)
        finally:  # also when the time for it is up
            self.detours.give_up(node_id, found=search.found)
        search.problem += "".join(f"; relayed: {why}" for why in failures)
        return search.age < DIAL_BACK

    def _ask_to_dial(self, node_id: str, declined: Callable[[str], None]) -> bool:
        addresses = list(self._ground.addresses())
        return bool(addresses) and self.detours.ask_to_dial(node_id, addresses, declined)

    def _dial_back(self, node_id: str, addresses: list[str]) -> None:
        """Dial a node that has asked for it; `addresses` are limited already."""
        now = self._ground.now()
        self._dialling_back = {each: until for each, until in self._dialling_back.items() if until > now}
        if node_id not in self._dialling_back and len(self._dialling_back) < MOST_DIALLING_BACK:
            self._dialling_back[node_id] = float("inf")
            self._ground.defer(self._dial_them, node_id, addresses)

    def _dial_them(self, node_id: str, addresses: list[str]) -> None:
        try:
            Search(self._ground, self.backbone, node_id, directly=True).dial_each(addresses)
        finally:  # a node that asks without end is dialled once in a while
            self._dialling_back[node_id] = self._ground.now() + DIAL_BACK

    # ---- from relayed to direct

    def _upgrade_later(self, node_id: str, seconds: float) -> None:
        self._upgrades[node_id] = self._ground.later(seconds, lambda: self._upgrade(node_id, seconds))

    def _upgrade(self, node_id: str, seconds: float) -> None:
        if self._ground.is_up(node_id) and not self._ground.is_linked(node_id):
            self._ground.defer(self._try_direct, node_id)
            self._upgrade_later(node_id, min(seconds * 2, MOST_UPGRADE))
        else:
            del self._upgrades[node_id]

    def _try_direct(self, node_id: str) -> None:
        search = Search(self._ground, self.backbone, node_id, directly=True)
        search.run(self._ask_only, self._connect_timeout)

    def _ask_only(self, search: Search) -> bool:
        self._ask_to_dial(search.node_id, lambda _: None)
        self.detours.dialled_no_more(search.node_id)
        return False

    # ---- what the node reports

    def node_up(self, node_id: str) -> None:
        """Handle the connection of a node, direct or through seeds."""
        self.backbone.node_up(node_id)
        if self._ground.is_linked(node_id):
            self._seed_back(node_id)
        elif node_id not in self._upgrades:
            self._upgrade_later(node_id, UPGRADE)
        if node_id in self._searches:
            self._searches[node_id].changed.set()

    def node_linked(self, node_id: str) -> None:
        """Handle the direct connection of a node that was relayed."""
        self.backbone.registry.node_up(node_id)
        self._seed_back(node_id)

    def _seed_back(self, node_id: str) -> None:
        if self._seeds is not None and self._seeds.is_seed(node_id):
            self._seeds.connected(node_id)
            self.backbone.seed_up(node_id)  # race: it has dialled us before we dialled it again

    def node_down(self, node_id: str, why: str, *, ended: bool, refused: bool) -> None:
        """Handle the loss of a node, or that no way was found.

        `ended`: it left, or its process was seen to end; `refused`: it has refused this node, and said so. Interrupted, it
        is called again: each part of it tells first, and forgets then what it has told of.
        """
        if self._seeds is not None:
            self._seeds.lost(node_id, why, refused=refused)
        self.backbone.node_down(node_id, ended=ended)
        self.router.node_down(node_id)
        self.detours.node_down(node_id)
        self._poke()

    def forget(self, node_ids: set[str]) -> None:
        """Forget nodes that were not connected for long: whatever was on its way from them has arrived."""
        self.detours.forget(node_ids)

    def handles(self, name: str) -> bool:
        """Return whether `name` is a request for the mesh."""
        return name == RELAY or self.backbone.handles(name)

    def handle(self, sender: str, name: str, args: tuple[Any, ...]) -> None:
        """Handle a request from the node `sender`."""
        if name == RELAY:
            self.detours.handle(sender, *args)
        else:
            self.backbone.handle(sender, name, args)
