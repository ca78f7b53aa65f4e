"""The node port: what other nodes may ask for, and how it is refused. Asked by gmp nodes and by a Perl one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator

import pytest

import gmp

from . import functions
from .conftest import Recorder, eventually
from .perl_peer import PerlPeer

MakeNode = Callable[..., gmp.Node]
Pair = tuple[gmp.Node, gmp.Node]

pytestmark = pytest.mark.usefixtures("no_calls")


@pytest.fixture
def make_pair(make_node: MakeNode) -> Callable[..., Pair]:
    """Two nodes, connected; the settings are those of the first."""

    def make(**settings: object) -> Pair:
        server = make_node("server", **settings)
        client = make_node("client", seeds=server.binds)
        client.wait_up("server", timeout=20)
        return server, client

    return make


@pytest.fixture
def node(make_node: MakeNode) -> gmp.Node:
    # what it is made to answer to nodes that nobody knows need not hold up its end
    return make_node("gmp", allow=["tests.functions"], leave_timeout=0.1)


@pytest.fixture(params=["json", "cbor"])
def perl(node: gmp.Node, request: pytest.FixtureRequest) -> Iterator[PerlPeer]:
    with PerlPeer.dial(node.binds[0], framing=request.param) as peer:
        yield peer


# ---- functions


@pytest.mark.parametrize("name", ["tests.functions:note", "tests.functions::note", "tests::functions::note"])
def test_a_peer_calls_a_function_that_allow_admits(make_pair: Callable[..., Pair], name: str) -> None:
    _, client = make_pair(allow=["tests.*"])
    client.send_to_function("server", name, 1, "two", {"three": (3,)})
    assert functions.calls.wait(timeout=20) == [(1, "two", {"three": (3,)})]


def test_a_function_itself_stands_for_its_name(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair(allow=["tests.functions"])
    client.send_to_function("server", functions.note, 1)
    assert functions.calls.wait(timeout=20) == [(1,)]


def test_a_module_that_is_allowed_is_imported(make_pair: Callable[..., Pair], tmp_path, monkeypatch) -> None:
    (tmp_path / "allowed_only_here.py").write_text("from tests import functions\ndef go(): functions.note('went')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _, client = make_pair(allow=["allowed_*"])
    client.send_to_function("server", "allowed_only_here:go")
    assert functions.calls.wait(timeout=20) == [("went",)]
    del sys.modules["allowed_only_here"]


@pytest.mark.parametrize(
    "name",
    [
        "os:getcwd",  # not of a module that matches
        "tests.functions:imported_function",  # in the module, but of another one
        "tests.functions:Holder",  # no plain function
        "tests.functions:not_a_function",
        "tests.functions:nothing",
        "tests.nowhere:f",  # no such module
        "xml.dom.minicompat:defproperty",  # matches nothing, and is not imported
    ],
)
def test_every_other_function_is_refused_with_one_line(
    make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    _, client = make_pair(allow=["tests.*"])
    sys.modules.pop("xml.dom.minicompat", None)
    with caplog.at_level(logging.WARNING, "gmp"):
        for _ in range(3):
            client.send_to_function("server", name)
        eventually(lambda: caplog.records)
        client.send_to_function("server", "tests.functions:note")
        functions.calls.wait(timeout=20)
    assert [name in record.getMessage() for record in caplog.records] == [True]
    assert "xml.dom.minicompat" not in sys.modules


@pytest.mark.parametrize("name", ["tests.functions:Holder.method", "tests.functions:a.b", "tests/functions:note", ":x"])
def test_a_name_with_dots_behind_the_colon_or_none_before_it_is_refused_on_both_sides(
    make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    _, client = make_pair(allow=["*"])
    if name != "tests/functions:note":
        with pytest.raises(gmp.GmpError, match="expected 'package"):
            client.send_to_function("server", name)
    with caplog.at_level(logging.WARNING, "gmp"):
        client.send("server", name)
        eventually(lambda: caplog.records)
    assert "names no function" in caplog.records[0].getMessage()


def test_without_allow_a_spawnable_function_is_for_spawn_only(
    make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture
) -> None:
    _, client = make_pair()
    with caplog.at_level(logging.WARNING, "gmp"):
        client.send_to_function("server", "tests.functions:report")
        eventually(lambda: caplog.records)
    assert "not allowed" in caplog.records[0].getMessage()
    spawned = client.spawn("server", functions.report, 1)
    assert functions.calls.wait(timeout=20) == [(spawned, 1)]


def test_a_function_that_fails_or_exits_hurts_nobody(
    make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture
) -> None:
    _, client = make_pair(allow=["tests.*"])
    client.send_to_function("server", "tests.functions:fail")
    eventually(lambda: "as asked" in caplog.text)
    assert client.call("server", "time", timeout=20)


def test_an_import_that_exits_is_refused(make_pair: Callable[..., Pair], tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _, client = make_pair(allow=["*"])
    recorder = Recorder()
    client.monitor(client.spawn("server", "exits_at_import:f"), recorder)
    ((kind, text),) = recorder.wait(timeout=20)
    assert kind == "not_allowed"
    assert "cannot be imported" in text


def test_a_lookup_runs_no_code_of_the_module(make_pair: Callable[..., Pair], tmp_path, monkeypatch) -> None:
    source = "from tests import functions\ndef __getattr__(name): functions.note('ran', name)\n"
    (tmp_path / "lazy_module.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    import lazy_module  # type: ignore[import-not-found]  # noqa: F401

    _, client = make_pair(allow=["tests.*"])
    recorder = Recorder()
    client.monitor(client.spawn("server", "lazy_module:anything"), recorder)
    assert recorder.wait(timeout=20)[0][0] == "not_allowed"
    assert not [call for call in functions.calls.calls if call[:2] == ("ran", "anything")]


# ---- spawn


def test_an_init_that_fails_gives_its_true_reason_to_monitors(make_pair: Callable[..., Pair], recorder: Recorder) -> None:
    _, client = make_pair()
    for number in range(20):
        client.monitor(client.spawn("server", functions.fail_at_once, f"reason {number}"), recorder)
    reasons = recorder.wait(20, timeout=20)
    assert [reason[:2] for reason in reasons] == [("die", f"ValueError: reason {number}") for number in range(20)]


def test_a_monitor_that_comes_after_the_end_of_a_spawned_port_learns_its_reason(
    make_pair: Callable[..., Pair], recorder: Recorder
) -> None:
    server, client = make_pair()
    spawned = client.spawn("server", functions.fail_at_once, "long ago")
    client.call("server", "time")
    eventually(lambda: gmp.node_of(spawned) and not server._core.ports.by_name.get(spawned.partition("#")[2]))
    client.monitor(spawned, recorder)
    assert recorder.wait(timeout=20)[0][:2] == ("die", "ValueError: long ago")


def test_messages_follow_a_spawn_in_the_same_breath(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair()
    spawned = client.spawn("server", functions.report)
    for number in range(5):
        client.send(spawned, number)
    assert functions.calls.wait(6, timeout=20) == [(spawned,), (0,), (1,), (2,), (3,), (4,)]


def test_names_of_spawned_ports_are_the_callers(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair()
    for _ in range(2):
        name = client.spawn("server", functions.report).partition("#")[2]
        assert name.startswith(client.incarnation)


def test_a_name_that_is_or_was_in_use_is_refused(make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture) -> None:
    server, client = make_pair()
    spawned = client.spawn("server", functions.report, "first")
    functions.calls.wait(timeout=20)
    name = spawned.partition("#")[2]
    client.send("server", "AnyEvent::MP::_spawn", name, "tests.functions:report", "in use")
    client.kill(spawned, "enough")
    client.call("server", "time")
    client.send("server", "AnyEvent::MP::_spawn", name, "tests.functions:report", "was in use")
    own = server.port()
    client.send("server", "AnyEvent::MP::_spawn", own.name, "tests.functions:report", "not the caller's")
    client.send("server", "AnyEvent::MP::_spawn", "", "tests.functions:report", "the node port")
    client.call("server", "time")
    last = client.spawn("server", functions.report, "last")
    assert functions.calls.wait(2, timeout=20) == [(spawned, "first"), (last, "last")]
    assert caplog.text.count("cannot be spawned under the name") == 1
    server.close()
    assert "3 more lines" in caplog.text


def test_a_perl_nodes_names_are_remembered_too(perl: PerlPeer) -> None:
    name = perl.new_name()
    for number in range(2):
        perl.request("AnyEvent::MP::_spawn", name, "tests::functions::report", number)
        functions.calls.wait(timeout=20)
        perl.request("kil1", name)
        perl.barrier()
    second = perl.spawn("tests::functions::report", "second")
    assert functions.calls.wait(2, timeout=20) == [(f"gmp#{name}", 0), (second, "second")]


def test_a_perl_node_spawns_what_is_marked_or_allowed_and_learns_why_not(perl: PerlPeer) -> None:
    spawned = perl.spawn("tests::functions::report", "a1", 2)
    watched = perl.mon(spawned)
    perl.snd(spawned, "hello", [1])
    assert functions.calls.wait(2, timeout=20) == [(spawned, "a1", 2), ("hello", [1])]
    perl.kil(spawned, "enough", {"x": 1})
    assert watched.get(timeout=20) == ["enough", {"x": 1}]
    assert perl.mon(perl.spawn("os::getcwd")).get(timeout=20)[0] == "not_allowed"
    failed = perl.mon(perl.spawn("tests.functions::fail_at_once", "why")).get(timeout=20)
    assert failed[:2] == ["die", "ValueError: why"]


# ---- monitors and kills over the wire


def test_a_perl_node_spawns_a_function_of_the_main_program_by_a_name_without_a_package(
    perl: PerlPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``"::begun"``, as Perl programs write it for functions that stand in the program itself."""

    @gmp.spawnable
    def begun(port: gmp.Port, *args: object) -> None:
        port.kill("begun", *args)

    begun.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "begun", begun, raising=False)
    assert perl.mon(perl.spawn("::begun", 1, "two")).get(timeout=20) == ["begun", 1, "two"]
    assert perl.mon(perl.spawn("::imported_function")).get(timeout=20)[0] == "not_allowed"
    assert perl.mon(perl.spawn("::")).get(timeout=20)[0] == "not_allowed"


def test_mon1_is_idempotent(node: gmp.Node, perl: PerlPeer) -> None:
    port = node.port()
    perl.request("mon1", port.name)
    perl.request("mon1", port.name)
    perl.request("mon0", port.name)
    perl.barrier()
    port.kill("unseen")
    other = node.port()
    perl.request("mon1", other.name)
    perl.request("mon1", other.name)
    perl.barrier()
    other.kill("seen", 1)
    assert perl.expect("", "kil0") == [other.name, "seen", 1]
    perl.barrier()
    assert not [message for message in perl.log if message[:2] == ["", "kil0"]]


def test_what_a_peer_monitored_is_forgotten_with_its_connection(node: gmp.Node) -> None:
    port = node.port()
    with PerlPeer.dial(node.binds[0]) as perl:
        perl.request("mon1", port.name)
        perl.barrier()
    eventually(lambda: not node.is_up("PerlA"))
    with PerlPeer.dial(node.binds[0]) as perl:
        port.kill("unseen")
        perl.barrier()
        assert not [message for message in perl.log if message[:2] == ["", "kil0"]]


def test_a_port_that_is_not_there_is_told_as_perl_tells_it(perl: PerlPeer) -> None:
    perl.request("mon1", "gone")
    answer = perl.expect("", "kil0", "gone")
    assert answer == ["no_such_port", "cannot monitor nonexistent port", "gmp#gone"]


def test_a_kill_of_the_node_port_is_refused_and_of_an_unknown_port_ignored(
    node: gmp.Node, perl: PerlPeer, caplog: pytest.LogCaptureFixture
) -> None:
    perl.request("kil1", "", "bad")
    perl.request("kil1", None, "bad")
    perl.request("kil1", "unknown", "bad")
    assert perl.call("gmp", "time")[0] == pytest.approx(time.time(), abs=60)
    assert caplog.text.count("node port cannot be killed") == 1


def test_null_stands_for_the_empty_name(node: gmp.Node, perl: PerlPeer) -> None:
    port = perl.port()
    perl.send(None, "time", port)
    assert perl.expect(port.partition("#")[2])
    perl.request("mon0", None)
    perl.request("mon1", None)
    perl.request("kil0", None, "whatever")
    perl.request("kil0", "never monitored", "whatever")
    perl.barrier()


# ---- the small ones


def test_snd_sends_on_and_answers_go_where_they_were_asked_to(make_pair: Callable[..., Pair]) -> None:
    server, client = make_pair()
    port, other = client.port(), server.port()
    client.send_on("server", port, "round", 1)
    assert port.receive(timeout=20) == ("round", 1)
    client.send_on("server", other.id, "local there")
    assert other.receive(timeout=20) == ("local there",)
    client.send("server", "time", other.id, "it is")
    assert other.receive("it is", timeout=20)[0] > 0
    with pytest.raises(gmp.ConfigError, match="not a port"):
        client.send_on("server", "", 1)
    with pytest.raises(gmp.ConfigError, match="not a node ID"):
        client.send_on("server#port", port, 1)


def test_a_request_may_lead_to_one_request_to_the_node_itself_but_no_further(make_pair: Callable[..., Pair]) -> None:
    server, client = make_pair()
    port = client.port()
    client.send("server", *["snd", "server"] * 20_000, "snd", port.id, "too far")
    client.send("server", *["time", "server#"] * 20_000)
    client.send("server", "snd", "server", "snd", port.id, "through")
    assert port.receive(timeout=20) == ("through",)
    assert client.is_up("server")
    assert server.is_up("client")


def test_a_request_to_itself_gets_no_rights(make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture) -> None:
    _, client = make_pair()
    client.send("server", "snd", "server", "tests.functions:note", 1)
    client.send("server", "snd", "server", "eval", "1/0")
    client.send("server", "time", "server", "tests.functions:note")
    eventually(lambda: "ignored" in caplog.text)
    client.call("server", "time")
    assert functions.calls.calls == []


def test_can_tells_what_is_built_in(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair(allow=["tests.*"])
    for name in ("mon1", "mon0", "kil0", "kil1", "snd", "can", "time", "eval", "devnull", "g_slave", "AnyEvent::MP::_spawn"):
        assert client.call("server", "can", name) == ("1",)
    client.send_to_function("server", functions.note)
    functions.calls.wait(timeout=20)
    for name in ("nothing", "tests.functions:note", "kil"):
        assert client.call("server", "can", name) == ("",)


def test_eval_is_off_and_says_so(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair()
    port = client.port()
    client.eval_on("server", "1 + 1", port, "answer")
    assert port.receive("answer", timeout=20) == ("eval is not allowed on this node",)


@pytest.mark.parametrize("allow_eval", [False, True])
def test_what_aemp_trace_evaluates_is_answered_and_nothing_near_it(
    make_pair: Callable[..., Pair], allow_eval: bool
) -> None:
    _, client = make_pair(allow_eval=allow_eval)
    port = client.port()
    client.eval_on("server", "AnyEvent::MP::Kernel::up_nodes", port, "server")
    assert port.receive("server", timeout=20) == ("", "client")
    for source in ("AnyEvent::MP::Kernel::up_nodes()", " AnyEvent::MP::Kernel::up_nodes", "AnyEvent::MP::Kernel::NODE"):
        client.eval_on("server", source, port, "server")
        assert port.receive("server", timeout=20)[0] != ""
    client.send("server", "eval", "AnyEvent::MP::Kernel::up_nodes")  # nobody to answer
    assert client.call("server", "time", timeout=20)


def test_eval_answers_with_error_text_and_result_when_it_is_on(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair(allow_eval=True)
    assert client.call("server", "eval", "1 + 1") == ("", 2)
    assert client.call("server", "eval", "node.id") == ("", "server")
    assert client.call("server", "eval", "x = 5\ny = x") == ("",)
    assert client.call("server", "eval", "1 / 0") == ("ZeroDivisionError: division by zero",)
    assert client.call("server", "eval", "what now") != ("",)


@pytest.mark.parametrize("name", ["snd_multiple", "info", "Some::function", 7, {"a": 1}, "x" * 100_000])
def test_an_unknown_request_is_told_in_one_line(
    node: gmp.Node, perl: PerlPeer, caplog: pytest.LogCaptureFixture, name: object
) -> None:
    for _ in range(1000):
        perl.request(name, 1)
    perl.barrier()
    eventually(lambda: "ignored" in caplog.text)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"gmp: request {name!r:.80}"[:80])
    assert len(caplog.text) < 1000
    assert perl.call("gmp", "time")


def test_keepalives_do_nothing(node: gmp.Node, perl: PerlPeer) -> None:
    for message in ([], [""], ["", ""], [None], ["", None], ["", "devnull", 1, 2]):
        perl.send(*message)
    if perl.framing == "json":
        perl.send_octets(b'[][""]["",""] [null]\n["",null]["","devnull",1,2]')
        perl.send_octets(b"[ ]")
    assert perl.call("gmp", "time")


def test_malformed_requests_hurt_nobody(node: gmp.Node, perl: PerlPeer) -> None:
    for name in ("mon1", "mon0", "kil0", "kil1", "snd", "can", "time", "eval", "AnyEvent::MP::_spawn"):
        for args in ((), (1,), ([],), ({},), ("",), ("x", 1), ("#",), ("gmp", 1), ("gmp#", None), (None, None)):
            perl.request(name, *args)
    assert perl.call("gmp", "time")
