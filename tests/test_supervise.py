"""Supervisors: strategies, restart types, the restart limit, orderly stops, trees, children on other nodes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import pytest

import gmp
from gmp.kernel.supervision import RestartLimit, affected

from .conftest import Recorder

MakeNode = Callable[..., gmp.Node]


class Family:
    """Children that tell when they start and end, and do as they are told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.ports: dict[str, gmp.Port] = {}
        self._changed = gevent.event.Event()

    def note(self, text: str) -> None:
        self.log.append(text)
        self._changed.set()

    def __call__(self, port: gmp.Port, name: str) -> None:
        self.ports[name] = port
        self.note(f"+{name}")
        try:
            for order, *rest in port:
                if order == "die":
                    raise ValueError(*rest)
                return
        finally:
            self.note(f"-{name}")

    def children(self, names: str, **settings: Any) -> list[gmp.Child]:
        return [gmp.Child(self, name, name=name, **settings) for name in names]

    def wait(self, *expected: str) -> None:
        """The log so far is this, and is cleared."""
        with gevent.Timeout(20, AssertionError(f"{self.log} instead of {list(expected)}")):
            while len(self.log) < len(expected):
                self._changed.clear()
                self._changed.wait()
        for _ in range(5):
            gevent.sleep(0)  # what comes beyond it would come now
        assert self.log == list(expected)
        self.log.clear()

    def tell(self, name: str, *order: Any) -> None:
        gmp.send(self.ports[name], *order)


@pytest.fixture
def kin() -> Family:
    return Family()


@gmp.spawnable
def report_then_fail(port: gmp.Port, boss: str, text: str) -> None:
    port.node.send(boss, "started", port, text)
    port.receive("fail")
    raise ValueError(text)


FAR = f"{__name__}:report_then_fail"


def quiet(text: str = "boom") -> tuple[str, str]:
    return ("die", text)


def test_children_start_in_order_and_one_that_dies_is_restarted_alone(kin: Family) -> None:
    gmp.supervise(kin.children("abc"))
    kin.wait("+a", "+b", "+c")
    kin.tell("b", *quiet())
    kin.wait("-b", "+b")


def test_one_for_all_stops_the_others_backwards_and_starts_all(kin: Family) -> None:
    gmp.supervise(kin.children("abc"), strategy="one_for_all")
    kin.wait("+a", "+b", "+c")
    kin.tell("b", *quiet())
    kin.wait("-b", "-c", "-a", "+a", "+b", "+c")


def test_rest_for_one_restarts_it_and_those_behind_it(kin: Family) -> None:
    gmp.supervise(kin.children("abcd"), strategy="rest_for_one")
    kin.wait("+a", "+b", "+c", "+d")
    kin.tell("b", *quiet())
    kin.wait("-b", "-d", "-c", "+b", "+c", "+d")


def test_a_permanent_child_is_restarted_also_when_it_ends_normally(kin: Family) -> None:
    gmp.supervise(kin.children("a"))
    kin.wait("+a")
    kin.tell("a", "end")
    kin.wait("-a", "+a")


def test_a_transient_child_is_restarted_only_when_it_dies_abnormally(kin: Family) -> None:
    supervisor = gmp.supervise(kin.children("a", restart="transient"))
    kin.wait("+a")
    kin.tell("a", *quiet())
    kin.wait("-a", "+a")
    kin.tell("a", "end")
    kin.wait("-a")
    assert gmp.call(supervisor, "children") == ([["a", None, "transient"]],)


def test_a_temporary_child_is_never_restarted_not_even_with_the_others(kin: Family) -> None:
    children = [*kin.children("a", restart="temporary"), *kin.children("b")]
    gmp.supervise(children, strategy="one_for_all")
    kin.wait("+a", "+b")
    kin.tell("b", *quiet())
    kin.wait("-b", "-a", "+b")


def test_over_the_limit_it_stops_all_and_dies_with_a_reason_that_names_the_child(kin: Family, recorder: Recorder) -> None:
    supervisor = gmp.supervise(kin.children("ab"), max_restarts=2, period=60)
    gmp.monitor(supervisor, recorder)
    kin.wait("+a", "+b")
    for _ in range(2):
        kin.tell("a", *quiet())
        kin.wait("-a", "+a")
    kin.tell("a", *quiet("once too often"))
    ((kind, name, text, *why),) = recorder.wait()
    assert (kind, name) == ("restart_limit", "a")
    assert text == "more than 2 restarts within 60 s"
    assert why[:2] == ["die", "ValueError: once too often"]
    kin.wait("-a", "-b")
    assert not supervisor.alive


def test_a_child_that_cannot_start_uses_up_the_limit() -> None:
    def broken(port: gmp.Port) -> None:
        raise OSError("no such device")

    supervisor = gmp.supervise([broken])
    assert supervisor.join(20)
    assert supervisor.reason is not None
    assert supervisor.reason[:2] == ("restart_limit", "broken")


def test_restarts_long_ago_do_not_count() -> None:
    limit = RestartLimit(2, 5.0)
    assert [limit.reached(now) for now in (0.0, 1.0, 5.0, 5.5, 6.0)] == [False, False, False, True, True]
    assert RestartLimit(0, 1.0).reached(0.0)


@pytest.mark.parametrize(
    ("strategy", "expected"), [("one_for_one", [1]), ("one_for_all", [0, 1, 2, 3]), ("rest_for_one", [1, 2, 3])]
)
def test_who_is_affected(strategy: Any, expected: list[int]) -> None:
    assert list(affected(strategy, 1, 4)) == expected


def test_stop_ends_the_children_backwards_and_answers_when_they_are_gone(kin: Family) -> None:
    supervisor = gmp.supervise(kin.children("abc"))
    kin.wait("+a", "+b", "+c")
    assert gmp.call(supervisor, "stop") == ("stopped",)
    assert kin.log == ["-c", "-b", "-a"]
    assert supervisor.join(5)
    assert supervisor.reason == ()
    assert kin.ports["a"].reason == ("shutdown",)


def test_killing_it_ends_the_children_too_one_after_another(kin: Family) -> None:
    supervisor = gmp.supervise(kin.children("abc"))
    kin.wait("+a", "+b", "+c")
    supervisor.kill("enough")
    kin.wait("-c", "-b", "-a")
    assert not any(port.alive for port in kin.ports.values())


def test_a_child_with_a_stop_message_ends_by_itself_and_late_ones_are_killed() -> None:
    events: list[str] = []

    def polite(port: gmp.Port) -> None:
        port.receive("please end")
        events.append("polite has put its things away")

    def deaf(port: gmp.Port) -> None:
        try:
            port.receive("nothing that comes")
        finally:
            events.append("deaf was killed")

    supervisor = gmp.supervise(
        [
            gmp.Child(polite, stop=("please end",), shutdown=None),
            gmp.Child(deaf, stop=("please end",), shutdown=0.05),
        ]
    )
    gmp.call(supervisor, "stop")
    assert events == ["deaf was killed", "polite has put its things away"]


def test_supervisors_supervise_supervisors(kin: Family, recorder: Recorder) -> None:
    inner = gmp.Supervisor(kin.children("bc"), strategy="one_for_all", max_restarts=1, period=60, name="inner")
    outer = gmp.supervise([*kin.children("a"), inner])
    kin.wait("+a", "+b", "+c")
    kin.tell("c", *quiet())
    kin.wait("-c", "-b", "+b", "+c")
    kin.tell("c", *quiet())  # over the inner one's limit: the outer one restarts it as a whole
    kin.wait("-c", "-b", "+b", "+c")
    (children,) = gmp.call(outer, "children")
    assert [name for name, _, _ in children] == ["a", "inner"]
    gmp.call(outer, "stop")
    assert kin.log == ["-c", "-b", "-a"]


def test_a_death_that_was_on_its_way_when_the_child_was_stopped_counts_once(kin: Family) -> None:
    """race: a death is on its way when the child is stopped or started anew."""
    supervisor = gmp.supervise(kin.children("ab"), strategy="one_for_all", max_restarts=1, period=60)
    kin.wait("+a", "+b")
    kin.ports["a"].kill("together")
    kin.ports["b"].kill("together")
    kin.wait("-a", "-b", "+a", "+b")
    assert supervisor.alive


def test_messages_it_does_not_know_are_logged_and_do_no_harm(kin: Family, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = gmp.supervise(kin.children("a"))
    gmp.send(supervisor, "what", 1)
    gmp.send(supervisor, object(), 0, 1)
    assert gmp.call(supervisor, "children")[0][0][0] == "a"
    assert caplog.text.count("unknown message") == 2
    assert len(supervisor) == 0


def test_the_death_of_a_child_is_logged_once_with_its_traceback(kin: Family, caplog: pytest.LogCaptureFixture) -> None:
    gmp.supervise(kin.children("a"))
    kin.wait("+a")
    kin.tell("a", *quiet("seen once"))
    kin.wait("-a", "+a")
    assert caplog.text.count("Traceback") == 1
    assert "restarts a" in caplog.text


def test_children_on_other_nodes_are_spawned_restarted_and_stopped(make_node: MakeNode) -> None:
    seed = make_node("seed")
    far = make_node("far", seeds=seed.binds)
    boss = seed.port()
    supervisor = seed.supervise([("far", FAR, (boss.id, "one"))], max_restarts=1, period=60)
    first, value = boss.receive("started", timeout=20)
    assert value == "one"
    assert gmp.node_of(first) == "far"
    seed.send(first, "fail")
    second, _ = boss.receive("started", timeout=20)
    assert second != first
    assert seed.call(supervisor, "stop", timeout=20) == ("stopped",)
    assert far._core.ports.find(second) is None


def test_a_remote_child_dies_with_its_supervisor(make_node: MakeNode) -> None:
    seed = make_node("seed")
    far = make_node("far", seeds=seed.binds)
    boss = far.port()
    supervised = make_node("near", seeds=seed.binds)
    supervised.supervise([gmp.Child(FAR, boss.id, "x", node="far")])
    child, _ = boss.receive("started", timeout=20)
    supervised.close()
    assert child.join(20)
    assert child.reason[0] == "leaving"


def test_a_child_that_a_node_does_not_allow_is_over_the_limit_soon(make_node: MakeNode) -> None:
    seed = make_node("seed")
    make_node("far", seeds=seed.binds)
    supervisor = seed.supervise([("far", "os:system", ("true",))])
    assert supervisor.join(20)
    assert supervisor.reason is not None
    kind, name, _, why, text = supervisor.reason
    assert (kind, name, why) == ("restart_limit", "os:system", "not_allowed")
    assert "os:system" in text


def test_closing_the_node_ends_a_tree_without_a_word(caplog: pytest.LogCaptureFixture, kin: Family) -> None:
    with gmp.Node("alone", binds=[], secret="x") as node:
        node.supervise([*kin.children("a"), gmp.Supervisor(kin.children("b"))])
        kin.wait("+a", "+b")
    assert sorted(kin.log) == ["-a", "-b"]
    assert "ERROR" not in caplog.text


def test_restarts_keep_nothing_of_the_dead_alive() -> None:
    def brief(port: gmp.Port) -> None:
        port.receive()

    supervisor = gmp.supervise([brief], max_restarts=1000, period=60)
    for _ in range(50):
        ((_, port_id, _),) = gmp.call(supervisor, "children")[0]
        gmp.send(port_id, "end")
        gevent.sleep(0)
        gevent.sleep(0)
    gc.collect()
    ports = [port for port in gc.get_objects() if type(port) is gmp.Port and port.node is gmp.node()]
    assert len([port for port in ports if not port.alive]) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"children": [3]}, "child 3: expected a function"),
        ({"children": ["os:system"]}, "child 'os:system': expected a function"),
        ({"children": "ab"}, "children 'ab': expected a list"),
        ({"children": [("node", "no colon")]}, "expected 'package.module:function'"),
        ({"children": [("no#de", "a:b")]}, "'no#de' is not a node ID"),
        ({"children": [], "strategy": "all"}, "strategy 'all'"),
        ({"children": [], "max_restarts": -1}, "max_restarts -1"),
        ({"children": [], "period": 0}, "period 0"),
    ],
)
def test_misuse_is_told_at_the_callers_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(gmp.GmpError, match=message):
        gmp.supervise(**arguments)


@pytest.mark.parametrize(
    "settings", [{"restart": "always"}, {"shutdown": -1}, {"shutdown": "soon"}, {"stop": "end"}, {"node": ""}]
)
def test_a_child_says_what_is_wrong_with_it(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(gmp.ConfigError, match=name if name != "node" else "not a node ID"):
        gmp.Child(print, **settings)
