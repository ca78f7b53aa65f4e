"""Logs of all nodes: `LogSender` and `LogCatcher`, between processes, between nodes of this one, and with Perl."""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.services import logcatcher, logline
from gmp.services.logcatcher import LogCatcher, LogLine, LogSender, relog
from tests.conftest import Recorder, eventually
from tests.perl_peer import PerlPeer
from tests.processes import Processes

MakeNode = Callable[..., gmp.Node]
LOG_CHILD = "tests.log_child"
CONNECT = "AnyEvent::MP::LogCatcher::connect"


class Lines(Recorder):
    """The lines that were caught."""

    @property
    def lines(self) -> list[LogLine]:
        return [call[0] for call in self.calls]

    def wait_text(self, text: str, timeout: float = 20.0) -> LogLine:
        eventually(lambda: any(line.text == text for line in self.lines), timeout)
        return next(line for line in self.lines if line.text == text)

    def total(self) -> int:
        """Lines that came, and those that were told to be dropped."""
        dropped = [re.match(r"(\d+) lines were dropped", line.text) for line in self.lines]
        return sum(1 if match is None else int(match[1]) for match in dropped)


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger whose records go nowhere else."""
    logger = logging.getLogger("tests.logs")
    logger.setLevel(1)
    logger.propagate = False
    yield logger
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def pair(make_node: MakeNode) -> tuple[gmp.Node, gmp.Node]:
    """Two nodes: where is logged, where is caught."""
    source = make_node("source")
    return source, make_node("catcher", seeds=source.binds)


def logger_port(node: gmp.Node, node_id: str) -> str:
    """The port of a child that logs what it is told."""
    members: list[str] = []

    def found() -> bool:
        members[:] = [port for port in node.group("loggers").members() if gmp.node_of(port) == node_id]
        return bool(members)

    eventually(found, 30)
    return members[0]


# ---- between processes


def test_records_of_every_node_arrive_with_node_level_time_and_logger(
    make_node: MakeNode, processes: Processes, lines: Lines
) -> None:
    node = make_node("seed")
    before = time.time()
    with LogCatcher(lines, level="DEBUG", node=node) as catcher:
        for name in ("one", "two"):
            processes.start(name, *node.binds, program=LOG_CHILD)
        eventually(lambda: catcher.catching == ["one", "two"], 30)
        for name in ("one", "two"):
            node.send(logger_port(node, name), "log", f"app.{name}", logging.ERROR, f"from {name}")
        for name in ("one", "two"):
            line = lines.wait_text(f"from {name}")
            assert line[:1] + line[2:4] == (name, logging.ERROR, f"app.{name}")
            assert before - 1 < line.time < time.time() + 1
    assert not catcher.catching


def test_a_node_that_dies_and_comes_back_is_caught_again(
    make_node: MakeNode, processes: Processes, lines: Lines
) -> None:
    node = make_node("seed")
    with LogCatcher(lines, node=node) as catcher:
        child = processes.start("child", *node.binds, program=LOG_CHILD)
        eventually(lambda: catcher.catching == ["child"], 30)
        child.kill(signal.SIGKILL)
        eventually(lambda: catcher.catching == [])
        processes.start("child", *node.binds, program=LOG_CHILD)
        eventually(lambda: catcher.catching == ["child"], 30)
        node.send(logger_port(node, "child"), "log", "app", logging.INFO, "back")
        assert lines.wait_text("back").node == "child"


@pytest.mark.slow
def test_a_flood_of_a_process_is_bounded_and_every_line_is_counted(
    make_node: MakeNode, processes: Processes, lines: Lines
) -> None:
    node = make_node("seed")
    processes.start("child", *node.binds, program=LOG_CHILD)
    with LogCatcher(lines, node=node) as catcher:
        eventually(lambda: catcher.catching == ["child"], 30)
        port = logger_port(node, "child")
        for _ in range(10):
            node.send(port, "flood", 5000)
        eventually(lambda: lines.total() >= 50_000, 40)
        assert lines.total() == 50_000
        assert len(lines.lines) < 40_000


# ---- between nodes of this process


def test_a_line_below_the_level_is_not_sent(pair: tuple[gmp.Node, gmp.Node], lines: Lines, logger: logging.Logger) -> None:
    source, target = pair
    with LogSender(source, logger=logger.name), LogCatcher(lines, level=logging.WARNING, node=target) as catcher:
        eventually(lambda: catcher.catching == ["source"])
        eventually(lambda: source.call("catcher", "time"))
        logger.info("too low")
        logger.warning("high enough")
        lines.wait_text("high enough")
        assert len(lines.lines) == 1


def test_the_senders_own_level_holds_too(pair: tuple[gmp.Node, gmp.Node], lines: Lines, logger: logging.Logger) -> None:
    source, target = pair
    with LogSender(source, level="error", logger=logger.name), LogCatcher(lines, level=0, node=target):
        caught_from(source, lines, logger, logging.CRITICAL)
        logger.warning("too low")
        logger.error("high enough")
        lines.wait_text("high enough")
        assert "too low" not in [line.text for line in lines.lines]


def caught_from(source: gmp.Node, lines: Lines, logger: logging.Logger, level: int = logging.ERROR) -> None:
    """Wait until what is logged arrives."""

    def arrived() -> bool:
        logger.log(level, "hello")
        gevent.sleep(0.02)
        return any(line.node == source.id for line in lines.lines)

    eventually(arrived)


def test_an_exception_and_a_thread_and_an_odd_text_arrive(
    pair: tuple[gmp.Node, gmp.Node], lines: Lines, logger: logging.Logger
) -> None:
    source, target = pair
    with LogSender(source, logger=logger.name), LogCatcher(lines, node=target):
        caught_from(source, lines, logger)
        try:
            raise ValueError("that is why")
        except ValueError:
            logger.exception("it failed")
        eventually(lambda: any("it failed\nTraceback" in line.text and "that is why" in line.text for line in lines.lines))
        gevent.get_hub().threadpool.apply(logger.error, ("from a thread",))
        lines.wait_text("from a thread")
        logger.error("file %s", b"\xff".decode("utf-8", "surrogateescape"))
        lines.wait_text("file \\udcff")
        logger.error("x" * 100_000)
        eventually(lambda: any(len(line.text) == logline.MOST_TEXT for line in lines.lines))


def test_a_service_that_is_switched_on_later_and_again_is_found(
    pair: tuple[gmp.Node, gmp.Node], lines: Lines, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logcatcher, "ASK_AGAIN", 0.05)
    source, target = pair
    with LogCatcher(lines, node=target) as catcher:
        source.wait_up("catcher", timeout=20)
        for round_ in range(2):
            assert catcher.catching == []
            with LogSender(source, logger=logger.name) as sender:
                eventually(lambda sender=sender: sender.catchers)
                logger.info("round %d", round_)
                lines.wait_text(f"round {round_}")
            eventually(lambda: catcher.catching == [])
    assert len(lines.lines) == 2


def test_one_node_has_one_sender(pair: tuple[gmp.Node, gmp.Node], logger: logging.Logger) -> None:
    with LogSender(pair[0], logger=logger.name), pytest.raises(gmp.ConfigError, match="LogCatcher"):
        LogSender(pair[0])


def test_catchers_that_log_what_they_catch_do_not_feed_each_other(
    pair: tuple[gmp.Node, gmp.Node], logger: logging.Logger
) -> None:
    one, two = pair
    seen = [Lines(), Lines()]
    other = logging.getLogger("tests.logs.other")
    other.propagate = False

    def note(recorder: Lines, log: logging.Logger) -> Callable[[LogLine], None]:
        def action(line: LogLine) -> None:
            recorder(line)
            log.error("caught: %s", line.text)
            relog(line)

        return action

    with (
        LogSender(one, logger=logger.name),
        LogSender(two, logger=other.name),
        LogCatcher(note(seen[0], logger), node=one) as first,
        LogCatcher(note(seen[1], other), node=two) as second,
    ):
        eventually(lambda: first.catching and second.catching)
        caught_from(one, seen[1], logger)
        caught_from(two, seen[0], other)
        for recorder in seen:
            assert {line.text for line in recorder.lines} == {"hello"}
        counts = [len(recorder.lines) for recorder in seen]
        for _ in range(5):
            one.call("catcher", "time")
            two.call("source", "time")
        assert [len(recorder.lines) for recorder in seen] == counts
    other.propagate = True


def test_relog_logs_a_caught_line_here_with_its_node_and_time() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler(1)
    handler.emit = records.append  # type: ignore[method-assign]
    caught = logging.getLogger("gmp.caught")
    caught.addHandler(handler)
    try:
        relog(LogLine("far", 12.5, logging.ERROR, "app.db", "100% gone"))
    finally:
        caught.removeHandler(handler)
    [record] = records
    assert (record.name, record.levelname, record.getMessage(), record.created) == ("app.db", "ERROR", "100% gone", 12.5)
    assert record.__dict__["node"] == "far"


def test_a_slow_callback_loses_lines_that_are_counted(
    pair: tuple[gmp.Node, gmp.Node], logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logcatcher, "MOST_WAITING", 10)
    source, target = pair
    lines, go_on = Lines(), gevent.event.Event()

    def slow(line: LogLine) -> None:
        lines(line)
        go_on.wait()

    with LogSender(source, logger=logger.name) as sender, LogCatcher(slow, node=target):
        eventually(lambda: sender.catchers)
        for number in range(100):
            logger.info("line %d", number)
        lines.wait(1)
        source.call("catcher", "time")
        go_on.set()
        eventually(lambda: lines.total() == 100)
        assert 2 <= len(lines.lines) <= 12


def test_a_flood_is_bounded_where_it_arises(pair: tuple[gmp.Node, gmp.Node], lines: Lines, logger: logging.Logger) -> None:
    source, target = pair
    with LogSender(source, logger=logger.name) as sender, LogCatcher(lines, node=target):
        eventually(lambda: sender.catchers)
        for number in range(10_000):  # without a pause, so that nothing is sent in between
            logger.info("line %d", number)
        eventually(lambda: lines.total() >= 10_000)
        assert lines.total() == 10_000
        assert sender.dropped == 8000
        assert len(lines.lines) < 2500
        logger.info("afterwards")
        lines.wait_text("afterwards")


def test_lines_go_to_a_port_as_messages(pair: tuple[gmp.Node, gmp.Node], logger: logging.Logger) -> None:
    source, target = pair
    port = target.port()
    with LogSender(source, logger=logger.name) as sender, LogCatcher(port, node=target):
        eventually(lambda: sender.catchers)
        logger.warning("hello")
        node_id, _, level, name, text = port.receive("log", timeout=20)
        assert (node_id, level, name, text) == ("source", logging.WARNING, logger.name, "hello")


def test_a_callback_that_fails_ends_the_catcher_and_its_port_tells(
    pair: tuple[gmp.Node, gmp.Node], recorder: Recorder, logger: logging.Logger
) -> None:
    source, target = pair
    with LogSender(source, logger=logger.name) as sender:
        catcher = LogCatcher(lambda line: 1 / 0, node=target)
        target.monitor(catcher.port, recorder)
        eventually(lambda: sender.catchers)
        logger.error("hello")
        assert recorder.wait()[0][:2] == ("die", "ZeroDivisionError: division by zero")
        eventually(lambda: sender.catchers == [])  # its ports are gone, so nothing is sent any more


def test_only_the_named_nodes_are_visited(make_node: MakeNode, lines: Lines) -> None:
    seed = make_node("seed", leave_timeout=0.1)  # what waits for nowhere need not hold up its end
    for name in ("one", "two"):
        make_node(name, seeds=seed.binds)
    with LogCatcher(lines, nodes=["two", "nowhere"], node=seed) as catcher:
        eventually(lambda: seed.is_up("two"))
        assert sorted(catcher._visits) == ["nowhere", "two"]


def test_the_end_of_the_node_ends_sender_and_catcher(make_node: MakeNode, lines: Lines, logger: logging.Logger) -> None:
    node = make_node("alone")
    sender, catcher = LogSender(node, logger=logger.name), LogCatcher(lines, node=node)
    node.close()
    eventually(lambda: sender not in logger.handlers)
    assert not catcher.port.alive
    logger.error("nobody listens")
    sender.close()
    catcher.close()


@pytest.mark.parametrize("level", ["loud", -1, None, True, ""])
def test_a_level_that_is_none_is_refused(make_node: MakeNode, level: Any) -> None:
    node = make_node("alone")
    with pytest.raises(gmp.ConfigError, match="WARNING"):
        LogCatcher(print, level=level, node=node)


# ---- with Perl


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_catches_what_is_logged_here(make_node: MakeNode, logger: logging.Logger, framing: str) -> None:
    node = make_node("source")
    with LogSender(node, logger=logger.name) as sender:
        with PerlPeer.dial(node.binds[0], framing=framing) as peer:
            port = peer.port()
            name = port.partition("#")[2]
            peer.request(CONNECT, 0, port, 5)
            peer.expect("", "mon1", name)
            logger.info("too low")
            before = time.time()
            logger.warning("Vorsicht, hier wird's glätter als gedacht")
            seconds, context, level, text = peer.expect(name)
            assert (context, level) == (logger.name, 5)
            assert text.encode("latin-1").decode() == "Vorsicht, hier wird's glätter als gedacht"  # Perl prints octets
            assert before - 1 < seconds < time.time() + 1
            peer.request(CONNECT, "0", port, "9")  # Perl may turn numbers into texts; the level is changed
            eventually(lambda: sender._catchers[port].level == 9)
            logger.log(1, "trace")
            assert peer.expect(name)[2:] == [9, "trace"]
            peer.kil(port, "gone")
            eventually(lambda: sender.catchers == [])
            port = peer.port()
            peer.request(CONNECT, 0, port, 9)
            eventually(lambda: sender.catchers == [port])
        eventually(lambda: sender.catchers == [])  # its connection has ended
        logger.error("nobody listens")


@pytest.mark.parametrize(
    "request_",
    [[], [0], [0, "P#lp"], [1, "P#lp", 5], [0, "P", 5], [0, 7, 5], [0, "P#lp", "x"], [None] * 3, [0, [0], {}]],
)
def test_a_request_that_makes_no_sense_is_refused(
    make_node: MakeNode, logger: logging.Logger, request_: list[Any]
) -> None:
    node = make_node("source")
    with LogSender(node, logger=logger.name) as sender, PerlPeer.dial(node.binds[0]) as peer:
        port = peer.port()
        peer.request(CONNECT, *request_)
        peer.request(CONNECT, 0, port, 5)
        eventually(lambda: sender.catchers)
        assert sender.catchers == [port]


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_lines_of_a_perl_node_are_caught_and_it_is_asked_once(
    make_node: MakeNode, lines: Lines, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setattr(logcatcher, "ASK_AGAIN", 0.2)
    node = make_node("catcher")
    with LogCatcher(lines, node=node) as catcher, PerlPeer.dial(node.binds[0], "perl", framing=framing) as peer:
        version, port, level = peer.expect("", CONNECT)
        assert (version, level) == (0, 7)
        peer.snd(port, 1700000000.25, "My::Module", 5, "a warning\n")
        assert lines.wait_text("a warning") == LogLine("perl", 1700000000.25, logging.WARNING, "My::Module", "a warning")
        peer.snd(port, "1700000000", "My::Module", "1", "schön fatal")
        assert lines.wait_text("schön fatal").level == logging.CRITICAL
        for nonsense in ([], ["can"], [1, 2], ["x", "y", "z", "w"], [None, None, None, None], [0, "a", "inf", "b"]):
            peer.snd(port, *nonsense)
        peer.snd(port, 0, "My::Module", 6, "a note")
        assert lines.wait_text("a note").level == logline.NOTE
        assert catcher.catching == ["perl"]
        peer.log.clear()
        gevent.sleep(1)  # five times the pause after which a gmp node is asked again
        peer.barrier()
        assert not [message for message in peer.log if message[:2] in (["", "can"], ["", CONNECT])]


# ---- levels


@given(st.integers(0, 60), st.integers(0, 60))
def test_levels_keep_their_order_on_both_scales(one: int, two: int) -> None:
    if one >= two:
        assert logline.to_perl(one) <= logline.to_perl(two)
    assert logline.to_perl(logline.from_perl(logline.to_perl(one))) == logline.to_perl(one)
    assert logline.from_perl(logline.to_perl(one)) <= max(one, logline.TRACE)


def test_octets_of_perl_are_read_as_text() -> None:
    line = logline.parse_line("perl", (1.5, b"My::Module", 7, "glätte".encode("latin-1")))
    assert line == LogLine("perl", 1.5, logging.INFO, "My::Module", "glätte")
    assert logline.as_text("glätte".encode()) == "glätte"


def test_levels_are_parsed_by_name_and_number() -> None:
    assert [logline.parse_level(level) for level in ("info", "WARN", "Note", "15", 0)] == [20, 30, 25, 15, 0]
    assert [logline.level_name(level) for level in (50, 25, 5, 20)] == ["CRITICAL", "NOTE", "TRACE", "INFO"]
