"""How the nodes of uWSGI's workers and of the children of Celery's pool end. Each server is run where it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gevent.subprocess as subprocess
import pytest

import gmp

from .conftest import eventually

UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or ""
needs_uwsgi = pytest.mark.skipif(not UWSGI, reason="uWSGI is not installed beside this Python: pip install uWSGI")
needs_celery = pytest.mark.skipif(find_spec("celery") is None, reason="Celery is not installed: pip install celery")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
WORKERS, EVENTS = 2, 20
WEB = """
import os

import gmp
import uwsgi
from uwsgidecorators import postfork

uwsgi.atexit = lambda: open(f"atexit-{os.getpid()}", "w").close()  # the application's own; it is called too

@postfork
def start():
    gmp.configure(seeds=[os.environ["SEED"]], binds=[])

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"""
TASKS = """
import os
import time

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from gmp.services.socketio import GmpManager

import gmp

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}
app.conf.worker_prefetch_multiplier = 1
settings = {"seeds": [os.environ["SEED"]], "binds": []}
events = GmpManager(write_only=True, **settings)

@app.task
def emit(number):
    events.emit(f"event {number}", None)

@app.task
def send(number):
    gmp.send(os.environ["PORT"], number)
    gmp.flush(timeout=20)

node = None

def start(**_):
    global node
    node = gmp.run_in_thread(**settings)

@app.task
def sleep(number):
    node.send(os.environ["PORT"], number)
    time.sleep(1.2)  # natively; all of them for longer than a node may be silent

if os.environ["CLOSES"] == "in a thread":
    worker_process_init.connect(start, weak=False)
    worker_process_shutdown.connect(lambda **_: node.close(), weak=False)
elif os.environ["CLOSES"]:
    worker_process_init.connect(lambda **_: gmp.configure(**settings), weak=False)
    worker_process_shutdown.connect(lambda **_: gmp.node().close(), weak=False)
"""


class Server:
    """A server in a folder of its own, and the seed that sees its nodes."""

    def __init__(self, seed: gmp.Node, folder: Path) -> None:
        self.seed = seed
        self.received: list[Any] = []
        self.port = seed.port(self.received.extend)
        self.reasons: list[str] = []
        self.folder = folder
        self.environ = {**os.environ, "GMP_SECRET": "geheim", "SEED": seed.binds[0], "PORT": self.port.id, "CLOSES": ""}
        self._processes: list[Any] = []
        seed.monitor_nodes(lambda _, up, *reason: None if up else self.reasons.append(reason[0]))

    def start(self, *command: str) -> Any:
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def server(make_node: Callable[..., gmp.Node], tmp_path: Path) -> Iterator[Server]:
    made = Server(make_node("seed"), tmp_path)
    yield made
    made.close()


@needs_uwsgi
@pytest.mark.parametrize(
    ("number", "all_of_them", "reason"),
    [
        (signal.SIGTERM, False, "leaving"),
        (signal.SIGINT, False, "leaving"),
        (signal.SIGQUIT, False, "leaving"),  # with this option it is a reload
        (signal.SIGQUIT, True, "transport_error"),  # the default of a worker
    ],
    ids=["term", "ctrl-c", "reload", "quit-all"],
)
def test_uwsgis_workers(server: Server, number: signal.Signals, all_of_them: bool, reason: str) -> None:
    (server.folder / "app.py").write_text(WEB)
    options = ["--master", "--processes", str(WORKERS), "--gevent", "10", "--die-on-term", "--http-socket", "127.0.0.1:0"]
    process = server.start(UWSGI, *options, "--need-app", "--wsgi-file", "app.py")
    eventually(lambda: len(server.seed.up_nodes()) == WORKERS, timeout=40)
    if all_of_them:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    eventually(lambda: len(server.reasons) == WORKERS)
    assert server.reasons == [reason] * WORKERS
    if reason == "leaving":
        eventually(lambda: len(list(server.folder.glob("atexit-*"))) == WORKERS)


def celery(server: Server, task: str) -> Any:
    """A pool that works, and tasks for it."""
    (server.folder / "tasks.py").write_text(TASKS)
    (server.folder / "queue").mkdir()
    run = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--without-mingle", "--without-gossip"]
    pool = server.start(*run, "--pool", "prefork", "--concurrency", str(WORKERS))
    calls = f"import tasks; [tasks.{task}.delay(number) for number in range({EVENTS})]"
    assert server.start(sys.executable, "-c", calls).wait(timeout=60) == 0
    return pool


@needs_celery
def test_celerys_pool_has_written_each_emit_and_is_lost(server: Server) -> None:
    server.seed.group("socketio:socketio").join(server.port)
    pool = celery(server, "emit")
    eventually(lambda: len(server.received) == EVENTS, timeout=60)
    assert {data["event"] for _, data in server.received} == {f"event {number}" for number in range(EVENTS)}
    nodes = len(server.seed.up_nodes())  # those of the children that had something to emit
    assert nodes >= 1
    pool.send_signal(signal.SIGTERM)
    pool.wait(timeout=40)
    eventually(lambda: len(server.reasons) == nodes)
    assert server.reasons == ["transport_error"] * nodes


@needs_celery
def test_celerys_pool_leaves_when_its_shutdown_closes_the_node(server: Server) -> None:
    server.environ["CLOSES"] = "yes"
    pool = celery(server, "send")
    eventually(lambda: len(server.received) == EVENTS, timeout=60)
    nodes = len(server.seed.up_nodes())
    assert nodes >= 1
    pool.send_signal(signal.SIGTERM)
    pool.wait(timeout=40)
    eventually(lambda: len(server.reasons) == nodes)
    assert server.reasons == ["leaving"] * nodes


@needs_celery
def test_nodes_in_threads_of_celerys_pool_live_on_while_its_tasks_sleep(server: Server) -> None:
    server.environ["CLOSES"] = "in a thread"
    busy: list[Any] = []
    server.seed.monitor_busy(lambda *event: busy.append(event))
    pool = celery(server, "sleep")
    eventually(lambda: len(server.received) == EVENTS, timeout=120)
    nodes = len(server.seed.up_nodes())
    assert nodes == WORKERS
    assert not busy
    assert not server.reasons
    pool.send_signal(signal.SIGTERM)
    pool.wait(timeout=40)
    eventually(lambda: len(server.reasons) == nodes)
    assert server.reasons == ["leaving"] * nodes
