"""What a node may have in groups and families is counted rightly, wherever Ctrl-C strikes a change."""

from __future__ import annotations

import gevent

import gmp

from .strikes import Striker, strike_each, struck

MOST = 3


def turn_with_strike(striker: Striker, at: int) -> tuple[int, list[str]]:
    """Add, change and delete entries with a strike at that point; then there must be room for as many as before."""
    family = gmp.node().family("few")
    family.set("kept", 1)
    try:
        striker.arm(at)
        family.set("kept", "another")
        family.set("new", "value")
        family.delete("new")
    except KeyboardInterrupt:
        pass
    passed = striker.passed
    striker.disarm()
    where, wrong = striker.where, list[str]()
    for _ in range(2):
        try:
            gevent.sleep(0.002)
            for key in list(family.items()):
                family.delete(key)
            for number in range(MOST):
                family.set(str(number), number)
            try:
                family.set("one too many")
                wrong.append(f"{where}: there is room for more")
            except gmp.GmpError:
                pass
            break
        except KeyboardInterrupt:  # it may come to the main greenlet later
            pass
        except gmp.GmpError as error:
            wrong.append(f"{where}: {error}")
            break
    for key in list(family.items()):
        family.delete(key)
    return passed, wrong


def test_a_strike_at_each_point_of_a_change_takes_no_room() -> None:
    points, bad = struck("tests.test_struck_quota", timeout=100)
    assert points > 20
    assert bad == []


if __name__ == "__main__":
    gmp.configure(node_id="few", binds=["127.0.0.1:0"], secret="geheim", max_entries=1 + MOST)  # its addresses are one
    strike_each(turn_with_strike)
