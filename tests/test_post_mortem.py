"""What is left of a port that died: its last messages in the log, on the node and for a fresh port; and what others run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gevent.event
import pytest

import gmp
from gmp.services.dashboard import Dashboard
from gmp.testing import replay

MakeNode = Callable[..., gmp.Node]


def divide(port: gmp.Port) -> None:
    for _, number in port:
        1 / number


def test_the_last_messages_of_a_port_that_died_of_an_error_are_logged_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    port = gmp.port(divide, max_history=3)
    for number in (4, 3, 2, 1, 0):
        gmp.send(port, "divide by", number)
    assert port.join(10)
    (death,) = gmp.node().deaths()
    assert death.port == port.id
    assert death.reason[1] == "ZeroDivisionError: division by zero"
    assert death.history == (("divide by", 2), ("divide by", 1), ("divide by", 0))
    (line,) = [record.getMessage() for record in caplog.records if "last 3 messages" in record.getMessage()]
    assert "('divide by', 0)" in line
    assert port.id in line


def test_they_make_a_fresh_port_die_of_the_same() -> None:
    port = gmp.port(divide, max_history=3)
    for number in (1, 0):
        gmp.send(port, "divide by", number)
    port.join(10)
    again = replay(gmp.node().deaths()[-1].history, divide)
    assert again.join(10)
    assert again.reason is not None
    assert again.reason[:2] == ("die", "ZeroDivisionError: division by zero")
    handled: list[int] = []
    done = gevent.event.Event()
    handlers = {"divide by": lambda number: (handled.append(number), done.set() if number == 0 else None)}
    replay(gmp.node().deaths()[0].history, handlers=handlers)
    assert done.wait(10)
    assert handled == [1, 0]


def test_a_port_that_ends_normally_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    port = gmp.port(lambda port: port.receive("stop"), max_history=10)
    gmp.send(port, "stop")
    assert port.join(10)
    assert gmp.node().deaths() == []
    assert not caplog.records


def test_a_port_without_a_history_is_remembered_with_its_reason_alone() -> None:
    port = gmp.port()
    gmp.send(port, "hello")
    port.kill("enough", {"why": 1})
    (death,) = gmp.node().deaths()
    assert (death.port, death.reason, death.history) == (port.id, ("enough", {"why": 1}), ())


def test_only_the_last_deaths_are_remembered() -> None:
    for number in range(50):
        gmp.port().kill("number", number)
    numbers = [death.reason[1] for death in gmp.node().deaths()]
    assert numbers == list(range(30, 50))


@pytest.mark.parametrize("wrong", [0, -1, True, "ten", 1.5])
def test_a_wrong_history_is_named(wrong: Any) -> None:
    with pytest.raises(gmp.GmpError, match="max_history"):
        gmp.port(max_history=wrong)


def test_messages_to_a_recording_port_come_by_every_way(make_node: MakeNode) -> None:
    here, there = make_node("here"), make_node("there")
    there.close()
    there = make_node("there-again", seeds=here.binds)
    port = here.port(max_history=10)
    here.send(port, 1)
    here.send(port.id, 2)
    there.send(port.id, 3)
    assert [port.receive(timeout=10) for _ in range(3)] == [(1,), (2,), (3,)]
    assert list(port.history) == [(1,), (2,), (3,)]  # type: ignore[attr-defined]


def test_a_node_tells_what_its_ports_run_and_where_they_wait(make_node: MakeNode) -> None:
    node, other = make_node("seed"), None
    other = make_node("other", seeds=node.binds)
    port = node.port(divide, max_history=2)
    node.group("dividers").join(port)
    handled = node.port()
    started, go_on = gevent.event.Event(), gevent.event.Event()
    handled.on("wait", lambda: (started.set(), go_on.wait()))
    node.send(handled, "wait")
    assert started.wait(10)
    (told,) = other.call("seed", "gmp.ports")
    ports = {each["name"]: each for each in told["ports"]}
    assert ports[port.name]["runs"].startswith("divide, at test_post_mortem.py:")
    assert ports[port.name]["groups"] == ["dividers"]
    assert "<lambda>, at test_post_mortem.py" in ports[handled.name]["runs"]
    go_on.set()
    node.send(port, "divide by", 0)
    port.join(10)
    app = Dashboard(node=other, interval=0.05)
    app.watcher.wait(5, 10)
    detail = app.watcher.detail("seed")
    assert detail is not None
    (death,) = detail["ports_list"]["deaths"]
    assert death["reason"][1] == "ZeroDivisionError: division by zero"
    assert "Traceback" in death["reason"][2]
    assert death["history"] == ["('divide by', 0)"]
    json.dumps(detail["ports_list"])
    app.close()
