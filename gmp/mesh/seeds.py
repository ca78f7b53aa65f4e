"""The seed manager: a greenlet that keeps a connection to every configured seed, for ever.

Each seed has its own delay, 0.3 s doubling to 30 s with jitter, reset when it was connected. A seed that turns out to
be this node itself is dropped, and makes this node global. The manager sleeps until the next dial is due or something
changed; each dial runs in a greenlet of its own, so that one seed that does not answer holds up no other.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import gevent.event

from gmp.config import Address
from gmp.errors import GmpError
from gmp.mesh.ground import Ground

log = logging.getLogger("gmp.mesh")
FIRST_DELAY, MOST_DELAY = 0.3, 30.0


class Seed:
    """One configured seed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.node_id = ""  #: who answered there last
        self.delay = FIRST_DELAY
        self.due = 0.0  #: when to dial next, monotonic seconds
        self.dialling = False
        self.last_error = ""

    def failed(self, now: float, jitter: float) -> None:
        """A dial failed: wait longer. `jitter` is between 0 and 1."""
        self.due = now + self.delay * (0.5 + jitter / 2)
        self.delay = min(self.delay * 2, MOST_DELAY)

    def succeeded(self, node_id: str) -> None:
        """The seed is connected."""
        self.node_id = node_id
        self.delay = FIRST_DELAY
        self.due = 0.0
        self.last_error = ""

    def __str__(self) -> str:
        return f"{self.address.host}:{self.address.port}"


class SeedManager:
    """Keeps the configured seeds connected."""

    def __init__(
        self,
        ground: Ground,
        addresses: Sequence[Address],
        *,
        seed_up: Callable[[str], None],
        found_self: Callable[[], None],
        self_dial: type[GmpError],
    ) -> None:
        self.seeds = [Seed(address) for address in addresses]
        self._ground = ground
        self._seed_up = seed_up
        self._found_self = found_self
        self._self_dial = self_dial
        self._changed = gevent.event.Event()
        self._dials: set[gevent.Greenlet[..., Any]] = set()
        self._greenlet: gevent.Greenlet[..., Any] | None = None

    def start(self) -> None:
        """Start the greenlet."""
        if self.seeds:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End the greenlet and its dials. *Blocks:* until they have ended."""
        greenlets = [*self._dials, *([] if self._greenlet is None else [self._greenlet])]
        gevent.killall([greenlet for greenlet in greenlets if greenlet is not gevent.getcurrent()])

    def stats(self) -> list[dict[str, Any]]:
        """Of each seed: its address, who answered there, whether it is connected, and why the last dial failed."""
        return [
            {
                "address": str(seed),
                "node_id": seed.node_id,
                "up": bool(seed.node_id) and self._ground.is_up(seed.node_id),
                "error": seed.last_error,
            }
            for seed in self.seeds
        ]

    def poke(self) -> None:
        """Something changed: look at the seeds again."""
        self._changed.set()

    def _run(self) -> None:
        while self.seeds:
            self._changed.clear()
            now = time.monotonic()
            wait = None
            for seed in self.seeds:
                if seed.dialling or (seed.node_id and self._ground.is_up(seed.node_id)):
                    continue
                if seed.due <= now:
                    seed.dialling = True
                    dial = gevent.spawn(self._dial, seed)
                    self._dials.add(dial)
                    dial.rawlink(self._dials.discard)
                else:
                    wait = seed.due - now if wait is None else min(wait, seed.due - now)
            self._changed.wait(wait)

    def _dial(self, seed: Seed) -> None:
        try:
            node_id = self._ground.dial(seed.address)
        except self._self_dial:
            log.info("%s: seed %s is this node itself", self._ground.id, seed)
            self.seeds.remove(seed)
            self._found_self()
        except (GmpError, OSError) as error:
            seed.failed(time.monotonic(), random.random())
            if str(error) != seed.last_error:
                seed.last_error = str(error)
                log.warning("%s: seed %s cannot be reached: %s; trying on", self._ground.id, seed, error)
        else:
            seed.succeeded(node_id)
            self._seed_up(node_id)
        finally:
            seed.dialling = False
            self._changed.set()
