"""The Flask-SocketIO example under two gunicorns, with the real JavaScript client over both transports.

Needs flask-socketio, gunicorn and simple-websocket (extra ``test``), node, and socket.io-client from npm on NODE_PATH.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.subprocess as subprocess
import pytest

import gmp

from .conftest import eventually
from .gunicorns import Gunicorns

pytest.importorskip("flask_socketio")
pytest.importorskip("gunicorn")
pytest.importorskip("simple_websocket")
EXAMPLE = Path(__file__).parent.parent / "examples" / "socketio_chat"
SECRET = "a secret of this test"


def has_client() -> bool:
    node = shutil.which("node")
    look = [str(node), "-e", "require('socket.io-client')"]
    return node is not None and subprocess.run(look, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not has_client(), reason="needs node and npm's socket.io-client on NODE_PATH, as the gate has them"),
]


class Client:
    """The JavaScript client in a process of its own."""

    def __init__(self, url: str, transport: str) -> None:
        script = Path(__file__).parent / "socketio_client.js"
        self._process = subprocess.Popen(
            ["node", str(script), url, transport], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def next(self) -> list[Any]:
        with gevent.Timeout(30, AssertionError("the client shows nothing")):
            return list(json.loads(self._process.stdout.readline()))

    def emit(self, *event: Any) -> None:
        self._process.stdin.write(json.dumps(event).encode() + b"\n")
        self._process.stdin.flush()

    def enter(self, room: str) -> str:
        self.emit("enter", room)
        answer, sid = self.next()
        assert answer == "answer"
        return str(sid)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


@pytest.fixture
def seed(make_node: Callable[..., gmp.Node]) -> gmp.Node:
    return make_node("seed", secret=SECRET)


@pytest.fixture
def gunicorns(seed: gmp.Node, tmp_path: Path) -> Iterator[Gunicorns]:
    made = Gunicorns(EXAMPLE, tmp_path, GMP_SECRET=SECRET, GMP_SEEDS=seed.binds[0])
    yield made
    made.close()


@pytest.fixture
def environ(gunicorns: Gunicorns) -> dict[str, str]:
    return gunicorns.environ


@pytest.fixture
def servers(gunicorns: Gunicorns) -> list[str]:
    """Two gunicorns, each with one worker, as on two hosts."""
    addresses = [gunicorns.start(), gunicorns.start()]
    for address in addresses:
        eventually(lambda address=address: answers(address), timeout=40)
    return [f"http://{address}" for address in addresses]


def answers(address: str) -> bool:
    host, port = address.split(":")
    try:
        with gevent.socket.create_connection((host, int(port)), timeout=5) as sock:
            sock.sendall(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.0\r\n\r\n")
            return b"200" in sock.recv(100)
    except OSError:
        return False


@pytest.fixture
def client() -> Iterator[Callable[[str, str], Client]]:
    clients: list[Client] = []

    def make(url: str, transport: str) -> Client:
        clients.append(Client(url, transport))
        assert clients[-1].next() == ["connect", transport]
        return clients[-1]

    yield make
    for each in clients:
        each.close()


@pytest.mark.parametrize("transports", [("websocket", "polling"), ("polling", "websocket")], ids="-".join)
def test_clients_of_different_servers_share_rooms(
    seed: gmp.Node,
    servers: list[str],
    environ: dict[str, str],
    client: Callable[[str, str], Client],
    transports: tuple[str, str],
) -> None:
    seed.group("socketio:socketio").wait(2, timeout=30)
    ada, bob = (client(url, transport) for url, transport in zip(servers, transports, strict=True))
    ada.enter("kitchen")
    sid = bob.enter("kitchen")
    settle(ada, bob)
    ada.emit("say", "kitchen", {"text": "tea?", "sugar": [1, 2]})
    assert until(ada, "said") == until(bob, "said") == ["said", {"text": "tea?", "sugar": [1, 2]}]
    bob.emit("say", "kitchen", {"binary": "00ff10"})
    assert until(ada, "said") == until(bob, "said") == ["said", {"binary": "00ff10"}]

    bob.emit("leave", "kitchen")
    settle(bob, ada)
    ada.emit("say", "kitchen", "nobody else hears this")
    ada.emit("shout", "everybody hears this")
    assert until(ada, "said") == ["said", "nobody else hears this"]
    assert until(ada, "shouted") == until(bob, "shouted") == ["shouted", "everybody hears this"]

    command = [sys.executable, "tell.py", "from a script"]
    tell = subprocess.run(command, cwd=EXAMPLE, env=environ, timeout=40, capture_output=True)
    assert tell.returncode == 0, tell.stderr
    assert until(ada, "shouted") == until(bob, "shouted") == ["shouted", "from a script"]

    ada.emit("kick", sid)
    assert until(bob, "disconnect")[0] == "disconnect"


def until(client: Client, event: str) -> list[Any]:
    """The next event of that name; answers of the server to what was emitted are passed over, no other event is."""
    while True:
        shown = client.next()
        if shown[0] != "answer":
            assert shown[0] == event, shown
            return shown


def settle(sender: Client, receiver: Client) -> None:
    """A barrier: what the sender emitted has been handled once its shout is heard at the other server."""
    sender.emit("shout", "settle")
    assert until(sender, "shouted") == until(receiver, "shouted") == ["shouted", "settle"]
