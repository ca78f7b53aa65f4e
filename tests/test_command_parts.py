"""Parts of the commands that need no process: what other programs tell must not harm, and values are shown as they are."""

from __future__ import annotations

import datetime
import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmp.cli.common.failures import Failure
from gmp.cli.common.output import as_json, as_text, as_words, parse_argument, plain
from gmp.cli.common.show import amount, duration, milliseconds, safe
from gmp.cli.common.survey import Answer
from gmp.cli.gauge import Gauge
from gmp.cli.graph import dot, make_graph, svg, tree

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: not set(name) & set("#;\r\n"))
CONNECTIONS = st.lists(ANYTHING | st.fixed_dictionaries({"node_id": NAMES | ANYTHING}), max_size=5)


@given(st.dictionaries(NAMES, st.fixed_dictionaries({"connections": CONNECTIONS | ANYTHING, "seed": ANYTHING}), max_size=6))
@settings(max_examples=25, deadline=None)
def test_whatever_nodes_tell_it_is_drawn(told: dict[str, dict[str, Any]]) -> None:
    graph = make_graph({name: Answer(name, data) for name, data in told.items()})
    lines = tree(graph, 40)
    assert len(lines) == len(graph.kinds)
    assert all(len(line) <= 40 for line in lines)
    assert dot(graph).count(" -- ") >= len(graph.edges)
    picture = ElementTree.fromstring(svg(graph))
    assert len(picture.findall("{http://www.w3.org/2000/svg}line")) == len(graph.edges)


def test_a_connection_by_a_unix_socket_is_marked_in_every_drawing() -> None:
    told = {
        "s": {"seed": True, "connections": [{"node_id": "a", "transport": "unix"}, {"node_id": "b", "transport": "tcp"}]},
        "b": {"connections": [{"node_id": "a"}]},  # a former version does not tell
    }
    graph = make_graph({name: Answer(name, data) for name, data in told.items()})
    assert tree(graph, 40) == ["s (seed)", "├── a (unix)", "└── b  also: a"]
    assert [line.strip() for line in dot(graph).splitlines() if "--" in line] == [
        '"a" -- "b";',
        '"a" -- "s" [label=unix];',
        '"b" -- "s";',
    ]
    assert [line.split("</title>")[0].split("<title>")[1] for line in svg(graph).splitlines() if "<title>" in line][:3] == [
        "a – b",
        "a – s: Unix socket",
        "b – s",
    ]


class FakeNode:
    """Knows one node, which told `data`."""

    id = "self"

    def stats(self) -> dict[str, Any]:
        return {"peers": {}}


TOLD = ("peers", "ports", "services", "waiting", "loop_lag", "fullest", "uptime")


@given(st.dictionaries(st.sampled_from(TOLD), ANYTHING))
@settings(max_examples=50, deadline=None)
def test_whatever_a_node_tells_it_has_a_row(data: dict[str, Any]) -> None:
    gauge = Gauge(FakeNode(), 1.0)  # type: ignore[arg-type]
    for now in (1.0, 2.0):
        row = gauge._row(Answer("n", data), now, ["n"], set())
        assert row.state == "up"


def test_calls_of_services_are_told_as_a_rate() -> None:
    gauge = Gauge(FakeNode(), 1.0)  # type: ignore[arg-type]
    told = [{"services": [{"port": "n#1", "calls": calls}, {"port": "n#2", "calls": 5}]} for calls in (10, 30)]
    rows = [gauge._row(Answer("n", data), now, ["n"], set()) for now, data in zip((1.0, 3.0), told, strict=True)]
    assert [row.calls for row in rows] == [None, 10.0]
    assert gauge._row(Answer("m", {}), 1.0, ["m"], set()).calls is None


def test_how_long_calls_of_services_took_is_that_of_the_calls_since_the_last_look() -> None:
    gauge = Gauge(FakeNode(), 1.0)  # type: ignore[arg-type]
    found = []
    for now, buckets in enumerate([[0, 0, 500], [0, 0, 500], [0, 0, 502, *[0] * 17, 98], None]):
        methods = {"add": {} if buckets is None else {"buckets": buckets}}
        told = {"services": [{"port": "n#1", "methods": methods}, {"port": "n#2"}]}
        found.append(gauge._row(Answer("n", told), float(now), ["n"], set()).p99)
    assert found[:2] == [*found[3:], None] == [None, None]
    assert found[2] is not None
    assert 0.5 < found[2] < 1.1


@given(ANYTHING)
def test_every_value_is_shown_as_json_on_one_line(value: Any) -> None:
    assert "\n" not in as_json(value)
    assert isinstance(as_text(value), str)


def test_what_json_cannot_carry_is_shown_as_its_nearest() -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    assert as_json(({1, 2}, b"ok", b"\xff\0", moment, float("inf"))) == (
        '[[1, 2], "ok", "ff00", "2026-01-02 00:00:00+00:00", "inf"]'
    )


@pytest.mark.parametrize(("text", "value"), [("a", "a"), ("5", "5"), ("[5]", [5]), ('{"a": 1}', {"a": 1}), ('"5"', "5")])
def test_an_argument_that_begins_like_json_is_json(text: str, value: object) -> None:
    assert parse_argument(text) == value


def test_numbers_and_times_are_short() -> None:
    assert [amount(n) for n in (0, 999, 1234, 56789, 2_000_000)] == ["0", "999", "1.2k", "57k", "2.0M"]
    assert [milliseconds(s) for s in (0.0004, 0.25, 3)] == ["0.4ms", "250ms", "3.0s"]
    assert [duration(s) for s in (3, 300, 10_000, 1_000_000)] == ["3 s", "5 min", "3 h", "12 d"]


CONTROLS: list[Any] = ["\x1b[2J", "\x9b2J", "a\nb", "\u202e", "\U000e0001", 10**5000, {10**5000: b"\x07"}, ["\x7f"]]


@pytest.mark.parametrize("value", CONTROLS, ids=range(len(CONTROLS)))
def test_what_other_programs_say_reaches_the_terminal_without_control_characters(value: Any) -> None:
    """In what `gmp call`, `eval`, `monitor` and `spawn` print, in JSON too, and in errors."""
    assert as_text(value).isprintable()
    assert as_words([value, "more"]).isprintable()
    assert as_json(value).isprintable()
    assert json.loads(as_json(value)) == plain(value)
    assert Failure(as_text(value)).message.isprintable()
    assert "\x1b" not in Failure("said \x1b[2J").message


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert safe("a\x1b[2Jb") == "a\\x1b[2Jb"
