"""Promises 1 and 2 of DESIGN.md over whole histories of networks that fail at random; and the checker that says so."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import resource
import statistics
from pathlib import Path

import pytest

from tests.addresses import BY_UNIX
from tests.history import Event, History, Network, check

SECONDS = int(os.environ.get("GMP_HISTORY_SECONDS", "60"))
ROUND = 20  # seconds of faults, then all is healed
SEED = int(os.environ.get("GMP_HISTORY_SEED", str(random.randrange(10**9))))


def exchange(*numbers: int, sent: int) -> list[Event]:
    sends: list[Event] = [("send", "a", "b", number) for number in range(sent)]
    return [*sends, *(("receive", "b", "a", "b", number) for number in numbers)]


def test_a_history_without_faults_is_right() -> None:
    assert check([("monitor", "a", "b"), *exchange(0, 1, 2, sent=3)]) == []


def test_the_end_of_a_stream_may_be_lost() -> None:
    assert check(exchange(0, 1, sent=5)) == []


def test_a_hole_that_was_told_is_right() -> None:
    history = [("monitor", "a", "b"), *exchange(0, sent=2), ("down", "a", "b"), ("send", "a", "b", 2)]
    assert check([*history, ("receive", "b", "a", "b", 2)]) == []


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (exchange(0, 2, sent=3), "1 to 1 were lost, never told"),
        (exchange(1, sent=2), "0 to 0 were lost, never told"),
        (exchange(1, 0, sent=2), "again, or out of order"),
        (exchange(0, 0, sent=1), "again, or out of order"),
        (exchange(0, 3, sent=1), "has not sent yet"),
        ([("send", "a", "b", 0), ("receive", "c", "a", "b", 0)], "c received message 0 that a sent to b"),
        ([("monitor", "a", "b"), ("down", "a", "b"), ("down", "a", "b")], "fired twice"),
        (
            # the first of two lost messages was told, but not the second
            [
                ("monitor", "a", "b"),
                ("send", "a", "b", 0),
                ("down", "a", "b"),
                ("send", "a", "b", 1),
                ("send", "a", "b", 2),
                ("receive", "b", "a", "b", 2),
            ],
            "told too early",
        ),
        (
            # told only after the message that came through had been sent
            [
                ("monitor", "a", "b"),
                ("send", "a", "b", 0),
                ("send", "a", "b", 1),
                ("down", "a", "b"),
                ("receive", "b", "a", "b", 1),
            ],
            "never told",
        ),
    ],
)
def test_the_checker_finds_what_is_wrong(history: list[Event], words: str) -> None:
    assert words in "; ".join(check(history))


def test_a_log_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="the log itself"):
        check([("send", "a", "b", 1)])


def memory() -> float:
    """MiB that this process holds, without what the C library keeps for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def test_a_monitor_that_never_fires_is_found_and_what_is_gone_is_forgotten() -> None:
    history = History()
    history.append(("monitor", "a", "b"))
    history.append(("send", "a", "c", 0))
    for _ in range(6):
        history.forget({"a"})
    assert len(history) == 1
    assert history.wrong == ["a monitor of a for b has not fired, but that has been gone for long"]
    history.append(("down", "a", "b"))
    history.forget({"a"})
    assert len(history) == 0


def run(seed: int, seconds: int, folder: Path, *, proxied: bool = True) -> None:
    network = Network(seed, proxied=proxied)
    history = network.history
    held: list[float] = []
    try:
        network.settle(60)
        for left in range(seconds, 0, -ROUND):
            network.misbehave(min(left, ROUND))
            if history.wrong:
                break
            network.settle(60)
            ways = {connection.way.unix for connection in network.connections()}
            assert ways == {not proxied and BY_UNIX}
            held.append(memory())
            counts = f"{dict(history.counts)}, {dict(network.counts)}"
            print(f"seed {seed}, {left} s left: {counts}, {held[-1]:.0f} MiB", flush=True)
    finally:
        network.close()
    if history.wrong:
        (folder / "events").write_text("".join(f"{event}\n" for event in history.last))
    assert history.wrong == [], f"seed {seed}; the last events are in {folder / 'events'}"
    assert history.counts["receive"] > 100
    if seconds >= 1200:
        quarter = len(held) // 4
        second, last = statistics.median(held[quarter : 2 * quarter]), statistics.median(held[-quarter:])
        assert last < 1.1 * second, f"from {second:.0f} to {last:.0f} MiB between the second and the last quarter: {held}"
    assert seconds < 30 or history.counts["down"] > 10


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_few_seconds_of_faults_break_no_promise(tmp_path: Path) -> None:
    run(SEED, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + SECONDS // 4 + 300)
def test_no_promise_is_broken_whatever_fails(tmp_path: Path) -> None:
    run(SEED, SECONDS, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_promise_is_broken_over_unix_sockets(tmp_path: Path) -> None:
    run(SEED, min(SECONDS, ROUND), tmp_path, proxied=False)
