"""Two gmp seeds, a Perl seed, and three more nodes of each kind: whoever is killed and restarted, in the end every node sees
every group. With nodes of Perl's own AnyEvent::MP 2.02 where they are found (see `tests.real_perl`), and with the
independent ones of `tests.perl_node` anyway.

The environment variable ``GMP_MIXED_SECONDS`` says for how long nodes are restarted (40).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import gmp

from .addresses import free_address
from .conftest import eventually
from .mixed_network import SETTLED, Network
from .perl_node import PerlNode
from .perl_peer import PerlListener, PerlPeer
from .real_perl import missing

SECONDS = float(os.environ.get("GMP_MIXED_SECONDS", "40"))
ROUND = 40.0  # seconds of trouble between two times that all is looked at
GMP = [sys.executable, "-m", "tests.mixed_child"]


def _perl(kind: str) -> Sequence[str]:
    if kind == "independent":
        return [sys.executable, "-m", "tests.perl_node"]
    if missing():
        pytest.skip(f"no nodes of AnyEvent::MP here: {missing()}")
    return ["perl", "-I", os.environ["GMP_PERL_LIB"], str(Path(__file__).with_name("mixed_child.pl"))]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + (SECONDS // ROUND + 2) * SETTLED)
@pytest.mark.parametrize("kind", ["real", "independent"])
def test_every_node_sees_every_group_after_any_restarts(kind: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    network = Network({"gmp": GMP, "Perl": _perl(kind)}, tmp_path, seed)
    print(f"seed {seed}, logs in {tmp_path}")
    try:
        network.start()
        network.settle()
        left = SECONDS
        while left > 0:
            network.trouble(min(left, ROUND))
            left -= ROUND
            print(f"{network.restarts} restarts; settled in {network.settle():.1f} s", flush=True)
    finally:
        network.close()


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_groups_behind_a_perl_seed(framing: str, make_node: Callable[..., gmp.Node]) -> None:
    """Both kinds of nodes are attached to it; one comes late, one leaves; then the seed is lost and comes back."""
    seed = PerlNode("PerlSeed", address := free_address(), [address], framing=framing)
    perl = PerlNode("PerlA", seeds=[address], framing=framing)
    try:
        node, leaving = make_node("gmp", seeds=[address]), make_node("leaving", seeds=[address])
        perl.db_mon("group")
        mine, theirs = node.port(), leaving.port()
        node.group("group").join(mine)
        leaving.group("group").join(theirs)
        perl.db_set("group", "PerlA#b", {"value": [1]})
        seed.db_set("group", "PerlSeed#b")
        expected = {mine.id: None, theirs.id: None, "PerlA#b": {"value": [1]}, "PerlSeed#b": None}
        eventually(lambda: node.group("group").members() == perl.views["group"] == expected)
        late = make_node("late", seeds=[address])
        assert late.group("group").wait(len(expected), timeout=20) == expected
        leaving.close()
        perl.db_del("group", "PerlA#b")
        expected = {mine.id: None, "PerlSeed#b": None}
        eventually(lambda: node.group("group").members() == perl.views["group"] == expected)
        seed.close()  # and comes back: everybody attaches again
        seed = PerlNode("PerlSeed", address, [address], framing=framing)
        eventually(lambda: node.group("group").members() == perl.views["group"] == {mine.id: None}, timeout=40)
    finally:
        for each in (perl, seed):
            each.close()


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_seed_hears_of_addresses_before_entries(framing: str, make_node: Callable[..., gmp.Node]) -> None:
    """Perl passes the families of a database on in any order: who heard of a member first would not find its node."""
    with PerlListener("PerlSeed", framing=framing) as listener:
        node = make_node("gmp", seeds=[listener.bind])
        node.group("group").join(port := node.port(), "value")
        node.family("family").set("key", [1])
        for _ in range(2):  # and when it has lost its master
            with listener.accept() as perl:
                perl.expect("", "g_slave")
                assert perl.expect("", "g_slave") == [{"'l": {"gmp": node.binds}}]
                assert perl.expect("", "g_upd", "group") == [{port.id: "value"}, []]
                assert perl.expect("", "g_upd", "family") == [{"key": [1]}, []]


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_gmp_seed_passes_addresses_on_before_entries(framing: str, make_node: Callable[..., gmp.Node]) -> None:
    seed = make_node("seed")
    families = {f"family {number}": {"PerlA#b": number} for number in range(20)}
    with (
        PerlPeer.dial(seed.binds[0], "PerlSeed", framing=framing) as other,
        PerlPeer.dial(seed.binds[0], "PerlA", framing=framing) as perl,
    ):
        other.request("g_global")
        other.expect("", "g_set")
        perl.request("g_slave", {**families, "'l": {"PerlA": ["127.0.0.1:4042"]}})
        perl.barrier()
        other.barrier()
        told = [message[2] for message in other.log if message[:2] == ["", "g_upd"]]
        assert told.index("'l") < min(told.index(family) for family in families)
