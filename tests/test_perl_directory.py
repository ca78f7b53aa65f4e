"""The directory where a Perl node takes part: every type both ways, over json and cbor, and what monitors are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gmp
from gmp.compat import aemp

from .conftest import Recorder, eventually
from .perl_peer import PerlListener, PerlPeer

MakeNode = Callable[..., gmp.Node]
FRAMINGS = ["json", "cbor"]
#: what Perl sets, and what it is here
FROM_PERL: list[tuple[Any, Any]] = [
    (None, None),
    (0, 0),
    (-5, -5),
    (2**40, 2**40),
    (2.5, 2.5),
    ("", ""),
    ("1", "1"),
    ("text", "text"),
    ("\xc3\xa4", "ä"),
    ("\xff\x00", b"\xff\x00"),
    ("\u20ac\xe4", "€ä"),
    ([], []),
    ({}, {}),
    ([1, ["\xff", None, {"k": "\xc3\xa4"}]], [1, [b"\xff", None, {"k": "ä"}]]),
    ({"\xc3\xa4": {"k": [2.5]}, "": "\xe4"}, {"ä": {"k": [2.5]}, "": b"\xe4"}),
]
#: what is set here, and what Perl gets
FROM_HERE: list[tuple[Any, Any]] = [
    *((here, perl) for perl, here in FROM_PERL if perl != "\u20ac\xe4"),
    (True, True),
    (False, False),
    ("€", "\xe2\x82\xac"),
    ((1, (2,)), [1, [2]]),
    (b"text", "text"),
    (2**64 - 1, 2**64 - 1),
    *((number, str(number)) for number in (2**64, 10**30, -(2**63), -(2**64))),
    ([{"k": -(10**30)}], [{"k": str(-(10**30))}]),
]
#: the same, while no other gmp node is between
FROM_BESIDE: list[tuple[Any, Any]] = [
    *FROM_HERE,
    (gmp.Characters("€ä"), "\u20ac\xe4"),
    ([gmp.Characters("ä"), {gmp.Characters("ö"): gmp.Characters("ü")}], ["ä", {"ö": "ü"}]),
]


def exact(value: Any) -> str:
    """A form that tells 1, 1.0 and True apart."""
    return repr(value)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_a_perl_slave_sets_is_the_same_for_all(make_node: MakeNode, framing: str) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    other_framing = "cbor" if framing == "json" else "json"
    watching = [Recorder(), Recorder()]
    with (
        PerlPeer.dial(seed.binds[0], "PerlA", framing=framing) as perl,
        PerlPeer.dial(seed.binds[0], "PerlB", framing=other_framing) as other,
    ):
        for peer in (perl, other):
            peer.request("g_slave", {"'l": {peer.node_id: []}})
        other.request("g_mon1", "F\xc3\xa4")
        assert other.expect("", "g_chg1", "F\xc3\xa4") in ([{}], [None])
        for recorder, watcher in zip(watching, (seed, node), strict=True):
            watcher.family("Fä").monitor(recorder)
            recorder.wait(timeout=20)
        first: list[Any] = [({}, [], [], [])]
        told = first
        before: Any = "nothing"
        for perls, here in FROM_PERL:
            for _ in range(2):  # the second time nothing changes
                perl.request("g_upd", "F\xc3\xa4", {"k\xc3\xa4": perls}, [])
            assert other.expect("", "g_chg2", "F\xc3\xa4") == [{"k\xc3\xa4": perls}, []]
            change = ([], ["kä"]) if before != "nothing" else (["kä"], [])
            before = here
            told = [*told, ({"kä": here}, *change, [])]
            for recorder in watching:
                assert exact([dict_of(call) for call in recorder.wait(len(told), timeout=20)]) == exact(told)
        perl.request("g_upd", "F\xc3\xa4", None, ["k\xc3\xa4"])
        assert other.expect("", "g_chg2", "F\xc3\xa4") == [{}, ["k\xc3\xa4"]]
        perl.request("g_upd", "F\xc3\xa4", {"left": "\xff"}, [])
        assert other.expect("", "g_chg2", "F\xc3\xa4") == [{"left": "\xff"}, []]
        told += [({}, [], [], ["kä"]), ({"left": b"\xff"}, ["left"], [], [])]
        for recorder in watching:
            assert [dict_of(call) for call in recorder.wait(len(told), timeout=20)] == told
        perl.close()
        assert other.expect("", "g_chg2", "F\xc3\xa4") == [{}, ["left"]]
        told += [({}, [], [], ["left"])]
        for recorder in watching:
            assert [dict_of(call) for call in recorder.wait(len(told), timeout=20)] == told
        other.barrier()
        assert not [message for message in other.log if message[1:2] == ["g_chg2"]]


def dict_of(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a callback was told, with its entries as a dict."""
    items, *keys = call
    return dict(items), *keys


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_a_gmp_node_sets_reaches_a_perl_slave_and_other_gmp_nodes(make_node: MakeNode, framing: str) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    node.wait_up("seed", timeout=20)
    third = make_node("third", seeds=seed.binds)
    seen = Recorder()
    third.family("f").monitor(seen)
    seen.wait(timeout=20)
    with PerlPeer.dial(seed.binds[0], framing=framing) as perl:
        perl.request("g_slave", {"'l": {"PerlA": []}})
        perl.request("g_mon1", "f")
        perl.expect("", "g_chg1", "f")
        for owner, values in ((node, FROM_HERE), (seed, FROM_BESIDE)):
            for number, (here, perls) in enumerate(values):
                told = len(seen.calls)
                for _ in range(2):  # the second time nothing changes
                    owner.family("f").set("k", here)
                (changed, deleted) = perl.expect("", "g_chg2", "f")
                assert exact(changed) == exact({"k": perls})
                assert deleted == []
                items, *keys = seen.wait(told + 1, timeout=20)[told]
                assert exact(items["k"]) == exact(here)
                assert keys == [[] if number else ["k"], ["k"] if number else [], []]
            told = len(seen.calls)
            owner.family("f").delete("k")
            assert perl.expect("", "g_chg2", "f") == [{}, ["k"]]
            assert dict_of(seen.wait(told + 1, timeout=20)[told]) == ({}, [], [], ["k"])
        node.family("f").set("left", b"\xff")
        assert perl.expect("", "g_chg2", "f") == [{"left": "\xff"}, []]
        node.close()
        assert perl.expect("", "g_chg2", "f") == [{}, ["left"]]
        perl.barrier()
        assert not [message for message in perl.log if message[1:2] == ["g_chg2"]]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_behind_a_perl_seed_values_go_both_ways_too(framing: str) -> None:
    """By the words of Perl: `db_set` and `db_mon`."""
    seen = Recorder()
    with PerlListener("PerlSeed", framing=framing) as listener:
        node = aemp.configure(nodeid="own", binds=[], secret="geheim", seeds=[listener.bind])
        try:
            with listener.accept() as perl:
                aemp.db_mon("Fä", seen)
                assert seen.wait(timeout=20) == [({}, [], [], [])]
                told = 1
                for number, (perls, here) in enumerate(FROM_PERL):
                    perl.request("g_chg2", "F\xc3\xa4", {"k\xe4": perls}, [])
                    items, *keys = seen.wait(told + 1, timeout=20)[told]
                    assert exact(dict(items)) == exact({"kä": here})
                    assert keys == [["kä"], [], []] if number == 0 else [[], ["kä"], []]
                    told += 1
                perl.request("g_chg2", "F\xc3\xa4", {}, ["k\xe4"])
                assert dict_of(seen.wait(told + 1, timeout=20)[told]) == ({}, [], [], ["kä"])
                for here, perls in FROM_BESIDE:
                    for _ in range(2):
                        aemp.db_set("g", "k", here)
                    (changed, deleted) = perl.expect("", "g_upd", "g")
                    assert exact(changed) == exact({"k": perls})
                    assert not deleted
                aemp.db_del("g", "k")
                changed, deleted = perl.expect("", "g_upd", "g")
                assert (not changed, deleted) == (True, ["k"])
                perl.barrier()
                assert not [message for message in perl.log if message[1:3] == ["g_upd", "g"]]
                perl.request("g_chg1", "F\xc3\xa4", {"a": 1, "b": "2"})
                items, added, changed, deleted = seen.wait(told + 2, timeout=20)[told + 1]
                assert (dict(items), sorted(added), changed, deleted) == ({"a": 1, "b": "2"}, ["a", "b"], [], [])
                perl.request("g_chg1", "F\xc3\xa4", {"a": "1", "b": "2", "c": None})
                expected = {"a": "1", "b": "2", "c": None}
                assert dict_of(seen.wait(told + 3, timeout=20)[told + 2]) == (expected, ["c"], ["a"], [])
        finally:
            node.close()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("name", "perls"),
    [
        ("ä", "\xc3\xa4"),
        (gmp.Characters("ä"), "\xe4"),
        (gmp.Characters("€"), "\u20ac"),
        (type("Text", (str,), {"__str__": lambda self: "x"})("t"), "t"),
    ],
    ids=ascii,
)
def test_names_and_keys_reach_a_perl_seed_as_they_are(
    make_node: MakeNode, framing: str, name: str, perls: str
) -> None:
    """A program that works with decoded text has other names for families than one that works with octets."""
    seen = Recorder()
    with PerlListener("PerlSeed", framing=framing) as listener:
        node = make_node("own", binds=[], seeds=[listener.bind])
        with listener.accept() as perl:
            family = node.family(name)
            with family.monitor(seen):
                assert perl.expect("", "g_mon1") == [perls]
                perl.request("g_chg1", perls, {perls: 1})
                eventually(lambda: seen.calls[-1][0] == {name: 1})
            family.set(name, 2)
            assert perl.expect("", "g_upd", perls) == [{perls: 2}, []]
            family.delete(name)
            assert perl.expect("", "g_upd", perls) == [{}, [perls]]
            port = node.port()
            node.group(name).join(port)
            assert perl.expect("", "g_upd", perls) == [{port.id: None}, []]
            node.close()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_whoever_watches_a_family_is_told_of_it_by_the_name_that_he_gave(make_node: MakeNode, framing: str) -> None:
    """Perl programs with decoded text and with octets have two names for what is one text here."""
    seed = make_node("seed")
    names = {"decoded": "\xe4", "octets": "\xc3\xa4"}
    with (
        PerlPeer.dial(seed.binds[0], "decoded", framing=framing) as decoded,
        PerlPeer.dial(seed.binds[0], "octets", framing=framing) as octets,
    ):
        for peer in (decoded, octets):
            peer.request("g_slave", {"'l": {peer.node_id: []}})
            peer.request("g_mon1", names[peer.node_id])
            assert peer.expect("", "g_chg1", names[peer.node_id]) == [None]
        seed.family("ä").set("k", 1)
        decoded.request("g_upd", "\xe4", {"d": 2}, [])
        octets.request("g_upd", "\xc3\xa4", {"o": 3}, [])
        for peer in (decoded, octets):
            told = [peer.expect("", "g_chg2", names[peer.node_id]) for _ in range(3)]
            assert sorted(str(changed) for changed, _ in told) == ["{'d': 2}", "{'k': 1}", "{'o': 3}"]
        decoded.request("g_mon0", "\xe4")
        decoded.barrier()
        seed.family("ä").delete("k")
        assert octets.expect("", "g_chg2", "\xc3\xa4") == [{}, ["k"]]
        decoded.barrier()
        assert not [message for message in decoded.log if message[1:2] == ["g_chg2"]]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_perl_seed_hears_all_and_tells_all(make_node: MakeNode, framing: str) -> None:
    """Two global nodes, one of them Perl's."""
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    node.wait_up("seed", timeout=20)
    for number, (here, _) in enumerate(FROM_HERE):
        node.family("f").set(f"k{number}", here)
    eventually(lambda: len(seed.family("f").items()) == len(FROM_HERE))
    with PerlPeer.dial(seed.binds[0], "PerlSeed", framing=framing) as perl:
        seed.wait_up("PerlSeed", timeout=20)
        perl.request("g_global")
        (database,) = perl.expect("", "g_set")
        assert exact(database["f"]) == exact({f"k{number}": perls for number, (_, perls) in enumerate(FROM_HERE)})
        values = {f"k{number}": perls for number, (perls, _) in enumerate(FROM_PERL)}
        expected = {f"k{number}": here for number, (_, here) in enumerate(FROM_PERL)}
        perl.request("g_set", {"'l": {"PerlSeed": []}, "F": values})
        for each in (seed, node):
            family = each.family("F")
            eventually(lambda family=family: exact(family.items()) == exact(expected))  # type: ignore[misc]
        perl.request("g_upd", "F", {"k0": "\xff"}, ["k1"])
        eventually(lambda: seed.family("F").items()["k0"] == b"\xff")
        assert "k1" not in seed.family("F").items()
        perl.close()
        for each in (seed, node):
            family = each.family("F")
            eventually(lambda family=family: family.items() == {})  # type: ignore[misc]


def test_an_equal_value_of_another_type_is_a_change(make_node: MakeNode) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    node.wait_up("seed", timeout=20)
    seen = Recorder()
    node.family("f").monitor(seen)
    seen.wait(timeout=20)
    values: list[Any] = [1, True, 1.0, "1"]
    values += [[1, {"k": 0}], [True, {"k": 0}], [True, {"k": False}], (True, {"k": False}), b"1", {"k": 1}]
    for number, value in enumerate(values, 1):
        seed.family("f").set("k", value)
        seed.family("f").set("k", value)
        seen.wait(number + 1, timeout=20)
        assert exact(seed.family("f").items()["k"]) == exact(value)
        assert exact(node.family("f").items()["k"]) == exact(value)
    assert [call[1:] for call in seen.calls[1:]] == [(["k"], [], []), *[([], ["k"], [])] * (len(values) - 1)]


@pytest.mark.parametrize("framings", [["json"], ["cbor"], ["msgpack", "json"]], ids=str)
def test_octets_may_be_shared_where_all_can_read_them(make_node: MakeNode, framings: list[str]) -> None:
    """Between gmp nodes json carries no octets, and a node that does without msgpack meets gmp nodes by json."""
    node = make_node("node", framings=framings)
    if framings == ["json"]:
        with pytest.raises(gmp.MessageError, match="cannot travel as json"):
            node.family("f").set("k", b"\xff")
    else:
        node.family("f").set("k", b"\xff")
        assert node.family("f").items() == {"k": b"\xff"}
