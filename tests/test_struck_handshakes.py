"""Whoever dials is told what came of it, wherever Ctrl-C strikes; and the node can be reached afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import gevent
import pytest

import gmp
from gmp.config import Address, parse_bind
from gmp.net.reasons import CloseReason
from tests.strikes import Striker

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
        return passed, [f"{at} {striker.where}: {text}" for text in wrong]

    def _dial(self) -> None:
        try:
            self.near._core.network.dial(self.address)
        except (gmp.GmpError, OSError):
            pass  # it is told


def main() -> None:
    """Strike at each point once; print what was wrong."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    gevent.get_hub().exception_stream = None
    scene = Scene()
    striker = Striker(interrupt)
    points = max(scene.strike(striker, -1)[0] for _ in range(3))
    bad: list[str] = []
    for at in range(1, points + 1, STRIDE):
        bad += scene.strike(striker, at)[1]
    print(json.dumps({"points": points, "bad": bad}), flush=True)
    os._exit(0)


@pytest.mark.slow
def test_a_strike_at_each_point_of_a_handshake_leaves_nobody_waiting() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.test_struck_handshakes"], capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["points"] > 100
    assert told["bad"] == []


if __name__ == "__main__":
    main()
