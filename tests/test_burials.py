"""A death that Ctrl-C strikes is told all the same, and once: a strike at each point of what follows a death."""

from __future__ import annotations

import time
from typing import Any

import gevent

import gmp

from .strikes import Striker, strike_each, struck


class Scene:
    """A port with a body, a child of its own, and a monitor of each kind dies."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.target = gmp.port(lambda port: port.receive("never"))
        self.child, self.victim, self.box = gmp.port(), gmp.port(), gmp.port()
        self.target.own(self.child)
        gmp.monitor(self.target, self.victim)
        gmp.monitor(self.target, self.box, "down")
        gmp.monitor(self.target, lambda *reason: self.told.append(reason))
        gevent.sleep(0)

    def look(self, ran: bool) -> list[str]:
        """What is wrong."""
        deadline = time.monotonic() + 2
        while (len(self.told) < 1 or len(self.box) < 1) and time.monotonic() < deadline:
            gevent.sleep(0.001)
        wrong = []
        if self.target.greenlets() or self.target.alive:
            wrong.append("half buried")
        if self.victim.alive:
            wrong.append("a monitor that kills has not fired")
        if len(self.told) != 1 and not (ran and not self.told):  # what is struck may be the callback's own greenlet
            wrong.append(f"a callback was called {len(self.told)} times")
        if len(self.box) != 1:
            wrong.append(f"{len(self.box)} messages were put")
        return wrong


def turn_with_strike(striker: Striker, at: int) -> tuple[int, list[str]]:
    """Let a port die, with a strike at that point of its burial; return how many points there are, and what is wrong."""
    scene = Scene()
    scene.target.kill("struck")
    try:
        striker.arm(at)
        for _ in range(3):
            gevent.sleep(0)
    except KeyboardInterrupt:
        pass
    passed = striker.passed
    striker.disarm()
    ran = " _run_jobs " in striker.where
    try:
        wrong = scene.look(ran)
    except KeyboardInterrupt:
        wrong = scene.look(ran)
    return passed, [f"{striker.where}: {text}" for text in wrong]


def test_a_strike_at_each_point_of_a_burial_leaves_nobody_untold() -> None:
    points, bad = struck("tests.test_burials", timeout=120)
    assert points > 20
    assert bad == []


if __name__ == "__main__":
    gmp.configure(node_id="near", binds=[], seeds=[], secret="geheim")
    strike_each(turn_with_strike, rehearsals=5)
