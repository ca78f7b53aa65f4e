"""A service may say which nodes call it: by their authenticated names, whatever a message claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

import gmp
from gmp.testing import FaultProxy

from .conftest import eventually

Make = Callable[..., gmp.Node]


class Safe:
    def __init__(self) -> None:
        self.opened: list[str] = []
        self.begun = gevent.event.Event()

    def open(self, who: str) -> str:
        self.opened.append(who)
        return "opened"

    def items(self) -> Iterator[int]:
        yield from range(3)

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    def wait(self) -> None:
        self.begun.set()
        gevent.sleep(3600)


class Network:
    def __init__(self, make_node: Make, **settings: Any) -> None:
        self.home = make_node("home", **settings)
        self.web = make_node("web-1", seeds=self.home.binds)
        self.evil = make_node("evil", seeds=self.home.binds)
        self.safe = Safe()
        self.port = gmp.expose(self.safe, "safes", allow_nodes=["web-*", "batch"], node=self.home)
        for node in (self.web, self.evil):
            node.group("safes").wait(1, timeout=20)


@pytest.fixture
def network(make_node: Make) -> Network:
    return Network(make_node)


def test_a_node_that_is_allowed_calls_and_no_other(network: Network) -> None:
    web = gmp.remote("safes", node=network.web)
    assert [web.open("web"), web.open("web")] == ["opened", "opened"]
    assert list(web.items()) == [0, 1, 2]
    own = gmp.remote("safes", node=network.home)
    assert own.open("home") == "opened"
    evil = gmp.remote("safes", node=network.evil)
    for _ in range(2):
        with pytest.raises(gmp.NotAllowed, match=r"node evil may not call it: its allow_nodes are web-\*, batch"):
            evil.open("evil")
    with pytest.raises(gmp.NotAllowed):
        evil.open.send("evil")
    with pytest.raises(gmp.NotAllowed):
        evil.total(number for number in range(3))
    web.open.send("sent")
    eventually(lambda: network.safe.opened == ["web", "web", "home", "sent"])


def test_the_first_call_may_be_one_that_sends_a_stream_or_waits_for_nothing(network: Network) -> None:
    assert gmp.remote("safes", node=network.web).total(number for number in range(4)) == 6
    gmp.remote(network.port.id, node=network.web).open.send("first")
    eventually(lambda: network.safe.opened == ["first"])


def test_a_reply_port_of_another_node_gives_no_rights(network: Network) -> None:
    """Whose it is, is not proved by a message."""
    seen = network.web.port()
    for options in ({}, {"key": ""}, {"key": "guessed"}, {"key": None}, {"key": ["x"]}):
        network.evil.send(network.port.id, "call", "open", ["evil"], {}, options, seen.id)
        assert seen.receive("refused", timeout=20)[0] == "key"
        network.evil.send(network.port.id, "send", "open", ["evil"], {}, options)
    assert network.evil.call(network.port.id, "call", "open", ["evil"])[:2] == ("refused", "key")
    assert network.safe.opened == []


def test_a_key_goes_to_the_node_that_it_is_for_and_nowhere_else(network: Network) -> None:
    name = network.port.id.partition("#")[2]
    mine = network.evil.port()
    # the node that is allowed is made to ask for the one that is not
    network.evil.send("web-1", "snd", "home", "gmp.key", name, mine.id)
    network.evil.send("home", "snd", "home", "gmp.key", name, mine.id)
    network.evil.send("home", "gmp.key", name, network.web.port().id)
    assert network.evil.call("web-1", "time")
    assert network.evil.call("home", "time")
    gevent.sleep(0)
    assert network.evil.call("home", "gmp.key", name)[:2] == ("refused", "not_allowed")
    assert all(message[0] == "refused" for message in mine.queue)
    tag, key = network.web.call("home", "gmp.key", name)
    assert (tag, len(key)) == ("key", 32)
    assert network.web.call("home", "gmp.key", name) == ("key", key)
    assert network.web.call("home", "gmp.key", "nonsense") == ("key", "")


def test_nobody_else_cancels_a_call(network: Network) -> None:
    call = gmp.remote("safes", node=network.web).wait.future()
    network.safe.begun.wait()
    (service,) = network.home._core.draining._drained
    (call_id,) = service._works
    network.evil.send(network.port.id, "cancel", call_id)
    network.evil.send(network.port.id, "cancel", call_id, "guessed")
    assert gmp.objects.remote.describe(gmp.remote("safes", node=network.evil))["running"] == 1
    call.cancel()
    eventually(lambda: gmp.objects.remote.describe(gmp.remote("safes", node=network.web))["stopped"] == 1)


def test_a_node_that_was_lost_asks_again(make_node: Make) -> None:
    home = make_node("home", reached_at=["*"])
    safe = Safe()
    port = gmp.expose(safe, allow_nodes=["web-*"], node=home)
    with FaultProxy(home.binds[0]) as proxy:
        web = make_node("web-1", seeds=[proxy.address], binds=[])
        remote = gmp.remote(port.id, node=web)
        assert remote.open("one") == "opened"
        (service,) = home._core.draining._drained
        (key,) = service._rights._given
        proxy.cut()
        eventually(lambda: not service._rights._given)
        web.wait_up("home", timeout=20)
        assert remote.open("two") == "opened"
        assert key not in service._rights._given
        web.close()
    port.kill()
    eventually(lambda: not home._core.keys)


def test_what_cannot_be_a_pattern_is_named() -> None:
    for given in ("web-*", [1], [""], 3):
        with pytest.raises(gmp.ConfigError, match="allow_nodes"):
            gmp.expose(Safe(), allow_nodes=given)  # type: ignore[arg-type]
    assert not gmp.node().stats()["ports"]
