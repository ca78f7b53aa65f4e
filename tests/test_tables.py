"""A node whose framing cannot carry an entry of the directory goes without that entry, and sees all the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gevent.event
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.errors import MessageError
from gmp.wire.framing import make_encoder
from gmp.wire.requests import (
    ATTACH,
    CHANGE,
    CLAIM,
    G_CHG1,
    G_CHG2,
    G_REPLY,
    G_SET,
    G_SLAVE,
    G_UPD,
    REQUESTS,
    SET,
    UPDATE,
)
from gmp.wire.tables import OWNERS, PLACES, without_unfit
from tests.addresses import free_addresses
from tests.conftest import eventually

MakeNode = Callable[..., gmp.Node]
JSON = make_encoder("json", 1 << 20)
FINE: dict[str, Any] = {"text": "x", "dict": {"inner": [1, {"k": None}]}}
UNFIT: dict[str, Any] = {"bytes": b"\xff", "inside": {"k": [b"x"]}, "set": {1}, "key": {b"k": 1}}
BOTH = {"bytes": UNFIT["bytes"], **FINE, **UNFIT}
BAD = list({"bytes": 0, **UNFIT})

REPORTS: list[tuple[tuple[Any, ...], tuple[Any, ...], tuple[str, tuple[Any, ...]]]] = [
    ((G_SLAVE, {"f": BOTH}), (G_SLAVE, {"f": FINE}), ("", ("f",))),
    ((G_SET, {"f": BOTH}), (G_SET, {"f": FINE}), ("", ("f",))),
    ((G_UPD, "f", BOTH, ["gone"]), (G_UPD, "f", FINE, ["gone", *BAD]), ("", ("f",))),
    ((G_CHG1, "f", BOTH), (G_CHG1, "f", FINE), ("", ("f",))),
    ((G_CHG2, "f", BOTH, ["gone"]), (G_CHG2, "f", FINE, ["gone", *BAD]), ("", ("f",))),
    ((G_REPLY, "7", BOTH), (G_REPLY, "7", FINE), ("", ())),
    ((ATTACH, "i", 1, {"f": BOTH}), (ATTACH, "i", 1, {"f": FINE}), ("", ("f",))),
    ((UPDATE, 1, "f", BOTH, []), (UPDATE, 1, "f", FINE, BAD), ("", ("f",))),
    ((SET, {"o": ["i", 1, {"f": BOTH}]}), (SET, {"o": ["i", 1, {"f": FINE}]}), ("o", ("f",))),
    ((CLAIM, "o", "i", 1, {"f": BOTH}), (CLAIM, "o", "i", 1, {"f": FINE}), ("o", ("f",))),
    ((CHANGE, "o", "i", 1, "f", BOTH, []), (CHANGE, "o", "i", 1, "f", FINE, BAD), ("o", ("f",))),
]


# ---- the pure function


@pytest.mark.parametrize(("request_", "expected", "whose"), REPORTS, ids=[report[0][0] for report in REPORTS])
def test_of_each_request_the_entries_that_do_not_fit_are_left_out_alone(
    request_: tuple[Any, ...], expected: tuple[Any, ...], whose: tuple[str, tuple[Any, ...]]
) -> None:
    with pytest.raises(MessageError):
        JSON.encode("", request_)
    fit, left_out = without_unfit(request_, JSON)
    assert fit == expected
    assert JSON.encode("", fit)
    owner, path = whose
    assert [(left.owner, left.path) for left in left_out] == [(owner, (*path, key)) for key in BAD]
    assert all("cannot travel" in left.why for left in left_out)


def test_each_request_with_a_table_is_known() -> None:
    """The forms in `REQUESTS` say where the tables are."""
    levels = {"database": 2, "[database]": 2, "entries": 1, "set": 1, "answer": 1}
    found = {SET: (1, OWNERS, 0, 0, 0)}
    for name, request in REQUESTS.items():
        words = ["", *request.form.split()]
        tables = [index for index, word in enumerate(words) if word in levels]
        if tables and name != SET:
            places = [words.index(word) if word in words else 0 for word in ("family", "owner", "deleted")]
            family = places[0] if name != G_REPLY else 0
            found[name] = (tables[0], levels[words[tables[0]]], family, places[1], places[2])
    assert re.search("owner.*database", REQUESTS[SET].form)
    assert {name: tuple(place) for name, place in PLACES.items()} == found


def test_a_list_of_values_goes_without_those_that_do_not_fit() -> None:
    assert without_unfit((G_REPLY, "7", [1, b"x", {"k": b"y"}, 2]), JSON)[0] == (G_REPLY, "7", [1, 2])


def test_what_fits_or_has_no_table_stays_as_it_is() -> None:
    for request in [(G_CHG1, "f", None), (G_CHG1, "f", FINE), (G_SLAVE,), ("kil0", "p", b"x"), ("own", {"k": b"x"}), ()]:
        assert without_unfit(request, JSON) == (request, [])


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.text(max_size=3), st.dictionaries(st.text(max_size=3), json_values, max_size=4), max_size=3))
def test_an_entry_is_whole_or_left_out(database: dict[str, dict[str, Any]]) -> None:
    (_, _, _, kept), left_out = without_unfit((ATTACH, "i", 1, database), JSON)
    JSON.encode("", (ATTACH, kept))
    assert kept.keys() == database.keys()
    missing = {(family, key) for family, entries in database.items() for key in entries if key not in kept[family]}
    assert {left.path for left in left_out} == missing
    assert all(value == database[family][key] for family, entries in kept.items() for key, value in entries.items())


# ---- in the network


def sees(node: gmp.Node, family: str, wanted: dict[str, Any]) -> None:
    there = gevent.event.Event()
    with node.family(family).monitor(lambda items, *_: there.set() if dict(items) == wanted else None):
        assert there.wait(20), node.family(family).items()


def lines_about(caplog: pytest.LogCaptureFixture, request: str) -> list[str]:
    return [record.message for record in caplog.records if f"is left out of {request} to" in record.message]


@pytest.mark.parametrize("value", [b"\xff\x00", {"k": [b"x"]}], ids=["bytes", "bytes inside"])
def test_a_json_node_is_told_of_all_other_entries_at_once_and_later(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    """g_chg1, then g_chg2, of which an entry that does not fit any more is deleted."""
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    node.family("f").set("odd", value)
    node.family("f").set("fine", 1)
    sees(seed, "f", {"odd": value, "fine": 1})
    plain = make_node("plain", framings=["json"], seeds=seed.binds)
    sees(plain, "f", {"fine": 1})
    (line,) = lines_about(caplog, G_CHG1)
    assert "'f' 'odd', set by node, is left out of g_chg1 to plain: " in line
    node.family("f").set("odd", "text")
    sees(plain, "f", {"fine": 1, "odd": "text"})
    node.family("f").set("odd", value)
    sees(plain, "f", {"fine": 1})
    sees(seed, "f", {"odd": value, "fine": 1})


def test_a_value_that_only_msgpack_carries_leaves_the_rest_to_a_json_node(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    seed = make_node("seed")
    plain = make_node("plain", framings=["json"], seeds=seed.binds)
    with plain.family("f").monitor(lambda *_: None):
        plain.wait_up("seed", timeout=20)
        plain.call("seed", "time", timeout=20)
        seed._core.request("plain", G_CHG1, "f", {"odd": {1}, "fine": 1})
        sees(plain, "f", {"fine": 1})
        seed._core.request("plain", G_CHG2, "f", {"fine": {1}, "more": 2}, [])
        sees(plain, "f", {"more": 2})
    assert [line for line in lines_about(caplog, G_CHG2) if "set cannot travel as json" in line]


def test_a_json_seed_has_all_other_entries_of_a_node_that_attaches(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    """gmp.attach and gmp.update."""
    seed = make_node("seed", framings=["json"])
    other = make_node("other", seeds=seed.binds)
    node = make_node("node", seeds=seed.binds)
    node.family("f").set("odd", b"\xff")
    node.family("f").set("fine", 1)
    sees(other, "f", {"fine": 1})
    node.family("f").set("fine", b"\xff")
    sees(other, "f", {})
    node.family("f").set("fine", 2)
    sees(other, "f", {"fine": 2})
    sees(node, "f", {"odd": b"\xff", "fine": 2})
    assert [line for line in lines_about(caplog, UPDATE) if "set by node" in line]
    assert [line for line in lines_about(caplog, ATTACH) if "'f' 'odd', set by node" in line]


def test_a_json_seed_has_all_other_entries_that_another_seed_reports(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    """gmp.set, gmp.claim and gmp.change."""
    addresses = free_addresses(2)
    first = make_node("first", binds=addresses[:1], seeds=addresses)
    first.family("f").set("odd", b"\xff")
    first.family("f").set("fine", 1)
    plain = make_node("plain", framings=["json"], binds=addresses[1:], seeds=addresses)
    sees(plain, "f", {"fine": 1})
    eventually(lambda: [line for line in lines_about(caplog, SET) if "'f' 'odd', set by first" in line])
    node = make_node("node", seeds=addresses[:1])
    node.family("g").set("odd", b"\xff")
    node.family("g").set("fine", 1)
    sees(plain, "g", {"fine": 1})
    sees(first, "g", {"odd": b"\xff", "fine": 1})
    node.family("g").set("fine", b"\xff")
    sees(plain, "g", {})
    assert [line for line in lines_about(caplog, CHANGE) if "set by node" in line]
    assert [line for line in lines_about(caplog, CLAIM) if "set by node" in line]


@pytest.mark.parametrize("counter", [1 << 70, -(1 << 70)])
def test_a_counter_that_a_json_node_may_send_and_a_seed_could_not_pass_on_is_not_believed(
    make_node: MakeNode, counter: int
) -> None:
    seed = make_node("seed")
    plain = make_node("plain", framings=["json"], seeds=seed.binds)
    plain.family("f").set("fine", 1)
    sees(seed, "f", {"fine": 1})
    plain.send("seed", ATTACH, plain._core.ground.incarnation + "~", counter, {})  # newer than what is known
    plain.call("seed", "time", timeout=20)
    sees(seed, "f", {"fine": 1})
    assert abs(seed._core.mesh.backbone.registry.claims.version("plain")[1]) < 1 << 63
