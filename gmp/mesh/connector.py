"""Connections on demand: find where a node listens, and dial it.

One `Search` runs for each node that is wanted and not connected. Its addresses come from the directory, are resolved, and
dialled in order: the next attempt begins when the one before has failed, or after `STAGGER` seconds beside it; the
first success ends the others. A node that is unknown may just be starting, so the directory is asked again, soon at first.

race: the other node dials us meanwhile: each step checks whether it is connected, and a connection wakes the search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import gevent.event

from gmp.config import Address, parse_seed
from gmp.errors import ConfigError, GmpError
from gmp.mesh.addresses import MOST_DIALLED
from gmp.mesh.backbone import Backbone
from gmp.mesh.failures import explain
from gmp.mesh.ground import Ground

FIRST_ASK_AGAIN, ASK_AGAIN = 0.02, 0.5  # seconds, doubling, before the directory is asked again about a node it did not know
STAGGER = 0.25  # seconds after which the next address is tried beside the one before


class Search:
    """A search for a way to one node; `directly`: a way through seeds does not count."""

    def __init__(self, ground: Ground, backbone: Backbone, node_id: str, *, directly: bool = False) -> None:
        self.node_id = node_id
        self.problem = "nobody knows where it listens"
        self.changed = gevent.event.Event()  #: something happened: look again
        self._began = ground.now()
        self._is_found = ground.is_linked if directly else ground.is_up
        self._ground = ground
        self._backbone = backbone
        self._dials: dict[gevent.Greenlet[..., Any], None] = {}

    @property
    def found(self) -> bool:
        """Whether the node is connected."""
        return self._is_found(self.node_id)

    @property
    def age(self) -> float:
        """The seconds since it began."""
        return self._ground.now() - self._began

    def run(self, detour: Callable[[Search], bool], timeout: float) -> str:
        """Search for up to `timeout` seconds; return what went wrong, or nothing when the node is connected.

        When it cannot be dialled, `detour(search)` tries everything else, and returns whether to begin again: the node may
        just be starting, as one whose addresses nobody knows yet. *Blocks.*
        """
        pause = FIRST_ASK_AGAIN
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block without raising
            while not self.found:
                addresses = self._ask()
                if addresses is not None:
                    self.dial_each(addresses)
                    if self.found or not detour(self):
                        break
                self.wait(pause)
                pause = min(2 * pause, ASK_AGAIN)
        return "" if self.found else self.problem

    def wait(self, seconds: float) -> None:
        """Wait for `changed`. *Blocks:* up to `seconds`."""
        self.changed.clear()
        if not self.found:
            self.changed.wait(seconds)

    def _ask(self) -> list[str] | None:
        """Return the addresses of the node; None if it is unknown, or connected meanwhile."""
        answers: list[list[str] | None] = []

        def answered(addresses: list[str] | None) -> None:
            answers.append(addresses)
            self.changed.set()

        self._backbone.find(self.node_id, answered)
        try:
            while not answers and not self.found:
                self.changed.wait()
                self.changed.clear()
        finally:
            self._backbone.find_no_more(self.node_id, answered)
        return answers[0] if answers and not self.found else None

    def dial_each(self, addresses: list[str]) -> None:
        """Dial `addresses` in order, staggered. *Blocks:* until one is connected or all have failed."""
        self.problem = "it listens nowhere"
        try:
            for text in addresses[:MOST_DIALLED]:
                for address in self._resolve(text):
                    if self.found:
                        return
                    self._start(address)
                    self.wait(STAGGER)
            while self._dials and not self.found:
                self.wait(STAGGER)
        finally:
            gevent.killall(list(self._dials), block=False)

    def _resolve(self, text: str) -> list[Address]:
        try:
            return self._ground.resolve(parse_seed(text))
        except (ConfigError, GmpError, OSError) as error:
            self.problem = f"{text}: {explain(error)}"
            return []

    def _start(self, address: Address) -> None:
        greenlet = gevent.spawn(self._dial, address)
        self._dials[greenlet] = None
        greenlet.rawlink(self._ended)

    def _ended(self, greenlet: gevent.Greenlet[..., Any]) -> None:
        self._dials.pop(greenlet, None)
        self.changed.set()

    def _dial(self, address: Address) -> None:
        try:
            self._ground.dial(address, expect=self.node_id)
        except (GmpError, OSError) as error:
            self.problem = explain(error, address)
