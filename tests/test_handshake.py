"""A stranger without the secret carries the lines of honest nodes to one another: nobody is connected to him.

The page `docs/handshake.md` has the combinations; here each is tried on real sockets, and the rule on paper.
"""

from __future__ import annotations

import itertools
import logging
import struct
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import gmp
from gmp.config import Address
from gmp.net.between import Policy, Way, make_end, parse_end
from gmp.net.dialling import SelfDial
from gmp.net.machine import interface_addresses_4, interface_addresses_6
from gmp.testing import FaultProxy
from gmp.wire import auth
from tests.certificates import self_signed
from tests.conftest import eventually
from tests.perl_peer import PerlListener, PerlPeer
from tests.test_nodes import echo

MakeNode = Callable[..., gmp.Node]
Alter = Callable[[bytes], bytes]
FRAMINGS = ["msgpack", "cbor", "json"]
CERT = self_signed()
LOCAL_PORT_RANGE = 51  # IP_LOCAL_PORT_RANGE, not in the socket module


class Stranger:
    """Somebody without the secret. `carry` passes everything between two sockets, each chunk through `alter`."""

    def __init__(self) -> None:
        self.listener = gevent.socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.where = Address(*self.listener.getsockname())
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.ended: list[gevent.event.Event] = []
        self._socks: list[Any] = []
        self._greenlets: list[gevent.Greenlet[..., Any]] = []

    def dial(self, bind: str) -> Any:
        host, _, port = bind.rpartition(":")
        return gevent.socket.create_connection((host, int(port)), timeout=20)

    def accept(self) -> Any:
        with gevent.Timeout(20, AssertionError("nobody dialled the stranger")):
            return self.listener.accept()[0]

    def carry(self, one: Any, other: Any, alter: Alter = bytes, back: Alter = bytes) -> gevent.event.Event:
        """Pass on what comes from `one` to `other`, and back. Returns an event: both have been closed by the honest."""
        ended = gevent.event.Event()
        self.ended.append(ended)
        self._socks += [one, other]
        pumps = [gevent.spawn(pump, one, other, alter), gevent.spawn(pump, other, one, back)]
        self._greenlets += [*pumps, gevent.spawn(lambda: (gevent.joinall(pumps), ended.set()))]
        return ended

    def stand_before(self, bind: str, alter: Alter = bytes, back: Alter = bytes) -> None:
        """Carry whatever is dialled here to `bind`, from now on."""

        def serve() -> None:
            while True:
                dialler = self.listener.accept()[0]
                self.carry(dialler, self.dial(bind), alter, back)

        self._greenlets.append(gevent.spawn(serve))

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        gevent.killall(self._greenlets)
        for sock in (*self._socks, self.listener):
            sock.close()


def pump(source: Any, sink: Any, alter: Alter) -> None:
    """The two lines of a greeting are passed whole, so that they can be altered; the rest as it comes."""
    rest, lines = b"", 0
    try:
        while data := source.recv(65536):
            rest += data
            while lines < 2 and b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                lines += 1
                sink.sendall(alter(line) + b"\n")
            if lines == 2:
                sink.sendall(rest)
                rest = b""
        sink.shutdown(gevent.socket.SHUT_WR)
    except OSError:
        pass  # an honest node has closed
    finally:
        source.close()


def failure(function: Callable[..., Any], *args: Any) -> Exception | None:
    """What a call raises."""
    try:
        function(*args)
    except Exception as error:
        return error
    return None


def nobody_is_up(*nodes: gmp.Node) -> bool:
    return not any(node.up_nodes() for node in nodes)


# ---- every combination of roles


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids="-".join)
def test_between_two_listeners(
    make_node: MakeNode, names: tuple[str, str], framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = (make_node(name, framings=[framing], reached_at=["*"]) for name in names)
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger:
        ended = stranger.carry(stranger.dial(one.binds[0]), stranger.dial(other.binds[0]))
        assert ended.wait(20)
        assert nobody_is_up(one, other)
    assert "was dialled, and so were we: somebody passes lines between two listeners" in caplog.text


@pytest.mark.parametrize("framing", FRAMINGS)
def test_between_two_diallers(make_node: MakeNode, framing: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger:
        one = make_node("one", framings=[framing], seeds=[stranger.address], reached_at=["*"])
        other = make_node("other", framings=[framing], seeds=[stranger.address], reached_at=["*"])
        ended = stranger.carry(stranger.accept(), stranger.accept())
        assert ended.wait(20)
        assert nobody_is_up(one, other)
    assert "has dialled, and so have we" in caplog.text


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids="-".join)
@pytest.mark.parametrize("expected", ["", "known"])
def test_between_a_dialler_and_a_listener_at_a_taken_over_port(
    make_node: MakeNode, names: tuple[str, str], framing: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The dialler knows the ID of who listens, or takes any as a seed dial does: the stranger leads it to the right node."""
    dialler, listener = (make_node(name, framings=[framing]) for name in names)
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger:
        stranger.stand_before(listener.binds[0])
        with pytest.raises(gmp.AuthenticationError) as raised:
            dialler._core.network.dial(stranger.where, expect=listener.id if expected else "")
        eventually(lambda: stranger.ended and all(event.is_set() for event in stranger.ended))
        assert nobody_is_up(dialler, listener)
    for text in (str(raised.value), caplog.text):  # both sides say it
        assert f"has dialled {stranger.address}, but reached {listener.binds[0]}" in text
        assert f"set reached_at=['{stranger.address}'] on node {listener.id}" in text


def test_from_the_very_port_that_was_dialled_from(make_node: MakeNode) -> None:
    """Linux lets connections to different places share a port, so that the stranger's looks like the dialler's."""
    dialler, listener = make_node("dialler"), make_node("listener")
    with Stranger() as stranger:
        dialling = gevent.spawn(failure, dialler._core.network.dial, stranger.where)
        held = stranger.accept()
        port = held.getpeername()[1]
        sock = gevent.socket.socket()
        try:
            sock.setsockopt(gevent.socket.IPPROTO_IP, LOCAL_PORT_RANGE, struct.pack("=I", port | port << 16))
        except OSError:
            sock.close()
            held.close()
            pytest.skip("needs Linux 6.3")
        host, _, target = listener.binds[0].rpartition(":")
        sock.connect((host, int(target)))
        assert sock.getsockname()[1] == port
        assert stranger.carry(held, sock).wait(20)
        assert "somebody passes the lines on" in str(dialling.get(timeout=20))
        assert nobody_is_up(dialler, listener)


def test_a_seed_that_cannot_be_reached_for_that_reason_is_told_of_once(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    listener = make_node("seed")
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger:
        stranger.stand_before(listener.binds[0])
        dialler = make_node("dialler", seeds=[stranger.address])
        eventually(lambda: len(stranger.ended) >= 3)
        assert nobody_is_up(dialler, listener)
    told = [record for record in caplog.records if "is not reached yet" in record.getMessage()]
    refused = [record for record in caplog.records if record.getMessage().startswith("seed: handshake with")]
    assert len(told) == len(refused) == 1
    assert "set reached_at" in told[0].getMessage()


def test_the_other_node_on_the_address_that_was_dialled_before(make_node: MakeNode) -> None:
    """A stranger has a dialler's connection, gives up the port, and a node gets it: the address is the right one."""
    seed = make_node("seed")
    address = seed.binds[0]
    seed.close()
    with Stranger() as stranger:
        stranger.listener.close()
        stranger.listener = gevent.socket.socket()
        stranger.listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
        stranger.listener.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        stranger.listener.listen()
        dialler = make_node("dialler", seeds=[address])
        held = stranger.accept()
        stranger.listener.close()
        again = make_node("seed", binds=[address])
        ended = stranger.carry(held, stranger.dial(address))
        assert ended.wait(20)
        again.wait_up("dialler", timeout=20)  # who comes by itself is welcome
        connection = again._core.network.peers["dialler"].connection
        assert connection is not None
        assert connection.way.other == dialler._core.network.peers["seed"].connection.way.own  # type: ignore[union-attr]


# ---- streams


def serve(*_: Any) -> None:
    """What a stream would be for."""


@pytest.mark.parametrize(
    "alter",
    [
        bytes,
        lambda line: line.replace(b"aemp-dataconn;", b"aemp;"),
        lambda line: line.replace(b"dataconn_id=first", b"dataconn_id=other"),
    ],
    ids=["as it is", "as a way to a node", "as another stream"],
)
@pytest.mark.parametrize("reached_at", [None, ["*"]], ids=["strict", "anywhere"])
def test_a_stream_is_not_exchanged(make_node: MakeNode, alter: Alter, reached_at: Any) -> None:
    dialler, listener = make_node("dialler"), make_node("listener", reached_at=reached_at)
    if alter is bytes and reached_at:
        return  # that is what was asked for
    taken: list[Any] = []
    for stream_id in ("first", "other"):
        expected = gmp.net.streams.Expected("dialler", float("inf"), taken.append)
        listener._core.network.expected_streams.expect(stream_id, expected, 0.0)
    with Stranger() as stranger:
        stranger.stand_before(listener.binds[0], alter)
        with pytest.raises(gmp.ProtocolError):
            dialler._core.network.dial_stream(stranger.where, "listener", "first")
        assert nobody_is_up(dialler, listener)
        assert taken == []


def test_a_way_to_a_node_is_not_exchanged_for_a_stream(make_node: MakeNode) -> None:
    dialler, listener = make_node("dialler"), make_node("listener", reached_at=["*"])
    taken: list[Any] = []
    expected = gmp.net.streams.Expected("dialler", float("inf"), taken.append)
    listener._core.network.expected_streams.expect("first", expected, 0.0)
    with Stranger() as stranger:
        names = (b"aemp;1;", b"aemp-dataconn;1;"), (b";role", b";dataconn_id=first;role")
        stranger.stand_before(listener.binds[0], lambda line: line.replace(*names[0]).replace(*names[1]))
        with pytest.raises(gmp.GmpError):
            dialler._core.network.dial(stranger.where)
        assert nobody_is_up(dialler, listener)
        assert taken == []


# ---- TLS


def test_with_tls_two_listeners_refuse_each_other_too(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    one, other = (make_node(name, secret=None, cert=CERT) for name in ("one", "other"))
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger:
        ended = stranger.carry(stranger.dial(one.binds[0]), stranger.dial(other.binds[0]))
        assert ended.wait(20)
        assert nobody_is_up(one, other)
    assert "somebody passes lines between two listeners" in caplog.text


def test_with_tls_who_stands_between_sees_and_alters_nothing_so_he_may(make_node: MakeNode) -> None:
    listener = make_node("listener", secret=None, cert=CERT)
    seen: list[bytes] = []
    with Stranger() as stranger:
        stranger.stand_before(listener.binds[0], lambda line: seen.append(line) or line)
        dialler = make_node("dialler", secret=None, cert=CERT, seeds=[stranger.address])
        dialler.wait_up("listener", timeout=20)
        listener.wait_up("dialler", timeout=20)
        connection = listener._core.network.peers["dialler"].connection
        assert connection is not None
        assert connection.tls is not None


def test_tls_is_not_stripped(make_node: MakeNode) -> None:
    """Both have a secret too, and would do without TLS."""
    options: dict[str, Any] = {"cert": CERT, "require_tls": False, "reached_at": ["*"]}
    listener = make_node("listener", **options)

    def strip(line: bytes) -> bytes:
        return line.replace(b";tls=1.0", b"").replace(b"tls_sha3_512,", b"")

    with Stranger() as stranger:
        stranger.stand_before(listener.binds[0], strip, strip)
        dialler = make_node("dialler", **options)
        with pytest.raises(gmp.GmpError):
            dialler._core.network.dial(stranger.where)
        assert nobody_is_up(dialler, listener)


# ---- what is altered, and what is sent back


def swap(key: bytes, value: Callable[[Stranger, gmp.Node], str]) -> Any:
    def alteration(stranger: Stranger, listener: gmp.Node) -> Alter:
        def alter(line: bytes) -> bytes:
            if not line.startswith(b"aemp"):
                return line
            fields = [field for field in line.split(b";") if not field.startswith(key + b"=")]
            new = value(stranger, listener)
            return b";".join(fields + ([key + b"=" + new.encode()] if new else []))

        return alter

    return alteration


ALTERATIONS = {
    "the address": swap(b"peeraddr", lambda _, listener: listener.binds[0]),
    "no address": swap(b"peeraddr", lambda *_: ""),
    "no role": swap(b"role", lambda *_: ""),
    "another role": swap(b"role", lambda *_: "accepted"),
    "no gmp": swap(b"gmp", lambda *_: ""),
    "no machine": swap(b"machine", lambda *_: ""),
    "another name": lambda *_: lambda line: line.replace(b"aemp;1;dialler", b"aemp;1;dialle2"),
    "another method": lambda *_: lambda line: line.replace(b";hmac_sha3_512;", b";cleartext,hmac_sha3_512;"),
}


@pytest.mark.parametrize("what", ALTERATIONS)
@pytest.mark.parametrize("names", [("dialler", "listener"), ("dialler", "a listener")], ids=["first", "last"])
def test_nothing_of_a_greeting_can_be_altered_or_left_out(make_node: MakeNode, what: str, names: tuple[str, str]) -> None:
    listener = make_node(names[1].replace(" ", "_"))
    with Stranger() as stranger:
        stranger.stand_before(listener.binds[0], ALTERATIONS[what](stranger, listener))
        dialler = make_node("dialler")
        with pytest.raises(gmp.GmpError):
            dialler._core.network.dial(stranger.where)
        eventually(lambda: all(event.is_set() for event in stranger.ended))
        assert nobody_is_up(dialler, listener)


def test_a_refusal_is_shown_but_proves_nothing_and_is_cut(make_node: MakeNode) -> None:
    with Stranger() as stranger:
        dialler = make_node("dialler")
        dialling = gevent.spawn(failure, dialler._core.network.dial, stranger.where)
        sock = stranger.accept()
        sock.sendall(b"aemp;1;bad;hmac_sha3_512;json;gmp=1;role=accepted\nnonce\nrefused;;;%1B[2J" + b"x" * 3000 + b"\n")
        error = dialling.get(timeout=20)
        assert isinstance(error, gmp.AuthenticationError)
        text = str(error)
        assert "the other side refuses us, and says: '\\x1b[2Jxxx" in text
        assert len(text) < 1200
        sock.close()


def test_own_lines_that_come_back(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger:
        one = make_node("one", seeds=[stranger.address], reached_at=["*"])
        ended = stranger.carry(stranger.accept(), stranger.dial(one.binds[0]))  # its dial to its own listener
        assert ended.wait(20)
        assert nobody_is_up(one)
        for alter in (bytes, lambda line: line.replace(b";one;", b";two;").replace(b"=accepted", b"=dialled")):
            sock = stranger.dial(one.binds[0])
            echoing = gevent.spawn(pump, sock, sock, alter)
            echoing.join(20)
            assert echoing.ready()
            assert nobody_is_up(one)


def mirror(line: bytes) -> bytes:
    """As if the node that has sent this line had been dialled by itself."""
    return line.replace(b"role=dialled", b"role=accepted") if line.startswith(b"aemp") else line[::-1]


@pytest.mark.parametrize("options", [{}, {"cert": CERT, "secret": None}], ids=["secret", "TLS"])
def test_who_mirrors_a_greeting_is_not_taken_for_the_node_itself(make_node: MakeNode, options: dict[str, Any]) -> None:
    """Else the node would be a seed of its own, and never look for its real one there again."""
    with Stranger() as stranger:
        node = make_node("node", seeds=[stranger.address], handshake_timeout=1.0, **options)
        sock = stranger.accept()
        echoing = gevent.spawn(pump, sock, sock, mirror)
        echoing.join(20)
        assert echoing.ready()
        assert not node._core.mesh.backbone.is_global
        stranger.listener.close()
        make_node("seed", binds=[stranger.address], **options)
        eventually(lambda: node._core.mesh.backbone.master == "seed")


@pytest.mark.parametrize("options", [{}, {"cert": CERT, "secret": None}], ids=["secret", "TLS"])
def test_a_node_that_dials_itself_is_told_so(
    make_node: MakeNode, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    node = make_node("node", reached_at=["*"], **options)
    with caplog.at_level(logging.INFO, "gmp"), FaultProxy(node.binds[0]) as proxy:
        for where in (node.binds[0], proxy.address):
            host, _, port = where.rpartition(":")
            with pytest.raises(SelfDial, match=f"{where} is this node itself"):
                node._core.network.dial(Address(host, int(port)))
        eventually(lambda: not node._core.network.handshakes.pending)
    assert nobody_is_up(node)
    assert "handshake" not in caplog.text


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids="-".join)
@pytest.mark.parametrize("gmp_key", [";gmp=1;role=accepted;incarnation={}", ""], ids=["as gmp", "as Perl"])
def test_who_names_another_node_at_a_seeds_address_does_not_make_it_a_seed(
    make_node: MakeNode, names: tuple[str, str], gmp_key: str
) -> None:
    """He closes as if that node, which is connected, had another connection."""
    with Stranger() as stranger:
        node, other = make_node(names[0], seeds=[stranger.address]), make_node(names[1], seeds=[stranger.address])
        node._core.network.dial(Address("127.0.0.1", int(other.binds[0].rpartition(":")[2])))
        keys = gmp_key.format(other.incarnation)
        for _ in range(4):
            sock = stranger.accept()
            name = (other if names[0].encode() in sock.recv(4096) else node).id
            sock.sendall(f"aemp;1;{name};hmac_sha3_512;json{keys}\nnonce\n".encode())
            sock.shutdown(gevent.socket.SHUT_WR)
            while sock.recv(4096):
                pass
            sock.close()
        node.call(other.id, "time", timeout=20)
        assert not node._core.mesh.is_seed(other.id)
        assert node._core.mesh.backbone.master is None
        assert not other._core.mesh.backbone.is_global


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids="-".join)
@pytest.mark.parametrize("options", [{}, {"cert": CERT, "secret": None}], ids=["secret", "TLS"])
def test_a_seed_that_is_connected_already_is_known_by_its_proof(
    make_node: MakeNode, names: tuple[str, str], options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It has dialled first, so that the dial to it comes second."""
    node, seed = (make_node(name, **options) for name in names)
    with caplog.at_level(logging.INFO, "gmp"):
        seed._core.network.dial(Address("127.0.0.1", int(node.binds[0].rpartition(":")[2])))
        for _ in range(3):
            assert node._core.network.dial(Address("127.0.0.1", int(seed.binds[0].rpartition(":")[2]))) == seed.id
        eventually(lambda: not (node._core.network.handshakes.pending or seed._core.network.handshakes.pending))
    assert node.is_up(seed.id)
    assert seed.is_up(node.id)
    assert "handshake" not in caplog.text


def test_an_altered_dial_to_the_node_itself_is_not_believed(make_node: MakeNode) -> None:
    """The stranger lets the listener hear that it was dialled where it is."""
    node = make_node("node", handshake_timeout=1.0)
    with Stranger() as stranger:
        true = node.binds[0].encode()
        stranger.stand_before(node.binds[0], lambda line: line.replace(stranger.address.encode(), true))
        error = failure(node._core.network.dial, stranger.where)
        assert isinstance(error, gmp.GmpError)
        assert not isinstance(error, SelfDial)


def test_another_node_with_the_same_id_is_no_dial_to_itself(make_node: MakeNode) -> None:
    one, other = make_node("same"), make_node("same")
    host, _, port = other.binds[0].rpartition(":")
    with pytest.raises(gmp.GmpError, match="another node with the ID 'same' of this one"):
        one._core.network.dial(Address(host, int(port)))


# ---- Perl, which has no roles


def test_between_a_perl_listener_and_ours(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    node = make_node("node")
    with caplog.at_level(logging.INFO, "gmp"), PerlListener() as perl, Stranger() as stranger:
        ended = stranger.carry(stranger.dial(node.binds[0]), stranger.dial(perl.bind))
        with pytest.raises(OSError):
            perl.accept()
        assert ended.wait(20)
        assert nobody_is_up(node)
    assert "node 'PerlA' has dialled 127.0.0.1:" in caplog.text


def test_between_a_perl_dialler_and_our_listener(make_node: MakeNode) -> None:
    node = make_node("node")
    with Stranger() as stranger:
        stranger.stand_before(node.binds[0])
        with pytest.raises(OSError):
            PerlPeer.dial(stranger.address)
        assert nobody_is_up(node)


def test_between_our_dial_and_a_perl_listener(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gmp"), PerlListener() as perl, Stranger() as stranger:
        stranger.stand_before(perl.bind)
        node = make_node("node", seeds=[stranger.address])
        with pytest.raises(OSError):
            perl.accept()
        assert nobody_is_up(node)
        eventually(lambda: f"we have dialled {stranger.address}, but node 'PerlA' sees another socket" in caplog.text)


def test_between_our_dial_and_that_of_a_perl_node(make_node: MakeNode) -> None:
    with Stranger() as stranger:
        node = make_node("node", seeds=[stranger.address])
        ours = stranger.accept()
        perl = gevent.spawn(failure, PerlPeer.dial, stranger.address)
        ended = stranger.carry(ours, stranger.accept())
        assert isinstance(perl.get(timeout=20), OSError)
        assert ended.wait(20)
        assert nobody_is_up(node)


@pytest.mark.parametrize("dials", [True, False])
def test_perl_nodes_get_in_unless_roles_are_required(
    make_node: MakeNode, dials: bool, caplog: pytest.LogCaptureFixture
) -> None:
    open_node = make_node("open")
    with PerlPeer.dial(open_node.binds[0]) as perl:
        assert perl.call("open", "time")
    with caplog.at_level(logging.INFO, "gmp"), PerlListener() as listener:
        node = make_node("node", require_roles=True, seeds=[] if dials else [listener.bind])
        with pytest.raises(OSError):
            PerlPeer.dial(node.binds[0]) if dials else listener.accept()
        assert nobody_is_up(node)
    assert "node 'PerlA' is no gmp node, and require_roles refuses nodes that have no roles" in caplog.text


# ---- what the user has put there


@pytest.mark.parametrize("admit", ["address", "host", "anywhere", "advertise"])
def test_a_tunnel_of_the_users_is_admitted_by_a_setting(make_node: MakeNode, admit: str) -> None:
    with FaultProxy("127.0.0.1:1") as proxy:
        admitted = {
            "address": {"reached_at": [proxy.address]},
            "host": {"reached_at": ["127.0.0.1"]},
            "anywhere": {"reached_at": ["*"]},
            "advertise": {"advertise": [proxy.address]},
        }[admit]
        listener = make_node("listener", **admitted)
        proxy.target = listener.binds[0]
        dialler = make_node("dialler", seeds=[proxy.address])
        dialler.wait_up("listener", timeout=20)
        assert dialler.call(echo(listener).id, "through") == ("echo", "through")
        with PerlPeer.dial(proxy.address) as perl:
            assert perl.call("listener", "time")


@pytest.mark.parametrize("text", ["", "*:1", "name.example.org:1", "127.0.0.1:x", "1.2.3:4"])
def test_reached_at_takes_numeric_addresses(text: str) -> None:
    with pytest.raises(gmp.ConfigError, match="reached_at"):
        gmp.Node("n", binds=[], secret="geheim", reached_at=[text])


@pytest.mark.parametrize(
    "keys", ["", "peeraddr=127.0.0.1:0", "gmp", "gmp=1;role=dialled", "gmp;role=dialled;peeraddr=x", "gmp;role=x"]
)
def test_who_says_gmp_has_a_role_and_an_address(make_node: MakeNode, keys: str, caplog: pytest.LogCaptureFixture) -> None:
    """A node with neither is Perl's smallest client, which is let in."""
    node = make_node("node")
    with caplog.at_level(logging.INFO, "gmp"), Stranger() as stranger, stranger.dial(node.binds[0]) as sock:
        sock.sendall(f"aemp;1;small;hmac_sha3_512;json;{keys}\nnonce\n".encode())
        file = sock.makefile("rb")
        mine, nonce = b"aemp;1;small;hmac_sha3_512;json;" + keys.encode(), b"nonce"
        theirs = [file.readline().rstrip(b"\n") for _ in range(2)]
        if "gmp" not in keys:
            proof = auth.compute("hmac_sha3_512", b"geheim", (mine, nonce), (theirs[0], theirs[1]))
            sock.sendall(b"hmac_sha3_512;" + proof + b";json\n")
            assert file.readline().startswith(b"hmac_sha3_512;")
            node.wait_up("small", timeout=20)
            return
        assert file.readline().startswith(b"refused;;;")
        assert file.read() == b""
        assert ("of its role, expected" in caplog.text) != ("of where it has dialled, expected host:port" in caplog.text)


# ---- the rule, on paper: two machines, each with loopback and an address, and a stranger who has an account on both

MACHINES = {"m1": "10.0.0.1", "m2": "10.0.0.2"}


def way(dialled: bool, own: tuple[str, str, int], other: tuple[str, str, int]) -> Way:
    """`own` and `other` are (machine, host, port)."""
    (machine, *here), (_, *there) = own, other
    near = there[0] in ("127.0.0.1", MACHINES[machine])
    return Way(dialled, make_end(*here), make_end(*there), near, machine)


def says(one: Way) -> dict[str, str]:
    """The keys of a gmp node's greeting."""
    return {"gmp": "1", **one.keys()}


def leg(draw: Any) -> tuple[tuple[str, str, int], tuple[str, str, int]]:
    """A TCP connection: who dialled, and who was."""
    one, other = draw(st.sampled_from(sorted(MACHINES))), draw(st.sampled_from(sorted(MACHINES)))
    loopback = one == other and draw(st.booleans())
    hosts = ("127.0.0.1", "127.0.0.1") if loopback else (MACHINES[one], MACHINES[other])
    return (one, hosts[0], draw(st.integers(1, 3))), (other, hosts[1], draw(st.integers(4, 6)))


LEGS = st.composite(leg)()


@pytest.mark.parametrize("examples", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_stranger_between_a_dialler_and_a_listener_is_found_out(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(LEGS, LEGS, st.booleans())(check_found_out))()


def check_found_out(first: Any, second: Any, strict: bool) -> None:
    """`first`: the dialler's connection with him; `second`: his with the listener."""
    assume(first != second)  # one machine cannot have the same connection twice
    policy = Policy("listener", () if strict else None, (), require_roles=False)
    dialler, listener = way(True, *first), way(False, second[1], second[0])
    refused = False
    try:
        policy.check(listener, "dialler", says(dialler), tls=False)
    except gmp.AuthenticationError:
        refused = True
    if dialler.near or listener.near or (strict and dialler.other != listener.own):
        assert refused


@given(LEGS, st.sampled_from([None, (), ("10.0.0.1",), ("*",)]))
def test_an_honest_connection_is_never_refused(connection: Any, reached_at: Any) -> None:
    one, other = connection
    policy = Policy("node", reached_at, (), require_roles=True)
    dialler, listener = way(True, one, other), way(False, other, one)
    policy.check(listener, "dialler", says(dialler), tls=False)
    policy.check(dialler, "listener", says(listener), tls=False)


def test_an_own_address_of_any_kind_is_no_reason(make_node: MakeNode) -> None:
    listener = make_node("listener", binds=["*:0"], reached_at=[])
    ports = {bind.rpartition(":")[0]: int(bind.rpartition(":")[2]) for bind in listener.binds}
    hosts = ["127.0.0.2", "0.0.0.0", *interface_addresses_4()]
    if "[::]" in ports:
        hosts += ["::1", "::", "::ffff:127.0.0.1", *interface_addresses_6()]
    for number, host in enumerate(hosts):
        dialler = make_node(f"dialler{number}", binds=[], seeds=listener.binds)
        assert dialler._core.network.dial(Address(host, ports["0.0.0.0"])) == "listener", host


def test_source_nat_is_no_reason_and_a_port_mapping_is_when_that_is_wanted() -> None:
    behind = Way(True, make_end("172.17.0.2", 5000), make_end("10.0.0.2", 4040), False, "a")
    seen = Way(False, make_end("10.0.0.2", 4040), make_end("10.0.0.1", 61000), False, "b")
    mapped = Way(False, make_end("172.17.0.9", 4040), make_end("10.0.0.1", 61000), False, "b")
    for reached_at in (None, ()):
        Policy("n", reached_at, (), require_roles=False).check(seen, "behind", says(behind), tls=False)
    Policy("n", None, (), require_roles=False).check(mapped, "behind", says(behind), tls=False)
    for reached_at, advertise in ((("10.0.0.2:4040",), ()), (("10.0.0.2",), ()), (("*",), ()), ((), ("10.0.0.2:4040",))):
        Policy("n", reached_at, advertise, require_roles=False).check(mapped, "behind", says(behind), tls=False)
    for reached_at in ((), ("10.0.0.2:4041",), ("10.0.0.3",)):
        with pytest.raises(gmp.AuthenticationError, match="reached_at"):
            Policy("n", reached_at, (), require_roles=False).check(mapped, "behind", says(behind), tls=False)


def test_addresses_are_compared_whatever_their_form() -> None:
    assert parse_end("[::ffff:10.0.0.1]:80") == parse_end("10.0.0.1:80") == make_end("::ffff:10.0.0.1", 80)
    assert parse_end("[0:0::1]:80") == parse_end("[::1]:80")
    assert parse_end("[fe80::1%eth0]:80") == make_end("fe80::1%lo", 80)
    for text in ("", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:", "name:80", "unix/:/tmp/x", "10.0.0.1:٣", "1.2.3.4:-1"):
        assert parse_end(text) is None


def test_a_perl_node_says_what_it_sees_or_nothing() -> None:
    ours = Way(False, make_end("10.0.0.2", 4040), make_end("10.0.0.1", 61000), False, "b")
    dialled = Way(True, make_end("10.0.0.2", 5000), make_end("10.0.0.9", 4040), False, "b")
    policy = Policy("n", None, (), require_roles=False)
    for keys in ({}, {"peeraddr": "10.0.0.2:0"}, {"peeraddr": "host.example.org:4041"}, {"peeraddr": "10.0.0.2:4040"}):
        policy.check(ours, "perl", keys, tls=False)
    with pytest.raises(gmp.AuthenticationError):
        policy.check(ours, "perl", {"peeraddr": "10.0.0.66:5555"}, tls=False)
    policy.check(ours, "perl", {"peeraddr": "10.0.0.66:5555"}, tls=True)
    policy.check(dialled, "perl", {"peeraddr": "192.0.2.7:61000"}, tls=False)  # source NAT
    with pytest.raises(gmp.AuthenticationError):
        policy.check(dialled, "perl", {"peeraddr": "127.0.0.1:61000"}, tls=False)


def test_roles_on_paper() -> None:
    for dialled, role in itertools.product((True, False), ("dialled", "accepted", "", "x")):
        one = Way(dialled, make_end("10.0.0.2", 1), make_end("10.0.0.3", 2), False, "")
        keys = {"gmp": "1", "role": role, "peeraddr": "10.0.0.2:1"}
        for tls in (True, False):
            fits = role == ("accepted" if dialled else "dialled") or (tls and not role)
            try:
                Policy("n", None, (), require_roles=True).check(one, "other", keys, tls=tls)
                assert fits
            except gmp.AuthenticationError:
                assert not fits
