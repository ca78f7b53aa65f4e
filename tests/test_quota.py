"""What one node may have in groups and families: said where it is set, and left out where a peer tries more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.mesh.directory import Directory
from gmp.mesh.quota import ALL, ENTRY_SIZE, VALUE_SIZE, Limits, Quota, entry_size

from .conftest import eventually
from .perl_peer import PerlPeer

MakeNode = Callable[..., gmp.Node]


@pytest.mark.parametrize("role", ["seed", "slave"])
def test_a_program_that_sets_too_much_is_told_so_at_its_line(make_node: MakeNode, role: str) -> None:
    node = make_node("one", max_entries=10)
    if role == "slave":
        node = make_node("two", seeds=node.binds, max_entries=10)
        node.wait_up(timeout=20)
    family, ports = node.family("f"), [node.port() for _ in range(10)]
    with pytest.raises(gmp.GmpError, match="max_entries 10"):
        list(map(node.group("g").join, ports))
    members = len(node.group("g").members())
    assert 0 < members < 10  # the node's address is an entry too
    with pytest.raises(gmp.GmpError, match=r"'f'.*'key'"):
        family.set("key", 1)
    ports[0].kill()
    eventually(lambda: len(node.group("g").members()) == members - 1)
    family.set("key", 1)
    family.set("key", 2)  # instead of what is there
    assert family.items() == {"key": 2}


def test_a_value_that_is_too_large_is_refused_and_the_one_before_stays(make_node: MakeNode) -> None:
    family = make_node("one", max_entries_size=100_000).family("f")
    family.set("key", "small")
    with pytest.raises(gmp.GmpError, match="max_entries_size 100000 bytes"):
        family.set("key", ["x" * 1000] * 100)
    assert family.items() == {"key": "small"}
    family.set("key", "other")


@pytest.mark.parametrize("way", ["one by one", "at once", "in one value", "in many families"])
def test_a_peer_that_makes_too_much_is_bounded_and_named(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    node = make_node("gmp", max_entries=50, max_entries_size=100_000, leave_timeout=0.1)
    with caplog.at_level(logging.WARNING, "gmp"), PerlPeer.dial(node.binds[0]) as perl:
        perl.request("g_slave", {"ours": {"first": 1}})
        if way == "one by one":
            for number in range(500):
                perl.request("g_upd", "f", {f"key{number}": None}, [])
        elif way == "at once":
            perl.request("g_upd", "f", {f"key{number}": None for number in range(500)}, [])
        elif way == "in one value":
            perl.request("g_upd", "f", {"key": ["x"] * 100_000}, [])
        else:
            for number in range(500):
                perl.request("g_upd", f"f{number}", {"key": None}, [])
        perl.barrier()
        backbone = node._core.mesh.backbone
        view = {name: len(backbone.items(name)) for name in backbone.families() if not name.startswith("'")}
        assert sum(view.values()) <= 50
        assert view["ours"] == 1
        assert caplog.text.count("entries of ") == 1
        assert "max_entries 50" in caplog.text
        perl.request("g_upd", "ours", {}, ["first"])
        perl.barrier()
        assert "ours" not in node._core.mesh.backbone.families()
        node.family("mine").set("key", 1)  # others are not bounded by it


def test_a_peer_that_subscribes_to_too_much_is_refused(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    node = make_node("gmp", max_entries=50, leave_timeout=0.1)
    with caplog.at_level(logging.WARNING, "gmp"), PerlPeer.dial(node.binds[0]) as perl:
        for number in range(200):
            perl.request("g_mon1", f"family{number}")
        perl.request("g_mon1", "x" * 10_000)
        perl.barrier()
        assert len(node._core.mesh.backbone.registry._queries._subscribers) == 50
    assert caplog.text.count("subscription to") == 1


def test_all_that_one_seed_speaks_for_is_bounded() -> None:
    left_out: list[tuple[Any, ...]] = []
    directory = Directory("me", Limits(10, 1 << 20), lambda *told: left_out.append(told))
    for number in range(ALL * 20):
        directory.update(f"owner{number}", "f", {f"key{number}": None}, [])
    assert len(directory.view("f")) == ALL * 10
    assert left_out[0] == (f"owner{ALL * 10}", "f", 1)
    directory.update("me", "f", {"own": None}, [])
    assert "own" in directory.view("f")
    for number in range(ALL * 20):
        directory.drop(f"owner{number}")
    directory.update("other", "f", {"key": None}, [])
    assert dict(directory.view("f")) == {"own": None, "key": None}


@given(st.lists(st.tuples(*map(st.sampled_from, ("ab", "fg", "xyz")), st.booleans(), st.integers(0, 9))))
def test_what_is_counted_is_what_is_there(steps: list[tuple[str, str, str, bool, int]]) -> None:
    """Also when a value is altered by whoever got it."""
    directory = Directory("me", Limits(4, 4 * ENTRY_SIZE))
    for owner, family, key, add, size in steps:
        directory.update(owner, family, {key: ["v"] * size or None} if add else {}, [] if add else [key])
        value = directory.shard(owner).get(family, {}).get(key)
        if value:
            value.append("more")
    quota: Quota = directory._quota
    for owner in "ab":
        entries = [(key, value) for items in directory.shard(owner).values() for key, value in items.items()]
        used, size = quota._used.get(owner, (0, 0))
        assert used == len(entries) <= 4
        altered = len(steps) * (VALUE_SIZE + len("more"))  # counted where an entry stays, as the new one is too large
        assert 0 <= size <= 4 * ENTRY_SIZE + altered
        directory.drop(owner)
    assert (quota._used, quota._sizes, quota._entries, quota._size) == ({}, {}, 0, 0)


def test_the_size_of_an_entry_grows_with_its_key_and_value() -> None:
    assert entry_size("key", None) < entry_size("longer key", None) < entry_size("longer key", "value")
    assert entry_size("k", ["x" * 1000, {b"y" * 1000: (1, {2.0})}]) > 2000


@pytest.mark.parametrize("key", ["", "no port", "a;b#x", "x" * 300 + "#y", "seed", "seed#", "a\nb#c", "#name"])
def test_an_entry_that_is_no_port_hinders_no_group(make_node: MakeNode, key: str) -> None:
    """Anybody may set an entry in the family of that name: a key of a node port would even make a message a request."""
    node = make_node("seed")
    group, port = node.group("g"), node.port()
    other = node.family("g")
    other.set(key, 1)
    assert group.pick() is None
    group.send("to nobody")
    group.join(port)
    group.send("hello")
    assert port.receive(timeout=20) == ("hello",)
    assert {group.pick() for _ in range(20)} == {port.id}
