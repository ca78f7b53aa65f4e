"""Byte streams between nodes: both ways, over plain TCP and TLS, whoever listens, and how they are refused."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

import gmp
from gmp.testing import FaultProxy
from gmp.wire.requests import ADDITIONS, PIECES, Key

from .certificates import self_signed
from .conftest import Recorder, eventually
from .perl_peer import PerlPeer
from .processes import Processes

MakeNode = Callable[..., gmp.Node]
Pair = tuple[gmp.Node, gmp.Node]
CERT = self_signed()
SECURITY: dict[str, dict[str, Any]] = {"plain": {"secret": "geheim"}, "tls": {"secret": None, "cert": CERT}}
served = Recorder()


# ---- what the other node runs


def echo(stream: gmp.Stream) -> None:
    """Send back what comes, until the end."""
    while data := stream.recv(100_000):
        stream.sendall(data)


def digest(size: int, stream: gmp.Stream) -> None:
    """Read so many bytes, answer with their checksum."""
    hashed = hashlib.sha256()
    with stream.makefile("rb") as file:
        while size:
            data = file.read(min(size, 1 << 20))
            hashed.update(data)
            size -= len(data)
    stream.sendall(hashed.digest())


def source(size: int, stream: gmp.Stream) -> None:
    """Send so many bytes and their checksum behind them."""
    block, hashed = os.urandom(100_003), hashlib.sha256()
    while size:
        piece = block[:size]
        hashed.update(piece)
        stream.sendall(piece)
        size -= len(piece)
    stream.sendall(hashed.digest())


def upper_after_end(stream: gmp.Stream) -> None:
    """Read to the end, then answer."""
    pieces = []
    while data := stream.recv(1000):
        pieces.append(data)
    stream.sendall(b"".join(pieces).upper())


def hold(*args: Any) -> None:
    """Keep the stream for the test."""
    served(*args)


def fail(stream: gmp.Stream) -> None:
    raise ValueError("as asked")


def drop(stream: gmp.Stream) -> None:
    """Return at once, without closing."""


@pytest.fixture(autouse=True)
def _nothing_served() -> None:
    global served
    served = Recorder()


@pytest.fixture(params=["plain", "tls"])
def security(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SECURITY[request.param]


@pytest.fixture
def make_pair(make_node: MakeNode, security: dict[str, Any]) -> Callable[..., Pair]:
    """A node that lets everything of this module be called, and one that opens streams to it."""

    def make(server: dict[str, Any] | None = None, client: dict[str, Any] | None = None) -> Pair:
        seed = make_node("seed", **security)
        common: dict[str, Any] = {"seeds": seed.binds, **security}
        return (
            make_node("server", allow=["tests.test_streams"], **common, **(server or {})),
            make_node("client", **common, **(client or {})),
        )

    return make


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()


def read_all(stream: gmp.Stream) -> bytes:
    pieces = []
    while data := stream.recv(100_000):
        pieces.append(data)
    return b"".join(pieces)


def read(stream: gmp.Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return data


# ---- bytes


def test_bytes_go_both_ways(pair: Pair, security: dict[str, Any]) -> None:
    _, client = pair
    with client.open_stream("server", "tests.test_streams:echo") as stream:
        assert stream.node_id == "server"
        assert stream.encrypted == ("cert" in security)
        for data in (b"x", b"hello" * 10_000, bytearray(b"y"), memoryview(b"z" * 17)):
            stream.sendall(data)
            assert read(stream, len(data)) == data
    assert stream.closed


def test_a_large_file_arrives_with_the_right_checksum_in_each_direction(pair: Pair) -> None:
    _, client = pair
    size = 20_000_003
    with client.open_stream("server", digest, size) as stream:
        block, hashed, left = os.urandom(100_003), hashlib.sha256(), size
        while left:
            piece = block[:left]
            hashed.update(piece)
            stream.sendall(piece)
            left -= len(piece)
        assert read(stream, 32) == hashed.digest()
    with client.open_stream("server", source, size) as stream:
        received = hashlib.sha256()
        buffer = bytearray(70_000)
        left = size
        while left:
            count = stream.recv_into(buffer, min(left, len(buffer)))
            assert count
            received.update(buffer[:count])
            left -= count
        assert read(stream, 32) == received.digest()
        assert stream.recv(1) == b""


def test_both_directions_are_full_at_once(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", echo) as stream:
        data = os.urandom(3_000_000)
        writer = gevent.spawn(stream.sendall, data)
        assert hashlib.sha256(read(stream, len(data))).digest() == hashlib.sha256(data).digest()
        writer.get(timeout=20)


def test_half_close_lets_the_other_direction_go_on(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", upper_after_end) as stream:
        stream.sendall(b"abc" * 50_000)
        stream.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="shut down"):
            stream.sendall(b"more")
        assert read_all(stream) == b"ABC" * 50_000
        assert stream.recv(10) == b""


def test_half_close_loses_nothing_that_has_come_already(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", hold) as stream:
        (theirs,) = served.wait(timeout=20)[0]
        theirs.sendall(b"early" * 1000)
        assert stream.recv(2) == b"ea"
        stream.shutdown(socket.SHUT_WR)
        stream.shutdown(socket.SHUT_WR)
        theirs.sendall(b"late")
        theirs.close()
        assert read_all(stream) == (b"early" * 1000)[2:] + b"late"


def test_a_stream_makes_files(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", hold) as stream:
        (theirs,) = served.wait(timeout=20)[0]
        with theirs.makefile("rw", newline="\n") as there, stream.makefile("rwb") as here:
            here.write(b"line one\nline two\xc3\xa4\n")
            here.flush()
            assert [there.readline() for _ in range(2)] == ["line one\n", "line two\xe4\n"]
            there.write("back\n")
            there.flush()
            assert here.readline() == b"back\n"
        assert not stream.closed
        theirs.close()
        assert stream.makefile("rb").read() == b""
        with pytest.raises(ValueError, match="mode 'x'"):
            stream.makefile("x")


def test_reading_times_out_and_goes_on(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", hold) as stream:
        (theirs,) = served.wait(timeout=20)[0]
        stream.settimeout(0.05)
        assert stream.gettimeout() == 0.05
        with pytest.raises(TimeoutError):
            stream.recv(10)
        theirs.sendall(b"now")
        stream.settimeout(20)
        assert stream.recv(10) == b"now"
        theirs.close()


def test_writing_waits_for_the_reader_and_only_the_writer_does(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", hold) as stream:
        (theirs,) = served.wait(timeout=20)[0]
        stream.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stream.sendall(bytes(100_000_000))
        assert client.call("server", "time", timeout=20)
        theirs.close()


def test_what_was_read_too_far_belongs_to_the_stream(pair: Pair) -> None:
    """The client's first bytes come with its authentication line."""
    server, client = pair
    for _ in range(20):
        with client.open_stream("server", echo) as stream:
            stream.sendall(b"first")
            assert read(stream, 5) == b"first"
    assert server.is_up("client")


# ---- the end


def read_by_recv_into(stream: gmp.Stream) -> bytes:
    data, buffer = b"", bytearray(5_000)
    while count := stream.recv_into(buffer):
        data += buffer[:count]
    return data


READERS: dict[str, Callable[[gmp.Stream], bytes]] = {
    "recv": read_all,
    "recv_into": read_by_recv_into,
    "makefile read": lambda stream: bytes(stream.makefile("rb").read()),
    "makefile iteration": lambda stream: b"".join(stream.makefile("rb")),
    "makefile readline": lambda stream: b"".join(iter(stream.makefile("rb").readline, b"")),
    "makefile text": lambda stream: stream.makefile("r", newline="").read().encode(),
    "makefile unbuffered": lambda stream: b"".join(iter(lambda: stream.makefile("rb", 0).read(1000), b"")),
}
LINES = b"a line\n" * 30_000


def feed(how: str, stream: gmp.Stream) -> None:
    """Send half of the lines and fail, or all of them, and end in that way."""
    stream.sendall(LINES[: len(LINES) // 2])
    if how == "raises":
        raise ValueError("as asked")
    if how == "raises in a with block":
        with stream:
            raise ValueError("as asked")
    if how == "is killed":
        raise gevent.GreenletExit
    if how == "aborts":
        stream.abort()
        return
    if how == "passes on to a greenlet that lets go":
        gevent.spawn(_let_go, stream)
        return
    if how == "passes on to a port that fails":
        gmp.port(_fail_as_owner, stream)
        return
    if how == "writes after a time-out":
        stream.settimeout(0.05)
        try:
            stream.sendall(bytes(100_000_000))
        finally:
            stream.close()
        return
    stream.sendall(LINES[len(LINES) // 2 :])
    if how == "closes":
        stream.close()
    elif how == "shuts down":
        stream.shutdown(socket.SHUT_WR)
        served(stream)
    elif how == "with block":
        with stream:
            pass
    elif how == "a port that ends":
        gmp.port(lambda port, owned: port.own(owned) and None, stream)


def _let_go(stream: gmp.Stream) -> None:
    """Return without closing, long after the function."""
    gevent.sleep(0.01)


def _fail_as_owner(port: gmp.Port, stream: gmp.Stream) -> None:
    port.own(stream)
    raise ValueError("as asked, in a port")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("how", ["closes", "returns", "shuts down", "with block", "a port that ends"])
def test_an_end_in_order_is_read_as_one(pair: Pair, reader: str, how: str) -> None:
    _, client = pair
    with client.open_stream("server", feed, how) as stream:
        stream.settimeout(20)
        assert READERS[reader](stream) == LINES
        assert stream.recv(10) == b""


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("how", ["raises", "aborts"])
def test_no_reader_takes_a_cut_for_an_end(pair: Pair, reader: str, how: str) -> None:
    _, client = pair
    with client.open_stream("server", feed, how) as stream:
        stream.settimeout(20)
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                READERS[reader](stream)


@pytest.mark.parametrize(
    "how",
    [
        "raises in a with block",
        "is killed",
        "passes on to a greenlet that lets go",
        "passes on to a port that fails",
    ],
)
def test_whatever_stops_whoever_feeds_a_stream_is_a_cut_behind_what_was_sent(pair: Pair, how: str) -> None:
    _, client = pair
    with client.open_stream("server", feed, how) as stream:
        stream.settimeout(20)
        assert read(stream, len(LINES) // 2) == LINES[: len(LINES) // 2]
        with pytest.raises(ConnectionResetError):
            stream.recv(10)


def test_a_write_that_failed_half_way_cannot_be_closed_in_order(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", feed, "writes after a time-out") as stream:
        stream.settimeout(20)
        gevent.sleep(0.2)
        with pytest.raises(ConnectionResetError):
            read_all(stream)


def test_the_opener_fails_half_way_and_the_function_reads_a_cut(pair: Pair) -> None:
    _, client = pair

    def send_half() -> None:
        with client.open_stream("server", hold) as stream:
            stream.sendall(b"half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        send_half()
    (theirs,) = served.wait(timeout=20)[0]
    assert read(theirs, 4) == b"half"
    with pytest.raises(ConnectionResetError):
        theirs.recv(10)
    eventually(lambda: _write_fails(theirs))
    theirs.close()


def _write_fails(stream: gmp.Stream) -> bool:
    try:
        stream.sendall(b"x" * 1000)
    except OSError as error:
        assert isinstance(error, ConnectionError | BrokenPipeError)  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize("taken", [0, 1])
def test_a_goodbye_for_which_there_is_no_room_goes_out_later(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Also when the node is closed behind it."""

    def take(stream: gmp.Stream, data: bytes) -> bytes:
        if taken:
            stream._sock._sock.send(data[:taken])
        return data[taken:]

    monkeypatch.setattr(gmp.Stream, "_send_now", take)
    server, client = pair
    for end in (lambda stream: stream.close(), lambda stream: (stream.close(), server.close())):
        stream = client.open_stream("server", hold)
        (theirs,) = served.wait(timeout=20)[-1]
        served.calls.clear()
        theirs.sendall(LINES)
        end(theirs)
        theirs.close()
        assert theirs.closed
        assert theirs.fileno() == -1
        stream.settimeout(20)
        assert read_all(stream) == LINES
        stream.close()
        eventually(lambda theirs=theirs: theirs.lingering is None)


def test_closing_never_waits_for_room() -> None:
    ours, theirs = gevent.socket.socketpair()
    stream = gmp.Stream(ours, "node")
    with contextlib.suppress(BlockingIOError):
        while True:
            ours._sock.send(bytes(100_000))
    assert stream._send_now(b"goodbye") == b"goodbye"
    stream.close()
    assert stream.lingering is not None
    while theirs.recv(1_000_000):
        pass  # the end comes when it has found room
    eventually(lambda: stream.lingering is None)
    theirs.close()


def test_a_process_that_is_killed_is_a_cut(
    make_node: MakeNode, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS it is the goodbye that is missing: `test_with_tls_an_end_without_a_goodbye_is_a_cut`."""
    monkeypatch.setenv("GMP_ALLOW", "tests.test_streams")
    client = make_node("client")
    child = processes.start("other", *client.binds)
    client.wait_up("other", timeout=20)
    stream = client.open_stream("other", "tests.test_streams:hold_after", b"half")
    assert read(stream, 4) == b"half"
    child.kill(signal.SIGKILL)
    stream.settimeout(20)
    with pytest.raises(ConnectionResetError):
        stream.recv(10)
    stream.close()


def test_towards_a_side_without_chunks_bytes_go_as_they_are(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADDITIONS, PIECES, Key("nothing"))
    _, client = pair
    with client.open_stream("server", feed, "closes") as stream:
        assert read_all(stream) == LINES
    with client.open_stream("server", upper_after_end) as stream:
        stream.sendall(b"abc")
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"ABC"
    with client.open_stream("server", feed, "raises") as stream, pytest.raises(ConnectionResetError):
        read_all(stream)


def hold_after(data: bytes, stream: gmp.Stream) -> None:
    """Send that, and keep the stream."""
    stream.sendall(data)
    hold(stream)


def test_a_function_that_raises_is_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    _, client = pair
    with client.open_stream("server", fail) as stream, pytest.raises(ConnectionResetError):
        stream.recv(10)
    assert "as asked" in caplog.text


def test_an_end_that_nothing_refers_to_is_closed(pair: Pair) -> None:
    _, client = pair
    with client.open_stream("server", drop) as stream:
        stream.settimeout(20)
        assert stream.recv(10) == b""


def test_a_stream_ends_with_its_node(pair: Pair) -> None:
    server, client = pair
    stream = client.open_stream("server", hold)
    served.wait(timeout=20)
    server.close()
    stream.settimeout(20)
    with pytest.raises(ConnectionResetError):
        stream.recv(10)
    client.close()
    assert stream.closed
    with pytest.raises(OSError, match=r"."):
        stream.recv(10)


def test_a_closed_stream_says_so(pair: Pair) -> None:
    _, client = pair
    stream = client.open_stream("server", echo)
    stream.close()
    stream.close()
    assert stream.fileno() == -1
    for operation in (lambda: stream.sendall(b"x"), lambda: stream.recv(1), lambda: stream.recv_into(bytearray(1))):
        with pytest.raises(OSError, match=r"."):
            operation()


@pytest.mark.parametrize("security", ["plain", "tls"], indirect=True)
def test_a_cut_in_the_middle_is_an_error_and_no_end(
    make_pair: Callable[..., Pair], security: dict[str, Any], make_node: MakeNode
) -> None:
    server = make_node("behind", reached_at=["*"], allow=["tests.test_streams"], **security)
    with FaultProxy(server.binds[0]) as proxy:
        client = make_node("before", seeds=[proxy.address], binds=[], **security)
        client.wait_up("behind", timeout=20)
        stream = client.open_stream("behind", hold)
        (theirs,) = served.wait(timeout=20)[0]
        theirs.sendall(b"half of")
        assert read(stream, 7) == b"half of"
        proxy.reset()
        for end in (stream, theirs):
            end.settimeout(20)
            with pytest.raises(ConnectionError):
                end.recv(10)
            end.close()


def test_with_tls_an_end_without_a_goodbye_is_a_cut(make_node: MakeNode) -> None:
    server = make_node("server", allow=["tests.test_streams"], **SECURITY["tls"])
    client = make_node("client", seeds=server.binds, **SECURITY["tls"])
    stream = client.open_stream("server", hold)
    (theirs,) = served.wait(timeout=20)[0]
    theirs.sendall(b"half of")
    theirs._sock.close()  # as the kernel does for a process that was killed
    assert read(stream, 7) == b"half of"
    with pytest.raises(ConnectionResetError, match="cut off"):
        stream.recv(10)
    stream.close()
    theirs.close()


# ---- who dials


def test_a_node_that_does_not_listen_dials_back(make_pair: Callable[..., Pair]) -> None:
    server, client = make_pair(server={"binds": []})
    assert server.binds == []
    server.wait_up("client", timeout=20)
    with client.open_stream("server", echo) as stream:
        stream.sendall(b"hello")
        assert read(stream, 5) == b"hello"


def test_a_node_that_does_not_listen_opens_streams(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair(client={"binds": []})
    with client.open_stream("server", echo) as stream:
        stream.sendall(b"hello")
        assert read(stream, 5) == b"hello"


def test_between_two_nodes_that_do_not_listen_it_raises_at_once(make_pair: Callable[..., Pair]) -> None:
    _, client = make_pair(server={"binds": []}, client={"binds": []})
    client.wait_up(timeout=20)
    eventually(lambda: "server" in client.known_nodes())
    start = time.monotonic()
    with pytest.raises(gmp.GmpError, match="neither this node nor server listens"):
        client.open_stream("server", echo)
    assert time.monotonic() - start < 5  # half of connect_timeout
    assert client.call("server", "time", timeout=20)  # relayed: that makes no way for streams
    with pytest.raises(gmp.GmpError, match="neither this node nor server listens"):
        client.open_stream("server", echo)


def test_towards_perl_it_raises_at_once(make_node: MakeNode) -> None:
    node = make_node("node")
    with PerlPeer.dial(node.binds[0]) as perl:
        perl.barrier()
        with pytest.raises(gmp.GmpError, match="PerlA is no gmp node"):
            node.open_stream("PerlA", "Some::function", 1)
        perl.barrier()
        assert not [message for message in perl.log if "DataConn" in str(message)]


def test_a_stream_to_the_own_node(make_node: MakeNode) -> None:
    node = make_node("node")
    with node.open_stream("node", echo) as stream:
        stream.sendall(b"hello")
        assert read(stream, 5) == b"hello"
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(10) == b""
    with pytest.raises(gmp.NotAllowed):
        node.open_stream("node", "tests.test_streams:nothing")


# ---- refusals


@pytest.mark.parametrize("name", ["os:getcwd", "tests.test_streams:nothing", "tests.nowhere:f"])
def test_a_function_that_is_not_allowed_is_refused(pair: Pair, name: str) -> None:
    with pytest.raises(gmp.NotAllowed, match="server refused"):
        pair[1].open_stream("server", name)


def test_arguments_that_cannot_travel_raise(pair: Pair) -> None:
    with pytest.raises(gmp.MessageError):
        pair[1].open_stream("server", echo, object())


def test_a_node_that_cannot_be_reached(make_node: MakeNode) -> None:
    node = make_node("node", connect_timeout=0.3)
    with pytest.raises(gmp.PortDied, match="nowhere"):
        node.open_stream("nowhere", echo)


@pytest.fixture
def mute_pair(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The server is connected and says nothing when a stream is announced."""
    server, client = pair
    monkeypatch.setattr(server._core.streams, "expect", lambda *_: None)
    client.wait_up("server", timeout=20)
    return server, client


def test_time_is_up(mute_pair: Pair) -> None:
    _, client = mute_pair
    with pytest.raises(gmp.WaitTimeout, match=r"no stream to .*echo.* on server within 0.2 s"):
        client.open_stream("server", echo, timeout=0.2)
    assert client.stats()["ports"] == 0


def test_a_node_that_is_lost_meanwhile(mute_pair: Pair) -> None:
    server, client = mute_pair

    def attempt() -> None:
        with pytest.raises(gmp.PortDied, match="server"):
            client.open_stream("server", echo)

    opening = gevent.spawn(attempt)
    eventually(lambda: client.stats()["ports"] == 1)
    server.close()
    opening.get(timeout=20)


class Dialler:
    """Logs in with the first word ``aemp-dataconn``, without gmp."""

    def __init__(self, bind: str, node_id: str, stream_id: str | None, secret: str = "geheim") -> None:
        host, port = bind.split(":")
        self.sock = gevent.socket.create_connection((host, int(port)), timeout=20)
        keys = "" if stream_id is None else f";dataconn_id={stream_id}"
        mine = f"aemp-dataconn;1;{node_id};hmac_sha3_512;json{keys}\n{secrets.token_urlsafe(60)}\n".encode()
        self.sock.sendall(mine)
        file = self.sock.makefile("rb", buffering=0)
        theirs = file.readline() + file.readline()
        proof = hmac.new(secret.encode(), mine + theirs, hashlib.sha3_512).hexdigest()
        # the first bytes of the stream come in the same breath
        self.sock.sendall(f"hmac_sha3_512;{proof};json\nfirst".encode())
        file.readline()
        file.close()

    def read(self) -> bytes:
        """What comes, until it is closed; then it is closed here too."""
        data = b""
        try:
            while piece := self.sock.recv(1000):
                data += piece
        except ConnectionResetError:
            pass
        self.sock.close()
        return data


def test_a_stream_of_the_right_id_from_the_right_node_once(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    node = make_node("node", allow=["tests.test_streams"])
    stream_id, other_id = secrets.token_hex(16), secrets.token_hex(16)
    with PerlPeer.dial(node.binds[0], "PerlA") as perl, PerlPeer.dial(node.binds[0], "PerlB") as other:
        for each in (perl, other):
            each.port()
        expect = "AnyEvent::MP::DataConn::_expect"
        perl.request(expect, stream_id, perl.port(), 20, "tests.test_streams:hold", "argument")
        perl.request(expect, "expired", perl.port(), 0.001, "tests.test_streams:hold", "argument")
        eventually(lambda: len(node._core.network.expected_streams._table) == 2)
        gevent.sleep(0.01)
        for node_id, wrong in (("PerlB", stream_id), ("PerlA", other_id), ("PerlA", "expired"), ("PerlA", None)):
            assert Dialler(node.binds[0], node_id, wrong).read() == b""
        assert served.calls == []
        with caplog.at_level(logging.WARNING, "gmp"):
            right = Dialler(node.binds[0], "PerlA", stream_id)
            ((argument, stream),) = served.wait(timeout=20)
            assert (argument, stream.node_id) == ("argument", "PerlA")
            assert read(stream, 5) == b"first"
            assert Dialler(node.binds[0], "PerlA", stream_id).read() == b""  # replayed
        assert len(served.calls) == 1
        stream.sendall(b"still works")
        stream.close()
        assert right.read() == b"still works"
        assert perl.call("node", "time")
        assert other.call("node", "time")


def test_a_login_with_a_wrong_secret_gets_no_stream(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    node = make_node("node", allow=["tests.test_streams"])
    with PerlPeer.dial(node.binds[0]) as perl:
        perl.request("AnyEvent::MP::DataConn::_expect", "id", perl.port(), 20, "tests.test_streams:hold")
        eventually(lambda: node._core.network.expected_streams._table)
        assert Dialler(node.binds[0], "PerlA", "id", secret="falsch").read() == b""
        assert "does not have our secret" in caplog.text
        dialler = Dialler(node.binds[0], "PerlA", "id")
        served.wait(timeout=20)[0][-1].close()
        dialler.read()


def test_a_refusal_kills_the_port_of_whoever_opens(make_node: MakeNode) -> None:
    node = make_node("node", allow=["tests.test_streams"])
    with PerlPeer.dial(node.binds[0]) as perl:
        port = perl.port()
        perl.request("AnyEvent::MP::DataConn::_expect", "id", port, 20, "os::getcwd")
        name, tag, text = perl.expect("", "kil1")
        assert (name, tag) == (port.partition("#")[2], "AnyEvent::MP::DataConn")
        assert "not allowed" in text
        perl.request("AnyEvent::MP::DataConn::_connect", "id", "PerlA")
        perl.request("AnyEvent::MP::DataConn::_expect")
        assert perl.call("node", "time")
