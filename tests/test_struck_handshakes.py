"""Whoever dials is told what came of it, wherever Ctrl-C strikes; and the node can be reached afterwards."""

from __future__ import annotations

import os
from typing import Any

import gevent
import pytest

import gmp
from gmp.config import Address, parse_bind
from gmp.net.reasons import CloseReason

from .strikes import Striker, strike_each, struck

STRIDE = int(os.environ.get("GMP_STRIDE", "13"))  # 1: every point


class Scene:
    """A node that listens, and one that dials it."""

    def __init__(self) -> None:
        self.far = gmp.Node("far", binds=["127.0.0.1:0"], seeds=[], secret="geheim").start()
        self.near = gmp.Node("near", binds=[], seeds=self.far.binds, secret="geheim").start()
        self.near.wait_up("far", timeout=20)
        self.address: Address = parse_bind(self.far.binds[0])
        self.echo = self.far.port()
        self.echo.on("echo", lambda value, reply: self.far.send(reply, value))

    def strike(self, striker: Striker, at: int) -> tuple[int, list[str]]:
        """Dial, with a strike at that point; return how many points there are, and what is wrong."""
        network = self.near._core.network
        greenlet = gevent.spawn(self._dial)
        striker.arm(at)
        try:
            greenlet.join(timeout=15)
        except KeyboardInterrupt:
            pass
        passed, wrong = striker.passed, []
        striker.disarm()
        for _ in range(2):  # the interrupt may come to the main greenlet later
            try:
                greenlet.join(timeout=15)
                if not greenlet.ready():
                    wrong.append("whoever dials waits for ever")
                self.near.wait_up("far", timeout=20)
                if self.near.call(self.echo.id, "echo", 7, timeout=20) != (7,):
                    wrong.append("no answer")
                break
            except KeyboardInterrupt:
                pass
            except gmp.PortDied:  # a connection that was struck
                continue
        for node in (self.near, self.far):
            left = [each for each in node._core.network.handshakes.pending if each.up]
            if left:
                wrong.append(f"{node.id}: up, and in handshake still: {left}")
        way: Any = network.peers["far"].connection
        if way is not None:
            way.close(CloseReason.RESET)
        return passed, [f"{striker.where}: {text}" for text in wrong]

    def _dial(self) -> None:
        try:
            self.near._core.network.dial(self.address)
        except (gmp.GmpError, OSError):
            pass  # it is told


@pytest.mark.slow
def test_a_strike_at_each_point_of_a_handshake_leaves_nobody_waiting() -> None:
    points, bad = struck("tests.test_struck_handshakes")
    assert points > 100
    assert bad == []


if __name__ == "__main__":
    strike_each(Scene().strike, stride=STRIDE)
