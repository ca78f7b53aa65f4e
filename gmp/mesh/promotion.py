"""Whether a node that is no seed becomes global because another one takes it for a seed."""

from __future__ import annotations

import logging
from collections.abc import Collection

from gmp.mesh.ground import Ground

log = logging.getLogger("gmp.mesh")


class Promotion:
    """The rule of one node; the first refusal is logged."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._declined = False

    def allows(self, sender: str, *, seeds: Collection[str]) -> bool:
        """Return whether to become global as `sender` asks: `seeds` that take this node for no seed would not believe it."""
        may_be_seed = self._ground.may_be_seed
        if not seeds or may_be_seed(self._ground.id) or may_be_seed(sender):
            return True
        if not self._declined:
            self._declined = True
            problem = "takes this node for a seed, but no seed of this node does, nor its certificate"
            log.warning("%s: %s %s", self._ground.id, sender, problem)
        return False
