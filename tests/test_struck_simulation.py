"""A simulation whose beginning Ctrl-C strikes leaves the outside as it was: a strike at each point."""

from __future__ import annotations

import gc
import time

import gevent
from gevent.hub import get_hub

import gmp
from gmp.outside import clock
from gmp.testing.simulation import Simulation

from .strikes import Striker, strike_each, struck


def turn_with_strike(striker: Striker, at: int) -> tuple[int, list[str]]:
    """Begin a simulation with a strike at that point, and one without."""
    hub, frozen = get_hub(), gc.get_freeze_count()
    simulation, began = Simulation(), False
    try:
        striker.arm(at)
        simulation.__enter__()
        began = True
    except KeyboardInterrupt:
        pass
    passed = striker.passed
    striker.disarm()
    if began:
        simulation.__exit__(None, None, None)
    wrong = []
    if get_hub() is not hub:
        wrong.append("another event loop")
    if abs(clock.monotonic() - time.monotonic()) > 60:
        wrong.append("another clock")
    if not gc.isenabled():
        wrong.append("no garbage is collected")
    if gc.get_freeze_count() > frozen:
        wrong.append("garbage is frozen")
    try:
        with Simulation(seed=1) as again:
            again.node("here")
            again.run(10)
    except Exception as error:
        wrong.append(f"no other simulation: {error!r}")
    gevent.sleep(0)
    return passed, [f"{striker.where}: {text}" for text in wrong]


def test_a_strike_at_each_point_of_the_beginning_changes_nothing_outside() -> None:
    points, bad = struck("tests.test_struck_simulation", timeout=100)
    assert points > 10
    assert bad == []


if __name__ == "__main__":
    assert gmp.node()
    strike_each(turn_with_strike)
