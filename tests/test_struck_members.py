"""A member of a group that comes or goes does so everywhere, wherever Ctrl-C strikes, and so does what is set afterwards."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import gevent
import pytest

import gmp

from .strikes import Striker, strike_each, struck
from .test_struck_losses import wait

STRIDE = int(os.environ.get("GMP_STRIDE", "2"))  # 1: every point


class Scene:
    """Two nodes: a seed, and its slave."""

    def __init__(self, owner: str) -> None:
        seed = gmp.Node("seed", binds=["127.0.0.1:0"], seeds=[], secret="geheim").start()
        slave = gmp.Node("slave", binds=[], seeds=seed.binds, secret="geheim").start()
        slave.wait_up(timeout=20)
        self.own, self.other = (seed, slave) if owner == "seed" else (slave, seed)
        self.seen: dict[str, set[Any]] = {"seed": set(), "slave": set()}  # what a monitor of the group was told there
        for node in (seed, slave):
            node.group("workers").monitor(lambda members, *_keys, node=node: self.seen.update({node.id: set(members)}))

    def strike(self, striker: Striker, at: int) -> tuple[int, list[str]]:
        """Let one member leave, one join, and one die, with a strike at that point."""
        workers = self.own.group("workers")
        leaving, joining, dying, later = (self.own.port() for _ in range(4))
        workers.join(leaving)
        workers.join(dying)
        wait(lambda: self._is_seen({leaving.id, dying.id}))
        dying.kill()
        striker.arm(at)
        try:
            workers.leave(leaving)
            workers.join(joining, 7)
            gevent.sleep(0)
            gevent.sleep(0)
        except KeyboardInterrupt:
            pass
        passed, wrong = striker.passed, list[str]()
        striker.disarm()
        for _ in range(2):  # the interrupt may come to the main greenlet later
            try:
                workers.join(later)
                if not wait(partial(self._agree, dying.id, later.id), 3):
                    for node in (self.own, self.other):
                        for what in (set(node.group("workers").members()), self.seen[node.id]):
                            wrong.append(f"{node.id} has {self._named(what, leaving, joining, dying, later)}")
                break
            except KeyboardInterrupt:
                pass
        for port in (leaving, joining, later):
            port.kill()  # whoever is a member still leaves by that
        if not wait(lambda: self._is_seen(set()), 3):
            wrong.append(f"dead, and members still: {[self.seen[node.id] for node in (self.own, self.other)]}")
        return passed, [f"{striker.where}: {text}" for text in wrong]

    @staticmethod
    def _named(members: set[Any], *ports: gmp.Port) -> list[str]:
        names = ("leaving", "joining", "dying", "later")
        return [name for name, port in zip(names, ports, strict=True) if port.id in members]

    def _agree(self, dead: str, alive: str) -> bool:
        members = set(self.own.group("workers").members())
        return dead not in members and alive in members and self._is_seen(members)

    def _is_seen(self, members: set[Any]) -> bool:
        nodes = self.own, self.other
        return all(set(node.group("workers").members()) == self.seen[node.id] == members for node in nodes)


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["seed", "slave"])
def test_a_strike_at_each_point_of_a_change_leaves_no_ghost(owner: str) -> None:
    points, bad = struck("tests.test_struck_members", owner)
    assert points > 50
    assert bad == []


if __name__ == "__main__":
    strike_each(Scene(sys.argv[1]).strike, stride=STRIDE)
