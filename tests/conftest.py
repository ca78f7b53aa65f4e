"""What every test gets: a configuration directory of its own, a deadline that prints all greenlets, and checks that
nothing is left behind: no node open, no error in the hub."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import hypothesis
import pytest
from gevent.util import format_run_info

import gmp
from gmp import face
from gmp.showing import show

from .processes import Processes
from .real_perl import RealPerl, missing

collect_ignore = ["fuzz"]  # needs atheris, and is run by itself
DEADLINE = 60.0  # seconds; a test marked timeout(n) has n


hypothesis.settings.register_profile("any machine", deadline=None)  # how long an example takes is the machine's matter
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """A shell's background jobs ignore SIGINT, and so would every program that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Take what has been imported out of the collections that follow each test: they would take a third of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """What a test logged may be no text that can be encoded; pytest-xdist's workers must send it as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GMP_SECRET", "GMP_SEEDS", "GMP_BINDS", "GMP_NODE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GMP_CONFIG", str(tmp_path / "config" / "config.toml"))


@pytest.fixture(autouse=True)
def _deadline_and_leaks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    hub = gevent.get_hub()
    errors: list[Any] = []
    original = hub.handle_error

    def handle_error(context: Any, kind: type[BaseException], *args: Any) -> None:
        if not issubclass(kind, hub.NOT_ERROR):  # a host name that is not found is one of those
            errors.append((context, kind, *args))
        original(context, kind, *args)

    monkeypatch.setattr(hub, "handle_error", handle_error)
    marker = request.node.get_closest_marker("timeout")
    with gevent.Timeout(marker.args[0] if marker else DEADLINE, _TooLate()):
        yield
        if face._default is not None:
            face._default.close()
            face._use(None)
        gevent.sleep(0)
    assert not errors, f"errors reached the hub: {errors}"
    gc.collect()
    left = [
        node.id
        for node in gc.get_objects()
        if isinstance(node, gmp.Node) and node.started
    ]
    assert not left, f"nodes left open: {left}"


class _TooLate(Exception):
    def __str__(self) -> str:
        return "the test took too long; greenlets:\n" + "\n".join(format_run_info())


@pytest.fixture
def make_node() -> Iterator[Callable[..., gmp.Node]]:
    """Makes started nodes on loopback that share a secret, and closes them at the end."""
    nodes: list[gmp.Node] = []

    def make(node_id: str, **settings: Any) -> gmp.Node:
        settings.setdefault("binds", ["127.0.0.1:0"])
        settings.setdefault("secret", "geheim")
        node = gmp.Node(node_id, **settings).start()
        nodes.append(node)
        return node

    yield make
    for node in reversed(nodes):
        node.close()


@pytest.fixture
def make_perl(tmp_path: Path) -> Iterator[Callable[..., RealPerl]]:
    """Starts Perl nodes, and ends them; none of them may have been asked for what its Kernel has not."""
    if missing():
        pytest.skip(f"no nodes of AnyEvent::MP here: {missing()}")
    nodes: list[RealPerl] = []

    def make(node_id: str = "PerlA", **settings: Any) -> RealPerl:
        nodes.append(RealPerl(tmp_path / f"{len(nodes)}.log", node_id, **settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()
    assert [line for node in nodes for line in node.failed_requests()] == []


@pytest.fixture(params=["Node.send", "gmp.send"])
def both_sends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `node.send` be itself, and then be `gmp.send`, which takes ways of its own."""

    def by_default(node: gmp.Node, dest: Any, *message: Any) -> None:
        if face._default is not node:
            face._use(node)
        gmp.send(dest, *message)

    if request.param == "gmp.send":
        monkeypatch.setattr(gmp.Node, "send", by_default)


class Recorder:
    """A callback that keeps what it was called with, and can be waited for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._changed = gevent.event.Event()

    def __call__(self, *args: Any) -> None:
        self.calls.append(args)
        self._changed.set()

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[tuple[Any, ...]]:
        with gevent.Timeout(timeout, AssertionError(f"{len(self.calls)} of {count} calls: {show(self.calls)}")):
            while len(self.calls) < count:
                self._changed.clear()
                self._changed.wait()
        return self.calls


def eventually(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Wait for what no event tells of."""
    with gevent.Timeout(timeout, AssertionError("it did not happen in time")):
        while not condition():
            gevent.sleep(0.01)


@pytest.fixture
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """For nodes with a peer that reads nothing any more: they would wait for it in vain when they leave."""
    monkeypatch.setattr("gmp.kernel.life.GOODBYE", 0.1)


@pytest.fixture
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tests.functions` notes is what this test has called."""
    monkeypatch.setattr("tests.functions.calls", Recorder())


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts nodes in processes of their own; none is left at the end."""
    made = Processes()
    yield made
    made.close()
