"""What a program gives us: it arrives as it was sent or raises where it was given, and everything else goes on."""

from __future__ import annotations

import datetime
import decimal
import gc
import json
import logging
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import gevent
import gevent.event
import pytest
from hypothesis import HealthCheck, given, settings

import gmp
from gmp.services.logcatcher import LogCatcher
from gmp.services.logline import LogLine
from gmp.services.logsender import LogSender
from gmp.wire.framing import make_decoder, make_encoder

from .perl_peer import PerlPeer
from .values import STRANGE, Hostile, Obliging, Zone, alike, cycle, nested, values

MakeNode = Callable[..., gmp.Node]
FRAMINGS = ("msgpack", "cbor", "json")
LIMIT = 1 << 20
held: dict[str, Any] = {}  # what a test's value is found under by `eval`, which runs in this process too
LOGGERS = count()


@gmp.spawnable
def tell_arguments(port: gmp.Port, boss: str, *args: Any) -> None:
    port.node.send(boss, "init", *args)


# ---- no code of the user's while something is packed


def test_a_value_is_not_asked_for_anything_while_it_is_packed() -> None:
    class Talkative:
        """Sends when it is looked at."""

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

        def __repr__(self) -> str:
            raise AssertionError("asked for its repr")

    for framing in FRAMINGS:
        with pytest.raises(gmp.MessageError, match="Talkative cannot travel"):
            make_encoder(framing, LIMIT).encode("p", ("tag", [Talkative()]))


def test_what_has_every_attribute_is_no_port() -> None:
    port, obliging = gmp.port(), Obliging()
    for framing in FRAMINGS:
        with pytest.raises(gmp.MessageError, match="Obliging cannot travel"):
            make_encoder(framing, LIMIT).encode("p", (obliging,))
        assert make_encoder(framing, LIMIT).encode("p", (port,)) == make_encoder(framing, LIMIT).encode("p", (port.id,))
    with pytest.raises(gmp.ConfigError, match="Obliging is not a port"):
        gmp.send(obliging, "x")  # type: ignore[arg-type]


def test_a_destructor_that_sends_while_the_packer_refuses_something_packs_a_message_of_its_own() -> None:
    """race: up to Python 3.11 garbage is collected where the packer raises."""
    encoder, packed = make_encoder("msgpack", LIMIT), list[bytes]()

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            packed.append(encoder.encode("inner", ("from a destructor", len(packed))))

    before = gc.get_threshold()
    try:
        for size in range(1, 40):
            gc.set_threshold(size)
            for number in range(30):
                Garbage()
                assert make_decoder("msgpack", LIMIT).decode(encoder.encode("outer", ("x", (number,), {"k": 1 << 70})))
                with pytest.raises(gmp.MessageError):
                    encoder.encode("outer", ("x", number, object()))
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(packed) == 39 * 30
    for number, data in enumerate(packed):
        assert list(make_decoder("msgpack", LIMIT).decode(data)) == [["inner", "from a destructor", number]]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}], ids=["list", "tuple", "dict"])
def test_what_is_nested_too_deep_is_refused_long_before_the_interpreter_would_refuse_it(framing: str, wrap: Any) -> None:
    """At the interpreter's own limit nothing else could run: no signal handler, no callback of the garbage collector."""
    value: Any = {1} if framing == "msgpack" else 1  # of which the packer alone knows nothing
    for _ in range(5000):
        value = wrap(value)
    odd: list[Any] = []
    before, hook = gc.get_threshold(), sys.unraisablehook
    sys.unraisablehook = odd.append
    gc.set_threshold(1)
    try:
        for each in (value, cycle()):
            with pytest.raises(gmp.MessageError, match="nested deeper than 64 levels") as raised:
                make_encoder(framing, LIMIT).repack("p", ["p", each])
            assert not isinstance(raised.value.__cause__, RecursionError)
    finally:
        gc.set_threshold(*before)
        sys.unraisablehook = hook
    assert not odd


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("both_sends")
def test_a_signal_handler_that_sends_mixes_nothing(make_node: MakeNode) -> None:
    far = make_node("far", high_mark=64 << 20)
    near = make_node("near", seeds=far.binds, high_mark=64 << 20)
    near.wait_up("far", timeout=20)
    desk, notebook = far.port(), far.port()
    sent = count()
    noon = datetime.datetime(2026, 1, 2, 12, tzinfo=Zone(1))
    port = near.port()

    busy = False

    def note(*_: Any) -> None:
        nonlocal busy
        if not busy:  # or a signal that strikes in here would send the next number first
            busy = True
            near.send(notebook.id, "note", next(sent), (1, (2,)), port)
            busy = False

    before = signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        for number in range(4000):
            near.send(desk.id, "order", number, (number, {"port": port, "when": noon}, 1 << 70))
            if number % 100 == 0:
                gevent.sleep(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    near.send(notebook.id, "end")
    for number in range(4000):
        assert desk.receive(timeout=20) == ("order", number, (number, {"port": port.id, "when": noon}, 1 << 70))
    for number in range(next(sent)):
        assert notebook.receive(timeout=20) == ("note", number, (1, (2,)), port.id)
    assert notebook.receive(timeout=20) == ("end",)


# ---- deaths travel


REASONS: list[tuple[str, Any]] = [
    ("a lone surrogate", ("broken", "caf\udce9.txt")),
    ("an object", ("broken", ValueError("boom"))),
    ("a hostile object", ("broken", Hostile(), {Hostile(): Hostile()})),
    ("a set", ("broken", {"a", 1})),
    ("too deep", ("broken", nested(200))),
    ("a cycle of 5000 levels", ("broken", nested(5000))),
    ("too large", ("broken", "x" * 300_000, b"y" * 300_000)),
    ("many elements", ("broken", *map(object, ()), *[object() for _ in range(1000)])),
    ("a large integer", ("broken", 1 << 20_000, float("nan"))),
]


def odd(kind: str) -> Callable[[gmp.Port], None]:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    errors = {
        "surrogate": ValueError("cannot read caf\udce9.txt"),
        "no text": Odd(),
        "huge": ValueError("x" * 1_000_000),
        "group": ExceptionGroup("many", [ValueError("a"), ValueError("b\ud800")]),
    }

    def body(port: gmp.Port) -> None:
        port.receive("go")
        raise errors[kind]

    return body


@pytest.fixture(params=FRAMINGS)
def pair(request: pytest.FixtureRequest, make_node: MakeNode) -> tuple[gmp.Node, gmp.Node]:
    options: dict[str, Any] = {"framings": [request.param], "max_message": 200_000}
    far = make_node("far", **options)
    near = make_node("near", seeds=far.binds, **options)
    near.wait_up("far", timeout=20)
    return near, far


def death_told(node: gmp.Node, port_id: str) -> gevent.event.AsyncResult[tuple[Any, ...]]:
    told: gevent.event.AsyncResult[tuple[Any, ...]] = gevent.event.AsyncResult()
    node.monitor(port_id, lambda *reason: told.set(reason))
    node.call(gmp.node_of(port_id), "time", timeout=20)  # it is known there
    return told


@pytest.mark.parametrize("kind", ["surrogate", "no text", "huge", "group"])
def test_a_port_that_dies_of_an_error_with_an_odd_text_is_seen_dead_everywhere(
    pair: tuple[gmp.Node, gmp.Node], kind: str
) -> None:
    near, far = pair
    port = far.port(odd(kind))
    told = death_told(near, port.id)
    with pytest.raises(gmp.PortDied) as died:
        near.call(port.id, "go", timeout=20)
    reason = told.get(timeout=20)
    assert died.value.reason == reason
    assert reason[0] == "die"
    assert reason[1].startswith(("ValueError: ", "Odd: ", "ExceptionGroup: "))
    assert "Traceback" in reason[2]
    assert sum(map(len, reason)) < 60_000
    assert near.call("far", "gmp.ports", timeout=20)[0]["deaths"][0]["port"] == port.id


@pytest.mark.parametrize(("what", "reason"), REASONS, ids=[what for what, _ in REASONS])
def test_whatever_a_port_is_killed_with_its_watchers_elsewhere_are_told(
    pair: tuple[gmp.Node, gmp.Node], what: str, reason: tuple[Any, ...]
) -> None:
    near, far = pair
    connection = near._core.network.peers["far"].connection
    for kill in (lambda port: far.kill(port, *reason), lambda port: near.kill(port.id, *reason)):
        port, boss = far.port(), near.port()
        told = death_told(near, port.id)
        near.monitor(port.id, boss, "down")
        kill(port)
        assert told.get(timeout=20)[0] == "broken"
        assert len(told.get()) >= min(2, len(reason))
        assert boss.receive("down", timeout=20)[0] == "broken"
        assert near.call("far", "gmp.ports", timeout=20)[0]["deaths"]
    assert near._core.network.peers["far"].connection is connection


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize(("what", "reason"), [*REASONS, ("what cannot be compared", (Hostile(),))])
def test_a_supervisor_restarts_a_child_that_dies_of_anything(
    make_node: MakeNode, restart: Any, what: str, reason: tuple[Any, ...]
) -> None:
    node = make_node("node")
    started: gevent.event.AsyncResult[gmp.Port] = gevent.event.AsyncResult()

    def child(port: gmp.Port) -> None:
        started.set(port)
        port.receive()

    supervisor = node.supervise([gmp.Child(child, restart=restart)])
    first = started.get(timeout=20)
    started = gevent.event.AsyncResult()
    first.kill(*reason)
    assert started.get(timeout=20).alive
    assert supervisor.alive


def test_a_reason_that_can_travel_is_told_as_it_is(pair: tuple[gmp.Node, gmp.Node]) -> None:
    near, far = pair
    port = far.port()
    told = death_told(near, port.id)
    reason = ("broken", 1, 2.5, None, True, "t€xt", [1, {"k": "v"}])
    port.kill(*reason)
    assert told.get(timeout=20) == reason


def test_a_kill_that_waits_for_a_perl_node_goes_in_a_form_that_it_can_read(make_node: MakeNode) -> None:
    node = make_node("gmp", connect_timeout=20)
    node.kill("PerlA#port", "broken", {1, 2}, b"octets")
    with PerlPeer.dial(node.binds[0]) as perl:
        assert perl.expect("", "kil1", "port") == ["broken", "{1, 2}", "b'octets'"]


# ---- what the directory takes


NOT_SHARED = [object(), Hostile(), {1, 2}, "\ud800", float("nan"), {"k": [Hostile()]}, nested(100), "x" * 300_000]


@pytest.mark.parametrize("joined", [True, False], ids=["connected", "before"])
def test_a_value_that_cannot_travel_is_refused_where_it_is_set_and_hides_nothing(make_node: MakeNode, joined: bool) -> None:
    seed = make_node("seed", max_message=200_000)
    node = make_node("node", seeds=seed.binds if joined else ["127.0.0.1:1"], max_message=200_000)
    other = make_node("other", seeds=seed.binds, max_message=200_000)
    if joined:
        node.wait_up("seed", timeout=20)
    member = node.port()
    node.group("g").join(member, "fine")
    for value in NOT_SHARED:
        for key in (member, node.port()):
            with pytest.raises(gmp.MessageError):
                node.group("g").join(key, value)
        with pytest.raises(gmp.MessageError):
            node.family("f").set("key", value)
    for name in ("caf\udce9", "\ud800"):
        with pytest.raises(gmp.MessageError):
            node.family("f").set(name, 1)
        for make in (node.family, node.group):
            with pytest.raises(gmp.ConfigError, match="cannot be a group's or family's name"):
                make(name)
    assert node.group("g").members() == {member.id: "fine"}
    assert node.family("f").items() == {}
    node.family("f").set("key", {"port": member, "list": [1, (2,)]})
    if joined:
        assert other.group("g").wait(timeout=20) == {member.id: "fine"}
        wait_for_items(other, "f", {"key": {"port": member.id, "list": [1, (2,)]}})
    assert node.family("f").items() == {"key": {"port": member.id, "list": [1, (2,)]}}


def wait_for_items(node: gmp.Node, family: str, wanted: dict[str, Any]) -> None:
    there = gevent.event.Event()
    with node.family(family).monitor(lambda items, *_: there.set() if dict(items) == wanted else None):
        assert there.wait(20), node.family(family).items()


def test_what_is_changed_after_it_was_set_changes_nothing(make_node: MakeNode) -> None:
    node = make_node("node")
    value: dict[str, Any] = {"k": [1]}
    node.family("f").set("key", value)
    value["k"].append(object())
    assert node.family("f").items() == {"key": {"k": [1]}}


def test_a_network_of_msgpack_alone_shares_whatever_that_carries(make_node: MakeNode) -> None:
    seed = make_node("seed", framings=["msgpack"])
    node = make_node("node", seeds=seed.binds, framings=["msgpack"])
    node.family("f").set("key", {1, (b"x",)})
    wait_for_items(seed, "f", {"key": {1, (b"x",)}})


@pytest.mark.parametrize("value", [float("nan"), [float("nan")], decimal.Decimal("sNaN")])
def test_what_is_not_equal_to_itself_is_no_entry(make_node: MakeNode, value: Any) -> None:
    """Whoever monitors it would be told of a change without end."""
    alone = make_node("alone", framings=["msgpack"])
    node = make_node("node", framings=["msgpack", "cbor"])
    with pytest.raises(gmp.MessageError, match="not equal to itself"):
        alone.family("f").set("odd", value)
    with PerlPeer.dial(node.binds[0], framing="cbor") as perl:
        perl.send_octets(b"\x83\x40\x47g_slave\xa1\x41f\xa2\x43odd\xf9\x7e\x00\x44fine\x01")
        wait_for_items(node, "f", {"fine": 1})


def test_a_seed_leaves_out_the_entry_that_it_cannot_pass_on_and_says_whose_it_is(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds, framings=["msgpack"])
    other = make_node("other", seeds=seed.binds)
    for number in range(5):
        node.family("f").set(f"odd {number}", {number})
    node.family("f").set("fine", 1)
    wait_for_items(other, "f", {"fine": 1})
    with PerlPeer.dial(seed.binds[0]) as perl:
        perl.request("g_slave")
        perl.request("g_mon1", "f")
        assert perl.expect("", "g_chg1", "f") == [{"fine": 1}]
    lines = [record.message for record in caplog.records if "left out" in record.message]
    assert len(lines) == 1
    assert "set or reported by node" in lines[0]
    assert "'odd 0'" in lines[0]


def test_what_a_perl_node_shares_and_has_no_type_everywhere_is_left_out_alone(make_node: MakeNode) -> None:
    seed = make_node("seed")
    with PerlPeer.dial(seed.binds[0], framing="cbor") as perl:
        perl.send_octets(b"\x83\x40\x47g_slave\xa1\x41f\xa2\x43odd\xc4\x82\x20\x0f\x44fine\x01")
        wait_for_items(seed, "f", {"fine": 1})


def test_an_entry_that_does_not_pack_is_left_out_alone(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    node = make_node("node")
    with PerlPeer.dial(node.binds[0]) as perl:
        perl.barrier()
        node._core.request("PerlA", "g_chg2", "family", {"k": {1}}, [])
        node._core.request("PerlA", "g_chg2", "family", {"k": 1}, [])
        assert perl.expect("", "g_chg2", "family") == [{}, ["k"]]
        assert perl.expect("", "g_chg2", "family") == [{"k": 1}, []]
        node._core.request("PerlA", "g_chg2", {"a name"}, {"k": 1}, [])
        node._core.request("PerlA", "g_found", "x", {1})
        perl.barrier()
        assert not [message for message in perl.log if message[1] in ("g_chg2", "g_found")]
    lines = [record.message for record in caplog.records if "left out" in record.message]
    assert [line for line in lines if "the entry 'family' 'k', set by node, is left out of g_chg2 to PerlA" in line]
    assert [line for line in lines if "the request g_chg2 to PerlA is left out" in line]


def test_a_message_for_later_is_checked_where_it_is_given(pair: tuple[gmp.Node, gmp.Node]) -> None:
    near, far = pair
    port = far.port()
    with pytest.raises(gmp.MessageError):
        near.after(0, port.id, object())
    changed = [1]
    near.after(0, port.id, "changed", changed)
    changed.append(Hostile())  # type: ignore[arg-type]
    near.after(0.01, port.id, "fine")
    assert port.receive(timeout=20) == ("fine",)


# ---- what a peer sends and we do not know


CBOR_VALUES: list[tuple[bytes, Any]] = [
    (b"\xc4\x82\x21\x19\x6a\xb3", "Decimal('273.15')"), (b"\xc4\x82\x21\x39\x6a\xb2", "Decimal('-273.15')"),
    (b"\xd8\x1e\x82\x01\x03", "Fraction(1, 3)"), (b"\xd8\x20\x63a:b", "'a:b'"), (b"\xd8\x20\x43a:b", "'a:b'"),
    (b"\xc5\x82\x20\x03", "Fraction(3, 2)"), (b"\xc1\x00", repr(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))),
    (b"\xc2\x49\x01" + bytes(8), repr(1 << 64)), (b"\xc3\x49\x01" + bytes(8), repr(-(1 << 64) - 1)),
    (b"\x3b" + b"\xff" * 8, repr(-(1 << 64))), (b"\xd9\x56\x52\x82\x01\xa1\x41k\x81\x02", "[1, {'k': [2]}]"),
    (b"\xd9\xd9\xf7\xa1\x41k\x81\x01", "{'k': [1]}"), (b"\xd8\x25\x50" + bytes(16), repr(uuid.UUID(int=0))),
    (b"\x9f\xbf\x61k\x7f\x61a\x61b\xff\xff\xff", "[{'k': 'ab'}]"), (b"\xf9\x3e\x00", "1.5"),
    (b"\x5f\x41a\x41b\xff", "b'ab'"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "shown"), CBOR_VALUES, ids=[shown for _, shown in CBOR_VALUES])
def test_a_value_of_perls_cbor_becomes_what_python_has_for_it(data: bytes, shown: str) -> None:
    for size in (1, 1000):
        decoder = make_decoder("cbor", LIMIT)
        message = b"\x84\x41p\x43tag" + data + b"\x81" + data
        pieces = [message[start : start + size] for start in range(0, len(message), size)]
        (decoded,) = [found for piece in pieces for found in decoder.decode(piece)]
        assert [*map(repr, decoded)] == ["'p'", "'tag'", shown, f"[{shown}]"]


UNKNOWN = {
    "cbor": [b"\xf7", b"\xd8\x1c\x80", b"\xd9\x01\x00\x80", b"\xf8\xff", b"\xa1\x80\x01", b"\xc4\x01",
             b"\xd8\x1e\x82\x01\x00", b"\x81" * 70 + b"\x00"],
    "json": [b"[" * 70 + b"]" * 70, b"9" * 5000],
}  # fmt: skip


@pytest.mark.parametrize("framing", UNKNOWN)
def test_a_message_with_a_value_that_is_not_known_is_lost_alone_and_its_senders_monitor_fires(
    make_node: MakeNode, framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = make_node("gmp")
    with PerlPeer.dial(node.binds[0], framing=framing) as perl:
        for value in UNKNOWN[framing]:
            port, bystander = node.port(), node.port()
            name = port.name.encode()
            reason, other = perl.mon(port.id), perl.mon(bystander.id)
            head = b"\x82\x58" + bytes((len(name),)) + name if framing == "cbor" else b'["' + name + b'",'
            perl.send_octets(head + value + (b"]" if framing == "json" else b""))
            perl.snd(port.id, "next")
            assert reason.get(timeout=20)[:2] == ["transport_error", "gmp"]
            assert port.receive(timeout=20) == ("next",)
            assert port.alive
            perl.barrier()
            assert not other.ready()
        assert node.stats()["peers"]["PerlA"]["dropped"] == len(UNKNOWN[framing])
        assert not perl.closed.is_set()
    assert len([record for record in caplog.records if "is lost" in record.message]) == 1


def test_a_call_whose_reply_is_not_known_here_fails_at_once(make_node: MakeNode) -> None:
    node = make_node("gmp")
    with PerlPeer.dial(node.binds[0], framing="cbor") as perl:

        def answer(tag: str, reply: str) -> None:
            name = reply.partition("#")[2].encode()
            perl.send_octets(b"\x82\x58" + bytes((len(name),)) + name + b"\xf7")

        with pytest.raises(gmp.PortDied, match="the reply was lost: undefined"):
            node.call(perl.port(answer), "ask", timeout=20)


# ---- every value, through every door


class Doors:
    """Two nodes of one framing, and the ways by which a value goes from `near` to a port on `where`."""

    def __init__(self, make_node: MakeNode, framing: str, *, local: bool) -> None:
        options: dict[str, Any] = {"framings": [framing], "allow_eval": True, "max_message": 200_000}
        self.far = make_node("far", **options)
        self.near = make_node("near", seeds=self.far.binds, **options)
        self.near.wait_up("far", timeout=20)
        self.framing = framing
        self.local = local
        self.where = self.near if local else self.far
        self.connection = self.near._core.network.peers["far"].connection
        self.bystander_told: list[Any] = []
        self.bystander = self.far.port()
        self.near.monitor(self.bystander.id, lambda *reason: self.bystander_told.append(reason))
        self._numbers = count()
        self._lines: gevent.event.AsyncResult[LogLine] = gevent.event.AsyncResult()
        # a new one: pytest listens to those that do not propagate
        self.logger = logging.getLogger(f"doors.{next(LOGGERS)}")

    def same(self, sent: Any, got: Any) -> None:
        """What arrived is what was sent."""
        if self.local:
            assert got is sent or alike(got, "msgpack") == alike(sent, "msgpack")
        else:
            assert alike(got, self.framing) == alike(sent, self.framing)

    def goes_on(self) -> None:
        """Nothing else of the nodes has suffered."""
        assert isinstance(self.near.call("far", "time", timeout=20)[0], float)
        assert isinstance(self.far.call("near", "time", timeout=20)[0], float)
        assert self.near._core.network.peers["far"].connection is self.connection
        assert not self.bystander_told
        assert self.near.call("far", "gmp.ports", timeout=20)

    def message(self, value: Any) -> None:
        port = self.where.port()
        dest = port if self.local else port.id
        try:
            self.near.send(dest, "value", value)
        except gmp.MessageError:
            assert not self.local
        self.near.send(dest, "end")
        got = port.receive(timeout=20)
        if got != ("end",):
            self.same(value, got[1])
            assert port.receive(timeout=20) == ("end",)
        port.kill()

    def reason(self, value: Any) -> None:
        port = self.far.port()
        node = self.far if self.local else self.near
        told: gevent.event.AsyncResult[tuple[Any, ...]] = gevent.event.AsyncResult()
        node.monitor(port.id, lambda *reason: told.set(reason))
        node.call("far", "time", timeout=20)
        port.kill("broken", value)
        reason = told.get(timeout=20)
        assert reason[0] == "broken"
        try:
            make_encoder(self.framing, 190_000).encode("", (value,))
        except gmp.MessageError:
            assert len(reason) == 2
        else:
            self.same(value, reason[1])

    def entry(self, value: Any) -> None:
        key = f"key {next(self._numbers)}"
        port = self.near.port()
        for take in (lambda: self.near.family("f").set(key, value), lambda: self.near.group("g").join(port, value)):
            try:
                take()
            except gmp.MessageError:
                assert key not in self.near.family("f").items()
                port.kill()
                return
        self.near.family("f").set("end", key)
        there = gevent.event.Event()
        with self.where.family("f").monitor(lambda items, *_: there.set() if items.get("end") == key else None):
            assert there.wait(20)
        got = self.where.family("f").items()[key]
        assert alike(got, self.framing) == alike(value, self.framing)
        assert alike(self.where.group("g").wait(timeout=20)[port.id], self.framing) == alike(value, self.framing)
        self.near.family("f").delete(key)
        port.kill()

    def arguments(self, value: Any) -> None:
        boss = self.near.port()
        try:
            self.near.spawn(self.where.id, tell_arguments, boss.id, value)
        except gmp.MessageError:
            assert not self.local
        else:
            (got,) = boss.receive("init", timeout=20)
            self.same(value, got)
        boss.kill()

    def reply(self, value: Any) -> None:
        def answer(port: gmp.Port) -> None:
            (reply,) = port.receive("ask")
            try:
                self.where.send(reply, "value", value)
            except gmp.MessageError:
                self.where.send(reply, "refused")

        got = self.near.call(self.where.port(answer).id, "ask", timeout=20)
        if got != ("refused",):
            self.same(value, got[1])

    def evaluation(self, value: Any) -> None:
        held[self.framing] = value
        boss = self.near.port()
        source = f"__import__({__name__!r}, fromlist=['held']).held[{self.framing!r}]"
        self.near.eval_on(self.where.id, source, boss.id, "result")
        got = boss.receive("result", timeout=20)
        if got[0] == "":
            self.same(value, got[1])
        else:
            assert got[0].startswith("MessageError: ")
        boss.kill()

    def log(self, value: Any) -> None:
        text = f"end {next(self._numbers)}"
        self._lines = gevent.event.AsyncResult()
        self.logger.warning("a value: %s %r", value, value)
        self.logger.warning(text)
        while self._lines.get(timeout=20).text != text:
            self._lines = gevent.event.AsyncResult()

    def lines(self) -> Iterator[None]:
        """A log that goes from far to near."""
        self.logger.propagate = False
        self.logger.addHandler(logging.NullHandler())  # else the lines go to stderr too, where some values raise
        catcher = LogCatcher(self._caught, nodes=["far"], node=self.near)
        with catcher, LogSender(self.far, logger=self.logger.name):
            while catcher.catching != ["far"]:
                gevent.sleep(0.01)
            yield

    def _caught(self, line: LogLine) -> None:
        self._lines.set(line)


@pytest.mark.timeout(110)
@pytest.mark.parametrize("examples", [12, pytest.param(80, marks=pytest.mark.slow)])
@pytest.mark.parametrize("local", [False, True], ids=["remote", "local"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_value_arrives_equal_or_raises_where_it_is_given_and_everything_else_goes_on(
    make_node: MakeNode, framing: str, local: bool, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # what a log line cannot show it says on stderr
    doors = Doors(make_node, framing, local=local)
    ways = [doors.message, doors.reason, doors.entry, doors.arguments, doors.reply, doors.evaluation, doors.log]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values)
    def check(value: Any) -> None:
        for way in ways:
            way(value)

    for _ in doors.lines():
        for value in STRANGE:
            for wrapped in (value, [value], {"k": value}):
                for way in ways:
                    way(wrapped)
        doors.goes_on()
        check()
        doors.goes_on()


@pytest.mark.parametrize("framing", ["cbor", "json"])
def test_what_is_sent_to_perl_arrives_equal_or_raises(make_node: MakeNode, framing: str) -> None:
    node = make_node("gmp")
    with PerlPeer.dial(node.binds[0], framing=framing) as perl:
        perl.barrier()
        port = perl.port()
        name = port.partition("#")[2]

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(values)
        def check(value: Any) -> None:
            try:
                node.send(port, "value", value)
            except gmp.MessageError:
                pass
            else:
                (got,) = perl.expect(name, "value")
                assert alike(got, framing) == alike(in_perl(value), framing)

        for value in STRANGE:
            check.hypothesis.inner_test(value)  # type: ignore[attr-defined]
        check()
        perl.barrier()
        assert not perl.closed.is_set()


def in_perl(value: Any) -> Any:
    """What a value is in Perl, which has one kind of string: each octet of a text, in UTF-8, is a character."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str | gmp.Port):
        return str(value).encode().decode("latin-1")
    if isinstance(value, list | tuple):
        return [in_perl(item) for item in value]
    if isinstance(value, dict):
        return {in_perl(json_key(key)): in_perl(item) for key, item in value.items()}
    return str(value) if type(value) is int and not -(2**63) < value < 2**64 else value


def json_key(key: Any) -> Any:
    """What Perl's hashes have as a key."""
    return key if isinstance(key, str | bytes) else repr(key) if type(key) in (int, float) else json.dumps(key)
