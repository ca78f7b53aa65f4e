"""What has ended is freed at once: the collector is off in every test here, and counting references must do."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

import gmp
from gmp.net.connection import Connection
from gmp.net.relaylink import RelayLink
from gmp.wire.framing import make_decoder, make_encoder
from gmp.wire.portable import Portable
from gmp.wire.session import Session
from tests.addresses import free_addresses
from tests.certificates import self_signed
from tests.conftest import eventually

MakeNode = Callable[..., gmp.Node]
KEPT = (Connection, RelayLink, Session, type(make_decoder("msgpack", 1)), type(make_encoder("msgpack", 1)))


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def there_are(kinds: tuple[type, ...] = KEPT) -> list[Any]:
    """All of these kinds, but for the encoders and the decoder with which a node tries entries: they end with the node."""
    every = gc.get_objects()
    tried_by = [held for one in every if isinstance(one, Portable) for held in gc.get_referents(one)]
    of_nodes = {id(one) for held in tried_by for one in (held, *(held if isinstance(held, list) else ()))}
    return [one for one in every if isinstance(one, kinds) and id(one) not in of_nodes]


def visit(host: gmp.Node, **settings: Any) -> None:
    with gmp.Node("visitor", binds=[], seeds=host.binds, **{"secret": "geheim", **settings}) as node:
        node.wait_up(timeout=10)
        assert node.call(host.id, "time", timeout=10)


def check_nothing_stays(host: gmp.Node, way: Callable[[], object]) -> None:
    """What is kept after the first time, as the peer of that name, is there after the second time too, and no more."""
    way()
    eventually(lambda: not host.up_nodes())
    gevent.sleep(0)
    gc.collect()
    before = len(there_are())
    way()
    eventually(lambda: not host.up_nodes())
    eventually(lambda: len(there_are()) <= before)


@pytest.mark.parametrize("framing", ["msgpack", "json", "cbor"])
def test_an_ended_connection_is_freed_without_a_collection(make_node: MakeNode, framing: str) -> None:
    host = make_node("host", seeds=[])
    check_nothing_stays(host, lambda: visit(host, framings=[framing]))


def test_so_is_one_with_tls(make_node: MakeNode) -> None:
    cert = self_signed("host")
    host = make_node("host", seeds=[], secret=None, cert=cert)
    check_nothing_stays(host, lambda: visit(host, secret=None, cert=cert))


def test_so_is_one_that_is_refused(make_node: MakeNode) -> None:
    host = make_node("host", seeds=[])

    def refused() -> None:
        with gmp.Node("visitor", binds=[], seeds=host.binds, secret="another") as node:
            eventually(lambda: node.stats()["seeds"][0]["error"])

    check_nothing_stays(host, refused)


def test_so_is_one_of_a_node_that_was_killed(make_node: MakeNode) -> None:
    host = make_node("host", seeds=[])

    def killed() -> None:
        node = gmp.Node("visitor", binds=[], seeds=host.binds, secret="geheim").start()
        node.wait_up(timeout=10)
        node._core.mesh.stop()
        node._core.network.close()
        node.close()

    check_nothing_stays(host, killed)


def test_so_is_a_way_through_a_seed(make_node: MakeNode) -> None:
    seed = make_node("seed", seeds=[])
    host = make_node("host", binds=[], seeds=seed.binds)
    seed.wait_up("host", timeout=10)
    port = host.port(lambda port: [host.send(reply, "echo") for (reply,) in port])

    def relayed() -> None:
        with gmp.Node("visitor", binds=[], seeds=seed.binds, secret="geheim") as node:
            assert node.call(port.id, timeout=10) == ("echo",)
            assert not node._core.ground.is_linked("host")
        eventually(lambda: not host.is_up("visitor") and not seed.is_up("visitor"))

    relayed()
    gevent.sleep(0)
    gc.collect()
    before = len(there_are())
    relayed()
    eventually(lambda: len(there_are()) <= before)


def test_so_is_a_dial_that_nobody_answers(make_node: MakeNode) -> None:
    (address,) = free_addresses(1)
    node = make_node("node", seeds=[])

    def dial() -> None:
        host, _, port = address.rpartition(":")
        with pytest.raises(OSError, match="refused"):
            node._core.ground.dial(gmp.config.Address(host, int(port)))

    check_nothing_stays(node, dial)
