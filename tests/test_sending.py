"""Whatever a socket does, what is sent arrives once and in order, and nothing stays counted that does not wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gevent
import pytest

import gmp
from gmp.net.connection import Connection

from .certificates import self_signed
from .conftest import eventually

MakeNode = Callable[..., gmp.Node]

pytestmark = pytest.mark.usefixtures("both_sends")


class Moody:
    """A socket that takes as much as it likes."""

    def __init__(self, sock: Any, rng: random.Random) -> None:
        self._sock, self._rng = sock, rng

    def send(self, data: bytes) -> int:
        """As that of a socket."""
        mood = self._rng.random()
        if mood < 0.3:
            raise BlockingIOError
        most = self._rng.choice([1, 10, 1000, 20_000]) if mood < 0.8 else len(data)
        return int(self._sock.send(data[:most]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def send_some(node: gmp.Node, ports: list[gmp.Port], sent: list[list[int]], rng: random.Random) -> None:
    """Small ones in a row for one port, now and then others: large, by the node port, from where no send may block."""
    favourite = rng.randrange(len(ports))
    for _ in range(300):
        place = rng.randrange(len(ports)) if rng.random() < 0.3 else favourite
        number = sum(map(len, sent))
        sent[place].append(number)
        size = rng.choice([0, 1, 5, 50, 70, 200, 3000, 9000, 33_000, 70_000]) if rng.random() < 0.25 else 20
        message = number, rng.choice([b"x" * size, "y" * size, [["z" * size]], {"a": b"x" * size}])
        way = rng.random()
        if way < 0.03:
            node._core.request("far", "snd", ports[place].id, *message)
        elif way < 0.1:
            node._core.send_soon(ports[place].id, *message)
        else:
            node.send(ports[place].id, *message)
        if rng.random() < 0.05:
            gevent.sleep(rng.choice([0, 0.001]))


@pytest.mark.parametrize("kind", ["plain", "tls"])
@pytest.mark.parametrize("seed", range(4))
def test_messages_arrive_once_and_in_order_however_the_socket_behaves(make_node: MakeNode, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    settings = {"cert": self_signed()} if kind == "tls" else {}
    far = make_node("far", **settings)
    mark = rng.choice([2000, 50_000, 1 << 20])
    near = make_node("near", seeds=far.binds, high_mark=mark, low_mark=mark // 2, **settings)
    near.wait_up("far", timeout=20)
    connection = near._core.network.peers["far"].connection
    assert isinstance(connection, Connection)
    connection.sock = Moody(connection.sock, rng)  # type: ignore[assignment]
    ports = [far.port() for _ in range(3)]
    sent: list[list[int]] = [[] for _ in ports]
    senders = [gevent.spawn(send_some, near, ports, sent, rng) for _ in range(3)]
    gevent.joinall(senders, raise_error=True)
    for port, numbers in zip(ports, sent, strict=True):
        assert [port.receive(timeout=20)[0] for _ in numbers] == numbers
    eventually(lambda: near.stats()["peers"]["far"]["queued_bytes"] == 0)
    eventually(
        lambda: near.stats()["peers"]["far"]["sent_messages"] == far.stats()["peers"]["near"]["received_messages"]
    )
