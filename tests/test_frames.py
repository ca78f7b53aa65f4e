"""Frames between nodes: connections that end in the middle of one, peers that read none, and what only looks like one."""

from __future__ import annotations

import gc
import hashlib
import hmac
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import eq  # by it pytest shows no difference between large octets, which would take it minutes
from typing import Any

import gevent
import gevent.socket
import gevent.subprocess
import msgpack
import pytest
from greenlet import GreenletExit

import gmp
from gmp.net.records import RECORD
from gmp.testing import FaultProxy
from gmp.wire.beside import FRAME, LEAST, PLACE, WORTH, Frame
from gmp.wire.large import Pieces

from .conftest import Recorder, eventually
from .real_perl import RealPerl
from .simulated_programs import older
from .test_hostile import greeting, lines
from .test_tls import SHARED

MakeNode = Callable[..., gmp.Node]
MakePerl = Callable[..., RealPerl]
BIG = bytes(range(256)) * (WORTH // 256)
RATE = 4_000_000  # bytes a second: the message that is cut takes seconds
LONG = 32 * 1024 * 1024


def frames() -> list[Frame]:
    """The frames that are kept somewhere."""
    return [each for each in gc.get_objects() if isinstance(each, Frame)]


def settings_of(secured: str) -> dict[str, Any]:
    """Of both nodes."""
    return {"secret": None, "cert": SHARED} if secured == "TLS" else {}


@pytest.mark.parametrize("secured", ["plain", "TLS"])
@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_connection_that_is_cut_in_the_middle_of_large_octets(make_node: MakeNode, secured: str, end: str) -> None:
    far = make_node("far", reached_at=["*"], **settings_of(secured))
    with FaultProxy(far.binds[0]) as proxy:
        near = make_node("near", binds=[], seeds=[proxy.address], **settings_of(secured))
        near.wait_up("far", timeout=20)
        port = far.port()
        for number in range(3):
            near.send(port.id, number, BIG)
            assert eq(port.receive(timeout=20), (number, BIG))
        told, lost = Recorder(), Recorder()
        far.monitor("near", told)
        near.monitor(port, lost)
        near.call("far", "time", timeout=20)
        proxy.throttle(RATE, "forward")
        sender = gevent.spawn(near.send, port.id, "cut", bytes(LONG))
        eventually(frames)
        assert not sender.ready()  # it waits above the high mark
        gc.disable()  # what is kept in a circle of references is kept too long
        try:
            getattr(proxy, end)()
            assert told.wait(timeout=20)[0][:2] == ("transport_error", "near")
            assert lost.wait(timeout=20)[0][:2] == ("transport_error", "far")
            sender.get(timeout=20)
            eventually(lambda: not frames(), timeout=5)
        finally:
            gc.enable()
        proxy.heal()
        near.wait_up("far", timeout=20)
        for number in range(3):
            near.send(port.id, "after", number, BIG * 2)
            near.send(port.id, "small")
        for number in range(3):
            assert eq(port.receive(timeout=20), ("after", number, BIG * 2))
            assert port.receive(timeout=20) == ("small",)
        assert not len(port)


@pytest.mark.parametrize("secured", ["plain", "TLS"])
def test_octets_of_any_size_among_small_messages(make_node: MakeNode, secured: str) -> None:
    """With TLS they end anywhere in a record, and what follows begins there."""
    far = make_node("far", high_mark=1 << 26, **settings_of(secured))
    near = make_node("near", seeds=far.binds, high_mark=1 << 26, **settings_of(secured))
    near.wait_up("far", timeout=20)
    port = far.port()
    near.send(port.id, BIG)
    assert eq(port.receive(timeout=20), (BIG,))
    messages: list[tuple[Any, ...]] = []
    for more in (0, 1, 100, RECORD - 100, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD - 50):
        octets = BIG + bytes([more % 251]) * more
        messages += [(more, octets), ("small", more), (octets, [BIG, octets]), *[("few",)] * (more % 3), (octets,)]
    for message in messages:
        near.send(port.id, *message)
    for message in messages:
        assert eq(port.receive(timeout=20), message)
    near.send(port.id, "last")
    assert port.receive(timeout=20) == ("last",)


ROWS = """
import resource
import gmp
far = gmp.Node("far", binds=["127.0.0.1:0"], secret="geheim").start()
near = gmp.Node("near", binds=[], seeds=far.binds, secret="geheim").start()
near.wait_up("far", timeout=20)
port = far.port()
octets = bytes(64 * 1024)

def exchange():
    for _ in range(20):
        for number in range(12):
            near.send(port.id, number, octets)
        for number in range(12):
            assert port.receive(timeout=20) == (number, octets)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(-exchange() + exchange())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for other C libraries nothing is done")
def test_octets_too_few_for_a_frame_are_packed_into_memory_that_was_used_before() -> None:
    run = subprocess.run([sys.executable, "-c", ROWS], capture_output=True, text=True, check=True, timeout=60)
    assert int(run.stdout) < 240, "pages for each message"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the messages that began to arrive as frames, in this process."""
    sizes: list[int] = []
    begin = Frame.__init__

    def noted(frame: Frame, *args: Any) -> None:
        begin(frame, *args)
        sizes.append(frame.size)

    monkeypatch.setattr(Frame, "__init__", noted)
    return sizes


SENDER = """
import os, signal, sys
import gmp
from tests.test_frames import BIG, LONG
node = gmp.configure(node_id="near", binds=[], seeds=sys.argv[1:2], high_mark=2 * LONG)
node.wait_up("far", timeout=20)
for number in range(3):
    gmp.call(sys.argv[2], number, BIG, timeout=20)
gmp.send(sys.argv[2], "cut", bytes(LONG))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_sender_that_is_killed_in_the_middle_of_large_octets(make_node: MakeNode, begun: list[int]) -> None:
    """Under its high mark a send waits for nothing: the end comes while most of the message is still to be written."""
    far = make_node("far")
    port = far.port()
    told = Recorder()
    far.monitor_nodes(told)
    command = [sys.executable, "-c", SENDER, far.binds[0], port.id]
    environment = {**os.environ, "GMP_SECRET": "geheim"}
    with gevent.subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        for number in range(3):
            *message, reply = port.receive(timeout=20)
            assert eq(message, [number, BIG])
            far.send(reply, "go on")
        assert process.wait() == -9
    up, down = told.wait(2, timeout=20)
    assert up[:2] == ("near", True)
    assert down[:3] == ("near", False, "transport_error")
    assert begun[-1] > LONG
    eventually(lambda: not frames(), timeout=5)
    assert not len(port)
    near = make_node("near", binds=[], seeds=far.binds)
    near.wait_up("far", timeout=20)
    for number in range(3):
        near.send(port.id, number, BIG)
        assert eq(port.receive(timeout=20), (number, BIG))


class Wire:
    """A node that is only a socket, once it has logged in: what it reads and writes is msgpack, octet by octet."""

    def __init__(self, node: gmp.Node, *keys: str) -> None:
        host, port = node.binds[0].split(":")
        self.sock = gevent.socket.create_connection((host, int(port)), timeout=20)
        mine = greeting("wire", "msgpack", *keys)
        self.sock.sendall(mine)
        theirs = lines(self.sock, 2)
        proof = hmac.new(b"geheim", mine + theirs, hashlib.sha3_512).hexdigest()
        self.sock.sendall(f"hmac_sha3_512;{proof};msgpack\n".encode())
        lines(self.sock, 1)
        self._unpacker = msgpack.Unpacker(max_buffer_size=1 << 26)

    def receive(self, first: object) -> tuple[list[Any], bytes]:
        """The next array that begins so, and the octets of the sizes at its end if it is a frame."""
        while True:
            for message in self._unpacker:
                if message[:1] == [first]:
                    return message, self._read(sum(message[2:])) if first == FRAME else b""
            self._feed()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._unpacker.read_bytes(count - len(data))
            if len(data) < count:
                self._feed()
        return data

    def _feed(self) -> None:
        data = self.sock.recv(1 << 16)
        assert data, "closed"
        self._unpacker.feed(data)


@pytest.fixture
def wire(make_node: MakeNode) -> Iterator[Callable[..., tuple[gmp.Node, Wire]]]:
    """Makes a node with such a peer, whose greeting has these keys."""
    made: list[Wire] = []

    def make(*keys: str, **settings: Any) -> tuple[gmp.Node, Wire]:
        node = make_node("node", reached_at=["*"], high_mark=1 << 26, **settings)
        made.append(Wire(node, *keys, "role=dialled"))
        node.wait_up("wire", timeout=20)
        return node, made[-1]

    yield make
    for each in made:
        each.sock.close()


MakeWire = Callable[..., tuple[gmp.Node, Wire]]


def test_a_peer_whose_greeting_has_the_key_is_sent_frames_once_large_octets_were_seen(wire: MakeWire) -> None:
    node, peer = wire("gmp=1", "frames=1")
    for number in range(3):
        node.send("wire#port", number, BIG, [BIG])
    assert eq(peer.receive("port"), (["port", 0, BIG, [BIG]], b""))
    for number in (1, 2):
        (_, packed, *sizes), octets = peer.receive(FRAME)
        places = [msgpack.ExtType(PLACE, bytes([0, place])) for place in range(2)]
        assert msgpack.unpackb(packed) == ["port", number, places[0], [places[1]]]
        assert sizes == [WORTH, WORTH]
        assert eq(octets, BIG + BIG)


@pytest.mark.parametrize("keys", [["gmp=1", "runs=1"], ["gmp=1", "frames=2"], ["runs=1"], []])
def test_a_peer_whose_greeting_has_not_the_key_is_sent_none(wire: MakeWire, keys: list[str]) -> None:
    node, peer = wire(*keys)
    for number in range(3):
        node.send("wire#port", number, BIG, [BIG])
    for number in range(3):
        assert eq(peer.receive("port"), (["port", number, BIG, [BIG]], b""))


LIMIT = 1 << 20


def head(packed: Any, *sizes: Any) -> bytes:
    """The array at the beginning of a frame."""
    return bytes(msgpack.packb([FRAME, packed, *sizes]))


MESSAGE = msgpack.packb(["port", msgpack.ExtType(PLACE, b"\0\0")])
SHAPE = "a message must begin with a port name, or be a batch, [0, name, …], or a frame, [1, octets, size, …], not "
NO_FRAMES = {
    "without a message": (head(None, WORTH), f"{SHAPE}[1, None, {WORTH}]"),
    "without a size": (head(MESSAGE), f"{SHAPE}[1, {MESSAGE!r}]"),
    "a text": (head("text", WORTH), f"{SHAPE}[1, 'text', {WORTH}]"),
    "a size that is none": (head(MESSAGE, "4"), f"{SHAPE}[1, {MESSAGE!r}, '4']"),
    "too small": (head(MESSAGE, LEAST - 1), f"a frame with octets of the size {LEAST - 1}, expected {LEAST} at least"),
    "negative": (head(MESSAGE, -WORTH), f"a frame with octets of the size {-WORTH}, expected {LEAST} at least"),
    "too large": (
        head(MESSAGE, 1 << 60),
        f"a message of {len(MESSAGE) + (1 << 60)} bytes, which is over the limit of {LIMIT}",
    ),
    "too many": (
        head(MESSAGE, *[LEAST] * 16),
        f"a message of {len(MESSAGE) + LIMIT} bytes, which is over the limit of {LIMIT}",
    ),
}


@pytest.mark.parametrize("what", NO_FRAMES)
def test_a_head_that_is_no_frames_ends_the_connection_before_any_memory_is_taken(
    wire: MakeWire, begun: list[int], what: str
) -> None:
    data, text = NO_FRAMES[what]
    node, peer = wire("gmp=1", "frames=1", max_message=LIMIT)
    told = Recorder()
    node.monitor("wire", told)
    peer.sock.sendall(data)
    assert told.wait(timeout=20)[0] == ("transport_error", "wire", f"protocol error: {text}")
    assert not begun


@pytest.mark.parametrize(
    "packed",
    [
        b"\xc1",
        MESSAGE + b"\xc0",
        msgpack.packb(["port"]),
        msgpack.packb(["port", msgpack.ExtType(PLACE, b"\0\1")]),
        msgpack.packb(["port", msgpack.ExtType(PLACE, b"\0")]),
        msgpack.packb(["port", *[msgpack.ExtType(PLACE, b"\0\0")] * 2]),
        msgpack.packb([FRAME, MESSAGE, WORTH, msgpack.ExtType(PLACE, b"\0\0")]),
        msgpack.packb({"port": msgpack.ExtType(PLACE, b"\0\0")}),
    ],
)
def test_a_frame_whose_message_is_none_ends_the_connection(wire: MakeWire, begun: list[int], packed: bytes) -> None:
    node, peer = wire("gmp=1", "frames=1")
    port = node.port()
    told = Recorder()
    node.monitor("wire", told)
    peer.sock.sendall(head(MESSAGE.replace(b"\xa4port", msgpack.packb(port.name)), WORTH) + BIG + head(packed, WORTH) + BIG)
    assert told.wait(timeout=20)[0][2].startswith("protocol error: ")
    assert eq(port.receive(timeout=0), (BIG,))
    assert len(begun) == 2
    assert not frames()


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[Pieces]:
    """What was sent as frames by this process."""
    made: list[Pieces] = []
    begin = Pieces.__init__

    def noted(each: Pieces, *args: Any) -> None:
        begin(each, *args)
        made.append(each)

    monkeypatch.setattr(Pieces, "__init__", noted)
    return made


def echo(node: gmp.Node) -> gmp.Port:
    """A port that sends back what comes."""
    port = node.port()
    port.on(None, lambda *message: node.send(message[-1], *message[:-1]))
    return port


@pytest.mark.parametrize("names", [["far"], ["near"], ["far", "near"], []], ids=" and ".join)
def test_nodes_of_a_former_version_and_of_this_one(make_node: MakeNode, pieces: list[Pieces], names: list[str]) -> None:
    with older({*names}):
        far = make_node("far")
        near = make_node("near", seeds=far.binds)
        near.wait_up("far", timeout=20)
        for node, other in ((near, far), (far, near)):
            port = other.port()
            for number in range(3):
                message = (number, BIG, {"more": [BIG, b"few"]})
                node.send(port.id, *message)
                assert eq(port.receive(timeout=20), message)
            assert bool(pieces) is (other.id not in names)
            pieces.clear()


def test_large_octets_go_through_a_seed_as_they_are(make_node: MakeNode, pieces: list[Pieces]) -> None:
    seed = make_node("seed")
    nodes = [make_node(name, binds=[], seeds=seed.binds) for name in ("alice", "bob")]
    for node in nodes:
        node.wait_up(timeout=20)
    for node, port in zip(nodes, map(echo, reversed(nodes)), strict=True):
        for number in range(3):
            assert eq(node.call(port, number, BIG * 2, timeout=20), (number, BIG * 2))
    assert nodes[0].stats()["peers"]["bob"]["relayed"]
    assert not pieces


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_sees_none(make_node: MakeNode, make_perl: MakePerl, pieces: list[Pieces], framing: str) -> None:
    node = make_node("gmp")
    perl = make_perl(framing=framing, seeds=tuple(node.binds))
    node.wait_up("PerlA", timeout=20)
    (port,) = perl.run("rcv port, sub { my $reply = pop; snd $reply, @_ }")
    large = BIG if framing == "cbor" else "text" * WORTH
    for number in range(3):
        assert eq(node.call(port, number, large, timeout=20), (number, large))
    assert perl.failed_requests() == []
    assert not pieces


@pytest.mark.parametrize("secured", ["plain", "TLS"])
@pytest.mark.parametrize("end", [GreenletExit, KeyboardInterrupt])
def test_a_sender_that_is_ended_while_it_waits_has_sent_its_message_whole(
    make_node: MakeNode, secured: str, end: type[BaseException]
) -> None:
    far = make_node("far", reached_at=["*"], **settings_of(secured))
    with FaultProxy(far.binds[0]) as proxy:
        near = make_node("near", binds=[], seeds=[proxy.address], **settings_of(secured))
        near.wait_up("far", timeout=20)
        port = far.port()
        near.send(port.id, "first", BIG)
        assert eq(port.receive(timeout=20), ("first", BIG))
        proxy.blackhole("forward")
        octets = bytearray(BIG * (LONG // WORTH))

        def send() -> None:
            with pytest.raises(end):
                near.send(port.id, "large", octets, "same")

        sender = gevent.spawn(send)
        eventually(lambda: near.stats()["peers"]["far"]["queued_bytes"] > len(octets) // 2)
        octets[:] = bytes(len(octets))  # which the message was not sent with
        assert not near.try_send(port.id, "small")
        assert not sender.ready()
        sender.kill(end)
        proxy.heal()
        near.send(port.id, "last", BIG)
        assert eq(port.receive(timeout=20), ("large", BIG * (LONG // WORTH), "same"))
        assert eq(port.receive(timeout=20), ("last", BIG))
