"""Following the messages of a port: by request, and by `gmp trace --messages` as a user would."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import gevent
import gevent.subprocess as subprocess
import pytest

import gmp
from gmp.cli.follow import Seen, diagram
from gmp.ports.port import Port

from .conftest import eventually

MakeNode = Callable[..., gmp.Node]


def echo(node: gmp.Node) -> gmp.Port:
    return node.port(lambda port: [node.send(reply, "echo", value) for value, reply in port])


@pytest.fixture
def pair(make_node: MakeNode) -> tuple[gmp.Node, gmp.Node]:
    seed = make_node("seed", allow_follow=True)
    other = make_node("other", seeds=seed.binds)
    other.wait_up(timeout=10)
    return seed, other


def test_what_comes_to_a_port_and_what_it_sends_is_told_for_a_while(pair: tuple[gmp.Node, gmp.Node]) -> None:
    seed, other = pair
    port, me, local = echo(seed), other.port(), seed.port()
    other.send("seed", "gmp.follow", port.name, 30, me)
    assert me.receive(timeout=10) == ("following", "")
    assert other.call(port.id, "remote") == ("echo", "remote")
    assert seed.call(port, "local") == ("echo", "local")
    local.run(seed.send, port, "from a port", local)
    told = [me.receive("message", timeout=10)[1:] for _ in range(6)]
    assert told[0][:2] == ("", port.id)
    assert told[0][2].startswith("('remote', ")
    assert told[1][0] == port.id
    assert told[1][2] == "('echo', 'remote')"
    assert told[4][:2] == (local.id, port.id)
    port.kill()
    assert me.receive(timeout=10) == ("ended", "the port died")


def test_what_it_sends_to_a_port_of_its_own_node_is_told_too(make_node: MakeNode) -> None:
    here = gmp.configure(node_id="here", binds=["127.0.0.1:0"], secret="geheim", allow_follow=True)
    other = make_node("other", seeds=here.binds)
    me, target, local = other.port(), gmp.port(), gmp.port()
    other.send("here", "gmp.follow", target.name, 30, me)
    assert me.receive(timeout=10) == ("following", "")
    target.run(gmp.send, local, "by the port itself", 1)
    target.run(gmp.send, local.id, "by its ID", 2)
    assert [me.receive("message", timeout=10)[1:] for _ in range(2)] == [
        (target.id, local.id, "('by the port itself', 1)"),
        (target.id, local.id, "('by its ID', 2)"),
    ]
    assert len(local) == 2


def test_it_ends_by_itself_and_leaves_no_trace(pair: tuple[gmp.Node, gmp.Node]) -> None:
    seed, other = pair
    port, me = seed.port(), other.port()
    send = seed._core.send_tuple
    other.send("seed", "gmp.follow", port.name, 0.2, me)
    assert me.receive(timeout=10) == ("following", "")
    assert type(port) is not Port
    assert me.receive(timeout=10) == ("ended", "time is up")
    assert type(port) is Port
    assert seed._core.send_tuple == send
    assert not seed._core.ports.followed


def test_it_ends_with_the_follower(pair: tuple[gmp.Node, gmp.Node]) -> None:
    seed, other = pair
    port, me = seed.port(), other.port()
    other.send("seed", "gmp.follow", port.name, 30, me)
    assert me.receive(timeout=10) == ("following", "")
    other.send("seed", "gmp.follow", port.name, 30, me)
    assert "already" in me.receive("following", timeout=10)[0]
    me.kill()
    eventually(lambda: type(port) is Port)


def test_messages_keep_their_order_while_following_begins_and_ends(pair: tuple[gmp.Node, gmp.Node]) -> None:
    seed, other = pair
    port = seed.port()
    for number in range(200):
        if number % 50 == 0:
            me = other.port()
            other.send("seed", "gmp.follow", port.name, 30, me)
        elif number % 50 == 25:
            me.kill()
        other.send(port.id, number)
        if number % 10 == 0:
            gevent.sleep(0)
    assert [port.receive(timeout=10) for _ in range(200)] == [(number,) for number in range(200)]


@pytest.mark.parametrize(
    ("name", "seconds", "said"),
    [("nobody", 5, "no port"), (7, 5, "no port"), ("own", 0, "expected"), ("own", 1e9, "expected")],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(
    pair: tuple[gmp.Node, gmp.Node], name: object, seconds: float, said: str
) -> None:
    seed, other = pair
    port, me = seed.port(), other.port()
    other.send("seed", "gmp.follow", port.name if name == "own" else name, seconds, me)
    assert said in me.receive("following", timeout=10)[0]


def test_a_node_shows_its_messages_only_when_it_is_allowed(make_node: MakeNode) -> None:
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    port, me = seed.port(), other.port()
    other.send("seed", "gmp.follow", port.name, 5, me)
    assert "allow_follow" in me.receive("following", timeout=10)[0]


def run(seed: gmp.Node, *arguments: str) -> tuple[int, str, str]:
    """The exit code of `gmp trace --messages`, and what it says on either stream."""
    command = [sys.executable, "-m", "gmp.cli.main", "trace", "--seed", seed.binds[0], "--messages", *arguments]
    environ = {**os.environ, "GMP_SECRET": "geheim"}
    done = subprocess.run(command, env=environ, capture_output=True, timeout=40)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command_prints_messages_and_diagrams(make_node: MakeNode) -> None:
    seed = make_node("seed", allow_follow=True)
    ports = [echo(seed) for _ in range(3)]  # one follower each is what a port may have

    def talk() -> None:
        while True:
            for port in ports:
                seed.call(port, "<b>hello; you</b>")
            gevent.sleep(0.05)

    talking = gevent.spawn(talk)
    first, second, third = (port.id for port in ports)
    ways = [(first, "--json"), (second,), (third, "--mermaid"), ("seed#nobody",)]
    results = [gevent.spawn(run, seed, *way, "--for", "0.5") for way in ways]
    (code, lines, errors), (_, plain, _), (_, drawn, _), refused = [result.get(timeout=50) for result in results]
    talking.kill()
    assert code == 0, errors
    message = json.loads(lines.splitlines()[0])
    assert first in (message["dest"], message["sender"])
    assert f"→ {second}  ('<b>hello; you</b>'" in plain
    assert drawn.startswith("sequenceDiagram\n    participant p0 as ")
    assert "#lt;b#gt;hello#59; you" in drawn
    assert (refused[0], "no port" in refused[2]) == (1, True)


def test_a_diagram_has_every_party_once() -> None:
    text = diagram([Seen(1.0, "", "a#1", "('x',)"), Seen(2.0, "a#1", "b#2", "y" * 100), Seen(3.0, "b#2", "a#1", "z")])
    assert text.splitlines() == [
        "sequenceDiagram",
        "    participant p0 as another node",
        "    participant p1 as a#35;1",
        "    participant p2 as b#35;2",
        "    p0->>p1: ('x',)",
        f"    p1->>p2: {'y' * 60}…",
        "    p2->>p1: z",
    ]
