"""How a program can end: what its peers see, and what arrives of what it sent. `docs/guides/ends.md` has the same table.

Each row is played by `tests.ending_program` in a process of its own. GMP_ENDS says how often (200 for the long run).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

import gmp

from .conftest import eventually

ROUNDS = int(os.environ.get("GMP_ENDS", "1"))
PAGE = Path(__file__).parent.parent / "docs" / "guides" / "ends.md"
LEFT, LOST = "leaving", "transport_error"
ALL, SOME = "all", "what had left"


@dataclass(frozen=True)
class Row:
    """One way to end."""

    way: str
    reason: str  #: the first element of what `monitor_nodes` tells
    arrives: str
    code: int = 0
    signal: signal.Signals | None = None  #: what it is sent when it is ready
    patched: bool = True  #: whether it is played in a patched program too
    also: str | None = None  #: what it tells too, as the last or in the end
    interrupted: bool = False  #: whether it may be between a send and its count when it ends
    needs: str | None = None  #: the package that it needs, and time: it is slow


def notebook(way: str, reason: str, arrives: str, also: str | None = None, interrupted: bool = False) -> Row:
    """A row of a notebook's kernel; the program drives it, and the node is the kernel's, which nobody patches."""
    return Row(way, reason, arrives, patched=False, also=also, interrupted=interrupted, needs="ipykernel")


ROWS = [
    Row("returns", LEFT, ALL),
    Row("raises", LEFT, ALL, 1),
    Row("sys_exit", LEFT, ALL, 3),
    Row("sys_exit_in_a_greenlet", LEFT, ALL, 3),
    Row("os_exit", LOST, SOME, 4),
    Row("os_exit_after_flush", LOST, ALL, 4),
    Row("exec_without_close", LOST, SOME),
    Row("finally_sends", LEFT, ALL),
    Row("closed_by_a_greenlet_while_the_main_one_ends", LEFT, ALL),
    Row("closed_by_a_port", LEFT, ALL),
    Row("killed_by_sigterm", LOST, SOME, -signal.SIGTERM, signal.SIGTERM),
    Row("sigterm_handler_exits", LEFT, ALL, 0, signal.SIGTERM),
    Row("sigterm_handler_closes", LEFT, SOME, 0, signal.SIGTERM),
    Row("sigterm_handler_closes_while_the_loop_waits", LEFT, ALL, 0, signal.SIGTERM),
    Row("sigterm_handler_sends_and_exits", LEFT, ALL, 0, signal.SIGTERM, also="handler"),
    Row("sigterm_in_gevents_handler", LEFT, SOME, 0, signal.SIGTERM),
    Row("sigterm_serve_forever", LEFT, ALL, 0, signal.SIGTERM),
    Row("signals_after_serve_forever", LEFT, ALL, 3),
    Row("sigint", LEFT, ALL, -signal.SIGINT, signal.SIGINT),
    Row("sigquit", LOST, SOME, -signal.SIGQUIT, signal.SIGQUIT),
    Row("multiprocessing_fork", LEFT, ALL),
    Row("multiprocessing_fork_of_a_node", LEFT, ALL),
    Row("multiprocessing_forkserver", LEFT, ALL, patched=False),  # gevent documents that patching breaks it
    Row("multiprocessing_spawn", LEFT, ALL),
    Row("fork_and_exit", LEFT, ALL),
    Row("thread_of_its_own", LEFT, ALL, patched=False),  # a patched program's threads are greenlets
    Row("daemon_thread_of_its_own", LEFT, ALL, patched=False),
    Row("pool_thread_that_logs", LEFT, ALL, patched=False),
    Row("asyncio_without_close", LEFT, ALL),
    Row("node_in_a_thread", LEFT, ALL),
    Row("node_in_a_thread_of_a_script_that_sleeps", LEFT, ALL, 3, signal.SIGINT),
    Row("thread_that_calls", LEFT, ALL, patched=False),
    Row("native_wait_after_flush", LOST, ALL, -signal.SIGKILL),
    notebook("notebook_restart", LEFT, ALL),
    notebook("notebook_shutdown", LEFT, ALL),
    notebook("notebook_interrupt", LEFT, ALL, also="after", interrupted=True),
    notebook("notebook_restart_now", LOST, SOME),
    notebook("notebook_restart_now_after_flush", LOST, ALL),
]


class Boss:
    """A seed that notes what comes from programs that end, and how they end."""

    def __init__(self, node: gmp.Node) -> None:
        self.node = node
        self.port = node.port(self._note)
        self.numbers: list[int] = []
        self.told: dict[str, Any] = {}
        self.reasons: dict[str, tuple[Any, ...]] = {}
        self._stop = node.monitor_nodes(self._node_event)

    def _note(self, port: gmp.Port) -> None:
        for _, number, *rest in port:
            if isinstance(number, int):
                self.numbers.append(number)
            else:
                self.told[number] = rest[0] if rest else True

    def _node_event(self, node_id: str, up: bool, *reason: Any) -> None:
        if not up:
            self.reasons.setdefault(node_id, reason)


@pytest.fixture
def boss(make_node: Any) -> Boss:
    return Boss(make_node("boss"))


def play(row: Row, boss: Boss, *more: str) -> None:
    """Let a program end that way, and check what is said of it."""
    if row.needs is not None and find_spec(row.needs) is None:
        pytest.skip(f"{row.needs} is not installed: pip install '.[test]'")
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.ending_program", row.way, "leaver", boss.node.binds[0], boss.port.id, *more],
        env={**os.environ, "GMP_SECRET": "geheim"},
        stderr=subprocess.PIPE,
    )
    try:
        if row.signal is not None:
            eventually(lambda: "ready" in boss.told or program.poll() is not None, timeout=40)
            program.send_signal(row.signal)
        with gevent.Timeout(80, AssertionError(f"{row.way}: it does not end")):
            errors = program.stderr.read().decode()
            code = program.wait()
    finally:
        program.kill()
        program.stderr.close()
    eventually(lambda: "leaver" in boss.reasons)
    assert (code, boss.reasons["leaver"][0]) == (row.code, row.reason), errors
    eventually(lambda: len(boss.port) == 0)  # what came before the end was noted
    assert boss.numbers == list(range(len(boss.numbers)))
    if row.arrives == ALL:
        interrupted = row.interrupted or row.signal is not None
        assert row.also is None or row.also in boss.told, errors
        assert 0 <= len(boss.numbers) - boss.told.get("all", -1) <= interrupted, (boss.told, len(boss.numbers), errors)
    if row.way not in ("raises", "sigint"):
        assert "Traceback" not in errors, errors


@pytest.mark.parametrize("row", [row for row in ROWS if row.needs is None], ids=lambda row: row.way)
def test_a_program_ends(row: Row, boss: Boss) -> None:
    play(row, boss)


@pytest.mark.slow
@pytest.mark.timeout(60 + 80 * ROUNDS)
@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.way)
def test_programs_end_again_and_again(row: Row, patched: bool, make_node: Any) -> None:
    if patched and not row.patched:
        pytest.skip("there is no such end in a patched program, or nobody patches it")
    node = make_node("boss")
    for _ in range(ROUNDS):
        boss = Boss(node)
        play(row, boss, *(["patched"] if patched else []))
        boss.port.kill()
        boss._stop()


def test_the_page_has_each_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \| ([\w ]+) \|$", PAGE.read_text(), re.MULTILINE)
    told = {"left": LEFT, "lost": LOST}
    assert [(way, told[reason], arrives) for way, reason, arrives in rows] == [
        (row.way, row.reason, row.arrives) for row in ROWS
    ]
