"""`gmp logs`, run as a user would, against processes that log."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

import gmp
from tests.conftest import eventually

MakeNode = Callable[..., gmp.Node]


class Process:
    """A process whose output lines are waited for."""

    def __init__(self, *arguments: str) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.process: Any = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._readers = [
            gevent.spawn(self._read, self.process.stdout, self.lines),
            gevent.spawn(self._read, self.process.stderr, self.errors),
        ]

    def _read(self, file: Any, lines: list[str]) -> None:
        lines.extend(line.decode().rstrip("\n") for line in file)

    def wait_line(self, text: str) -> str:
        eventually(lambda: any(text in line for line in self.lines) or self.process.poll() is not None, 30)
        return next((line for line in self.lines if text in line), "") or pytest.fail(f"no {text!r}: {self.errors}")

    def wait_end(self) -> int:
        with gevent.Timeout(30, AssertionError("the process did not end")):
            gevent.joinall(self._readers)
            return int(self.process.wait())

    def end(self) -> None:
        self.process.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
        self.wait_end()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Process]]:
    monkeypatch.setenv("GMP_SECRET", "geheim")
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def network(make_node: MakeNode, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch) -> tuple[gmp.Node, str]:
    """A seed here, a process that logs, and the port there that makes it log."""
    node = make_node("seed")
    monkeypatch.setenv("GMP_SEEDS", node.binds[0])
    start("tests.log_child", "child", node.binds[0])
    [port] = node.group("loggers").wait(timeout=30)
    return node, port


def gmp_logs(start: Callable[..., Process], *arguments: str) -> Process:
    return start("gmp.cli.main", "logs", *arguments)


def say_until_seen(network: tuple[gmp.Node, str], process: Process, text: str, level: int = 30) -> str:
    """Have the child log until the command shows it; return the line."""

    def seen() -> bool:
        network[0].send(network[1], "log", "app.web", level, text)
        gevent.sleep(0.05)
        return any(text in line for line in process.lines) or process.process.poll() is not None

    eventually(seen, 30)
    return process.wait_line(text)


def test_lines_are_printed_live_with_level_node_and_logger(
    network: tuple[gmp.Node, str], start: Callable[..., Process]
) -> None:
    process = gmp_logs(start, "--level", "warning")
    line = say_until_seen(network, process, "first")
    assert "WARNING  child app.web: first" in line
    network[0].send(network[1], "log", "app.web", 20, "too low")
    network[0].send(network[1], "log", "app", 50, "two\nlines \x1b[31m")
    process.wait_line("CRITICAL child app: two")
    assert process.wait_line("lines") == "    lines \\x1b[31m"
    assert not any("too low" in line for line in process.lines)
    os.kill(process.process.pid, signal.SIGINT)
    assert process.wait_end() == 130
    assert "Traceback" not in "\n".join(process.errors)


@pytest.mark.slow
def test_a_node_that_has_the_service_off_is_named_with_the_cure(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Process]
) -> None:
    monkeypatch.setenv("GMP_SEEDS", make_node("seed").binds[0])
    process = gmp_logs(start)
    eventually(lambda: process.errors, 30)
    assert "off: seed (gmp run --service gmp.services.logcatcher:send_logs" in process.errors[0]


@pytest.mark.slow
def test_json_names_every_field_and_for_ends_it(network: tuple[gmp.Node, str], start: Callable[..., Process]) -> None:
    process = gmp_logs(start, "--json", "--node", "child", "--for", "3", "--level", "25")
    found = json.loads(say_until_seen(network, process, "hello", 25))
    assert found["time"] > 1.6e9
    del found["time"]
    assert found == {"node": "child", "level": 25, "level_name": "NOTE", "logger": "app.web", "text": "hello"}
    assert process.wait_end() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--level", "loud"), 2, "'loud' is no log level"),
        (("--node", "nowhere", "-t", "1"), 3, "nowhere cannot be reached"),
        pytest.param(("--node", "a#b"), 2, "'a#b' is a port", marks=pytest.mark.slow),
        pytest.param(("--for", "-1"), 2, "--for", marks=pytest.mark.slow),
        pytest.param(("--seed", "127.0.0.1:1", "-t", "1"), 3, "no seed can be reached", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_is_told(
    make_node: MakeNode,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., Process],
    arguments: tuple[str, ...],
    code: int,
    text: str,
) -> None:
    monkeypatch.setenv("GMP_SEEDS", make_node("seed").binds[0])
    process = gmp_logs(start, *arguments)
    assert process.wait_end() == code
    assert text in "\n".join(process.errors)
    assert "Traceback" not in "\n".join(process.errors)


@pytest.mark.slow
def test_a_wrong_secret_is_told(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Process]
) -> None:
    monkeypatch.setenv("GMP_SEEDS", make_node("seed").binds[0])
    monkeypatch.setenv("GMP_SECRET", "another")
    process = gmp_logs(start, "-t", "3")
    assert process.wait_end() == 3
    assert "Traceback" not in "\n".join(process.errors)
