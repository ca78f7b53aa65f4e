"""What peers make a node log is bounded in lines, in each of them, and cannot forge any."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import pytest

import gmp
from gmp.peerlog import LONGEST_LINE, LONGEST_TEXT, LONGEST_TRACEBACK, MOST_OF_KIND, PERIOD, PeerLog
from gmp.showing import printable

from . import functions
from .conftest import Recorder, eventually
from .perl_peer import PerlPeer

MakeNode = Callable[..., gmp.Node]
log = logging.getLogger("gmp")


class Clock:
    """Time that the test moves, with the timers that are set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + seconds, function))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.due <= self.now]:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.function()


class Timer:
    def __init__(self, due: float, function: Callable[[], None]) -> None:
        self.due, self.function, self.cancelled = due, function, False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tell(clock: Clock) -> Callable[..., None]:
    peer_log = PeerLog("here", clock.later, lambda: clock.now)
    return lambda who, text="something", kind="kind": peer_log.tell(log, logging.WARNING, kind, who, text)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_one_line_a_minute_for_each_peer_and_kind_and_the_count_of_the_rest(
    clock: Clock, tell: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20_000):
        tell("a", f"number {number}")
    tell("a", kind="other kind")
    tell("b")
    assert lines(caplog) == ["here: number 0", "here: something", "here: something"]
    caplog.clear()
    clock.advance(PERIOD)
    left_out = f"here: kind: 19999 more lines in the last {PERIOD:.0f} s were left out"
    assert lines(caplog) == [f"{left_out}, the last of them: number 19999"]
    tell("a", "again")
    assert lines(caplog)[1:] == ["here: again"]
    clock.advance(10 * PERIOD)
    assert len(lines(caplog)) == 2  # nothing was left out


def test_many_addresses_get_no_more_lines_in_all(
    clock: Clock, tell: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100_000):
        tell(f"10.0.{number >> 8}.{number & 255}")
    assert len(lines(caplog)) == MOST_OF_KIND
    clock.advance(PERIOD)
    assert len(lines(caplog)) == MOST_OF_KIND + 1
    tell("somebody else")
    assert len(lines(caplog)) == MOST_OF_KIND + 2


def test_what_is_not_logged_at_that_level_is_not_counted(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    peer_log = PeerLog("here", clock.later, lambda: clock.now)
    with caplog.at_level(logging.ERROR, "gmp"):
        for _ in range(5):
            peer_log.tell(log, logging.WARNING, "kind", "a", "text")
    assert not clock.timers
    peer_log.tell(log, logging.WARNING, "kind", "a", "text")
    assert lines(caplog) == ["here: text"]


def test_the_end_of_a_node_tells_what_was_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    peer_log = PeerLog("here", clock.later, lambda: clock.now)
    for _ in range(3):
        peer_log.tell(log, logging.WARNING, "kind", "a", "text")
    peer_log.sum_up()
    assert "2 more lines" in lines(caplog)[-1]
    assert [timer.cancelled for timer in clock.timers] == [True]


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "bell\x07", "\u202eright to left", "\r\nforged: line"])
def test_nothing_in_a_peers_text_forges_a_line_or_changes_a_terminal(
    tell: Callable[..., None], caplog: pytest.LogCaptureFixture, text: str
) -> None:
    tell("a", text)
    assert lines(caplog) == [f"here: {printable(text, LONGEST_TEXT)}"]
    assert lines(caplog)[0].isprintable()


def test_a_long_text_is_cut_and_says_so(tell: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    tell("a", "begin" + "\x00" * 20_000_000 + "end")
    (line,) = lines(caplog)
    assert len(line) < 5 * LONGEST_TEXT
    assert line.startswith("here: begin")
    assert line.endswith("end")
    assert "characters left out" in line


def test_every_line_of_the_library_is_cut_with_its_traceback() -> None:
    for name in ("gmp", "gmp.net", "gmp.mesh", "gmp.services"):
        logger, stream = logging.getLogger(name), io.StringIO()
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        try:
            raise ValueError("\x1b" + "x" * 1_000_000 + "the end")
        except ValueError as error:
            logger.error("%s\nsecond line", error, exc_info=error)
        finally:
            logger.removeHandler(handler)
        text = stream.getvalue()
        assert len(text) < LONGEST_LINE + LONGEST_TRACEBACK + 1000
        assert "\x1b" not in text
        assert "second line" in text
        assert text.rstrip().endswith("the end")


def test_a_peers_refused_requests_are_one_line_each_kind(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    """Also of different names, with long and multi-line ones among them, and by way of what it spawns and calls."""
    functions.calls = Recorder()
    node = make_node("gmp", allow=["tests.functions"], leave_timeout=0.1)
    huge = "x" * 1_000_000 + "\n\x1b"
    with caplog.at_level(logging.WARNING, "gmp"), PerlPeer.dial(node.binds[0]) as perl:
        for number in range(2000):
            perl.request("kil1", "", "bad")
            perl.request(f"unknown{number}", 1)
            perl.request("tests.functions:fail")
            perl.request("AnyEvent::MP::_spawn", f"name{number}", f"os:function{number}")
        for text in (huge, "a\nb"):
            for name in ("kil1", "snd", "can", "AnyEvent::MP::_spawn", text, f"{text}:{text}", "eval"):
                perl.request(name, text, text, text)
        perl.barrier()
        eventually(lambda: "as asked" in caplog.text)
        records = list(caplog.records)
        assert len(records) <= 4
        assert all(len(record.getMessage()) < 3000 for record in records)
        assert perl.call("gmp", "time")
        node.close()
    assert [line for line in lines(caplog) if "request ignored: " in line and "more lines" in line]
