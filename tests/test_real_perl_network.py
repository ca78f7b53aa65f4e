"""Networks of gmp nodes and of nodes of Perl's own AnyEvent::MP 2.02: the directory, seeds that are lost, restarts.

They run where the modules are: see `tests.real_perl`.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

import gmp
from gmp.mesh import unattached

from .conftest import Recorder, eventually
from .processes import Child, Processes
from .real_perl import RealPerl

MakeNode = Callable[..., gmp.Node]
MakePerl = Callable[..., RealPerl]
MASTER = "$AnyEvent::MP::Kernel::MASTER"
WATCH = """
   $kept{Things} = db_mon Things => sub {
      my ($all, @lists) = @_;
      report things => { %$all }, map [sort @{ $_ || [] }], @lists;
   };
   ()
"""
VALUES: list[Any] = [1, -5, 2.5, None, "text", "", "t\u00e4g", "\u20ac", [1, [2, []]], {"key": {"k": None}}, 2**40, 0]


def literal(value: Any) -> str:
    """Perl code that gives that value."""
    return f'$json->decode ("{json.dumps(value).encode().hex()}" =~ s/(..)/chr hex $1/ger)'


@pytest.fixture(params=[("gmp", "json"), ("gmp", "cbor"), ("Perl", "json"), ("Perl", "cbor")], ids="-seed-".join)
def pair(request: pytest.FixtureRequest, make_node: MakeNode, make_perl: MakePerl) -> tuple[gmp.Node, RealPerl]:
    """A gmp node and a Perl node, one of them the seed of the other."""
    seed, framing = request.param
    if seed == "gmp":
        node = make_node("gmp")
        perl = make_perl(seeds=tuple(node.binds), framing=framing)
    else:
        perl = make_perl(framing=framing)
        node = make_node("gmp", seeds=perl.binds)
    node.wait_up("PerlA", timeout=20)
    perl.wait_up("gmp")
    return node, perl


def test_each_kind_of_value_goes_through_the_directory_both_ways(pair: tuple[gmp.Node, RealPerl]) -> None:
    """Set, overwritten with an equal value and with another, deleted; with what monitors are called with."""
    node, perl = pair
    family, seen = node.family("Things"), Recorder()
    with family.monitor(seen):
        seen.wait(timeout=20)
        perl.run(WATCH)
        assert perl.expect("things") == [{}, [], [], []]
        for value in VALUES:
            family.set("ours", value)
            assert perl.expect("things") == [{"ours": value}, ["ours"], [], []]
            family.set("ours", value)  # equal: nobody is told
            family.set("ours", [value, "changed"])
            assert perl.expect("things") == [{"ours": [value, "changed"]}, [], ["ours"], []]
            family.delete("ours")
            assert family.items() == {}
            assert perl.expect("things") == [{}, [], [], ["ours"]]
        gevent.sleep(0)
        seen.calls.clear()
        for value in VALUES:
            perl.run(f"db_set Things => theirs => {literal(value)}; ()")
            assert seen.wait(timeout=20) == [({"theirs": value}, {"theirs": value}, {}, {})] or _told(seen, "theirs", value)
            seen.calls.clear()
            perl.run(f"db_set Things => theirs => {literal(value)}; db_del Things => 'theirs'; ()")
            eventually(lambda: family.items() == {})
            eventually(lambda: len(seen.calls) == 1)
            seen.calls.clear()


def _told(seen: Recorder, key: str, value: Any) -> bool:
    (items, added, changed, deleted) = seen.calls[-1]
    return (dict(items), list(added), list(changed), list(deleted)) == ({key: value}, [key], [], [])
