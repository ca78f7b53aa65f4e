"""The command `gmp` where the seed is a Perl node: what can be known is shown, and what cannot is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gmp
from gmp.cli.common.output import as_json, as_text, plain

from .conftest import eventually
from .gmp_command import Commands
from .perl_node import GLOBAL, KERNEL, PerlNode

NOTE = "seed: no gmp node, and evaluates nothing for others: only what gmp nodes know is listed."


@pytest.fixture(params=["cbor", pytest.param("json", marks=pytest.mark.slow)])
def framing(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["evaluates", "secure"])
def seed(request: pytest.FixtureRequest, framing: str) -> Iterator[PerlNode]:
    """A Perl seed, with a group and a family of its own."""
    with PerlNode("seed", is_global=True, secure=request.param, framing=framing) as seed:
        seed.db_set("group", seed.port(), "w\xf6rter")
        seed.db_set("table", "k", [1])
        yield seed
        unknown = [name for _, name in seed.requests_seen() if name not in KERNEL | GLOBAL]
        assert unknown == seed.failed == []


@pytest.fixture
def other(seed: PerlNode, framing: str) -> Iterator[PerlNode]:
    """A Perl node of that seed; it evaluates what others ask."""
    with PerlNode("other", seeds=[seed.bind], framing=framing) as other:
        yield other


@pytest.fixture
def command(tmp_path: Path, seed: PerlNode) -> Iterator[Commands]:
    commands = Commands(tmp_path, GMP_SEEDS=seed.bind, GMP_SECRET="geheim")
    yield commands
    commands.close()


def test_groups_and_families_that_can_be_known_are_listed(command: Commands, seed: PerlNode) -> None:
    with gmp.Node("node", seeds=[seed.bind], binds=["127.0.0.1:0"], secret="geheim") as node:
        node.group("ours").join(node.port())
        node.family("words").set("x", None)
        node.family("words").set("y", 1)
        eventually(lambda: len(seed.view("words")) == 2 and seed.view("ours"))
        groups, families = command("groups", "--json"), command("family", "--json")
        assert command("family").out.splitlines()[-1].split() == ["words", "2", "family"]
    own = {"ours": {"entries": 1, "group": True}, "words": {"entries": 2, "group": False}}
    if seed.secure:
        assert (groups.json, families.json) == ({"ours": 1}, own)
        assert NOTE in groups.err
        assert NOTE in families.err
        assert "'gmp family NAME' shows any other." in families.err
    else:
        perls = {"group": {"entries": 1, "group": True}, "table": {"entries": 1, "group": False}}
        assert (groups.json, families.json) == ({"ours": 1, "group": 1}, own | perls)
        assert not groups.err
        assert not families.err


def test_a_group_and_a_family_that_are_named_are_shown_whatever_the_seed_evaluates(command: Commands) -> None:
    assert command("groups", "group").out.splitlines()[1].split()[::2] == ["seed", "w\xf6rter"]
    assert command("family", "table").out.splitlines()[1].split() == ["k", "[1]"]
    nothing = command("family", "nothing")
    assert (nothing.code, nothing.err) == (3, "Error: family 'nothing' has no entry\n")


def test_trace_shows_the_connections_between_perl_nodes(
    command: Commands, seed: PerlNode, other: PerlNode, framing: str
) -> None:
    with PerlNode("third", seeds=[seed.bind], framing=framing) as third:
        other.snd(third.port(), "hello")
        eventually(lambda: {"third", "seed"} <= set(other.links) and {"other", "third"} <= set(seed.links))
        result = command("trace", "--json")
    assert result.code == 0
    assert result.json["nodes"].keys() == {"seed", "other", "third"}
    assert result.json["connections"] == [["other", "seed"], ["other", "third"], ["seed", "third"]]
    untold = "seed: no gmp node, and evaluates nothing for others: only those connections are known of it that "
    assert result.err == (f"{untold}others tell of\n" if seed.secure else "")


def test_latin_1_text_is_shown_as_text(command: Commands, other: PerlNode) -> None:
    port = other.port(lambda *message: other.snd(message[-1], "t\xe4g", ["\xfc"]))
    shown = command("call", port, "hello")
    assert shown.out == 't\xe4g ["\xfc"]\n'
    assert command("call", port, "hello", "--json").json == ["t\xe4g", ["\xfc"]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"plain", "plain"),
        ("\xe4".encode(), "\xe4"),
        (b"t\xe4g\tund\nnacht", "t\xe4g\tund\nnacht"),
        (b"\xa0\xad\xff", "\xa0\xad\xff"),
        (b"\x00\xff", "00ff"),
        (b"\x80\xff", "80ff"),
        (b"\xff\x1b[2J", "ff1b5b324a"),
        (b"", ""),
    ],
)
def test_octets_are_shown_as_text_where_they_can_be_one(value: bytes, shown: str) -> None:
    assert plain(value) == shown
    assert plain({value: [value]}) == {shown: [shown]}
    assert as_text(value).isprintable()
    assert as_json([value]).isprintable()
