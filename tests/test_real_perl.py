"""gmp nodes beside nodes of Perl's own AnyEvent::MP 2.02; what no Kernel of theirs has is never asked of them.

They run where the modules are: see `tests.real_perl`.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from gevent.server import StreamServer

import gmp

from . import functions
from .conftest import Recorder, eventually
from .perl_links import LINKS, PLAIN, TLS
from .real_perl import RealPerl, missing

MakeNode = Callable[..., gmp.Node]
MakePerl = Callable[..., RealPerl]
Link = tuple[gmp.Node, RealPerl]

pytestmark = pytest.mark.usefixtures("no_calls")


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest, make_node: MakeNode, make_perl: MakePerl) -> Link:
    """A gmp node and a Perl node that are connected; which of them has dialled, and how they talk, varies."""
    role, framing, security = request.param
    if role == "dials":
        node = make_node("gmp", allow=["tests.functions"], **security)
        perl = make_perl(framing=framing, seeds=tuple(node.binds), **security)
    else:
        perl = make_perl(framing=framing, **security)
        node = make_node("gmp", allow=["tests.functions"], seeds=perl.binds, **security)
    node.wait_up("PerlA", timeout=20)
    perl.wait_up("gmp")
    transport = "my $transport = $AnyEvent::MP::Kernel::NODE{gmp}{transport}"
    shown = perl.run(f"{transport}; $transport->{{s_framing}}, $transport->{{r_framing}}, $transport->{{tls}} ? 1 : 0")
    assert shown == [framing, framing, int(security is TLS)]
    return node, perl


def text(value: Any) -> Any:
    """A text from Perl is octets in an argument, when it came by cbor and has no wide character."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def test_a_request_that_a_kernel_has_not_is_seen_by_these_tests(tmp_path: Path, make_node: MakeNode) -> None:
    if missing():
        pytest.skip(missing())
    perl = RealPerl(tmp_path / "perl.log")
    try:
        node = make_node("gmp", seeds=perl.binds)
        node.wait_up("PerlA", timeout=20)
        node.send("PerlA", "unheard_of")
        eventually(perl.failed_requests)
        (line,) = perl.failed_requests()
        assert "unable to resolve function 'unheard_of'" in line
    finally:
        perl.close()


# ---- joining


@pytest.mark.parametrize("secure", [0, 1], ids=["open", "secure"])
def test_a_perl_node_with_its_own_defaults_joins(make_node: MakeNode, make_perl: MakePerl, secure: int) -> None:
    """Also one that evaluates and starts nothing for others: what gmp asks by itself is not of that kind."""
    node = make_node("gmp")
    perl = make_perl(seeds=tuple(node.binds), secure=secure)
    node.wait_up("PerlA", timeout=20)
    perl.wait_up("gmp")
    assert node.call("PerlA", "can", "mon1", timeout=20) == ("1",)
    perl.run("$kept{worker} = port { snd pop, $NODE }; db_set Workers => $kept{worker}; ()")
    (port,) = node.group("Workers").wait(timeout=20)
    assert node.call(port, "who", timeout=20) == ("PerlA",)


class Between:
    """Somebody without the secret who passes on all that honest nodes say; `bind` is where nodes may be led to dial him."""

    def __init__(self) -> None:
        self._server = StreamServer(("127.0.0.1", 0), self._dialled)
        self._server.start()
        self.bind = f"127.0.0.1:{self._server.server_port}"
        self.target: gevent.event.AsyncResult[str] = gevent.event.AsyncResult()  #: where he connects whoever dials him
        self._open: list[gevent.socket.socket] = []
        self.ended = gevent.event.Event()

    def _dialled(self, sock: gevent.socket.socket, _: object) -> None:
        self.join(sock, self.connect(self.target.get()))

    def connect(self, bind: str) -> gevent.socket.socket:
        host, port = bind.split(":")
        return gevent.socket.create_connection((host, int(port)))

    def join(self, one: gevent.socket.socket, other: gevent.socket.socket) -> None:
        """Pass on, until either side has had enough."""
        self._open += [one, other]
        pipes = [gevent.spawn(self._pass, one, other), gevent.spawn(self._pass, other, one)]
        gevent.wait(pipes, count=1)
        self.close_sockets()
        gevent.joinall(pipes)
        self.ended.set()

    def _pass(self, source: gevent.socket.socket, sink: gevent.socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def close_sockets(self) -> None:
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def close(self) -> None:
        self._server.stop()
        self.close_sockets()


@pytest.fixture
def between() -> Iterator[Between]:
    somebody = Between()
    yield somebody
    somebody.close()


@pytest.mark.parametrize("roles", ["accepted-accepted", "Perl-dials", "gmp-dials"])
def test_nobody_passes_a_perl_nodes_handshake_on_to_a_gmp_node(
    make_node: MakeNode, make_perl: MakePerl, between: Between, caplog: pytest.LogCaptureFixture, roles: str
) -> None:
    """On one machine, with default settings: what Perl says it sees is not where the connection came in."""
    perl = make_perl(seeds=(between.bind,) if roles == "Perl-dials" else ())
    node = make_node("gmp", seeds=[between.bind] if roles == "gmp-dials" else [])
    between.target.set(perl.binds[0] if roles == "gmp-dials" else node.binds[0])
    if roles == "accepted-accepted":
        gevent.spawn(between.join, between.connect(node.binds[0]), between.connect(perl.binds[0]))
    assert between.ended.wait(timeout=20)
    eventually(lambda: "somebody passes the lines on" in caplog.text)
    assert node.up_nodes() == []
    assert perl.run("up_nodes") == []


def test_a_perl_node_joins_through_what_reached_at_admits(
    make_node: MakeNode, make_perl: MakePerl, between: Between
) -> None:
    perl = make_perl(seeds=(between.bind,))
    node = make_node("gmp", reached_at=[between.bind])
    between.target.set(node.binds[0])
    node.wait_up("PerlA", timeout=30)
    perl.wait_up("gmp")


@pytest.mark.parametrize("security", [PLAIN, TLS], ids=["plain", "tls"])
def test_a_node_that_requires_roles_refuses_perl(
    make_node: MakeNode, make_perl: MakePerl, caplog: pytest.LogCaptureFixture, security: dict[str, Any]
) -> None:
    node = make_node("gmp", require_roles=True, **security)
    perl = make_perl(seeds=tuple(node.binds), **security)
    eventually(lambda: "require_roles" in caplog.text or node.is_up("PerlA"))
    assert not node.is_up("PerlA")
    assert perl.run('node_is_up "gmp" ? 1 : 0') == [0]


@pytest.mark.parametrize("dials", [True, False], ids=["dials", "dialled"])
def test_a_perl_node_with_another_secret_stays_outside(
    make_node: MakeNode, make_perl: MakePerl, caplog: pytest.LogCaptureFixture, dials: bool
) -> None:
    perl = make_perl(secret="falsch")
    node = make_node("gmp", seeds=[] if dials else perl.binds)
    if dials:
        perl.run(f'AnyEvent::MP::Kernel::set_seeds "{node.binds[0]}"; ()')
    eventually(lambda: "secret" in caplog.text)
    assert node.up_nodes() == []
    assert perl.run("up_nodes") == []


# ---- one connection, everything on it


def test_what_two_nodes_do_with_one_another(link: Link) -> None:
    """One connection for all: calls, monitors, kills, spawns and groups, each in both directions."""
    node, perl = link
    for step in (
        calls_both_ways,
        strings_both_ways,
        perl_watches_and_kills,
        gmp_watches_and_kills,
        deaths_are_told_both_ways,
        links_across,
        perl_spawns,
        gmp_spawns,
        small_requests,
        groups_both_ways,
    ):
        step(node, perl)
        assert node.is_up("PerlA"), step.__name__
        assert perl.failed_requests() == [], step.__name__
    assert node.stats()["peers"]["PerlA"]["state"] == "up"


VALUES = [1, -5, 2.5, None, "text", "t\u00e4g", "\u20ac", [1, [2, []]], {"key": {"k": 1}}, 2**40, "", 0]


def calls_both_ways(node: gmp.Node, perl: RealPerl) -> None:
    @node.port
    def echo(port: gmp.Port) -> None:
        for tag, *values, reply in port:
            node.send(reply, tag, *values)

    perl.run(f'cal "{echo.id}", echo => @{{ $json->decode (q({_json(VALUES)})) }}, sub {{ report called => @_ }}; ()')
    assert perl.expect("called") == ["echo", *VALUES]
    (port,) = perl.run("rcv port, sub { my $reply = pop; snd $reply, @_ }")
    assert [text(value) for value in node.call(port, *VALUES, timeout=20)] == VALUES
    for number in range(500):
        node.send(port + "x", number)  # dropped there, in silence
    perl.run(f'cal "{node.port().id}", question => sub {{ report timeout => @_ }}, 0.2; ()')
    assert perl.expect("timeout") == []
    perl.run('cal "gmp#gone", question => sub { report gone => @_ }; ()')
    assert perl.expect("gone") == []
    asked = node.port()
    asked.on("ask", lambda reply: node.send(reply, "answer"))
    perl.run(f'cal "{asked.id}", ask => sub {{ report asked => @_ }}; ()')
    assert perl.expect("asked") == ["answer"]
    asked.kill()
    assert perl.expect("asked") == []  # a second time: Perl does not end the monitor with the call
    with pytest.raises(gmp.PortDied, match="no_such_port"):
        node.call("PerlA#gone", "anybody", timeout=20)
    with pytest.raises(gmp.CallTimeout):
        node.call(perl.run("port { }")[0], "nobody", timeout=0.2)


#: Perl code, and what it is here; each is sent as Perl keeps it by itself, and with the flag that its cbor shows
STRINGS: list[tuple[str, str | bytes]] = [
    ('"plain"', "plain"),
    ('"\\xc3\\xa4"', "\u00e4"),
    ('"\\xe4\\xff"', b"\xe4\xff"),
    ('"\\xff\\x00"', b"\xff\x00"),
    ('"\\x{20ac}\\xe4"', gmp.Characters("\u20ac\u00e4")),
    ('""', ""),
]


def strings_both_ways(node: gmp.Node, perl: RealPerl) -> None:
    """As values, tags, keys, reasons, in groups and families; what comes goes back as the same string."""
    for code, here in STRINGS:
        for flagged in (code, f"do {{ my $s = {code}; utf8::upgrade $s; $s }}"):
            name = here if isinstance(here, str) else gmp.Characters(here.decode("latin-1"))
            port, died, seen = node.port(), Recorder(), Recorder()
            perl.run(f"my $s = {flagged}; snd '{port.id}', $s, [$s, {{ $s => $s }}], reporter 'back'; ()")
            tag, (value, table), reply = port.receive(timeout=20)
            assert [tag, value, table] == [here, here, {name: here}]
            node.send(reply, tag, value, table)
            assert perl.run(f"my $s = {flagged}; $json->encode ([$s, $s, {{ $s => $s }}])") == [
                json.dumps(perl.expect("back"), ensure_ascii=False, separators=(",", ":")).encode().decode("latin-1")
            ]
            node.monitor(port, died)
            perl.run(f"my $s = {flagged}; kil '{port.id}', $s, [$s]; ()")
            assert died.wait(timeout=20) == [(here, [here])]
            if name:
                with node.family(name).monitor(seen):
                    perl.run(f"my $s = {flagged}; db_set $s => $s => $s; ()")
                    eventually(lambda seen=seen: seen.calls and seen.calls[-1][0])
                    assert seen.calls[-1][0] == {name: here}
                    perl.run(f"my $s = {flagged}; db_del $s => $s; ()")
                    eventually(lambda seen=seen: not seen.calls[-1][0])


def perl_watches_and_kills(node: gmp.Node, perl: RealPerl) -> None:
    port, other, third = node.port(), node.port(), node.port()
    for watched in (port, other):
        perl.run(f'mon "{watched.id}", sub {{ report died => "{watched.id}", @_ }}; ()')
    perl.run(f'my $guard = mon "{third.id}", sub {{ report died => "{third.id}", @_ }}; undef $guard; ()')
    perl.run(f'kil "{port.id}", because => {{ x => [1] }}; ()')
    assert perl.expect("died", port.id) == ["because", {"x": [1]}]
    assert port.reason == ("because", {"x": [1]})
    other.kill()
    assert perl.expect("died", other.id) == []
    perl.run('mon "gmp#gone", sub { report died => "gone", @_ }; ()')
    assert perl.expect("died", "gone") == ["no_such_port", "cannot monitor nonexistent port", "gmp#gone"]
    third.kill("unseen")
    node.call("PerlA", "time", timeout=20)
    assert ["died", third.id, "unseen"] not in perl.heard


def gmp_watches_and_kills(node: gmp.Node, perl: RealPerl) -> None:
    recorder = Recorder()
    port, other, third, failing = perl.run("port { }, port { }, port { }, port { die qq(as asked\\n) }")
    for count, (watched, deed, reason) in enumerate(
        [
            (port, f'kil "{port}", died => "of that", [1]; ()', ("died", "of that", [1])),
            (port, "()", ("no_such_port", "cannot monitor nonexistent port", port)),
            (other, f'kil "{other}"; ()', ()),
            (failing, f'snd "{failing}", "now"; ()', ("die", "as asked")),
        ],
        start=1,
    ):
        node.monitor(watched, recorder)
        node.call("PerlA", "time", timeout=20)
        perl.run(deed)
        assert recorder.wait(count, timeout=20)[-1] == reason
    node.monitor(third, recorder)
    node.kill(third, "enough", 1)
    assert recorder.wait(5, timeout=20)[-1] == ("enough", 1)
    with node.monitor(perl.run("$main::kept{fourth} = port { }")[0], recorder):
        node.call("PerlA", "time", timeout=20)
    node.call("PerlA", "time", timeout=20)
    perl.run('kil $kept{fourth}, "unseen"; ()')
    node.call("PerlA", "time", timeout=20)
    assert len(recorder.calls) == 5


def deaths_are_told_both_ways(node: gmp.Node, perl: RealPerl) -> None:
    """A handler's error, and reasons that the framing cannot carry as they are."""
    objects: list[Any] = [ValueError("object"), {1, 2}, b"\xff", [None, {"k": "\u20ac"}]]
    reasons = [(f"reason {number}", value) for number, value in enumerate(objects)]
    for reason in reasons:
        port = node.port()
        perl.run(f'mon "{port.id}", sub {{ report died => "{port.id}", @_ }}; ()')
        port.kill(*reason)
        assert perl.expect("died", port.id)[0] == reason[0]
    port = node.port()
    port.on("fail", lambda: functions.fail())
    perl.run(f'mon "{port.id}", sub {{ report died => "{port.id}", @_ }}; snd "{port.id}", "fail"; ()')
    assert perl.expect("died", port.id)[:2] == ["die", "ValueError: as asked"]


def links_across(node: gmp.Node, perl: RealPerl) -> None:
    """`link` and `monitor(target, port)`, with Perl's ports at either end, and at both."""
    died = Recorder()

    def perl_port() -> str:
        port: str = perl.run("port { }")[0]
        node.monitor(port, lambda *reason: died(port, *reason))
        return port

    def own_port() -> str:
        port = node.port()
        node.monitor(port, lambda *reason: died(port.id, *reason))
        return port.id

    count = 0
    for first, second in ((perl_port(), own_port()), (own_port(), perl_port()), (perl_port(), perl_port())):
        node.link(first, second)
        node.call("PerlA", "time", timeout=20)
        node.kill(first, "one", "goes")
        count += 2
        assert sorted(died.wait(count, timeout=20)[-2:]) == sorted([(first, "one", "goes"), (second, "one", "goes")])
    for target, bound in ((perl_port(), own_port()), (own_port(), perl_port()), (perl_port(), perl_port())):
        node.monitor(target, bound)
        node.call("PerlA", "time", timeout=20)
        perl.run(f'kil "{target}", "target"; ()')
        count += 2
        assert sorted(died.wait(count, timeout=20)[-2:]) == sorted([(target, "target"), (bound, "target")])


def perl_spawns(node: gmp.Node, perl: RealPerl) -> None:
    functions.calls = Recorder()
    (spawned,) = perl.run('$kept{spawned} = spawn "gmp", "tests::functions::report", "a1", 2')
    perl.run('mon $kept{spawned}, sub { report died => @_ }; snd $kept{spawned}, hello => [3]; ()')
    calls = functions.calls.wait(2, timeout=20)
    assert (calls[0][0].id, [text(value) for value in calls[0][1:]], calls[1]) == (spawned, ["a1", 2], ("hello", [3]))
    perl.run('kil $kept{spawned}, "enough"; ()')
    assert perl.expect("died") == ["enough"]
    perl.run("""
       $kept{spawned} = spawn "gmp", "tests::functions::report";
       snd $kept{spawned}, "at once", $_ for 1 .. 200;
       ()
    """)
    calls = functions.calls.wait(203, timeout=20)
    assert [call[1] for call in calls[3:]] == list(range(1, 201))
    perl.run("""
       $kept{answers} = reporter "answer2";
       for my $number (1 .. 200) {
          my $port = spawn "gmp", "tests::functions::answer";
          snd $port, $_ => $kept{answers}, $number for qw(pong ping);
       }
       ()
    """)
    answers = [tuple(perl.expect("answer2")) for _ in range(400)]
    assert sorted(answers) == sorted((tag, number) for number in range(1, 201) for tag in ("ping", "pong"))
    perl.run('mon spawn ("gmp", "tests::functions::fail_at_once", "why"), sub { report failed => @_ }; ()')
    failed = perl.expect("failed")
    assert failed[0] == "die"
    assert "why" in failed[1]
    perl.run('mon spawn ("gmp", "os::getcwd"), sub { report failed => @_ }; ()')
    assert perl.expect("failed")[0] == "not_allowed"
    functions.calls = Recorder()
    perl.run('snd_to_func "gmp", "tests::functions::note", 1, [2]; ()')
    assert functions.calls.wait(timeout=20) == [(1, [2])]


def gmp_spawns(node: gmp.Node, perl: RealPerl) -> None:
    spawned = node.spawn("PerlA", "main::started", "a1", [2, None])
    for number in range(200):
        node.send(spawned, "at once", number)
    assert perl.expect("started") == [spawned, "a1", [2, None]]
    assert [perl.expect("spawned") for _ in range(200)] == [["at once", number] for number in range(200)]
    boss = node.port()
    for number in range(200):
        node.send(node.spawn("PerlA", "::answering"), "ping", boss, number)
    assert [boss.receive("pong", timeout=20) for _ in range(200)] == [(number,) for number in range(200)]
    recorder = Recorder()
    node.monitor(spawned, recorder)
    node.kill(spawned, "done")
    assert recorder.wait(timeout=20) == [("done",)]
    node.send_to_function("PerlA", "main::report", "noted", "x", 1)
    assert perl.expect("noted") == ["x", 1]
    assert node.call(node.spawn("PerlA", "main::answering"), "ping", timeout=20)[0] == "pong"


def small_requests(node: gmp.Node, perl: RealPerl) -> None:
    perl.run('$kept{small} = reporter "small"; ()')
    perl.run('snd "gmp", time => $kept{small}, "time"; ()')
    assert perl.expect("small", "time")[0] > 1e9
    perl.run('snd "gmp", can => $_, $kept{small}, can => $_ for qw(mon1 nothing gmp.relay); ()')
    assert [perl.expect("small", "can") for _ in range(3)] == [["mon1", "1"], ["nothing", ""], ["gmp.relay", "1"]]
    perl.run('eval_on "gmp", "AnyEvent::MP::Kernel::up_nodes", $kept{small}, "up"; ()')
    assert perl.expect("small", "up") == ["", "PerlA"]  # what `aemp trace` asks
    perl.run('eval_on "gmp", "1 + 1", $kept{small}, "sum"; ()')
    assert perl.expect("small", "sum") == ["eval is not allowed on this node"]
    port = node.port()
    node.eval_on("PerlA", "1 + 1", port, "answer")
    assert [text(part) for part in port.receive("answer", timeout=20)] == ["", 2]
    node.send_on("PerlA", port, "echoed", 2)
    assert port.receive("echoed", timeout=20) == (2,)
    perl.run('snd "gmp"; snd "gmp", ""; snd "gmp", devnull => 1, 2; ()')


def groups_both_ways(node: gmp.Node, perl: RealPerl) -> None:
    seen = Recorder()
    group = node.group("Workers")
    with group.monitor(seen):
        perl.run('$kept{worker} = port { }; $kept{registered} = db_reg Workers => $kept{worker}, { load => [1] }; ()')
        perl.run('$kept{mon} = db_mon Workers => sub { my ($all, @lists) = @_; report changed => {%$all}, @lists }; ()')
        (worker,) = perl.run("$kept{worker}")
        assert group.wait(timeout=20) == {worker: {"load": [1]}}
        port = node.port()
        group.join(port, "mine")
        eventually(lambda: any(report[1].get(port.id) == "mine" for report in perl.heard if report[0] == "changed"))
        perl.run("kil $kept{worker}, 'gone'; ()")
        eventually(lambda: list(group.members()) == [port.id])
        port.kill()
        eventually(lambda: [report[1:] for report in perl.heard if report[0] == "changed"][-1] == [{}, [], [], [port.id]])
    perl.run("undef $kept{mon}; ()")


def _json(value: Any) -> str:
    return json.dumps(value).replace("\\", "\\\\")
