"""How the node of a gunicorn worker ends, by each way in which gunicorn ends it, with a browser's stream open or not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.subprocess as subprocess
import pytest

import gmp

from .addresses import BY_UNIX, free_address
from .conftest import eventually

pytest.importorskip("gunicorn")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
WORKERS = 2
APP = """
import time

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    if environ["PATH_INFO"] != "/stream":
        return [b"quick"]
    def stream():
        while True:
            yield b"data: x\\n\\n"
            time.sleep(0.1)
    return stream()
"""
CONFIG = """
from gmp.services.gunicorn import hooks

wsgi_app, worker_class, workers, bind = "app:app", "gevent", {workers}, {bind!r}
control_socket_disable = True
graceful_timeout = 4
max_requests = {max_requests}
post_worker_init, worker_exit = hooks(seeds=[{seed!r}], binds=[])
"""


class Server:
    """One gunicorn, and how the nodes of its workers ended."""

    def __init__(self, seed: gmp.Node, folder: Path) -> None:
        self.seed = seed
        self.reasons: list[str] = []
        self.bind = free_address()
        self._folder = folder
        self._process: Any = None
        self._streams: list[gevent.socket.socket] = []
        seed.monitor_nodes(lambda _, up, *reason: None if up else self.reasons.append(reason[0]))

    def start(self, max_requests: int = 0) -> None:
        (self._folder / "app.py").write_text(APP)
        config = CONFIG.format(workers=WORKERS, bind=self.bind, seed=self.seed.binds[0], max_requests=max_requests)
        (self._folder / "gunicorn.conf.py").write_text(config)
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--log-level", "error"]
        self._process = subprocess.Popen(
            command, cwd=self._folder, env={**os.environ, "GMP_SECRET": "geheim"}, start_new_session=True
        )
        eventually(lambda: len(self.seed.up_nodes()) == WORKERS, timeout=40)
        assert {peer["transport"] for peer in self.seed.stats()["peers"].values()} == {"unix" if BY_UNIX else "tcp"}

    def get(self, path: str) -> bytes:
        """The beginning of an answer; a stream stays open."""
        host, port = self.bind.split(":")
        sock = gevent.socket.create_connection((host, int(port)), timeout=20)
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data or not data.partition(b"\r\n\r\n")[2]:
            data += sock.recv(1000)
        self._streams.append(sock)
        return data

    def kill(self, number: signal.Signals, *, all_of_them: bool = False) -> None:
        """Signal the master, or, as a terminal does, its workers too."""
        if all_of_them:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def wait(self) -> None:
        self._process.wait(timeout=40)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def server(make_node: Callable[..., gmp.Node], tmp_path: Path) -> Iterator[Server]:
    made = Server(make_node("seed"), tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("stream", [False, True], ids=["idle", "stream"])
@pytest.mark.parametrize(
    ("number", "all_of_them"),
    [
        (signal.SIGTERM, False),
        (signal.SIGTERM, True),  # systemd's default
        (signal.SIGINT, True),  # Ctrl-C
        (signal.SIGQUIT, False),
        (signal.SIGQUIT, True),
    ],
    ids=["term", "term-all", "ctrl-c", "quit", "quit-all"],
)
def test_workers_leave_in_order(server: Server, number: signal.Signals, all_of_them: bool, stream: bool) -> None:
    server.start()
    if stream:
        for _ in range(WORKERS):
            server.get("/stream")
    server.kill(number, all_of_them=all_of_them)
    server.wait()
    eventually(lambda: len(server.reasons) == WORKERS)
    assert server.reasons == ["leaving"] * WORKERS


def test_workers_leave_in_order_at_a_reload_and_others_come(server: Server) -> None:
    server.start()
    before = set(server.seed.up_nodes())
    server.kill(signal.SIGHUP)
    eventually(lambda: len(server.reasons) == WORKERS, timeout=40)
    eventually(lambda: len(set(server.seed.up_nodes()) - before) == WORKERS, timeout=40)
    assert server.reasons == ["leaving"] * WORKERS


def test_a_worker_that_has_served_enough_leaves_in_order(server: Server) -> None:
    server.start(max_requests=1)
    assert b"quick" in server.get("/")
    eventually(lambda: server.reasons, timeout=40)
    assert set(server.reasons) == {"leaving"}
