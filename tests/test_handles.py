"""Handles and watchers that outlive their node: made before `configure`, used after `close`, or in a child of `fork`.

The rule: what belongs to the default node before `configure` goes on at the configured one, or raises at once; once a node
is closed every call on it raises, and everybody who waits is let go.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

import gmp
from gmp import face
from tests.conftest import Recorder, eventually

Use = Callable[[], Any]


@pytest.fixture
def no_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a program that has not used gmp yet."""
    monkeypatch.setattr("gmp.kernel.life.GOODBYE", 0.1)
    before = face._default
    face._use(None)
    yield
    if face._default is not None and not face._default.closed:
        face._default.close()
    face._use(before)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What it returns or raises, for a greenlet of its own."""
    try:
        return function(*args)
    except gmp.GmpError as error:
        return error


def configure() -> gmp.Node:
    return gmp.configure(binds=["127.0.0.1:0"], seeds=[], secret="geheim")


# ---- from the local node to the configured one


def test_a_group_made_before_configure_is_one_of_the_configured_node(no_default: None) -> None:
    workers = gmp.group("workers")
    assert workers.members() == {}
    configure()
    port = gmp.port()
    workers.join(port, {"speed": 3})
    assert workers.members() == gmp.group("workers").members() == {port.id: {"speed": 3}}
    assert workers.wait(timeout=5) == {port.id: {"speed": 3}}
    assert workers.pick() == port.id
    workers.send("work")
    assert port.receive(timeout=5) == ("work",)
    workers.leave(port)
    assert workers.members() == {}


def test_so_is_a_handle_of_the_local_node_itself(no_default: None) -> None:
    workers = gmp.node().group("workers")
    configure()
    port = gmp.port()
    workers.join(port)
    assert list(gmp.group("workers").members()) == [port.id]


def test_what_was_set_in_a_family_before_is_set_at_the_configured_node(no_default: None) -> None:
    settings = gmp.family("settings")
    settings.set("colour", "red")
    settings.set("size", 3)
    settings.delete("size")
    node = configure()
    assert settings.items() == node.family("settings").items() == {"colour": "red"}
    settings.delete("colour")
    assert node.family("settings").items() == {}


def test_a_value_that_cannot_travel_from_the_configured_node_is_refused_by_configure(no_default: None) -> None:
    gmp.family("settings").set("colour", ["red"])
    with pytest.raises(gmp.GmpError):
        gmp.configure(binds=[], secret="geheim", max_entries=1, max_entries_size=10)
    assert gmp.family("settings").items() == {"colour": ["red"]}  # nothing has changed


def test_monitors_go_on_and_are_told_of_what_differs(no_default: None) -> None:
    members, entries, known = Recorder(), Recorder(), Recorder()
    with gmp.group("workers").monitor(lambda *news: members(dict(news[0]), *news[1:])):
        gmp.family("settings").set("colour", "red")
        gmp.family("settings").monitor(lambda *news: entries(dict(news[0]), *news[1:]))
        stop = gmp.node().monitor_known_nodes(known)
        assert members.wait() == [({}, [], [], [])]
        assert entries.wait() == [({"colour": "red"}, ["colour"], [], [])]
        node = configure()
        port = gmp.port()
        gmp.group("workers").join(port)
        assert members.wait(2)[1] == ({port.id: None}, [port.id], [], [])
        gmp.family("settings").set("colour", "blue")
        assert entries.wait(2)[1] == ({"colour": "blue"}, [], ["colour"], [])
        eventually(lambda: known.calls[-1][0] == [node.id])
        stop()
    gmp.group("workers").leave(port)
    gmp.family("settings").delete("colour")
    entries.wait(3)
    assert len(members.calls) == 2  # it was cancelled


def test_monitors_of_nodes_are_those_of_the_configured_node(no_default: None, make_node: Callable[..., gmp.Node]) -> None:
    seen, ended = Recorder(), Recorder()
    gmp.node().monitor_nodes(seen)
    cancel = gmp.node().monitor_nodes(ended)
    seed = make_node("seed", seeds=[])
    node = gmp.configure(binds=[], seeds=seed.binds, secret="geheim")
    cancel()
    cancel()
    node.wait_up("seed", timeout=20)
    assert seen.wait() == [("seed", True)]
    assert ended.calls == []


def test_who_waits_for_members_meanwhile_gets_those_of_the_configured_node(no_default: None) -> None:
    waiting = gevent.spawn(gmp.group("workers").wait)
    gevent.sleep(0)
    configure()
    port = gmp.port()
    gmp.group("workers").join(port)
    assert list(waiting.get(timeout=10)) == [port.id]


def test_a_timer_set_before_goes_on(no_default: None) -> None:
    fired = Recorder()
    gmp.after(0.05, fired, "late")
    configure()
    assert fired.wait() == [("late",)]


def test_the_local_node_itself_raises_and_says_what_to_use(no_default: None) -> None:
    local = gmp.node()
    waiting = gevent.spawn(outcome, local.wait_up)
    gevent.sleep(0)
    node = configure()
    assert gmp.node() is node
    assert "was replaced by" in str(waiting.get(timeout=10))
    for use in (local.port, lambda: local.send("x#y", 1), lambda: local.wait_up(timeout=5), local.flush):
        with pytest.raises(gmp.GmpError, match=r"was replaced by gmp.configure: gmp.node\(\) is the default node now"):
            use()


def test_a_configure_that_fails_leaves_everything_as_it_was(no_default: None) -> None:
    members = Recorder()
    gmp.group("workers").monitor(members)
    local = gmp.node()
    with pytest.raises(gmp.ConfigError):
        gmp.configure(binds=["256.0.0.1:1"], secret="geheim")
    assert gmp.node() is local
    port = local.port()
    gmp.group("workers").join(port)
    members.wait(2)
    port.kill()


# ---- after the end


def uses(node: gmp.Node) -> dict[str, Use]:
    """Every way to use a node, and what was made of it while it was open. None of them may block or be believed."""
    port, other, group, family = node.port(), node.port(), node.group("g"), node.family("f")
    return {
        "port": node.port,
        "send": lambda: node.send(other.id, 1),
        "try_send": lambda: node.try_send(other.id, 1),
        "call": lambda: node.call(other.id, 1, timeout=None),
        "kill": lambda: node.kill(other.id),
        "spawn": lambda: node.spawn(node.id, gmp.spawnable(configure)),
        "send_to_function": lambda: node.send_to_function(node.id, "a:b"),
        "send_on": lambda: node.send_on(node.id, other.id, 1),
        "eval_on": lambda: node.eval_on(node.id, "1"),
        "open_stream": lambda: node.open_stream("elsewhere", "a:b"),
        "monitor": lambda: node.monitor(other.id, print),
        "link": lambda: node.link(port, other),
        "after": lambda: node.after(0, print),
        "supervise": lambda: node.supervise([print]),
        "group": lambda: node.group("g"),
        "family": lambda: node.family("f"),
        "flush": node.flush,
        "from_thread": lambda: node.from_thread(print),
        "wait_up": node.wait_up,
        "wait_up of a node": lambda: node.wait_up("elsewhere"),
        "known_nodes": node.known_nodes,
        "monitor_nodes": lambda: node.monitor_nodes(print),
        "monitor_busy": lambda: node.monitor_busy(print),
        "monitor_known_nodes": lambda: node.monitor_known_nodes(print),
        "offer": lambda: node.offer("a::b", print),
        "Group.join": lambda: group.join(port),
        "Group.leave": lambda: group.leave(port),
        "Group.members": group.members,
        "Group.monitor": lambda: group.monitor(print),
        "Group.wait": group.wait,
        "Group.send": lambda: group.send(1),
        "Group.pick": group.pick,
        "Family.set": lambda: family.set("a", 1),
        "Family.delete": lambda: family.delete("a"),
        "Family.items": family.items,
        "Family.monitor": lambda: family.monitor(print),
    }


NAMES = list(uses(face.local_node()))


@pytest.mark.parametrize("name", NAMES)
def test_once_a_node_is_closed_every_use_raises_and_says_so(make_node: Callable[..., gmp.Node], name: str) -> None:
    node = make_node("node", binds=[], seeds=[])
    use = uses(node)[name]
    node.close()
    with gevent.Timeout(10), pytest.raises(gmp.GmpError, match="node node is closed"):
        use()


def test_after_close_and_configure_handles_of_the_default_node_are_those_of_the_new_one(no_default: None) -> None:
    workers, settings = gmp.group("workers"), gmp.family("settings")
    configure().close()
    with pytest.raises(gmp.GmpError, match="is closed"):
        workers.members()
    with pytest.raises(gmp.GmpError, match="is closed"):
        gmp.group("workers")
    node = configure()
    workers.join(node.port())
    settings.set("colour", "red")
    assert len(node.group("workers").members()) == 1
    assert node.family("settings").items() == {"colour": "red"}


WAITS: dict[str, Callable[[gmp.Node, gmp.Port], Any]] = {
    "receive": lambda node, port: port.receive(),
    "call": lambda node, port: node.call(port, "never answered", timeout=None),
    "call elsewhere": lambda node, port: node.call("elsewhere", "time", timeout=None),
    "Group.wait": lambda node, port: node.group("nobody").wait(),
    "wait_up": lambda node, port: node.wait_up(),
    "wait_up of a node": lambda node, port: node.wait_up("elsewhere"),
    "open_stream": lambda node, port: node.open_stream("elsewhere", "a:b", timeout=60),
}


@pytest.mark.parametrize("name", WAITS)
def test_whoever_waits_is_let_go_when_the_node_is_closed(make_node: Callable[..., gmp.Node], name: str) -> None:
    node = make_node("node", binds=[], seeds=["127.0.0.1:1"], leave_timeout=0.2, connect_timeout=60.0)
    waiting = gevent.spawn(outcome, WAITS[name], node, node.port())
    gevent.sleep(0.05)
    assert not waiting.ready()
    node.close()
    assert isinstance(waiting.get(timeout=10), gmp.GmpError)


def test_so_is_a_thread(make_node: Callable[..., gmp.Node]) -> None:
    node = make_node("node", binds=[], seeds=[], leave_timeout=0.2)
    raised: list[BaseException] = []
    began = gevent.event.Event()

    def sleep() -> None:
        began.set()
        gevent.sleep(60)

    def wait() -> None:
        try:
            node.from_thread(sleep)
        except gmp.GmpError as error:
            raised.append(error)

    ended = gevent.get_hub().threadpool.spawn(wait)  # a native thread in a patched program too
    began.wait()
    node.close()
    ended.get(timeout=10)
    assert [str(error) for error in raised] == ["node node is closed"]


def test_monitors_end_with_their_node(make_node: Callable[..., gmp.Node]) -> None:
    node = make_node("node", binds=[], seeds=[])
    told = Recorder()
    monitor = node.family("f").monitor(told)
    told.wait()
    node.close()
    assert len(told.calls) == 1
    monitor.cancel()
    monitor.cancel()


# ---- in a child of fork

CHILD = """
import gevent, gmp, os, sys
gmp.configure(binds=[], seeds=[], secret="geheim")
node, group, family = gmp.node(), gmp.group("g"), gmp.family("f")
bound = node.group("g")
family.set("a", 1)
family.monitor(lambda *news: print("told", os.getpid() == parent, flush=True))
parent = os.getpid()
waiting = gevent.spawn(bound.wait)
gevent.sleep(0.05)
pid = gevent.fork()
if pid == 0:
    for use in (bound.members, bound.wait, lambda: node.group("g"), waiting.get):
        try:
            with gevent.Timeout(10):
                print("child", use(), flush=True)
        except gmp.GmpError as error:
            print("child", "left to the parent" in str(error), flush=True)
    print("child sees", family.items(), group.members(), flush=True)
    gmp.configure(binds=[], seeds=[], secret="geheim")
    family.set("b", 2)
    print("child sees", family.items(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent sees", family.items(), waiting.ready(), flush=True)
"""


def test_in_a_child_handles_of_the_parents_node_raise_and_those_of_the_default_node_are_the_childs() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "told True",
        "child True",
        "child True",
        "child True",
        "child True",
        "child sees {} {}",
        "child sees {'b': 2}",
        "parent sees {'a': 1} False",
    ]
