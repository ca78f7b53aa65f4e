"""What is added to AnyEvent::MP's protocol goes only to nodes that admit it: the table, and whatever a node does."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest

import gmp
from gmp.wire.admitting import admitting
from gmp.wire.framing import make_encoder
from gmp.wire.requests import ADDITIONS, EVERYBODY, OF_GMP, REQUESTS, admits

from .conftest import Recorder, eventually
from .perl_node import GLOBAL, KERNEL, PerlNode
from .perl_peer import PerlPeer

MakeNode = Callable[..., gmp.Node]
ROOT = Path(gmp.__file__).parent
PERL_KEYS = {"mproto": "1", "gproto": "1", "provider": "AE-2.02", "peeraddr": "127.0.0.1:1"}
WORDS = {"", "can", "time", "eval", "snd"}  # they mean other things too: as a request where they are sent
SENDING = {"call", "send", "send_soon", "try_send", "request", "send_request", "pass_on", "send_on"}


# ---- the table


def test_a_perl_node_admits_what_2_02_has_and_nothing_else() -> None:
    admitted = {name for name in REQUESTS if admits(PERL_KEYS, name)}
    assert {name for name in admitted if "::" not in name} == KERNEL | GLOBAL
    assert not [name for name in ADDITIONS if admits(PERL_KEYS, name)]
    assert not admits(PERL_KEYS, "gmp.of_a_later_version")
    assert admits(PERL_KEYS, "request_of_the_application")


def test_a_gmp_node_admits_what_its_greeting_says() -> None:
    assert all(admits({"gmp": "1"}, name) for name in REQUESTS)
    assert not admits({"gmp": "1"}, "runs")
    assert not admits({"gmp": "1", "runs": "2"}, "runs")
    assert admits({"gmp": "1", "runs": "1"}, "runs")


@pytest.mark.parametrize("framing", ["json", "cbor", "msgpack"])
@pytest.mark.parametrize("name", [name for name, request in REQUESTS.items() if request.key is not EVERYBODY])
def test_no_way_of_packing_carries_what_is_not_admitted(framing: str, name: str) -> None:
    encoder = admitting(make_encoder(framing, 1_000_000), PERL_KEYS)
    ways: list[Callable[[], bytes]] = [
        lambda: encoder.pack(["", name, 1]),
        lambda: encoder.repack("", ["", name, 1]),
        lambda: encoder.encode("", (name, 1)),
    ]
    for way in ways:
        with pytest.raises(gmp.MessageError, match="does not know"):
            way()
    assert encoder.encode("port", (name, 1)) == make_encoder(framing, 1_000_000).encode("port", (name, 1))
    assert encoder.encode("", ("time", 1)) == make_encoder(framing, 1_000_000).encode("", ("time", 1))


def test_towards_who_knows_everything_nothing_is_in_between() -> None:
    encoder = make_encoder("msgpack", 1_000_000)
    assert admitting(encoder, {"gmp": "1"}) is encoder


def test_no_other_file_writes_the_name_of_a_request() -> None:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if path == ROOT / "wire" / "requests.py":
            continue
        tree = ast.parse(path.read_text())
        exported = {id(item) for node in tree.body if isinstance(node, ast.Assign) for item in ast.walk(node.value)
                    if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDING:
                names = [item for item in node.args if isinstance(item, ast.Constant) and item.value in WORDS - {""}]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in exported:
                names = [node] if node.value in REQUESTS.keys() - WORDS else []
            else:
                continue
            found += [f"{path.relative_to(ROOT)}:{name.lineno}: {name.value!r}" for name in names]
    assert not found


def test_the_page_has_the_same_table() -> None:
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    rows = re.findall(r"^\| `([^`]*)` \|([^|\n]*)\|([^|\n]+)\|([^|\n]+)\|[^|\n]+\|$", page, re.MULTILINE)
    told = {name: (form.strip(), since.strip(), key.strip()) for name, form, since, key in rows}
    assert len(told) == len(rows)
    keys = {EVERYBODY: "everybody", OF_GMP: "`gmp`"}
    assert told == {
        name: (request.form, request.since, keys[request.key]) for name, request in REQUESTS.items() if name
    }
    assert set(re.findall(r"\bgmp\.[a-z]+\b(?=[ `])", page)) <= REQUESTS.keys() | {"gmp.spawnable"}


# ---- whatever is done, a Perl node sees what its Kernel has


@pytest.fixture(params=["json", "cbor"])
def framing(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def perl(make_node: MakeNode, framing: str) -> Iterator[tuple[gmp.Node, gmp.Node, PerlNode]]:
    """A gmp seed and a gmp node, and a Perl node that has the seed."""
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds, allow=["tests.functions"], busy_after=0.3)
    with PerlNode("perl", seeds=seed.binds, framing=framing) as found:
        eventually(lambda: seed.is_up("perl"))
        node.wait_up(timeout=20)
        yield seed, node, found


def assert_only_known(perl: PerlNode) -> None:
    """Nothing came that 2.02 does not have."""
    unknown = [(other, name) for other, name in perl.requests_seen() if name not in KERNEL | GLOBAL and "::" not in name]
    assert unknown == perl.failed == []
    assert perl.requests_seen()


def test_a_perl_node_sees_only_requests_that_it_has(perl: tuple[gmp.Node, gmp.Node, PerlNode], framing: str) -> None:
    seed, node, peer = perl
    started: list[Any] = []
    peer.functions["Svc::start"] = lambda _link, name, *args: started.append((name, *args))
    port, reasons = peer.port(), Recorder()
    # joins, groups, families
    member = node.port()
    node.group("chat").join(member, {"name": "x"})
    seed.group("chat").join(seed.port())
    node.family("words").set("k", 1)
    peer.db_set("chat", port, None)
    assert node.group("chat").wait(3, timeout=20).keys() >= {port, member.id}
    node.group("chat").send("hello")
    node.group("chat").leave(member)
    # monitors, links, calls, kills, spawns
    node.monitor(port, reasons)
    node.monitor("perl", reasons)
    assert node.call("perl", "time", timeout=20)
    assert node.call("perl", "can", "gmp.info", timeout=20) == ("",)
    spawned = node.spawn("perl", "Svc::start", 1)
    node.link(node.port(), spawned)
    node.kill(port, "enough")
    eventually(lambda: started and "#".join(("perl", started[0][0])) == spawned)
    # what gmp nodes have for each other
    with pytest.raises(gmp.GmpError, match="no gmp node"):
        node.open_stream("perl", "Svc::start", timeout=20)
    for name in (name for name, request in REQUESTS.items() if request.key is not EVERYBODY):
        with pytest.raises(gmp.MessageError, match="does not know"):
            node.send("perl", name, "x")
        node.send_on("seed", "perl", name)  # which the seed refuses
    gevent.sleep(0.6)  # a gmp node would be asked for signs of life meanwhile
    # relays, asked for by a node that cannot be dialled
    seed.call("node", "time", timeout=20)
    # restart
    peer.close()
    assert reasons.wait(2, timeout=20)
    with PerlNode("perl", seeds=seed.binds, framing=framing) as again:
        assert node.call("perl", "time", timeout=20)
        node.wait_up("perl", timeout=20)
        node.close()
        eventually(lambda: "node" not in again.links)
        seed.close()
        eventually(lambda: not again.links)
        assert_only_known(again)
    assert_only_known(peer)


def test_a_request_that_waits_for_a_node_that_turns_out_not_to_know_it_is_dropped_and_told(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, framing: str
) -> None:
    node = make_node("gmp")
    node.send("PerlA", "gmp.info", "gmp#x")
    node.send("PerlA#x", "after")
    with PerlPeer.dial(node.binds[0], framing=framing) as peer:
        assert peer.expect("x") == ["after"]
        assert node.stats()["peers"]["PerlA"]["dropped"] == 1
        assert not [message for message in peer.seen if "gmp.info" in message]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("node PerlA does not know what was sent before it was connected: 'gmp.info' is a request ")


# ---- a Perl node is reached, directly, or not at all


def reach(node: gmp.Node, node_id: str) -> float:
    """Send until it is connected, as a program does that monitors; the seconds for that."""
    began = time.monotonic()
    while not node.is_up(node_id):
        assert time.monotonic() - began < 20
        node.send(node_id, "devnull")
        gevent.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("binds", [None, []], ids=["public", "private"])
@pytest.mark.parametrize("same_port", [True, False], ids=["same port", "other port"])
@pytest.mark.parametrize("away", [0.0, 0.3])
def test_a_perl_node_that_was_restarted_behind_a_gmp_seed_is_reached_at_once(
    make_node: MakeNode, binds: list[str] | None, same_port: bool, away: float, framing: str
) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds, **({} if binds is None else {"binds": binds}))
    with PerlNode("perl", seeds=seed.binds, framing=framing) as first:
        node.wait_up("perl", timeout=20)
        bind = first.bind if same_port else "127.0.0.1:0"
    lost = Recorder()
    node.monitor("perl", lost)
    node.send("perl", "devnull")  # a search is under way while it is gone
    gevent.sleep(away)
    with PerlNode("perl", bind, seed.binds, framing=framing) as again:
        assert reach(node, "perl") < 5  # it was 10 s and more; some 0.1 s where nothing else runs
        assert node.call("perl", "time", timeout=20)
        assert_only_known(again)


@pytest.mark.parametrize("binds", [None, []], ids=["public", "private"])
def test_a_perl_node_that_is_at_its_seed_before_it_listens_is_reached_as_soon_as_it_does(
    make_node: MakeNode, binds: list[str] | None, framing: str
) -> None:
    """It is listed with an address at which nobody is, as one that has just been restarted."""
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds, **({} if binds is None else {"binds": binds}))
    node.wait_up(timeout=20)
    with PerlNode("perl", None, seed.binds, framing=framing) as peer:
        peer.deaf = True
        peer.db_set("'l", "perl", [f"127.0.0.1:{free_port()}"])
        eventually(lambda: seed._core.mesh.backbone.registry.directory.lookup("'l", "perl"))
        lost = Recorder()
        node.monitor("perl", lost)
        lost.wait(timeout=20)  # the search has ended, and nothing holds the next one up
        peer.listen()
        assert reach(node, "perl") < 5  # it was 10 s; some 0.1 s where nothing else runs
        assert_only_known(peer)


def free_port() -> int:
    """A port at which nobody listens."""
    with gevent.socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_perl_node_that_cannot_be_dialled_dials_a_node_that_listens(make_node: MakeNode, framing: str) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds)
    with PerlNode("perl", None, seed.binds, framing=framing) as peer:
        eventually(lambda: seed.is_up("perl"))
        assert node.call("perl", "time", timeout=20)
        assert node._core.ground.is_linked("perl")
        assert_only_known(peer)


def test_nothing_is_relayed_to_a_perl_node_and_who_wants_to_is_told_at_once(make_node: MakeNode, framing: str) -> None:
    seed = make_node("seed")
    node = make_node("node", seeds=seed.binds, binds=[])
    with PerlNode("perl", None, seed.binds, framing=framing) as peer:
        eventually(lambda: seed.is_up("perl"))
        node.wait_up(timeout=20)
        reasons, began = Recorder(), time.monotonic()
        node.monitor("perl", reasons)
        ((kind, node_id, text),) = reasons.wait(timeout=20)
        assert time.monotonic() - began < 8  # and not the 10 s of `connect_timeout`
        assert (kind, node_id) == ("transport_error", "perl")
        assert "it listens nowhere; relayed: perl is no gmp node, and nothing can be relayed to it" in text
        assert_only_known(peer)
