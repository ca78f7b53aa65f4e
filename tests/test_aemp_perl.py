"""The family's words towards a Perl node that is the seed: the independent one, and AnyEvent::MP's own where it is found."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

import gmp
from gmp.compat import aemp
from gmp.compat.aemp import (
    after,
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
    kil,
    known_nodes,
    mon,
    mon_guard,
    mon_nodes,
    node_is_up,
    peval,
    port,
    port_async,
    rcv,
    snd,
    snd_on,
    snd_to_func,
    spawn,
    syncal,
    up_nodes,
)

from .conftest import Recorder, eventually
from .perl_node import GLOBAL, KERNEL, PerlNode
from .real_perl import RealPerl

MakePerl = Callable[..., RealPerl]
LOGS = "AnyEvent::MP::LogCatcher::connect"


class Independent:
    """What a Perl program does, on the independent node."""

    def __init__(self, framing: str) -> None:
        self.node = PerlNode("Perl", is_global=True, framing=framing)
        self.bind = self.node.bind
        self._heard: list[tuple[Any, ...]] = []
        self._lines_to = ""
        self.node.functions.update({"main::report": self._report, "main::started": self._started, LOGS: self._log_to})

    def _report(self, *report: Any) -> None:
        self._heard.append(report)

    def _started(self, peer: Any, name: str, *args: Any) -> None:
        self._report("started", f"Perl#{name}", *args)
        peer.ports[name] = lambda *message: self._report("spawned", *message)

    def _log_to(self, version: int, port_id: str, level: int) -> None:
        self._lines_to = port_id

    def expect(self, *prefix: Any) -> list[Any]:
        """The rest of the first report that begins so."""
        eventually(lambda: any(report[: len(prefix)] == prefix for report in self._heard))
        report = next(report for report in self._heard if report[: len(prefix)] == prefix)
        self._heard.remove(report)
        return list(report[len(prefix) :])

    def wait_up(self, node_id: str) -> None:
        """Wait until it is connected with that node."""
        eventually(lambda: node_id in self.node.links)

    def vanish(self) -> None:
        """End at once."""
        self.node.close()

    def echo(self) -> str:
        """A port that sends each message back to the port whose ID stands last in it."""
        return self.node.port(lambda *message: self.node.snd(message[-1], *message[:-1]))

    def kill(self, port_id: str, *reason: Any) -> None:
        """Kill a port, here or there."""
        self.node.links["own"].kil(port_id, *reason)

    def watch(self, port_id: str) -> None:
        """Report the death of a port of the gmp node."""
        died = self.node.links["own"].mon(port_id)
        died.rawlink(lambda _: self._report("died", *died.get()))

    def set(self, family: str, key: str, value: Any) -> None:
        """Set an entry of the Perl node."""
        self.node.db_set(family, key, value)

    def delete(self, family: str, key: str) -> None:
        """Delete one."""
        self.node.db_del(family, key)

    def view(self, family: str) -> dict[str, Any]:
        """The family as the Perl node knows it."""
        return self.node.view(family)

    def log(self, text: str) -> None:
        """Log a note."""
        self.node.snd(self._lines_to, time.time(), "Some::Module", 6, text)

    def close(self) -> None:
        self.node.close()
        assert self.node.failed == []
        assert not [name for _, name in self.node.requests_seen() if name not in KERNEL | GLOBAL and "::" not in name]


class Real:
    """The same on AnyEvent::MP's own node."""

    def __init__(self, perl: RealPerl) -> None:
        self._perl = perl
        self.bind = perl.binds[0]
        self.expect = perl.expect
        self.wait_up = perl.wait_up
        self.vanish = perl.kill

    def echo(self) -> str:
        port_id: str = self._perl.run("rcv port, sub { my $reply = pop; snd $reply, @_ }")[0]
        return port_id

    def kill(self, port_id: str, *reason: Any) -> None:
        self._perl.run(f'kil "{port_id}", @{{ $json->decode (q({json.dumps(reason)})) }}; ()')

    def watch(self, port_id: str) -> None:
        self._perl.run(f'mon "{port_id}", sub {{ report died => @_ }}; ()')

    def set(self, family: str, key: str, value: Any) -> None:
        self._perl.run(f'db_set "{family}", "{key}", $json->decode (q({json.dumps(value)})); ()')

    def delete(self, family: str, key: str) -> None:
        self._perl.run(f'db_del "{family}", "{key}"; ()')

    def view(self, family: str) -> dict[str, Any]:
        view: dict[str, Any] = self._perl.run(f'$AnyEvent::MP::Kernel::GLOBAL_DB{{"{family}"}} || {{}}')[0]
        return view

    def log(self, text: str) -> None:
        self._perl.run(f'AE::log note => "{text}"; ()')

    def close(self) -> None:
        pass  # `make_perl` ends it


@pytest.fixture(params=[(kind, framing) for kind in ("independent", "real") for framing in ("json", "cbor")], ids="-".join)
def perl(request: pytest.FixtureRequest) -> Iterator[Independent | Real]:
    """A Perl node, the seed of the own one."""
    kind, framing = request.param
    if kind == "real":
        made: Independent | Real = Real(request.getfixturevalue("make_perl")("Perl", framing=framing))
    else:
        made = Independent(framing)
    configure(nodeid="own", binds=["127.0.0.1:0"], secret="geheim", seeds=[made.bind], norc=1)
    gmp.node().wait_up("Perl", timeout=20)
    made.wait_up("own")
    yield made
    gmp.node().close()
    made.close()


def test_messages_and_calls(perl: Independent | Real) -> None:
    echo, heard = perl.echo(), Recorder()
    box = port(heard)
    assert syncal(20, echo, "hello", 1, [None, {"k": "\xe4"}]) == ("hello", 1, [None, {"k": "\xe4"}])
    snd(echo, "to a port", box)
    after(0.01, echo, "later", box)
    assert heard.wait(2, timeout=20) == [("to a port",), ("later",)]
    answered = Recorder()
    cal(echo, "called", answered)
    cal("Perl#gone", "nobody", answered)
    assert sorted(answered.wait(2, timeout=20)) == [(), ("called",)]
    thread = port_async(lambda: snd(box, *get("tag")))
    tagged = rcv(port(), "ask", lambda *values: snd(box, "tagged", *values))
    snd(echo, "tag", 1, 2, thread)
    snd(echo, "ask", 3, tagged)
    assert sorted(heard.wait(4, timeout=20)[2:], key=str) == [("tagged", 3), (1, 2)]


def test_deaths(perl: Independent | Real) -> None:
    echo, heard, kept = perl.echo(), Recorder(), Recorder()
    own, bound, box = port(), port(), port(heard)
    mon(echo, heard)
    mon(echo, box, "died")
    mon(echo, bound)
    peval(own, mon, echo)
    mon_guard(echo, after(1000, kept))
    mon("Perl#gone", box, "gone")
    perl.watch(bound.id)
    assert syncal(20, echo, "there") == ("there",)
    perl.kill(echo, "because", [1])
    calls = heard.wait(3, timeout=20)
    assert sorted(calls, key=str) == [
        ("because", [1]), ("died", "because", [1]), ("gone", "no_such_port", "cannot monitor nonexistent port", "Perl#gone"),
    ]  # fmt: skip
    eventually(lambda: own.reason == bound.reason == ("because", [1]))
    assert perl.expect("died") == ["because", [1]]
    other = perl.echo()
    mon(other, heard)
    kil(other, "enough", {"x": 1})
    assert heard.wait(4, timeout=20)[3] == ("enough", {"x": 1})
    third = port()
    perl.kill(third.id, "from there")
    eventually(lambda: third.reason == ("from there",))


def test_functions_and_nodes(perl: Independent | Real) -> None:
    heard, events = Recorder(), Recorder()
    box = port(heard)
    assert (up_nodes(), node_is_up("Perl"), aemp.MASTER()) == (["Perl"], 1, "Perl")
    eventually(lambda: known_nodes() == ["Perl", "own"])
    spawned = spawn(perl.echo(), "main::started", 1, [2])  # on that port's node
    snd(spawned, "at once", 3)
    assert perl.expect("started") == [spawned, 1, [2]]
    assert perl.expect("spawned") == ["at once", 3]
    snd_to_func("Perl", "main::report", "noted", 4)
    assert perl.expect("noted") == [4]
    snd_on("Perl", box, "back", 5)
    eval_on("Perl", "AnyEvent::MP::Kernel::up_nodes", box, "up")
    snd("Perl", "can", "gmp.relay", box, "can")
    assert heard.wait(3, timeout=20) == [("back", 5), ("up", "", "own"), ("can", "")]
    p = port()
    peval(p, aemp.connect_to, "Perl", 5, "main::report", print)
    assert p.join(20)
    assert (p.reason or ())[0] == "AnyEvent::MP::DataConn"
    mon_nodes(events)
    perl.vanish()
    assert events.wait(timeout=20)[0][:2] == ("Perl", False)


def test_the_database(perl: Independent | Real) -> None:
    seen, asked = Recorder(), Recorder()
    db_mon("F", seen)
    assert seen.wait(timeout=20) == [({}, [], [], [])]
    perl.set("F", "theirs", {"k": [1]})
    assert seen.wait(2, timeout=20)[1] == ({"theirs": {"k": [1]}}, ["theirs"], [], [])
    perl.set("F", "theirs", {"k": [1]})  # no change
    perl.set("F", "theirs", "text")
    assert seen.wait(3, timeout=20)[2] == ({"theirs": "text"}, [], ["theirs"], [])
    ours = db_set("F", "ours", 1)
    eventually(lambda: perl.view("F") == {"theirs": "text", "ours": 1})
    db_set("F", "ours", 2)
    eventually(lambda: perl.view("F") == {"theirs": "text", "ours": 2})
    for query in (db_family, db_keys, db_values):
        query("F", asked)
    family, keys, values = (call[0] for call in asked.wait(3, timeout=20))
    assert (family, sorted(keys), sorted(map(str, values))) == (perl.view("F"), ["ours", "theirs"], ["2", "text"])
    ours.cancel()
    eventually(lambda: perl.view("F") == {"theirs": "text"})
    perl.delete("F", "theirs")
    eventually(lambda: seen.calls[-1] == ({}, [], [], ["theirs"]))
    db_set("F", "again")
    db_del("F", "again", "never set")
    eventually(lambda: perl.view("F") == {})


def test_groups(perl: Independent | Real) -> None:
    groups = Recorder()
    own, theirs = port(), perl.echo()
    grp_mon("W", groups)
    groups.wait(timeout=20)
    db_reg("W", own, "mine")
    db_reg("W", theirs)
    eventually(lambda: perl.view("W") == {own.id: "mine", theirs: None})
    assert sorted(grp_get("W")) == sorted([own.id, theirs])
    kil(own)
    perl.kill(theirs, "gone")
    eventually(lambda: perl.view("W") == {})
    eventually(lambda: groups.calls[-1][0] == [])
    perl.set("W", theirs, None)
    eventually(lambda: grp_get("W") == [theirs])


def test_logs(perl: Independent | Real, caplog: pytest.LogCaptureFixture) -> None:
    def heard() -> list[str]:
        return [record.getMessage() for record in caplog.records if getattr(record, "node", "") == "Perl"]

    with caplog.at_level(logging.DEBUG):
        aemp.catch("note")
        until = time.monotonic() + 20
        while "t\xe4ke care" not in heard():
            assert time.monotonic() < until
            perl.log("t\xc3\xa4ke care")  # octets of UTF-8, as in most programs
            gevent.sleep(0.05)
        aemp.catch()
