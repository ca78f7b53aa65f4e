"""A timer that Ctrl-C strikes when it is due fires all the same, and once: a strike at each point."""

from __future__ import annotations

import sys
import time
from typing import Any

import gevent
import pytest

import gmp
from gmp.ports.timers import Timer

from .strikes import Striker, strike_each, struck


def due(kind: str, calls: list[Any]) -> Timer:
    """A timer that is due at once."""
    if kind == "callback":
        return gmp.after(0, calls.append, 1)
    return Timer(0, lambda: calls.append(1))  # of which nobody knows whether it can be called twice


def turn_with_strike(striker: Striker, at: int) -> tuple[int, list[str]]:
    """Let a timer be due, with a strike at that point."""
    calls: list[Any] = []
    kept = due(sys.argv[1], calls)
    try:
        striker.arm(at)
        for _ in range(4):
            gevent.sleep(0.001)
    except KeyboardInterrupt:
        pass
    passed, ran = striker.passed, " _run_jobs " in striker.where
    striker.disarm()
    for _ in range(2):
        try:
            deadline = time.monotonic() + 0.5
            while not calls and not ran and time.monotonic() < deadline:
                gevent.sleep(0.001)
            gevent.sleep(0.005)
        except KeyboardInterrupt:  # it comes to the main greenlet in a callback of its own
            pass
    kept.cancel()
    wrong = [] if calls == [1] or (ran and not calls) else [f"{striker.where}: called {len(calls)} times"]
    return passed, wrong


@pytest.mark.parametrize("kind", ["callback", "action"])
def test_a_timer_fires_once_wherever_it_is_struck(kind: str) -> None:
    points, bad = struck("tests.test_struck_timers", kind, timeout=60)
    assert points >= 1
    assert bad == []


def test_what_an_action_raises_ends_its_timer(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise ZeroDivisionError

    timer = Timer(0, fails, again=True)
    hub = gevent.get_hub()
    errors: list[Any] = []
    hub.handle_error, before = lambda *args: errors.append(args[1]), hub.handle_error
    try:
        gevent.sleep(0.02)
    finally:
        hub.handle_error = before
    assert (calls, errors) == ([1], [ZeroDivisionError])
    timer.cancel()


if __name__ == "__main__":
    strike_each(turn_with_strike)
