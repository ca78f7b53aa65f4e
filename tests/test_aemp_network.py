"""The family between nodes: configuring in Perl's words, the database, requests to nodes, which nodes there are."""

from __future__ import annotations

import gc
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

import gmp
from gmp.compat import aemp
from gmp.compat.aemp import (
    NODE,
    SELF,
    cal,
    configure,
    db_del,
    db_family,
    db_keys,
    db_mon,
    db_reg,
    db_set,
    db_values,
    eval_on,
    get,
    grp_get,
    grp_mon,
    grp_reg,
    guard,
    kil,
    known_nodes,
    mon_nodes,
    node_is_up,
    peval,
    port,
    port_async,
    rcv,
    snd,
    snd_on,
    snd_to_func,
    up_nodes,
)
from gmp.services.logsender import LogSender

from . import functions
from .addresses import free_address
from .conftest import Recorder, eventually
from .perl_peer import PerlListener, PerlPeer

MakeNode = Callable[..., gmp.Node]
HOST = os.uname().nodename

pytestmark = pytest.mark.usefixtures("no_calls")


# ---- configure


def settings_of(*arguments: Any, **settings: Any) -> gmp.Node:
    node = configure(*arguments, **{"binds": [], "secret": "geheim", **settings})
    node.close()
    return node


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        ({"nodeid": "plain"}, r"plain"),
        ({"nodeid": "anon/"}, r"anon/\w{10}"),
        ({"nodeid": "aemp/%n/%u"}, rf"aemp/{HOST}/\w{{10}}"),
        ({"nodeid": "%u.%n"}, rf"\w{{10}}\.{HOST}"),
        ({"profile": "only-a-name"}, r"only-a-name/\w{10}"),
        ({"profile": "only-a-name", "nodeid": "name"}, r"name"),
        ({}, rf"{HOST}/\w{{10}}"),
        ({"norc": 1, "profile": "seed"}, r"seed/\w{10}"),
    ],
)
def test_node_ids_are_made_as_in_perl(given: dict[str, Any], pattern: str) -> None:
    assert re.fullmatch(pattern, settings_of(**given).id)


def test_the_profile_stands_first_or_among_the_pairs_and_the_file_has_its_settings() -> None:
    file = Path(os.environ["GMP_CONFIG"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('high_mark = 600000\n[profile.seed]\nnode_id = "from the file"\nlost_after = 7\n'.replace(" the ", "_"))
    for arguments in (("seed",), ("seed", "monitor_timeout", 9), ("profile", "seed")):
        node = settings_of(*arguments)
        assert node.id == "from_file"
        assert node.settings.lost_after == (9 if len(arguments) == 3 else 7)
        assert node.settings.high_mark == 600000
    node = settings_of("seed", norc=True)
    assert node.id.startswith("seed/")
    assert node.settings.high_mark == 1 << 20
    assert os.environ["GMP_CONFIG"] == str(file)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"framing_format": ["cbor", "json", "storable"]}, {"framings": ("cbor", "json")}),
        ({"framing_format": "json"}, {"framings": ("json",)}),
        ({"auth_offer": ["tls_sha3_512", "hmac_sha3_512"]}, {"require_tls": None}),
        ({"auth_accept": "hmac_sha3_512 cleartext"}, {"allow_cleartext": True, "allow_anonymous": False}),
        ({"auth_accept": ["hmac_sha3_512", "tls_anon"]}, {"allow_cleartext": False, "allow_anonymous": True}),
        ({"secure": 1}, {"allow_eval": False, "allow": ()}),
        ({"secure": 0, "allow_eval": True}, {"allow_eval": True}),
        ({"monitor_timeout": 30, "connect_interval": 3}, {"lost_after": 30.0, "address_timeout": 3.0}),
        ({"seeds": "*:4040,10.0.0.1:1"}, {"seeds": ("127.0.0.1:4040", "10.0.0.1:1")}),
        ({"force": 1, "high_mark": 700000}, {"high_mark": 700000}),
        ({"seeds": None, "framing_format": None, "monitor_timeout": None}, {"seeds": (), "lost_after": 20.0}),
    ],
)
def test_settings_of_perl_become_those_of_gmp(given: dict[str, Any], expected: dict[str, Any]) -> None:
    node = settings_of(nodeid="n", **given)
    assert {name: getattr(node.settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"eval": "1"}, "eval: expected no text.*services"),
        ({"parent": "base"}, "parent: .*configuration file"),
        ({"framing_format": ["storable"]}, "storable is Perl's alone, expected one of msgpack, cbor, json"),
        ({"framing_format": ["yaml"]}, "framing_format.*expected a list of"),
        ({"auth_offer": ["cleartext"]}, "auth_offer.*expected a list of tls_sha3_512, hmac_sha3_512"),
        ({"auth_accept": ["hmac_md6_64_256"]}, "auth_accept.*expected a list of"),
        ({"auth_offer": ["tls_sha3_512"]}, "there is no cert"),
        ({"secure": 1, "allow_eval": True}, "allow_eval"),
        ({"monitor_timeout": 1}, "lost_after"),
        ({"norc": 1, "secret": None}, "expected secret= or cert="),
        ({"nonsense": 1}, "'nonsense' is no setting"),
        ({"profile": 5}, "profile 5 is no name"),
        ({"seeds": 5}, "seeds 5: expected a list"),
        ({"seeds": [5]}, "seeds"),
        ({"services": 5}, "services"),
        ({"services": [[]]}, "service"),
        ({"framing_format": 5}, "framing_format 5: expected a list of"),
        ({"auth_accept": []}, "auth_accept .*expected a list of"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_to_use(given: dict[str, Any], words: str) -> None:
    with pytest.raises(gmp.ConfigError, match=words):
        settings_of(nodeid="n", **given)


@pytest.mark.parametrize("text", ["profile = 5\n", "no toml"])
def test_a_file_that_cannot_be_read_is_told_of(text: str) -> None:
    file = Path(os.environ["GMP_CONFIG"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    with pytest.raises(gmp.ConfigError, match=str(file)):
        settings_of("seed")


def test_a_key_of_configure_is_a_text() -> None:
    with pytest.raises(gmp.ConfigError, match="7 is no setting"):
        configure(7, "value")


def test_the_second_configure_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    node = configure("nodeid", "first", "binds", [], secret="geheim")
    with caplog.at_level(logging.WARNING):
        assert configure("nodeid", "second") is node
    assert "node first runs already" in caplog.text


@aemp.spawnable
def add(first: int) -> None:
    rcv(SELF(), "to", lambda second, reply: snd(reply, first + second))  # type: ignore[arg-type]


@aemp.spawnable
def service(*args: Any) -> None:
    functions.calls(SELF(), *args)


def test_services_have_perls_names_and_arguments() -> None:
    perlish = __name__.replace(".", "::")
    node = configure(nodeid="n", binds=[], secret="s", services=[[f"{perlish}::service", 1, "two"], f"{perlish}::"])
    [(own, *args)] = functions.calls.wait()
    assert args == [1, "two"]
    assert gmp.node_of(own) == node.id
    node.close()
    node = configure(nodeid="n", binds=[], secret="s", services=f"{perlish}::service")
    assert len(functions.calls.wait(2)[1]) == 1


# ---- the database


@pytest.fixture
def master(make_node: MakeNode) -> gmp.Node:
    """Another node, the seed of the own one."""
    master = make_node("master", allow=["tests.functions"], allow_eval=True)
    configure(nodeid="own", binds=[], secret="geheim", seeds=master.binds, allow=["tests.functions"])
    return master


def test_an_entry_is_set_and_its_guard_deletes_it(master: gmp.Node, recorder: Recorder) -> None:
    entries = db_set("f", "key", {"any": [1, None]})
    db_set("f", 7)
    p = port()
    db_set("f", p, "port")
    eventually(lambda: master.family("f").items() == {"key": {"any": [1, None]}, "7": None, p.id: "port"})
    entries.cancel()
    eventually(lambda: master.family("f").items() == {"7": None, p.id: "port"})
    db_del("f", 7, p, "never set")
    eventually(lambda: master.family("f").items() == {})
    with db_set("f", "short", 1), guard(db_set("f", "scoped", 2)):
        eventually(lambda: master.family("f").items() == {"short": 1, "scoped": 2})
    eventually(lambda: master.family("f").items() == {})
    with pytest.raises(gmp.ConfigError, match="expected a text"):
        db_set("", "key")
    with pytest.raises(gmp.ConfigError, match="expected a string"):
        db_set("f", ["key"])


def test_a_guard_that_nobody_keeps_deletes_its_entry(master: gmp.Node) -> None:
    kept = guard(db_set("f", "key", 1))
    eventually(lambda: master.family("f").items() == {"key": 1})
    del kept
    gc.collect()
    eventually(lambda: master.family("f").items() == {})


def test_a_guard_of_a_closed_node_goes_in_silence() -> None:
    node = configure(nodeid="own", binds=[], secret="geheim")
    kept = guard(db_set("f", "key", 1))
    node.close()
    del kept


def test_db_reg_is_for_any_port_until_it_dies(master: gmp.Node) -> None:
    own, far = port(), master.port()
    db_reg("workers", own, "own")
    left = db_reg("workers", far.id, "far")
    peval(own, db_reg, "of the current port")
    db_reg("nodes", NODE())
    assert grp_get("workers") == [own.id, far.id]
    assert grp_get("of the current port") == [own.id]
    eventually(lambda: master.family("nodes").items() == {NODE(): None})
    left.cancel()
    eventually(lambda: grp_get("workers") == [own.id])
    again = db_reg("workers", far.id)
    far.kill("why")
    eventually(lambda: grp_get("workers") == [own.id])
    again.cancel()
    kil(own)
    eventually(lambda: grp_get("workers") == grp_get("of the current port") == [])
    with pytest.raises(gmp.GmpError, match="db_reg without a port needs a current port"):
        db_reg("workers")


def test_queries_wait_for_what_the_network_knows(master: gmp.Node) -> None:
    """The node asks while it is not connected yet; the answer is the master's all the same."""
    master.family("f").set("a", 1)
    master.family("f").set("b", [2])
    whole, keys, values, empty = (Recorder() for _ in range(4))
    assert db_family("f", whole) is None  # type: ignore[func-returns-value]
    assert whole.calls == []
    db_keys("f", keys)
    db_values("f", values)
    db_family("unheard of", empty)
    assert whole.wait() == [({"a": 1, "b": [2]},)]
    assert (keys.wait(), values.wait(), empty.wait()) == ([(["a", "b"],)], [([1, [2]],)], [({},)])
    whole.calls[0][0].clear()  # it is the callback's own
    db_family("f", whole)
    assert whole.wait(2)[1] == ({"a": 1, "b": [2]},)


def test_queries_of_a_node_without_a_network_are_answered() -> None:
    first, second = Recorder(), Recorder()
    db_set("f", "local", 1)
    db_family("f", first)
    assert first.wait() == [({"local": 1},)]
    configure(nodeid="own", binds=[], secret="geheim")
    db_keys("f", second)
    assert second.wait() == [(["local"],)]


def test_whoever_waits_for_a_network_when_the_node_is_closed_is_let_go(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    node = configure(nodeid="own", binds=[], secret="geheim", seeds=[free_address()])
    db_mon("f", recorder)
    db_keys("f", recorder)
    gevent.sleep(0)
    node.close()
    gevent.sleep(0)
    assert recorder.calls == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_queries_outlive_a_master(make_node: MakeNode, recorder: Recorder) -> None:
    """The one that would be asked is lost: the next one is asked."""
    first = make_node("first")
    second = make_node("second", seeds=first.binds)
    second.family("f").set("key", 1)
    node = configure(nodeid="own", binds=[], secret="geheim", seeds=[*first.binds, *second.binds])
    node.wait_up("first", timeout=20)
    node.wait_up("second", timeout=20)
    first.close()
    db_keys("f", recorder)
    assert recorder.wait() == [(["key"],)]


def test_db_mon_tells_first_of_all_there_is_and_then_of_changes(master: gmp.Node, recorder: Recorder) -> None:
    master.family("f").set("there", 1)
    watching = db_mon("f", recorder)
    assert recorder.wait() == [({"there": 1}, ["there"], [], [])]
    master.family("f").set("new", None)
    assert recorder.wait(2)[1] == ({"there": 1, "new": None}, ["new"], [], [])
    master.family("f").set("there", 2)
    assert recorder.wait(3)[2] == ({"there": 2, "new": None}, [], ["there"], [])
    master.family("f").delete("new")
    assert recorder.wait(4)[3] == ({"there": 2}, [], [], ["new"])
    late, never = Recorder(), Recorder()
    db_mon("f", late)
    db_mon("f", never).cancel()
    assert late.wait() == [({"there": 2}, ["there"], [], [])]
    watching.cancel()
    master.family("f").delete("there")
    assert late.wait(2)[1] == ({}, [], [], ["there"])
    assert (len(recorder.calls), never.calls) == (4, [])


def test_the_death_of_a_node_is_a_change(master: gmp.Node, make_node: MakeNode, recorder: Recorder) -> None:
    member = make_node("member", seeds=master.binds)
    member.family("f").set("key", 1)
    db_mon("f", recorder)
    eventually(lambda: recorder.calls[-1:] and recorder.calls[-1][0] == {"key": 1})
    told = len(recorder.calls)
    member.close()
    assert recorder.wait(told + 1)[told] == ({}, [], [], ["key"])


def test_groups_are_families(master: gmp.Node, recorder: Recorder) -> None:
    p = port()
    there = grp_mon("g", recorder)
    assert recorder.wait() == [([], [], [])]
    member = grp_reg("g", p)
    assert recorder.wait(2)[1] == ([p.id], [p.id], [])
    member.cancel()
    assert recorder.wait(3)[2] == ([], [], [p.id])
    there.cancel()


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_master_is_asked_too(recorder: Recorder, framing: str) -> None:
    keys = Recorder()
    with PerlListener("PerlSeed", framing=framing) as listener:
        configure(nodeid="own", binds=[], secret="geheim", seeds=[listener.bind])
        with listener.accept() as perl:
            db_mon("f", recorder)
            assert recorder.wait() == [({}, [], [], [])]
            assert ["g_mon1", "f"] in [message[1:] for message in perl.log]
            perl.request("g_chg2", "f", {"key": 1}, None)
            assert recorder.wait(2)[1] == ({"key": 1}, ["key"], [], [])
            perl.request("g_chg2", "f", None, ["key"])
            perl.request("g_chg2", "f", {"later": 2}, [])
            db_keys("f", keys)
            assert keys.wait() == [(["later"],)]
            assert aemp.MASTER() == "PerlSeed"
            gmp.node().close()


# ---- nodes


def test_requests_to_a_node(master: gmp.Node, recorder: Recorder) -> None:
    box = port(recorder)
    snd_to_func("master", "tests.functions:note", 1, "two")
    assert functions.calls.wait() == [(1, "two")]
    snd_to_func(master.port().id, "tests::functions::note", 3)
    assert functions.calls.wait(2)[1] == (3,)
    snd_to_func(NODE(), functions.note, 4)
    assert functions.calls.wait(3)[2] == (4,)
    snd_on("master", box, "tag", 5)
    assert recorder.wait() == [("tag", 5)]
    eval_on("master", "1 + 1", box, "answer")
    assert recorder.wait(2)[1] == ("answer", "", 2)
    eval_on("master", "1 +", box, "answer")
    assert recorder.wait(3)[2][1].startswith("SyntaxError")
    with pytest.raises(gmp.GmpError, match="names no function"):
        snd_to_func("master", "nothing")


def test_nodes_that_come_and_go(master: gmp.Node, make_node: MakeNode, recorder: Recorder) -> None:
    gmp.node().wait_up("master", timeout=20)
    watching = mon_nodes(recorder)
    assert up_nodes() == ["master"]
    assert (node_is_up("own"), node_is_up("master"), node_is_up("nobody")) == (1, 1, None)
    member = make_node("member", seeds=master.binds)
    eventually(lambda: known_nodes() == ["master", "member", "own"])
    assert node_is_up("member") == 0
    gmp.send("member", "")
    assert recorder.wait() == [("member", True)]
    assert node_is_up("member") == 1
    member.close()
    assert recorder.wait(2)[1][:2] == ("member", False)
    assert node_is_up("member") == 0
    watching.cancel()
    master.close()
    eventually(lambda: up_nodes() == [])
    assert len(recorder.calls) == 2


def test_the_views_of_the_kernels_variables(master: gmp.Node) -> None:
    eventually(lambda: aemp.MASTER() == "master")
    assert aemp.SEED_NODE() == {master.binds[0]: "master"}
    assert aemp.NODE_SEED() == {"master": master.binds[0]}
    assert aemp.BINDS() == []


def test_a_node_before_configure_knows_none() -> None:
    assert (up_nodes(), known_nodes(), aemp.SEED_NODE(), aemp.MASTER()) == ([], [NODE()], {}, None)
    assert (node_is_up(NODE()), node_is_up("other")) == (1, None)


# ---- the service modules


def test_catch_logs_what_other_nodes_log(master: gmp.Node, caplog: pytest.LogCaptureFixture) -> None:
    LogSender(node=master)
    theirs = logging.getLogger("theirs")

    def heard() -> set[str]:
        """What has come so far; something new is said meanwhile."""
        theirs.warning("take care")
        theirs.error("too bad")
        return {record.getMessage() for record in caplog.records if getattr(record, "node", "") == "master"}

    with caplog.at_level(logging.DEBUG, "theirs"):
        aemp.catch("warn")
        eventually(lambda: heard() == {"take care", "too bad"})
        aemp.catch(4)  # errors alone, from now on
        caplog.clear()
        eventually(heard)
        assert heard() == {"too bad"}
        gmp.node().close()
        aemp.catch()
    with pytest.raises(gmp.ConfigError, match="no level 'loud', expected 1 to 9"):
        aemp.catch("loud")


def receive_line(*args: Any) -> None:
    *data, stream = args
    functions.calls(*data, stream.recv(100))
    stream.close()


@pytest.mark.parametrize("where", ["master", "own"])
def test_connect_to_gives_both_ends_of_a_stream(make_node: MakeNode, recorder: Recorder, where: str) -> None:
    master = make_node("master", allow=[__name__])
    configure(nodeid="own", binds=[], secret="geheim", seeds=master.binds, allow=[__name__])
    p = port()

    def opened(stream: gmp.Stream) -> None:
        recorder(SELF())
        stream.sendall(b"line")
        stream.close()

    peval(p, aemp.connect_to, where, 20, f"{__name__}:receive_line", 1, opened)
    assert functions.calls.wait() == [(1, b"line")]
    assert recorder.wait() == [(p,)]
    assert p.alive


def test_connect_to_what_is_not_there_kills_the_port(master: gmp.Node) -> None:
    p = port()
    peval(p, aemp.connect_to, "master", 20, "tests.nowhere:function", print)
    assert p.join(20)
    assert p.reason is not None
    assert p.reason[0] == "AnyEvent::MP::DataConn"
    with pytest.raises(gmp.GmpError, match="connect_to needs a current port"):
        aemp.connect_to("master", 20, "m:f", print)
    assert peval(port(), lambda: aemp.connect_to("master", 20, "m:f")) is None


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_uses_ports_threads_and_functions_of_the_family(recorder: Recorder, framing: str) -> None:
    node = configure(nodeid="own", binds=["127.0.0.1:0"], secret="geheim")
    with PerlPeer.dial(node.binds[0], framing=framing) as perl:
        tagged = rcv(port(), "ask", lambda number, reply: snd(reply, "got", number))
        assert perl.call(tagged.id, "ask", 1) == ["got", 1]
        thread = port_async(lambda: snd(get("reply to")[0], *get("numbers")))
        perl.snd(thread.id, "numbers", 2, 3)
        assert perl.call(thread.id, "reply to") == [2, 3]
        spawned = perl.spawn(f"{__name__.replace('.', '::')}::add", 4)
        assert perl.call(spawned, "to", 5) == [9]
        died = perl.mon(tagged.id)
        perl.snd(tagged.id, "unknown")
        assert died.get(timeout=20)[0] == "unhandled_message"
        assert node_is_up("PerlA") == 1
        cal(f"PerlA#{perl.new_name()}", "nobody is there", recorder)
        assert recorder.wait() == [()]


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_perls_own_names_reach_a_perl_node(framing: str) -> None:
    with PerlListener("PerlSeed", framing=framing) as listener:
        configure(nodeid="own", binds=[], secret="geheim", seeds=[listener.bind])
        with listener.accept() as perl:
            heard = Recorder()
            perl.functions["main::init"] = perl.functions["::init"] = heard
            gmp.node().wait_up("PerlSeed", timeout=20)
            spawned = aemp.spawn("PerlSeed#some", "::init", 1)
            [(peer, name, one)] = heard.wait()
            assert (peer, f"PerlSeed#{name}", one) == (perl, spawned, 1)
            gmp.node().close()
