"""Services: exposing an object, and calling its methods here and from another node; groups, bounds, futures, cycles."""

from __future__ import annotations

import inspect
import os
import pydoc
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.fileobject
import gevent.os
import pytest
from greenlet import GreenletExit

import gmp
from gmp.kernel.node import core_of
from gmp.objects.future import Future

from .conftest import eventually

Make = Callable[..., gmp.Node]


class Jobs:
    """Does jobs."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.go = gevent.event.Event()
        self.most = self.now = 0

    @property
    def costly(self) -> int:
        raise AssertionError("a property is not asked for its value")

    def add(self, a: int, b: int = 0) -> int:
        """Add two numbers."""
        return a + b

    def note(self, what: Any) -> None:
        self.done.append(what)

    def wait(self, number: int) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        self.go.wait()
        self.now -= 1
        self.done.append(number)
        return number

    @gmp.method
    def _marked(self) -> str:
        return "marked"

    def _hidden(self) -> None:
        raise AssertionError("it is not public")


@pytest.fixture
def nodes(make_node: Make) -> tuple[gmp.Node, gmp.Node]:
    """The service's node, and the caller's."""
    there = make_node("there")
    return there, make_node("here", seeds=there.binds)


def figures(remote: Any) -> dict[str, Any]:
    return gmp.objects.remote.describe(remote)


def test_a_method_is_called_by_positional_and_keyword_arguments(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Jobs(), "jobs", node=there)
    for target in ("jobs", port.id, port):
        jobs = gmp.remote(target, node=here)
        assert (jobs.add(1, b=2), jobs.add(1), jobs.add(b=1, a=2)) == (3, 1, 3)
    assert gmp.remote("there", "jobs", node=here).add(2, 3) == 5
    assert gmp.remote("jobs", node=there).add.call(2, 3, timeout=5) == 5


def test_the_public_and_the_marked_methods_answer_and_no_others(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    jobs = gmp.remote(gmp.expose(Jobs(), node=there), node=here)
    assert dir(jobs) == ["_marked", "add", "note", "wait"]
    assert jobs._marked() == "marked"
    for name in ("_hidden", "costly", "done", "nonsense"):
        with pytest.raises(gmp.CallRefused, match=f"Jobs has no method '{name}', it has _marked, add, note, wait") as error:
            getattr(jobs, name)()
        assert error.value.kind == "no_method"
    narrow = gmp.remote(gmp.expose(Jobs(), methods=["add"], node=there), node=here)
    assert dir(narrow) == ["add"]
    with pytest.raises(gmp.CallRefused):
        narrow.note(1)


class Marks:
    @gmp.method(idempotent=True)
    @staticmethod
    def _static_outside() -> str:
        return "static"

    @staticmethod
    @gmp.method(idempotent=True)
    def _static_inside() -> str:
        return "static"

    @gmp.method(idempotent=True)
    @classmethod
    def _class_outside(cls) -> str:
        return cls.__name__

    @classmethod
    @gmp.method(idempotent=True)
    def _class_inside(cls) -> str:
        return cls.__name__

    @gmp.method(idempotent=True)
    @gmp.stream
    def _both(self) -> list[int]:
        return [1, 2]

    @gmp.stream
    @gmp.method(idempotent=True)
    def _both_the_other_way(self) -> list[int]:
        return [1, 2]


@pytest.mark.parametrize("name", [name for name in vars(Marks) if name[1] != "_"])
def test_what_is_marked_is_so_whatever_stands_above_or_below(name: str, nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    marks = gmp.remote(gmp.expose(Marks(), node=there), node=here, retry=gmp.Retry(times=2))
    result = getattr(marks, name)()  # it is refused unless it is idempotent
    if "both" in name:
        assert next(result) == 1  # it streams
        result.close()
    else:
        assert result in ("static", "Marks")


def test_what_cannot_be_marked_is_named() -> None:
    for mark in (gmp.method, gmp.stream, gmp.method(finish=True)):
        for given in (1, len, [].append, Jobs, int, property(len), staticmethod(len)):
            with pytest.raises(gmp.ConfigError, match="cannot be a service's method: expected a function"):
                mark(given)


def test_a_module_can_be_exposed(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    names = gmp.remote(gmp.expose(inspect, methods=["cleandoc"], node=there), node=here)
    assert names.cleandoc("  a") == "a"


def test_what_cannot_be_exposed_is_named() -> None:
    for given, settings, text in (
        (object(), {}, "builtins.object cannot be exposed: it has no public method"),
        (Jobs(), {"methods": ["nonsense"]}, "has no method 'nonsense'"),
        (Jobs(), {"methods": "add"}, "methods 'add': expected a list of names"),
        (Jobs(), {"methods": 5}, "methods 5: expected a list of names"),
        (Jobs(), {"concurrency": 0}, "concurrency 0: expected a whole number from 1 on"),
        (Jobs(), {"max_waiting": True}, "max_waiting True: expected a whole number from 0 on"),
        (Jobs(), {"errors": ValueError}, "expected a list of exception types"),
        (Jobs(), {"errors": [1]}, "expected an exception type"),
        (Jobs(), {"name": "'x"}, "cannot be a group's or family's name"),
    ):
        with pytest.raises(gmp.ConfigError, match=text):
            gmp.expose(given, **settings)
    for target, settings, text in (
        (1, {}, "cannot be a group's or family's name"),
        ("a#b", {"name": "jobs"}, "is not a node ID"),
        ("jobs", {"timeout": -1}, "timeout -1: expected seconds, or None"),
        ("jobs", {"window": 0}, "window 0: expected a whole number from 1"),
        ("jobs", {"retry": 3}, "expected a gmp.Retry"),
    ):
        with pytest.raises(gmp.ConfigError, match=text):
            gmp.remote(target, **settings)
    assert not gmp.node().stats()["ports"]  # nothing was begun


def test_signatures_and_docstrings_come_over(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    jobs = gmp.remote(gmp.expose(Jobs(), "jobs", node=there), node=here)
    assert str(inspect.signature(jobs.add)) == "(a: int, b: int = 0) -> int"
    shown = pydoc.render_doc(jobs.add, renderer=pydoc.plaintext)
    assert "(a: int, b: int = 0) -> int" in shown
    assert "Add two numbers." in shown
    assert dir(gmp.remote("there#nobody", node=here)) == []  # a prompt gets nothing, and no exception


def test_calls_run_so_many_at_a_time_and_the_rest_waits_up_to_a_bound(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Jobs()
    jobs = gmp.remote(gmp.expose(thing, concurrency=2, max_waiting=3, node=there), node=here)
    calls = [jobs.wait.future(number) for number in range(5)]
    eventually(lambda: figures(jobs)["waiting"] == 3)
    with pytest.raises(gmp.CallRefused, match="2 calls run and 3 wait at Jobs") as error:
        jobs.add(1)
    assert error.value.kind == "busy"
    thing.go.set()
    assert [call.get(timeout=20) for call in calls] == [0, 1, 2, 3, 4]
    assert thing.most == 2
    assert thing.done == [0, 1, 2, 3, 4]
    assert jobs.add(1) == 1
    told = figures(jobs)
    assert (told["calls"], told["refused"], told["running"], told["waiting"]) == (6, 1, 0, 0)


def test_a_call_that_nobody_waits_for(nodes: tuple[gmp.Node, gmp.Node], caplog: pytest.LogCaptureFixture) -> None:
    there, here = nodes
    thing = Jobs()
    jobs = gmp.remote(gmp.expose(thing, node=there), node=here)
    jobs.note.send("first")
    jobs.add.send("text", 1)  # what it raises is in the log there
    jobs.nonsense.send()
    jobs.note("second")
    assert thing.done == ["first", "second"]
    assert "Jobs.add, whose caller waits for nothing, raised" in caplog.text
    assert "refused (no_method)" in caplog.text
    with pytest.raises(gmp.GmpError, match="an iterator can go up with a call only"):
        jobs.note.send(x for x in ())


def test_futures(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Jobs()
    jobs = gmp.remote(gmp.expose(thing, concurrency=10, node=there), node=here)
    one, two = jobs.wait.future(1), jobs.add.future(1, "x")
    with pytest.raises(gmp.RemoteError, match="TypeError"):
        two.get(timeout=20)
    assert not one.ready()
    thing.go.set()
    assert one.get(timeout=20) == 1
    assert not one.cancel()
    thing.go.clear()
    given_up = jobs.wait.future(2)
    eventually(lambda: thing.now == 1)
    assert given_up.cancel()
    with pytest.raises(GreenletExit):
        given_up.get(timeout=20)
    eventually(lambda: figures(jobs)["stopped"] == 1)
    assert thing.done == [1]


def test_a_future_of_a_port_is_given_up_with_it(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Jobs()
    jobs = gmp.remote(gmp.expose(thing, node=there), node=here)
    made: list[Any] = []
    owner = here.port(lambda port: (made.append(jobs.wait.future(1)), port.receive()))
    eventually(lambda: thing.now == 1)
    owner.kill("broken")
    with pytest.raises(gmp.PortDied, match="broken"):
        made[0].get(timeout=20)
    eventually(lambda: figures(jobs)["stopped"] == 1)


def test_every_member_of_a_group_is_called_and_a_dead_one_no_more(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    things = [Jobs(), Jobs(), Jobs()]
    ports = [gmp.expose(thing, "jobs", node=node) for thing, node in zip(things, (there, there, here), strict=True)]
    here.group("jobs").wait(3, timeout=20)
    jobs = gmp.remote("jobs", node=here)
    assert dict(jobs.add.each(1, 2)) == dict.fromkeys((port.id for port in ports), 3)
    for _ in range(60):
        jobs.note("x")
    assert all(thing.done for thing in things)
    near = gmp.remote("jobs", near=True, node=here)
    before = len(things[2].done)
    for _ in range(10):
        near.note("y")
    assert len(things[2].done) == before + 10  # the own node's
    ports[2].kill()
    eventually(lambda: len(here.group("jobs").members()) == 2)
    errors = dict(jobs.add.each(1, "x"))
    assert sorted(errors) == sorted(port.id for port in ports[:2])
    assert all(isinstance(error, gmp.RemoteError) for error in errors.values())


def test_leaving_the_loop_over_each_gives_up_the_rest(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    quick, slow = Jobs(), Jobs()
    quick.go.set()
    gmp.expose(quick, "jobs", node=there)
    port = gmp.expose(slow, "jobs", node=there)
    here.group("jobs").wait(2, timeout=20)
    for _member, result in gmp.remote("jobs", node=here).wait.each(7):
        assert result == 7
        break
    eventually(lambda: figures(gmp.remote(port, node=here))["stopped"] == 1)
    assert slow.done == []


def test_a_group_that_is_empty_is_waited_for_and_then_named(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    jobs = gmp.remote("jobs", node=here)
    with pytest.raises(gmp.WaitTimeout, match="group 'jobs' has 0 of 1 members"):
        jobs.add.call(1, timeout=0.05)
    call = jobs.add.future(1)
    gmp.expose(Jobs(), "jobs", node=there)
    assert call.get(timeout=20) == 1
    elsewhere = gmp.remote("here", "jobs", node=here)
    with pytest.raises(gmp.WaitTimeout):
        elsewhere.add.call(1, timeout=0.05)
    call = elsewhere.add.future(1)
    gmp.expose(Jobs(), "jobs", node=here)
    assert call.get(timeout=20) == 1


def test_a_member_that_is_gone_before_the_call_came_costs_nothing(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    """race: the directory lists a port that has died; the call was not begun, so another member gets it."""
    there, here = nodes
    thing = Jobs()
    gmp.expose(thing, "jobs", node=there)
    here.group("jobs").wait(1, timeout=20)
    dead = "there#neverwas"
    here.family("jobs").set(dead)
    jobs = gmp.remote("jobs", node=here)
    for number in range(20):
        jobs.note(number)
    assert thing.done == list(range(20))
    with pytest.raises(gmp.PortDied, match="no_such_port"):
        gmp.remote(dead, node=here).note(1)


class Relay:
    """Calls others."""

    def __init__(self, node: gmp.Node) -> None:
        self.node = node

    def ask(self, path: list[str]) -> Any:
        return gmp.remote(path[0], node=self.node, errors=[gmp.CallRefused]).ask(path[1:]) if path else "end"

    def ask_later(self, path: list[str]) -> str:
        gmp.remote(path[0], node=self.node).ask.future(path[1:])
        return "asked"


def test_a_circle_of_calls_is_told_at_once_with_its_chain(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    gmp.expose(Relay(there), "a", node=there)
    gmp.expose(Relay(here), "b", node=here)
    gmp.expose(Relay(there), "c", node=there)
    for node in nodes:
        for name in "abc":
            node.group(name).wait(1, timeout=20)
    start = gmp.remote("a", node=here, timeout=None)
    assert start.ask(["b", "c"]) == "end"
    with pytest.raises(gmp.RemoteError, match=r"the call would wait for itself: a.ask → b.ask → c.ask → a.ask"):
        start.ask(["b", "c", "a"])
    with pytest.raises(gmp.RemoteError, match=r"a.ask → a.ask"):
        start.ask(["a"])
    assert start.ask_later(["b", "a"]) == "asked"  # nobody waits in a circle
    gmp.expose(Relay(there), "wide", concurrency=2, node=there)
    wide = gmp.remote("wide", node=here, timeout=None)
    assert wide.ask(["wide"]) == "end"
    with pytest.raises(gmp.RemoteError, match=r"wide.ask → wide.ask → wide.ask"):
        wide.ask(["wide", "wide"])


def test_what_is_no_call_hurts_nobody(nodes: tuple[gmp.Node, gmp.Node], caplog: pytest.LogCaptureFixture) -> None:
    there, here = nodes
    port = gmp.expose(Jobs(), node=there)
    reply = here.port()
    for message in (
        (), ("call",), ("call", "add"), ("call", "add", []), ("call", "add", [], "x"), ("call", 1, [], reply),
        ("call", "add", {}, reply), ("call", "add", [], [], reply), ("call", "add", [], {1: 2}, reply),
        ("call", "add", [], {}, {"timeout": "x"}, reply), ("call", "add", [], {}, {"chain": [1]}, reply),
        ("call", "add", [], {}, {"id": 3}, reply), ("call", "add", [], {}, {"streams": [[7, reply]]}, reply),
        ("call", "add", [], {}, {"streams": 7}, reply), ("call", "add", [], {}, {}, 7, reply), ("call", "add", [], here.id),
        ("send",), ("send", "add"), ("send", "add", 1), ("cancel",), ("cancel", []), ("cancel", "x"), ("describe",),
        ("describe", 1), ("describe", here.id), ([],), (None, 1), ("nonsense", 1),
        ("do",), ("do", "add"), ("do", "add", None), ("do", "add", None, 1), ("do", "add", None, here.id),
        ("do", [], None, reply),
        ("do", 1, None, reply), ("do", "add", "x", reply), ("do", "add", -1.0, reply), ("do", "add", float("nan"), reply),
        ("do", "add", float("inf"), reply), ("do", "add", True, reply),
    ):  # fmt: skip
        here.send(port.id, *message)
    here.send(port.id, "call", "add", [1, 2], reply)
    assert reply.receive("return", timeout=20) == (3,)
    refusals = [message[:2] for message in reply.queue]
    assert len(refusals) == 10 + 7
    assert set(refusals) == {("refused", "malformed")}
    assert port.alive


@pytest.mark.parametrize("option", ["timeout", "within"])
def test_a_time_that_no_float_holds_is_no_end_of_the_service(option: str, nodes: tuple[gmp.Node, gmp.Node]) -> None:
    """Only json, and a program of the same node, can send it."""
    there, _ = nodes

    class Letters:
        def each(self) -> Any:
            return iter("abc")

    port = gmp.expose(Letters(), node=there)
    reply = there.port()
    there.send(port, "call", "each", [], {}, {option: 10**400}, reply)
    tag, kind, text = reply.receive(timeout=20)
    assert (tag, kind) == ("refused", "malformed")
    assert f"option {option}: expected seconds" in text
    assert gmp.remote(port, node=there)._describe


def test_the_forms_that_any_node_can_send(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    port = gmp.expose(Jobs(), node=there)
    assert here.call(port.id, "call", "add", [1, 2]) == ("return", 3)
    assert here.call(port.id, "call", "add", [1], {"b": 3}) == ("return", 4)
    assert here.call(port.id, "call", b"add", [1], None, {"timeout": 5}) == ("return", 1)
    assert here.call(port.id, "call", "add", [])[:2] == ("raise", "TypeError")
    for seconds in (None, 5, 5.0):
        assert here.call(port.id, "do", "add", seconds, 1, 2) == ("return", 3)
    assert here.call(port.id, "do", b"add", None, 1) == ("return", 1)
    assert here.call(port.id, "do", "add", None)[:2] == ("raise", "TypeError")
    assert here.call(port.id, "do", "nonsense", None)[:2] == ("refused", "no_method")
    assert here.call(port.id, "describe")[0] == "described"


def test_what_is_no_service_is_told_so(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    echo = there.port(lambda port: [there.send(message[-1], "hello") for message in port])
    with pytest.raises(gmp.GmpError, match="is no service: it replied"):
        gmp.remote(echo.id, node=here).add(1)


@pytest.mark.parametrize("reply", [(), ("return",), ("return", 1, 2), ("nonsense",)])
def test_a_reply_to_the_short_form_that_is_none_is_told_so(nodes: tuple[gmp.Node, gmp.Node], reply: tuple[Any, ...]) -> None:
    there, here = nodes
    port = there.port()
    port.on("call", lambda *message: there.send(message[-1], "return", 1))
    port.on("do", lambda *message: there.send(message[-1], *reply))
    remote = gmp.remote(port.id, node=here)
    assert remote.add() == 1
    with pytest.raises(gmp.GmpError, match="is no service: it replied"):
        remote.add()


def test_the_end_of_a_service_ends_its_calls_and_nothing_is_left(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    thing = Jobs()
    port = gmp.expose(thing, "jobs", node=there)
    jobs = gmp.remote(port, node=here)
    calls = [jobs.wait.future(number) for number in range(3)]
    eventually(lambda: thing.now == 1)
    port.kill("enough")
    for call in calls:
        with pytest.raises(gmp.PortDied, match="enough"):
            call.get(timeout=20)
    eventually(lambda: not there.stats()["ports"])
    eventually(lambda: not here.group("jobs").members())


class Mortal:
    """Ends its own service."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.port: gmp.Port | None = None

    def note(self, what: Any) -> None:
        self.ran.append(what)

    def end(self) -> None:
        assert self.port is not None
        self.port.kill("enough")
        self.ran.append("to its next switch")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_call_begins_when_a_method_has_ended_its_service(nodes: tuple[gmp.Node, gmp.Node], concurrency: int) -> None:
    there, here = nodes
    thing = Mortal()
    thing.port = gmp.expose(thing, node=there, concurrency=concurrency)
    remote = gmp.remote(thing.port.id, node=here)
    remote.note("before")
    remote.end.future()
    calls = [remote.note.future(number) for number in range(4)]
    for call in calls:
        with pytest.raises(gmp.PortDied, match="enough"):
            call.get(timeout=20)
    assert thing.ran == ["before", "to its next switch"]


def test_no_call_that_has_come_begins_when_its_service_is_dead(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    """race: it is killed behind the handler that takes the call, and before the call has its turn."""
    there, _ = nodes
    thing = Mortal()
    port = gmp.expose(thing, node=there)
    remote = gmp.remote(port, node=there)
    remote.note.send("before")
    eventually(lambda: thing.ran)
    call = remote.note.future(1)
    remote.note.send(2)
    there.port().spawn(port.kill, "enough")
    with pytest.raises(gmp.PortDied, match="enough"):
        call.get(timeout=20)
    assert thing.ran == ["before"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_method_that_forks_runs_no_other_call_in_the_child(concurrency: int) -> None:
    pid, ran = os.getpid(), list[tuple[bool, int]]()
    reader, writer = os.pipe()

    class Forks:
        def run(self, number: int) -> int:
            ran.append((os.getpid() == pid, number))
            if number == 0 and gevent.os.fork() == 0:
                gevent.spawn_later(0.05, tell)
            return number

    def tell() -> None:
        try:
            os.write(writer, repr(ran).encode())
        finally:
            os._exit(0)

    forks = gmp.remote(gmp.expose(Forks(), concurrency=concurrency))
    calls = [forks.run.future(number) for number in range(4)]
    assert [call.get(timeout=20) for call in calls] == [0, 1, 2, 3]
    os.close(writer)
    with gevent.fileobject.FileObject(reader, "rb") as child:
        assert child.read() == repr([(True, 0)]).encode()
    assert ran == [(True, number) for number in range(4)]


@pytest.mark.parametrize(
    "error", [gmp.CallRefused("x#y", "leaving", "another one leaves"), gmp.CallRefused("x#y", "key", "a key"),
              gmp.PortDied("x#y", ("leaving", "x")), gmp.PortDied("x#y", ("no_such_port",))],
)  # fmt: skip
def test_what_a_method_raises_is_never_taken_for_a_call_that_was_not_begun(
    nodes: tuple[gmp.Node, gmp.Node], error: gmp.GmpError
) -> None:
    """It has run, whatever became of the calls that it has made itself: it must not be called elsewhere."""
    _there, here = nodes
    ran: list[str] = []

    class Caller:
        def work(self) -> None:
            ran.append("ran")
            raise error

    for node in nodes:
        gmp.expose(Caller(), "callers", errors=[type(error)], node=node)
    here.group("callers").wait(2, timeout=20)
    with pytest.raises(type(error)):
        gmp.remote("callers", node=here, errors=[type(error)]).work()
    assert ran == ["ran"]


def test_a_node_whose_member_is_waited_for_is_found_while_others_come_and_go(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    jobs = gmp.remote("here", "jobs", node=here)
    other = gmp.expose(Jobs(), "jobs", node=there)
    here.group("jobs").wait(1, timeout=20)
    call = jobs.add.future(1, timeout=20)
    gevent.sleep(0)
    other.kill()
    eventually(lambda: not here.group("jobs").members())
    gmp.expose(Jobs(), "jobs", node=here)  # there are no more members than before
    assert call.get(timeout=20) == 1


def test_others_that_come_do_not_make_a_wait_for_a_node_longer(nodes: tuple[gmp.Node, gmp.Node]) -> None:
    there, here = nodes
    call = gmp.remote("nobody", "jobs", node=here).add.future(1, timeout=1.0)
    coming = gevent.spawn(lambda: [(gmp.expose(Jobs(), "jobs", node=there), gevent.sleep(0.2)) for _ in range(60)])
    try:
        with pytest.raises(gmp.WaitTimeout):
            call.get(timeout=8)
    finally:
        coming.kill()


class Room:
    """What is exposed."""

    def enter(self) -> None:
        """Come in."""


def test_a_service_that_cannot_join_its_group_leaves_no_port(make_node: Callable[..., gmp.Node]) -> None:
    node = make_node("full", max_entries=2)
    gmp.expose(Room(), "first", node=node)
    before = node.stats()["ports"]
    with pytest.raises(gmp.GmpError, match="max_entries 2"):
        gmp.expose(Room(), "second", node=node)
    gevent.sleep(0)
    assert node.stats()["ports"] == before


@pytest.mark.parametrize("error", [GreenletExit, SystemExit])
def test_whoever_waits_for_a_call_whose_greenlet_is_ended_does_not_wait_for_ever(error: type[BaseException]) -> None:
    def ends() -> None:
        raise error

    future = Future(core_of(gmp.node()), ends, waits=False)
    waiting = gevent.spawn(_outcome, future)
    try:
        waiting.join(20)
    except error:  # it ends the main greenlet's wait, too
        waiting.join(20)
    assert waiting.value is GreenletExit


def _outcome(future: Future) -> object:
    try:
        return future.get(timeout=10)
    except BaseException as error:
        return type(error)
