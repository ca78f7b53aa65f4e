"""A loss that Ctrl-C strikes is told all the same, and once: a strike at each point behind the end of a connection."""

from __future__ import annotations

import os
import sys
import time
from types import FrameType
from typing import Any

import gevent
import pytest

import gmp
from gmp.net.reasons import CloseReason

from .strikes import Striker, strike_each, struck

STRIDE = int(os.environ.get("GMP_STRIDE", "2"))  # 1: every point


def wait(condition: Any, seconds: float = 10.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        gevent.sleep(0.001)
    return True


class Scene:
    """Two nodes that are connected, and a monitor of each kind of a port of the other."""

    def __init__(self, side: str) -> None:
        self.side = side  #: the node that ends the connection
        self.far = gmp.Node("far", binds=["127.0.0.1:0"], secret="geheim").start()
        self.near = gmp.Node("near", binds=[], seeds=self.far.binds, secret="geheim").start()
        self.near.wait_up("far", timeout=20)
        self.echo = self.far.port()
        self.echo.on("echo", lambda value, reply: self.far.send(reply, value))
        self.events: list[bool] = []
        self.reports = False  # whether it was the greenlet of the group's callback that was struck
        self.members: list[bool] = []  # whether the group had one at each call
        self.far.group("workers").join(self.echo)
        self.near.group("workers").wait(1, timeout=20)
        self.near.group("workers").monitor(lambda members, *_keys: self.members.append(bool(members)))
        self.near.monitor_nodes(lambda _node_id, up, *_reason: self.events.append(up))

    def strike(self, striker: Striker, at: int) -> tuple[int, list[str]]:
        """Lose the connection, with a strike at that point; return how many points there are, and what is wrong."""
        near, told = self.near, list[Any]()
        near.wait_up("far", timeout=20)
        near.call(self.echo.id, "echo", 7, timeout=20)
        near.group("workers").wait(1, timeout=20)
        gevent.sleep(0)
        victim, box = near.port(lambda port: port.receive("never")), near.port()
        for watcher in ((victim,), (box, "down"), (lambda *reason: told.append(reason),)):
            near.monitor(self.echo.id, *watcher)
        gevent.sleep(0)
        self.events.clear()
        self.reports = False
        self.members.clear()
        here, there = (near, "far") if self.side == "near" else (self.far, "near")
        connection = here._core.network.peers[there].connection
        striker.arm(at)
        try:
            connection.close(CloseReason.RESET)
            gevent.sleep(0)
            gevent.sleep(0)
        except KeyboardInterrupt:
            pass
        passed = striker.passed
        striker.disarm()
        connection.close(CloseReason.RESET)  # nothing, unless it was struck before it began
        for _ in range(2):  # the interrupt may come to the main greenlet later
            try:
                wrong = self._look(victim, box, told, ran=" _run_jobs " in striker.where or self.reports)
                break
            except KeyboardInterrupt:
                pass
        return passed, [f"{striker.where}: {text}" for text in wrong]

    def interrupt(self) -> None:
        """Strike, and note whether it was the greenlet of the group's callback."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and not self.reports:
            self.reports = frame.f_code.co_name == "_report"
            frame = frame.f_back
        raise KeyboardInterrupt

    def _look(self, victim: gmp.Port, box: gmp.Port, told: list[Any], *, ran: bool) -> list[str]:
        wrong = []
        if not wait(lambda: not victim.alive and not victim.greenlets()):
            wrong.append("a monitor that kills has not fired")
        if not wait(lambda: len(box) == 1):
            wrong.append(f"{len(box)} messages were put")
        if not wait(lambda: len(told) == 1, 0.5 if ran else 10) and not (ran and not told):  # it struck that very greenlet
            wrong.append(f"a callback was called {len(told)} times")
        self.near.wait_up("far", timeout=20)
        if self.near.call(self.echo.id, "echo", 7, timeout=20) != (7,):
            wrong.append("no answer by the next connection")
        wait(lambda: True in self.events)
        if self.events.count(False) != 1 and not ran:
            wrong.append(f"told of the node: {self.events}")
        self.near.group("workers").wait(1, timeout=20)
        # a report that is struck is lost; when the member is there again by the next one, there is nothing to tell
        if not (wait(lambda: self.members == [False, True], 0.5 if ran else 10) or (ran and self.members in ([], [True]))):
            wrong.append(f"told of the group: {self.members}")
        return wrong


@pytest.mark.slow
@pytest.mark.parametrize("side", ["near", "far"])  # far is the seed, and forgets what it knew of a node that it has lost
def test_a_strike_at_each_point_of_a_loss_leaves_nobody_untold(side: str) -> None:
    points, bad = struck("tests.test_struck_losses", side)
    assert points > 50
    assert bad == []


if __name__ == "__main__":
    scene = Scene(sys.argv[1])
    strike_each(scene.strike, stride=STRIDE, strike=scene.interrupt)
