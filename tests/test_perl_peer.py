"""The public API against an independent AnyEvent::MP 2.02 node, dialling and dialled, over json and cbor, plain and TLS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

import gmp
from gmp.mesh import unattached

from . import functions
from .conftest import Recorder, eventually
from .perl_links import LINKS
from .perl_peer import PerlListener, PerlPeer

MakeNode = Callable[..., gmp.Node]
Link = tuple[gmp.Node, PerlPeer]

pytestmark = pytest.mark.usefixtures("no_calls")


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest, make_node: MakeNode) -> Iterator[Link]:
    """A gmp node and a Perl node that are connected; which of them has dialled, and how they talk, varies."""
    role, framing, security = request.param
    if role == "dials":
        node = make_node("gmp", allow=["tests.functions"], **security)
        with PerlPeer.dial(node.binds[0], framing=framing, **security) as perl:
            node.wait_up("PerlA", timeout=20)
            yield node, perl
        return
    with PerlListener(framing=framing, **security) as listener:
        node = make_node("gmp", allow=["tests.functions"], binds=[], seeds=[listener.bind], **security)
        with listener.accept() as perl:
            node.wait_up("PerlA", timeout=20)
            yield node, perl


def test_everything_a_perl_node_does(link: Link) -> None:
    """One connection for all: calls, monitors, kills and spawns, each in both directions."""
    node, perl = link
    assert perl.auth[0] == ("tls_sha3_512" if perl.greeting.get("tls") else "hmac_sha3_512")
    for step in (
        calls_both_ways,
        perl_monitors_and_kills,
        gmp_monitors_and_kills,
        perl_spawns,
        gmp_spawns,
        small_requests,
        keepalives_and_nulls,
    ):
        step(node, perl)
        perl.barrier()
        assert node.is_up("PerlA")
    assert node.stats()["peers"]["PerlA"]["state"] == "up"


def calls_both_ways(node: gmp.Node, perl: PerlPeer) -> None:
    seen: list[Any] = []

    @node.port
    def echo(port: gmp.Port) -> None:
        for tag, *values, reply in port:
            seen.append(tag)
            node.send(reply, tag, *values)

    values = [1, -5, 2.5, None, [1, [2, []]], {"key": {"k": 1}}, 2**40]
    assert perl.call(echo.id, "values", *values) == ["values", *values]
    strings = ["t\xc3\xa4g", "text", "\xff\x00", "t\xe4g", "\u20ac", {"k\xc3\xa4": {"k\xe4": "\xe2\x82\xac"}}]
    assert perl.call(echo.id, *strings) == strings
    assert seen == ["values", "t\xe4g"]

    def answer(tag: str, value: Any, reply: str) -> None:
        perl.snd(reply, f"{tag} back", value)

    port = perl.port(answer)
    assert node.call(port, "there", [1, {"a": None}], timeout=20) == ("there back", [1, {"a": None}])
    assert node.call("PerlA", "time", timeout=20)[0] == pytest.approx(time.time(), abs=60)
    for number in range(500):
        node.send(port + "x", number)  # dropped there, in silence
    assert node.call("PerlA", "can", "mon1", timeout=20) == ("1",)


def perl_monitors_and_kills(node: gmp.Node, perl: PerlPeer) -> None:
    port, other = node.port(), node.port()
    killed, ended = perl.mon(port.id), perl.mon(other.id)
    perl.barrier()
    perl.snd(port.id, "before")
    perl.kil(port.id, "because", {"x": [1]})
    assert killed.get(timeout=20) == ["because", {"x": [1]}]
    assert port.reason == ("because", {"x": [1]})
    other.kill()
    assert ended.get(timeout=20) == []
    assert perl.mon("gmp#gone").get(timeout=20) == ["no_such_port", "cannot monitor nonexistent port", "gmp#gone"]
    third = node.port()
    perl.mon(third.id)
    perl.unmon(third.id)
    perl.barrier()
    third.kill("unseen")
    perl.barrier()
    assert not [message for message in perl.log if message[:3] == ["", "kil0", third.name]]


def gmp_monitors_and_kills(node: gmp.Node, perl: PerlPeer) -> None:
    recorder = Recorder()
    port, other = perl.port(), perl.port()
    node.monitor(port, recorder)
    node.call("PerlA", "time", timeout=20)
    perl.kil(port, "died", "of that")
    assert recorder.wait(timeout=20) == [("died", "of that")]
    node.monitor(port, recorder)
    assert recorder.wait(2, timeout=20)[1] == ("no_such_port", "cannot monitor nonexistent port", port)
    node.monitor(other, recorder)
    node.kill(other, "enough", 1)
    assert recorder.wait(3, timeout=20)[2] == ("enough", 1)
    third = perl.port()
    with node.monitor(third, recorder):
        perl.expect("", "mon1", third.partition("#")[2])
    perl.expect("", "mon0", third.partition("#")[2])
    with pytest.raises(gmp.PortDied, match="no_such_port"):
        node.call(port, "anybody", timeout=20)


def perl_spawns(node: gmp.Node, perl: PerlPeer) -> None:
    functions.calls = Recorder()
    spawned = perl.spawn("tests::functions::report", "a1", 2)
    watched = perl.mon(spawned)
    perl.snd(spawned, "hello", [3])
    assert functions.calls.wait(2, timeout=20)[1] == ("hello", [3])
    assert functions.calls.calls[0][0] == spawned
    assert functions.calls.calls[0][1] == "a1"
    perl.kil(spawned, "enough")
    assert watched.get(timeout=20) == ["enough"]
    for number in range(200):  # in one piece with the spawn
        answering = perl.spawn("tests::functions::answer")
        for tag in ("pong", "ping"):
            perl.snd(answering, tag, "PerlA#answers", number)
    answers: dict[int, list[Any]] = {}
    for _ in range(400):
        tag, number = perl.expect("answers")
        answers.setdefault(number, []).append(tag)
    assert answers == {number: ["pong", "ping"] for number in range(200)}
    failed = perl.mon(perl.spawn("tests.functions::fail_at_once", "why")).get(timeout=20)
    assert failed[0] == "die"
    assert "why" in failed[1]
    assert perl.mon(perl.spawn("os::getcwd")).get(timeout=20)[0] == "not_allowed"
    functions.calls = Recorder()
    perl.request("tests::functions::note", 1, [2])
    assert functions.calls.wait(timeout=20) == [(1, [2])]


def gmp_spawns(node: gmp.Node, perl: PerlPeer) -> None:
    def svc(peer: PerlPeer, name: str, boss: str, extra: Any) -> None:
        peer.ports[name] = lambda tag, reply, *values: peer.snd(reply, "pong", *values)
        peer.snd(boss, "ready", f"{peer.node_id}#{name}", extra)

    perl.functions["Svc::echo"] = svc
    boss = node.port()
    spawned = node.spawn("PerlA", "Svc::echo", boss, [1, None])
    recorder = Recorder()
    node.monitor(spawned, recorder)
    tag, port_id, extra = boss.receive(timeout=20)
    assert (tag, port_id, extra) == ("ready", spawned, [1, None])
    node.send(spawned, "ping", boss, 1, [3])
    assert boss.receive("pong", timeout=20) == (1, [3])
    node.kill(spawned, "done")
    assert recorder.wait(timeout=20) == [("done",)]
    noted: gevent.event.AsyncResult[tuple[Any, ...]] = gevent.event.AsyncResult()
    perl.functions["Svc::note"] = lambda *args: noted.set(args)
    node.send_to_function("PerlA", "Svc::note", "x", 1)
    assert noted.get(timeout=20) == ("x", 1)


def small_requests(node: gmp.Node, perl: PerlPeer) -> None:
    port = node.port()
    perl.request("snd", port.id, "relayed", 1)
    assert port.receive("relayed", timeout=20) == (1,)
    node.send_on("PerlA", port, "echoed", 2)
    assert port.receive("echoed", timeout=20) == (2,)
    assert perl.call("gmp", "time")[0] == pytest.approx(time.time(), abs=60)
    assert perl.call("gmp", "can", "mon1") == ["1"]
    assert perl.call("gmp", "can", "nothing") == [""]
    assert perl.call("gmp", "eval", "1+1") == ["eval is not allowed on this node"]
    node.eval_on("PerlA", "1+1", port, "answer")
    assert port.receive("answer", timeout=20) == ("remote execution not allowed",)
    perl.request("g_find", "nobody")
    perl.request("g_mon1", "family")
    perl.request("g_unheard_of", {"a": 1})


def keepalives_and_nulls(node: gmp.Node, perl: PerlPeer) -> None:
    perl.send()
    perl.send("")
    perl.send("", "")
    perl.send("", "devnull", 1, 2)
    port = perl.port()
    perl.send(None, "time", port)
    perl.expect(port.partition("#")[2])
    perl.request("mon0", None)
    perl.request("kil1", None, "bad")



def test_a_perl_node_that_vanishes_fires_its_monitors(link: Link) -> None:
    node, perl = link
    of_port, of_node = Recorder(), Recorder()
    node.monitor(perl.port(), of_port)
    node.monitor("PerlA", of_node)
    perl.barrier()
    perl.close()
    for recorder in (of_port, of_node):
        assert recorder.wait(timeout=20)[0][:2] == ("transport_error", "PerlA")
    eventually(lambda: not node.is_up("PerlA"))


def test_a_gmp_node_that_leaves_tells_perl_why_its_ports_die(link: Link) -> None:
    node, perl = link
    port = node.port()
    reason = perl.mon(port.id)
    perl.barrier()
    node.close()
    assert reason.get(timeout=20) == ["leaving", "gmp"]
    assert perl.closed.wait(timeout=20)


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_sees_a_family_of_its_gmp_master(make_node: MakeNode, framing: str) -> None:
    node = make_node("gmp")
    with PerlPeer.dial(node.binds[0], framing=framing) as perl:
        perl.request("g_slave", {"'l": {"PerlA": ["127.0.0.1:4042"]}, "Family": {"k1": "v1"}})
        perl.request("g_mon1", "Family")
        assert perl.expect("", "g_chg1", "Family") == [{"k1": "v1"}]
        assert node.family("Family").items() == {"k1": "v1"}
        node.family("Family").set("k2", 2)
        assert perl.expect("", "g_chg2", "Family") == [{"k2": 2}, []]
        perl.request("g_upd", "Family", None, ["k1"])
        assert perl.expect("", "g_chg2", "Family") == [{}, ["k1"]]
        perl.request("g_find", "PerlA")
        assert perl.expect("", "g_found", "PerlA") == [["127.0.0.1:4042"]]
        perl.request("g_find", "nobody")
        assert perl.expect("", "g_found", "nobody") == [None]


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_that_nobody_reports_is_asked_to_attach_until_it_does(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setattr(unattached, "PATIENCE", 0.2)
    node = make_node("gmp")
    bind, options = node.binds[0], {"framing": framing}
    with PerlPeer.dial(bind, **options) as perl, PerlPeer.dial(bind, "PerlB", **options) as other:
        other.request("g_slave", {"'l": {"PerlB": []}})  # attached to this seed
        other.request("g_slave")
        perl.request("g_slave")  # to none, as far as anybody knows
        for _ in range(2):
            assert perl.expect("", "eval") == [unattached.ATTACH_AGAIN]
        perl.request("g_slave", {"'l": {"PerlA": []}, "Family": {"key": 1}})
        eventually(lambda: node.family("Family").items() == {"key": 1})
        perl.barrier()
        perl.log.clear()
        gevent.sleep(2.0)  # more than thrice what it had to wait
        assert [message for message in perl.log + other.log if message[1:2] == ["eval"]] == []


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_no_request_of_gmps_own_is_sent_to_perl(make_node: MakeNode, framing: str) -> None:
    node = make_node("gmp", busy_after=0.3)
    with PerlPeer.dial(node.binds[0], framing=framing) as perl:
        perl.port()
        node.call("PerlA", "time", timeout=20)
        gevent.sleep(0.5)  # longer than what a gmp node would be asked for signs of life after
        node.close()
        perl.closed.wait(timeout=20)
        assert not [message for message in perl.log if str(message[1:2]).find("gmp.") >= 0]


def test_a_node_of_another_kind_that_has_a_key_of_gmps_is_sent_no_heartbeat_and_holds_up_no_look(
    make_node: MakeNode,
) -> None:
    node = make_node("gmp", lost_after=2, busy_after=0.3, hung_after=0.6)
    with PerlPeer.dial(node.binds[0], keys=("heartbeat=0.1", "keepalive=1")) as perl:
        perl.barrier()
        gevent.sleep(1.0)
        perl.barrier()
        assert not [message for message in perl.seen if str(message[1:2]).find("gmp.") >= 0]
        assert node.is_up("PerlA")


@pytest.mark.parametrize(
    "unfit",
    [{1, 2}, float("nan"), "\x01" * 400_000, {"deep": [1, {"deeper": float("inf")}]}],
    ids=["set", "nan", "long", "nested"],
)
def test_what_waits_for_perl_and_cannot_travel_as_json_is_dropped_alone(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, unfit: Any
) -> None:
    node = make_node("gmp", max_message=1_000_000)
    fired = Recorder()
    node.monitor("PerlA", fired)
    node.send("PerlA#x", "before")
    node.send("PerlA#x", "unfit", unfit)
    node.send("PerlA#y", unfit)
    node.send("PerlA#x", "after")
    with PerlPeer.dial(node.binds[0], framing="json") as perl:
        assert [perl.expect("x") for _ in range(2)] == [["before"], ["after"]]
        with pytest.raises(gmp.MessageError):
            node.send("PerlA#x", "unfit", unfit)
        node.send("PerlA#x", "later")
        assert perl.expect("x") == ["later"]
        assert node.is_up("PerlA")
        assert node.stats()["peers"]["PerlA"]["dropped"] == 2
        assert fired.calls == []
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("node PerlA reads json only, which cannot carry what was sent before it was connected: ")
    assert line.endswith(", and 1 more")


def test_a_perl_node_with_another_secret_is_refused(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    node = make_node("gmp")
    with pytest.raises((AssertionError, ConnectionError)):
        PerlPeer.dial(node.binds[0], secret="falsch")
    eventually(lambda: "does not have our secret" in caplog.text)
    assert node.up_nodes() == []
