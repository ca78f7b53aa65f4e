"""The scenes of AnyEvent::MP's and Coro::MP's own tests, and the programs of AnyEvent::MP::Intro, in Python."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent.event
import pytest

import gmp
from gmp.compat.aemp import (
    SELF,
    after,
    configure,
    get,
    get_cond,
    grp_get,
    kil,
    mon,
    node_of,
    peval,
    port,
    port_async,
    psub,
    rcv,
    snd,
    spawn,
)

from .conftest import Recorder, eventually
from .processes import Processes

PROGRAMS = "tests.aemp_programs"
MODULES = ("aemp", "configuring", "database", "guards", "kernel", "ports", "threads")


@pytest.fixture
def seed(make_node: Callable[..., gmp.Node]) -> str:
    """Where the others find each other; the own node is in the network."""
    (bind,) = make_node("seed").binds
    own = configure("nodeid", "own", "binds", [], "seeds", [bind], "secret", "geheim", connect_timeout=2, leave_timeout=1)
    own.wait_up(timeout=20)
    return bind


@pytest.mark.parametrize("name", MODULES)
def test_every_module_loads(name: str) -> None:
    """All that the two distributions' tests ask of theirs."""
    assert importlib.import_module(f"gmp.compat.{name}").__doc__


def test_a_first_message() -> None:
    ending: gevent.event.AsyncResult[int] = gevent.event.AsyncResult()
    p = port()
    rcv(p, "test", ending.set)
    snd(p, "test", 123)
    assert ending.get(timeout=10) == 123


def test_receivers_are_found_by_their_group(seed: str, processes: Processes, recorder: Recorder) -> None:
    for name in ("receiver1", "receiver2"):
        processes.start(name, seed, program=PROGRAMS)
    box = rcv(port(), "received", recorder)

    def look() -> None:
        receivers = grp_get("eg_receivers")
        for each in receivers:
            snd(each, "test", 123, box)
        if len(receivers) < 2:
            after(0.05, look)

    look()
    eventually(lambda: len({who for _, who in recorder.calls}) == 2)
    assert {data for data, _ in recorder.calls} == {123}
    assert {node_of(who) for _, who in recorder.calls} == {"receiver1", "receiver2"}


def test_an_exception_is_told_to_the_monitor(recorder: Recorder) -> None:
    def oops(*_: Any) -> None:
        raise ValueError("oops")

    p = port(oops)
    mon(p, recorder)
    snd(p)
    [(tag, text, *_)] = recorder.wait()
    assert (tag, text) == ("die", "ValueError: oops")


def test_a_monitor_that_comes_too_late_is_told_so(recorder: Recorder) -> None:
    p = port()
    kil(p, "custom_error", "enough of it")
    mon(p.id, recorder)
    [(tag, *_)] = recorder.wait()
    assert tag == "no_such_port"


def test_normal_and_abnormal_ends_of_ports_that_are_tied_together() -> None:
    first, second, mine = port(), port(), port()
    peval(mine, mon, first, mine)
    peval(mine, mon, second, mine)
    kil(first)
    assert first.join(5)
    assert mine.alive
    kil(second, "custom_error", "enough of it")
    assert mine.join(5)
    assert mine.reason == ("custom_error", "enough of it")


def test_only_psub_makes_a_later_exception_the_ports(recorder: Recorder) -> None:
    def oops() -> None:
        recorder(SELF())
        if SELF() is not None:
            raise ValueError("oops")

    for wrap, alive in ((lambda function: function, True), (psub, False)):
        p = port(lambda wrap=wrap: after(0, wrap(oops)))
        count = len(recorder.calls)
        snd(p)
        assert recorder.wait(count + 1)[count] == ((None,) if alive else (p,))
        assert p.alive is alive


class ChatClient:
    """A client that looks for a server until there is one, and looks again when its port dies."""

    def __init__(self, nick: str, connect: Callable[[Any, str], str | None]) -> None:
        self.nick, self.heard, self.connections = nick, Recorder(), 0
        self.server: str | None = None
        self.port: Any = None
        self._connect = connect
        self.connect()

    def connect(self) -> None:
        mine = port(self.heard)
        server = self._connect(mine, self.nick)
        if server is None:
            kil(mine)
            after(0.05, self.connect)
            return
        self.port, self.server = mine, server
        self.connections += 1
        mon(mine, self.lost)
        mon(server, mine)

    def lost(self, *reason: Any) -> None:
        self.heard("lost", *reason[:1])
        self.server = None
        self.connect()

    def hears(self, *message: Any) -> None:
        eventually(lambda: message in self.heard.calls)


def to_server(mine: Any, nick: str) -> str | None:
    servers = grp_get("eg_chat_server")
    if not servers:
        return None
    snd(servers[0], "join", mine, nick)
    return servers[0]


def to_bridge(mine: Any, nick: str) -> str | None:
    nodes = grp_get("eg_chat_server2")
    return spawn(nodes[0], f"{PROGRAMS.replace('.', '::')}::client_connect", mine, nick) if nodes else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "connect", "message"),
    [("chat", to_server, ("privmsg", "ada", "hello")), ("bridge", to_bridge, ("hello",))],
)
def test_the_resilient_chat(
    seed: str, processes: Processes, program: str, connect: Callable[..., Any], message: tuple[Any, ...]
) -> None:
    """Clients come before the server, one dies, the server is killed and started again: all are told, and come back."""
    ada, bob = ChatClient("ada", connect), ChatClient("bob", connect)
    server = processes.start(f"{program}1", seed, program=PROGRAMS)
    eventually(lambda: ada.server and bob.server)
    snd(ada.server, *message)  # type: ignore[arg-type]
    for client in (ada, bob):
        client.hears("ada: hello")
    kil(bob.port, "crash")
    ada.hears("bob quits: crash")
    bob.hears("lost", "crash")
    eventually(lambda: bob.connections == 2)
    server.kill(signal.SIGKILL)
    for client in (ada, bob):
        client.hears("lost", "transport_error")
    count = len(ada.heard.calls)
    processes.start(f"{program}2", seed, program=PROGRAMS)
    eventually(lambda: "ada joins" in [words[0] for words in ada.heard.calls[count:]])
    eventually(lambda: ada.server and bob.server)


def test_a_function_of_the_main_program_is_spawned_by_its_name_alone(seed: str, processes: Processes) -> None:
    processes.start("bridge1", seed, program=PROGRAMS)
    heard = Recorder()
    gmp.node().wait_up("bridge1", timeout=20)
    spawned = spawn("bridge1", "::client_connect", port(heard), "ada")
    assert heard.wait() == [("ada joins",)]
    snd(spawned, "hello")
    assert heard.wait(2)[1] == ("ada: hello",)


def test_a_thread_that_writes_one_file_at_a_time(tmp_path: Path) -> None:
    """Two writers send at once; what belongs to the second waits until the first one's file is whole."""

    def server() -> None:
        while True:
            tag, source, path = get_cond()
            if tag != "write_file":
                raise ValueError("only write_file messages expected")
            with open(path, "w") as file:
                while True:
                    wanted = get_cond(lambda tag, who, *_, source=source: (tag, who) == ("data", source), 5)
                    if not wanted:
                        raise ValueError(f"no data from {source}")
                    if len(wanted) == 2:
                        break
                    file.write(wanted[2])
            snd(source, "written")

    ioserver, done = port_async(server), Recorder()

    def writer(name: str) -> None:
        me = SELF()
        snd(ioserver, "write_file", me, str(tmp_path / name))
        for text in (f"{name} abc\n", f"{name} def\n"):
            gevent.sleep(0)
            snd(ioserver, "data", me, text)
        snd(ioserver, "data", me)
        get("written", 20)
        done(name)

    for name in ("one", "two"):
        port_async(writer, name)
    done.wait(2)
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["one abc\none def\n", "two abc\ntwo def\n"]
    snd(ioserver, "data", "nobody", "x")
    assert ioserver.join(5)
    assert ioserver.reason is not None
    assert ioserver.reason[1] == "ValueError: only write_file messages expected"
