"""The mesh of one node: backbone, seeds, and the searches for ways to other nodes, joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gmp.config import Address
from gmp.errors import GmpError
from gmp.mesh.backbone import Backbone
from gmp.mesh.connector import Search
from gmp.mesh.ground import Ground
from gmp.mesh.seeds import SeedManager


class Mesh:
    """How a node finds its way in the network."""

    def __init__(self, ground: Ground, *, connect_timeout: float) -> None:
        self.backbone = Backbone(ground, self._poke)
        self._ground = ground
        self._connect_timeout = connect_timeout
        self._seeds: SeedManager | None = None
        self._searches: dict[str, Search] = {}

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

    def stop(self) -> None:
        """Dial no seeds any more. *Blocks:* until the dials have ended."""
        if self._seeds is not None:
            self._seeds.stop()
        self.backbone.stop()

    def stats(self) -> list[dict[str, Any]]:
        """Figures of the seeds."""
        return [] if self._seeds is None else self._seeds.stats()

    def _seed_up(self, node_id: str) -> None:
        self.backbone.seed_up(node_id)
        self._ground.joined()  # race: the peer came up before it was known to be a seed

    def _found_self(self) -> None:
        self.backbone.become_global()
        self._ground.joined()

    def _poke(self) -> None:
        if self._seeds is not None:
            self._seeds.poke()

    def find_way(self, node_id: str) -> str:
        """Connect to `node_id`; return what went wrong. *Blocks:* up to the time for it."""
        search = self._searches[node_id] = Search(self._ground, self.backbone, node_id)
        try:
            return search.run(self._detour, self._connect_timeout)
        finally:
            if self._searches.get(node_id) is search:
                del self._searches[node_id]

    def _detour(self, search: Search) -> None:
        """There is no direct way."""

    # ---- what the node tells

    def node_up(self, node_id: str) -> None:
        """A node is connected."""
        self.backbone.node_up(node_id)
        if self._seeds is not None and self._seeds.is_seed(node_id):
            self.backbone.seed_up(node_id)  # race: it has dialled us before we dialled it again
        if node_id in self._searches:
            self._searches[node_id].changed.set()

    def node_down(self, node_id: str, *, ended: bool) -> None:
        """The way to a node is gone, or none was found; `ended`: it left, or its process was seen to end."""
        self.backbone.node_down(node_id, ended=ended)
        self._poke()

    def handles(self, name: str) -> bool:
        """Whether `name` is a request for the mesh."""
        return self.backbone.handles(name)

    def handle(self, sender: str, name: str, args: tuple[Any, ...]) -> None:
        """A request from the node `sender`."""
        self.backbone.handle(sender, name, args)
