"""Time, chance and sockets come from one place each, so that something else can stand in the system's place."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import gmp
from gmp.net import machine
from gmp.outside import chance, clock
from gmp.peerlog import PeerLog

ROOT = Path(gmp.__file__).parent
FORBIDDEN = {"time", "random", "secrets"}  # modules
FORBIDDEN_CALLS = {"urandom", "getrandom", "uuid1", "uuid4", "times", "clock_gettime"}  # of os, uuid
OF_DATETIME = {"now", "utcnow", "today"}
SEAMS = {"clock", "chance"}


def files() -> list[Path]:
    found = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in ("cli", "outside")]
    assert len(found) > 100
    return found


def faults(source: str) -> list[str]:
    """What a file does that goes past `gmp.outside`, or keeps one of its functions."""
    tree = ast.parse(source)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            if node.module.partition(".")[0] in FORBIDDEN or node.module in ("gmp.outside.clock", "gmp.outside.chance"):
                found.append(f"from {node.module} import {', '.join(names)}")
            elif node.module in ("os", "uuid"):
                found += [f"from {node.module} import {name}" for name in names if name in FORBIDDEN_CALLS]
        elif isinstance(node, ast.Attribute) and node.attr in OF_DATETIME:
            if ast.unparse(node.value).rpartition(".")[2] in ("datetime", "date"):
                found.append(f"datetime's {node.attr}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("os", "uuid") and node.attr in FORBIDDEN_CALLS:
                found.append(f"{node.value.id}.{node.attr}")
            elif node.value.id in SEAMS and id(node) not in called:
                found.append(f"{node.value.id}.{node.attr} is kept, not called")
    return found


def test_nothing_below_the_command_asks_the_system_for_the_time_or_for_chance() -> None:
    found = {path.relative_to(ROOT).as_posix(): faults(path.read_text()) for path in files()}
    for name, texts in found.items():  # what stands in chance's place has generators of its own, each with a seed
        if name.startswith("testing/simulated/"):
            texts[:] = [text for text in texts if text != "from random import Random"]
    assert {name: texts for name, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import time as t",
        "from time import monotonic",
        "def f():\n    import random",
        "from secrets import token_hex",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import date\ndate.today()",
        "import os\nos.urandom(3)",
        "import uuid\nuuid.uuid4()",
        "from os import urandom",
        "from gmp.outside.clock import monotonic",
        "from gmp.outside import clock\ndef f(now=clock.monotonic): pass",
        "from gmp.outside import chance\ndraw = chance.random",
    ],
)
def test_each_way_past_them_is_found(source: str) -> None:
    assert faults(source)


def test_what_calls_them_is_in_order() -> None:
    assert not faults("import datetime\ndatetime.datetime(2026, 1, 1)\nground.now()")
    assert not faults("from gmp.outside import chance, clock\nclock.monotonic() + chance.random()")


def test_the_clock_is_the_system_s_own_function() -> None:
    """So a look at it costs what it cost before."""
    assert all(inspect.isbuiltin(function) for function in (clock.monotonic, clock.time, clock.time_ns))


def test_another_clock_takes_its_place_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = PeerLog("node", lambda seconds, function: pytest.fail("nothing was left out"))
    monkeypatch.setattr(clock, "monotonic", lambda: 12345.0)
    assert lines._now() == 12345.0


def test_characters_are_of_the_alphabet_each_as_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(chance.characters("abc", 500)) == set("abc")
    draws = iter([3, 0, 3, 3, 2, 1])
    monkeypatch.setattr(chance, "randbits", lambda bits: next(draws))
    assert chance.characters("abc", 3) == "acb"  # 3 is out of range: drawn again, so none is likelier
    assert chance.choice(["one"]) == "one"


def test_choice_draws_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for draw, value in ((0.0, "a"), (0.5, "b"), (0.999999, "c")):
        monkeypatch.setattr(chance, "random", lambda draw=draw: draw)
        assert chance.choice(["a", "b", "c"]) == value


SOCKETS = {"socket", "create_connection", "socketpair", "getaddrinfo", "gethostbyname", "fromfd"}
# another native thread waits at a real socket, whatever the node's is; the machine has its Unix sockets by net/unix.py
NATIVE = {"kernel/threads.py", "net/machine.py", "net/unix.py"}


def socket_calls(source: str) -> list[str]:
    """The calls that open a socket or look up a name."""
    called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    texts = [ast.unparse(function) for function in called]
    return [text for text in texts if text.rpartition(".")[2] in SOCKETS and "socket" in text.rpartition(".")[0]]


def test_the_machine_alone_opens_sockets_and_looks_up_names() -> None:
    layers = [path for path in files() if path.relative_to(ROOT).parts[0] in ("ports", "wire", "net", "mesh", "kernel")]
    found = {str(path.relative_to(ROOT)) for path in layers if socket_calls(path.read_text())}
    assert found == NATIVE


def test_a_node_asks_for_its_machine_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    class Elsewhere(machine.Machine):
        def look_up(self, host: str, port: int) -> list[tuple[Any, ...]]:
            looked_up.append(host)
            return [("127.0.0.1", port)]

        def name(self) -> str:
            return "elsewhere"

    with gmp.Node("here", binds=["127.0.0.1:0"], secret="geheim", reached_at=["*"]) as here:
        with monkeypatch.context() as patched:
            patched.setattr(machine, "here", Elsewhere)
            there = gmp.Node("there", binds=[], seeds=[f"seed.example:{here.binds[0].rpartition(':')[2]}"], secret="geheim")
        with there:
            there.wait_up("here", timeout=20)
            ways = [node._core.network.peers[peer].connection.way for node, peer in ((here, "there"), (there, "here"))]
    assert looked_up == ["seed.example"]
    assert [way.machine for way in ways] == [machine.machine_name(), "elsewhere"]
