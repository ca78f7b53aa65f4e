"""Hostile peers against a node that exchanges calls with another one all the while: no call fails, memory stays bounded, and
everything is refused in ten seconds."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
import gevent.socket
import gevent.subprocess as subprocess
import pytest

import gmp
from gmp.wire.framing import make_encoder

from .certificates import self_signed

MakeNode = Callable[..., gmp.Node]
IN_TIME = 10.0  # seconds after the accept
MAX_MESSAGE = 1 << 20
BOUND = 64 << 20  # bytes by which the node's memory may grow: its buffers, a few messages, 128 visitors
CERT = self_signed()


class Target:
    """A node in a process of its own, which talks to a healthy node here."""

    def __init__(self, process: Any, bind: str, caller: gmp.Node) -> None:
        self.process, self.bind, self.caller = process, bind, caller
        self.calls, self.failures = 0, list[BaseException]()
        self._memory = self.memory()
        self._talking = gevent.spawn(self._talk)

    def _talk(self) -> None:
        while True:
            try:
                assert self.caller.call("target", "time", timeout=20)[0] > 0
                self.calls += 1
            except (gmp.GmpError, AssertionError) as error:
                self.failures.append(error)
            gevent.sleep(0.001)

    def memory(self) -> int:
        """Bytes that are resident."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def check(self) -> None:
        """Nothing has happened to the healthy."""
        before = self.calls
        with gevent.Timeout(20, AssertionError("the healthy nodes do not talk any more")):
            while self.calls < before + 3 and not self.failures:
                gevent.sleep(0.01)
        assert not self.failures
        assert self.caller.up_nodes() == ["target"]
        assert self.process.poll() is None
        assert self.memory() - self._memory < BOUND
        print(f"{self.calls} calls meanwhile, memory grew by {self.memory() - self._memory >> 10} KiB")

    def stop(self) -> None:
        self._talking.kill()

    def connect(self) -> Any:
        host, port = self.bind.split(":")
        return gevent.socket.create_connection((host, int(port)), timeout=20)

    def refused_after(self, *data: bytes) -> float:
        """Connect, send, and wait for the end; return how many seconds it took from the connection on."""
        with self.connect() as sock:
            start = time.monotonic()
            for piece in data:
                send(sock, piece)
            read_to_end(sock)
        return time.monotonic() - start

    def log_in(self, framing: str, node_id: str = "hostile", secret: str = "geheim") -> Any:
        """A socket on which messages in that framing may follow."""
        sock = self.connect()
        mine = greeting(node_id, "json")
        sock.sendall(mine)
        theirs = lines(sock, 2)
        proof = hmac.new(secret.encode(), mine + theirs, hashlib.sha3_512).hexdigest()
        sock.sendall(f"hmac_sha3_512;{proof};{framing}\n".encode())
        lines(sock, 1)
        return sock


def send(sock: Any, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        pass  # it is closed already


def read_to_end(sock: Any) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionError:
        pass  # closed with bytes of ours unread
    return data


def lines(sock: Any, count: int) -> bytes:
    data = b""
    while data.count(b"\n") < count:
        octet = sock.recv(1)
        assert octet, f"closed after {data!r}"
        data += octet
    return data


def greeting(node_id: str, framings: str, *keys: str) -> bytes:
    first = ";".join(["aemp", "1", node_id, "tls_sha3_512,hmac_sha3_512", framings, *keys])
    return f"{first}\n{secrets.token_urlsafe(60)}\n".encode()


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[Any, str]]:
    """The target's process, one for all tests of this file: each must leave it as healthy as it was."""
    environment = {
        **os.environ,
        "GMP_SECRET": "geheim",
        "GMP_CERT": CERT,
        "GMP_REQUIRE_TLS": "no",
        "GMP_HANDSHAKE_TIMEOUT": "1",
        "GMP_MAX_MESSAGE": str(MAX_MESSAGE),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.child", "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    yield child, child.stdout.readline().decode().strip()
    child.stdin.close()
    child.wait(timeout=20)
    child.stdout.close()


@pytest.fixture
def target(process: tuple[Any, str], make_node: MakeNode) -> Iterator[Target]:
    child, bind = process
    caller = make_node("caller", binds=[], seeds=[bind])
    caller.wait_up("target", timeout=30)
    caller.call("target", "time")
    target = Target(child, bind, caller)
    yield target
    try:
        target.check()
    finally:
        target.stop()


def all_at_once(target: Target, count: int, ways: list[list[bytes]]) -> None:
    """So many connections at the same time, which stall in each of these ways; each must end in time."""
    pool = gevent.pool.Pool(count)
    times = list(pool.imap_unordered(lambda number: target.refused_after(*ways[number % len(ways)]), range(count)))
    assert len(times) == count
    assert max(times) < IN_TIME


def test_stalled_greetings(target: Target) -> None:
    whole = greeting("hostile", "json")
    all_at_once(target, 200, [[b""], [b"aemp;1;hos"], [whole[:60]], [whole]])


def test_stalled_tls_handshakes(target: Target) -> None:
    first = greeting("hostile", "json", "tls=1.0")
    all_at_once(target, 200, [[first], [first, b"\x16\x03\x01\x02\x00\x01\x00"], [first, b"\x16\x03\x01\x00\x05hello"]])


def test_tls_that_is_answered_with_something_else(target: Target) -> None:
    for data in (b"hmac_sha3_512;00;json\n", b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", os.urandom(1000)):
        assert target.refused_after(greeting("hostile", "json", "tls=1.0"), data) < IN_TIME


def test_slow_greetings_are_bounded_in_all(target: Target) -> None:
    """An octet now and then does not buy more time."""
    with target.connect() as sock:
        start = time.monotonic()
        for octet in greeting("hostile", "json"):
            try:
                sock.sendall(bytes([octet]))
            except OSError:
                break
            gevent.sleep(0.1)
        read_to_end(sock)
    assert time.monotonic() - start < IN_TIME


def flood(target: Target, count: int, width: int) -> list[float]:
    """So many bad logins, so many of them at the same time; returns how long each took."""
    data = b"hmac_sha3_512;" + b"0" * 128 + b";json\n"

    def login(number: int) -> float:
        return target.refused_after(greeting(f"guess{number}", "json"), data)

    return list(gevent.pool.Pool(width).imap_unordered(login, range(count)))


def join_honestly(target: Target, make_node: MakeNode) -> None:
    """A new node joins within 30 s; being pushed out by the flood once or twice is no failure."""
    with gevent.Timeout(30, AssertionError("an honest node cannot join")):
        honest = make_node("honest/", binds=[], seeds=[target.bind])
        while True:
            honest.wait_up("target")
            try:
                assert honest.call("target", "time")
                break
            except gmp.PortDied:
                continue
    honest.close()


def test_bad_logins_and_an_honest_node_among_them(target: Target, make_node: MakeNode) -> None:
    flooding = gevent.spawn(flood, target, 500, 100)
    gevent.sleep(0.1)
    join_honestly(target, make_node)
    assert max(flooding.get(timeout=60)) < IN_TIME


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_bad_logins(target: Target, make_node: MakeNode) -> None:
    flooding = gevent.spawn(flood, target, 10_000, 150)
    for _ in range(3):
        join_honestly(target, make_node)
        gevent.sleep(1)
    times = flooding.get(timeout=240)
    assert len(times) == 10_000
    assert max(times) < IN_TIME


def test_a_replayed_session(target: Target) -> None:
    with target.connect() as sock:
        mine = greeting("hostile", "json")
        sock.sendall(mine)
        theirs = lines(sock, 2)
        proof = hmac.new(b"geheim", mine + theirs, hashlib.sha3_512).hexdigest().encode()
        session = mine + b"hmac_sha3_512;" + proof + b";json\n" + b'["","kil1","x"]'
        sock.sendall(session[len(mine) :])
        assert lines(sock, 1).startswith(b"hmac_sha3_512;")
    for _ in range(3):
        assert target.refused_after(session) < IN_TIME
    (info,) = target.caller.call("target", "gmp.info", timeout=20)
    assert "hostile" not in str(info)


@pytest.mark.parametrize("node_id", [b"target", b"hostile"])
def test_a_reflected_greeting_and_an_equal_nonce(target: Target, node_id: bytes) -> None:
    with target.connect() as sock:
        start = time.monotonic()
        theirs = lines(sock, 2)
        send(sock, theirs.replace(b"target", node_id, 1))
        send(sock, read_to_end(sock))
    assert time.monotonic() - start < IN_TIME


def test_a_proof_that_is_reflected(target: Target) -> None:
    """Each of two connections is sent what the other says."""
    with target.connect() as one, target.connect() as other:
        start = time.monotonic()
        first, second = lines(one, 2), lines(other, 2)
        send(one, second.replace(b"target", b"hostile", 1))
        send(other, first.replace(b"target", b"hostile", 1))
        read_to_end(one)
        read_to_end(other)
    assert time.monotonic() - start < IN_TIME


def array(count: int) -> bytes:
    return b"\xdd" + struct.pack(">I", count)


def nested_exts(levels: int, code: int) -> bytes:
    """A message with an ext type in an ext type in …, each with an array around it."""
    data = b"\xc0"
    for _ in range(levels):
        inner = b"\x91" + data
        data = b"\xc9" + struct.pack(">Ib", len(inner), code) + inner
    return b"\x92\xa0" + data


TOO_MUCH = b"x" * (4 * MAX_MESSAGE)
BOMBS = [
    ("json", b"[" * 200_000),
    ("json", b'["",' + b'{"a":' * 200_000),
    ("json", b'["","' + TOO_MUCH),
    ("json", b'["x"]' * 10 + b'{"a":1}'),
    ("json", b'["\xff"]'),
    ("msgpack", b"\x91" * 200_000),
    ("msgpack", b"\x81\xa1a" * 200_000),
    ("msgpack", b"\x92\xa0\xc6\xff\xff\xff\xff" + TOO_MUCH),
    ("msgpack", b"\x92\xa0\xdb\x7f\xff\xff\xff" + TOO_MUCH),
    ("msgpack", array(0xFFFFFFFF)),
    ("msgpack", array(0x00FFFFFF) + b"\xc0" * (2 * MAX_MESSAGE)),
    *[("msgpack", nested_exts(levels, 2)) for levels in (70, 250, 1000, 20_000)],  # no set holds another one
    ("msgpack", b"\x92\xa0\xc7\x02\x06\xff\xff"),
    ("msgpack", b"\x92\xa0\xc7\x08\x05\xffnumber\xff"),
    ("msgpack", b"\xc1"),
    ("msgpack", b"\x93\x01\xc4\x01\xc0\xce\xff\xff\xff\xff" + TOO_MUCH),  # heads of frames
    ("msgpack", b"\x93\x01\xc4\x01\xc0\xcf" + b"\x7f" * 8 + TOO_MUCH),
    ("msgpack", b"\x93\x01\xc4\x01\xc0" + struct.pack(">BI", 0xCE, MAX_MESSAGE - 1) + TOO_MUCH),
    ("msgpack", b"\x93\x01\xc6\xff\xff\xff\xff" + TOO_MUCH),
    ("msgpack", array(0x000FFFFF) + b"\x01\xc4\x01\xc0" + b"\xce\0\1\0\0" * 0x000FFFFD),
    ("cbor", b"\x81" * 200_000),
    ("cbor", b"\x9f" * 200_000),
    ("cbor", b"\xa1\x61a" * 200_000),
    ("cbor", b"\x82\x40\x5b\xff\xff\xff\xff\xff\xff\xff\xff" + TOO_MUCH),
    ("cbor", b"\x82\x40" + b"\xc2" * 2000),
    ("cbor", b"\x82\x40\xd9\x01\x02" * 2000),
    ("cbor", b"\xff"),
]
#: messages that are lost alone
STRANGE = [
    ("json", b'["","time",' + b"9" * 100_000 + b"]"),
    ("json", b'["","time",' + b"[" * 1000 + b"]" * 1001),
    *[("msgpack", nested_exts(levels, code)) for levels in (70, 250, 1000, 20_000) for code in (1, 3)],
    ("msgpack", b"\x92\xa0\xc7\x02\x63\xff\xff"),
    ("msgpack", b"\x92\xa0" + b"\x91" * 1000 + b"\xc0"),
    ("cbor", b"\x82\x40" + b"\x81" * 1000 + b"\xf6"),
    ("cbor", b"\x82\x40" + b"\xc2" * 1000 + b"\x40"),
    ("cbor", b"\x82\x40\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01"),
    ("cbor", b"\x82\x40\xc4\x82\x00\xc2\x5a\x00\x00\x40\x00" + b"\xff" * 0x4000),
    ("cbor", b"\x83\x40\xd8\x1c\x80\xd8\x1d\x00"),
    ("cbor", b"\x82\x40\xf7"),
]


@pytest.mark.parametrize("framing", ["json", "msgpack", "cbor"])
def test_bombs_behind_a_right_login(target: Target, framing: str) -> None:
    for each, data in BOMBS:
        if each != framing:
            continue
        with target.log_in(framing) as sock:
            start = time.monotonic()
            send(sock, data)
            read_to_end(sock)
        assert time.monotonic() - start < IN_TIME, data[:20]
        assert not target.failures


@pytest.mark.parametrize("framing", ["json", "msgpack", "cbor"])
def test_a_peer_that_sends_what_is_not_known_here_loses_that_alone(target: Target, framing: str) -> None:
    encoder = make_encoder(framing, MAX_MESSAGE)
    with target.log_in(framing) as sock:
        for number, (each, data) in enumerate(STRANGE):
            if each == framing:
                sock.sendall(data + encoder.encode("", ("time", "hostile#answer", number)))
                answer = b""
                while b"answer" not in answer:
                    answer += sock.recv(65536)
    assert not target.failures


def test_a_peer_that_asks_for_everything_it_may_not(target: Target) -> None:
    with target.log_in("json") as sock:
        for request in ('"kil1",""', '"eval","1/0"', '"os:system","x"', '"AnyEvent::MP::_spawn","x","os::abort"', '"snd"'):
            sock.sendall(f'["",{request}]'.encode() * 50)
        sock.sendall(b'["","time","hostile#answer"]')
        while b"answer" not in sock.recv(65536):
            pass
