"""Nothing crosses between nodes but by `gmp.mesh.border`: no loopback address leaks, and none is believed."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gmp
from gmp.mesh.backbone import Backbone
from gmp.mesh.border import Border

ROOT = Path(gmp.__file__).parent
HERE, THERE = "127.0.0.1:4040", "10.0.0.1:4040"
RULES = {"for_others", "dialable"}  # what only the border may import of `gmp.mesh.addresses`
CHECKS = {"clean_family", "clean_database", "Entries"}  # what reads others' entries: `entries` for the border


class FakeGround:
    """A node whose neighbours with a name that begins with "near" are on its machine."""

    id, incarnation = "me", "i1"

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def request(self, node_id: str, *request: Any) -> None:
        self.sent.append((node_id, *request))

    def is_near(self, node_id: str) -> bool:
        return node_id.startswith("near")

    def carries_bytes(self, node_id: str) -> bool:
        return True

    def admits(self, node_id: str, request: str) -> bool:
        return True

    def may_be_seed(self, node_id: str) -> bool:
        return True

    def is_linked(self, node_id: str) -> bool:
        return True

    def portable(self, key: str, value: Any) -> Any:
        return value

    def now(self) -> float:
        return 0.0

    def later(self, seconds: float, function: Callable[[], None]) -> Any:
        class Timer:
            def cancel(self) -> None:
                pass

        return Timer()


def seen_from(name: str) -> list[str]:
    """Which of the two addresses may cross the connection with the node `name`."""
    return [HERE, THERE] if name.startswith("near") else [THERE]


def test_nothing_but_the_border_asks_who_is_near_or_filters() -> None:
    asks, imports = set(), set()
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            asks_who = isinstance(node, ast.Attribute) and node.attr == "is_near"
            filters = isinstance(node, ast.keyword) and node.arg == "near" and not name.startswith("net/")
            if asks_who or filters:
                asks.add(name)
            elif isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & (RULES | CHECKS):
                imports.add(name)
    assert asks == {"mesh/border.py"}
    assert imports == {"mesh/border.py", "mesh/entries.py"}


@pytest.mark.parametrize("name", ["near", "far"])
def test_each_way_over_the_border(name: str) -> None:
    border = Border(FakeGround())  # type: ignore[arg-type]
    entries, visible = {"n": [HERE, THERE]}, {"n": seen_from(name)}
    assert border.shown(name, "'l", entries) == border.heard(name, "n", "'l", entries) == visible
    database, both = {"'l": entries, "group": entries}, {"'l": visible, "group": entries}
    assert border.shown_database(name, database) == border.heard_database(name, "n", database) == both
    assert border.shown_addresses(name, [HERE, THERE]) == border.heard_addresses(name, (HERE, THERE, 1)) == visible["n"]
    assert border.shown_addresses(name, None) is border.heard_addresses(name, None) is None
    assert border.dialable(name, [HERE, THERE]) == seen_from(name)


@pytest.mark.parametrize("name", ["near", "far"])
@pytest.mark.parametrize("request_", [("g_chg1", "'l"), ("g_chg2", "'l")])
def test_what_a_master_reports_is_believed_only_so_far(name: str, request_: tuple[str, str]) -> None:
    backbone = Backbone(FakeGround(), lambda: None)  # type: ignore[arg-type]
    kept = backbone.subscribe("'l")
    backbone.seed_up(name)
    assert backbone.master == name
    backbone.handle(name, request_[0], (request_[1], {"n": [HERE, THERE]}, []))
    assert backbone.items("'l") == {"n": seen_from(name)}
    del kept


@pytest.mark.parametrize("name", ["near", "far"])
def test_where_a_node_listens_is_believed_and_told_only_so_far(name: str) -> None:
    ground = FakeGround()
    backbone = Backbone(ground, lambda: None)  # type: ignore[arg-type]
    backbone.set("'l", "me", [HERE, THERE])
    backbone.seed_up(name)
    attached = next(request for request in ground.sent if request[1] == "gmp.attach")
    assert attached[-1]["'l"] == {"me": seen_from(name)}
    found: list[Any] = []
    backbone.find("n", found.append)
    backbone.handle(name, "g_found", ("n", [HERE, THERE]))
    assert found == [seen_from(name)]
