"""The command `gmp` where the seed is a node of AnyEvent::MP itself, and logs to and from one; see `tests.real_perl`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

import gmp
from gmp.services.logcatcher import LogCatcher
from gmp.services.logsender import LogSender

from .conftest import Recorder, eventually
from .gmp_command import Commands
from .real_perl import RealPerl

MakeNode = Callable[..., gmp.Node]
MakePerl = Callable[..., RealPerl]
FRAMINGS = pytest.mark.parametrize("framing", ["json", "cbor"])


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path, GMP_SECRET="geheim")
    yield commands
    commands.close()


@pytest.fixture(params=[0, 1], ids=["evaluates", "secure"])
def secure(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def seed(make_perl: MakePerl, secure: int, framing: str, tmp_path: Path) -> Iterator[RealPerl]:
    """It logs what it does not evaluate."""
    seed = RealPerl(tmp_path / "seed.log", "seed", framing=framing, secure=secure)
    yield seed
    seed.close()
    assert bool(seed.failed_requests()) == bool(secure)
    assert all("remote execution not allowed" in line for line in seed.failed_requests())


@pytest.mark.slow
@FRAMINGS
def test_the_command_behind_a_perl_seed(
    make_node: MakeNode, make_perl: MakePerl, command: Commands, framing: str, seed: RealPerl, secure: int
) -> None:
    """All that can be known is listed, and what cannot is said."""
    perl, third = (make_perl(name, seeds=tuple(seed.binds), framing=framing) for name in ("perl", "third"))
    node = make_node("node", seeds=seed.binds)
    for each in (perl, third):
        each.wait_up("seed")
    node.wait_up("seed", timeout=20)
    (port,) = perl.run(r'$kept{port} = port { snd pop, "t\xe4g", ["\xfc"] }')
    perl.run(r'db_set group => $kept{port}, "w\xf6rter"; db_set table => k => [1]; ()')
    third.run(f'cal "{port}", hello => sub {{ report answered => 1 }}, 20; ()')
    third.expect("answered")
    node.group("ours").join(node.port())
    node.group("group").wait(timeout=20)
    command.environ["GMP_SEEDS"] = seed.binds[0]
    assert command("groups", "group").out.splitlines()[1].split()[::2] == ["perl", "w\xf6rter"]
    assert command("family", "table").out.splitlines()[1].split() == ["k", "[1]"]
    assert command("call", port, "hello", "--json").json == ["t\xe4g", ["\xfc"]]
    groups, families, trace = command("groups", "--json"), command("family", "--json"), command("trace", "--json")
    assert groups.json == {"ours": 1, "group": 1}  # the gmp node knows both
    assert families.json.keys() == {"ours", "group", *([] if secure else ["table"])}
    note = "seed: no gmp node, and evaluates nothing for others"
    assert all((note in result.err) == bool(secure) for result in (groups, families, trace))
    assert trace.json["nodes"].keys() == {"seed", "perl", "third", "node"}
    found = {tuple(pair) for pair in trace.json["connections"]}
    assert {("perl", "seed"), ("perl", "third"), ("seed", "third"), ("node", "seed")} <= found


@FRAMINGS
def test_logs_go_both_ways(make_node: MakeNode, make_perl: MakePerl, framing: str) -> None:
    lines = Recorder()
    perl = make_perl("perl", framing=framing, code="use AnyEvent::MP::LogCatcher")
    node = make_node("node", seeds=perl.binds)
    node.wait_up("perl", timeout=20)
    logger = logging.getLogger("of.node")
    with LogSender(node, logger=logger.name) as sender, LogCatcher(lines, level="note", node=node):
        perl.run("AnyEvent::MP::LogCatcher::catch 5; ()")
        eventually(lambda: sender.catchers)
        logger.warning("Vorsicht, gl\xe4tter als gedacht")
        eventually(lambda: "gl\xe4tter als gedacht" in perl.log())
        for octets, text in ((r"t\xc3\xa4ke \x00", "t\xe4ke \x00"), (r"t\xe4ke", "t\xe4ke"), (r"\x{20ac}", "\u20ac")):
            with gevent.Timeout(20):
                while text not in [line.text for line, in lines.calls]:
                    perl.run(f'AE::log note => "{octets}"; ()')
                    gevent.sleep(0.05)
    assert {line.node for line, in lines.calls} == {"perl"}
