"""TLS on connections: who gets in, which side is which, and that everything arrives."""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent.socket
import gevent.ssl
import msgpack
import pytest

import gmp

from .certificates import Authority, self_signed
from .conftest import eventually

MakeNode = Callable[..., gmp.Node]
SHARED = self_signed()
LOWEST, HIGHEST = b"!", b"~"  # as a nonce: below and above any that a node makes


class TlsPeer:
    """A peer made of a blocking TLS socket: says its lines, and reads and writes msgpack."""

    def __init__(self, sock: Any, nonce: bytes, cert: str | None, version: ssl.TLSVersion, tmp_path: Path) -> None:
        greeting = b"aemp;1;tester;tls_sha3_512;msgpack;tls=1.7;gmp=1;incarnation=1"
        sock.sendall(greeting + b"\n" + nonce + b"\r\n")
        theirs = (self._line(sock), self._line(sock))
        self.greeting = theirs[0]
        server = nonce > theirs[1]
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED if cert else ssl.CERT_NONE
        if cert:
            path = tmp_path / "tester.pem"
            path.write_text(cert)
            context.load_cert_chain(path)
            context.load_verify_locations(path)
        self.server = server
        self.sock = context.wrap_socket(sock, server_side=server)
        self._unpacker = msgpack.Unpacker()
        digest = hashlib.sha3_512(b"\n".join((greeting, nonce, *theirs, b""))).hexdigest()
        try:
            self.sock.sendall(f"tls_sha3_512;{digest};msgpack\n".encode())
            self.auth_line = self._line(self.sock)
        except BaseException:
            self.sock.close()
            raise

    @staticmethod
    def _line(sock: Any) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = sock.recv(1)
            assert byte, f"closed behind {line!r}"
            line += byte
        return line[:-1]

    def send(self, *message: Any) -> None:
        self.sock.sendall(msgpack.packb(list(message)))

    def receive(self) -> list[Any]:
        while True:
            for message in self._unpacker:
                return list(message)
            data = self.sock.recv(65536)
            assert data, "closed"
            self._unpacker.feed(data)


@contextmanager
def peer_of(node: gmp.Node, tmp_path: Path, **options: Any) -> Iterator[TlsPeer]:
    host, port = node.binds[0].split(":")
    options = {"nonce": HIGHEST, "cert": SHARED, "version": ssl.TLSVersion.TLSv1_3, **options}
    with gevent.socket.create_connection((host, int(port)), timeout=15) as sock:
        peer = TlsPeer(sock, tmp_path=tmp_path, **options)
        try:
            yield peer
        finally:
            peer.sock.close()


def linked(make_node: MakeNode, cert: str, other_cert: str, **settings: Any) -> tuple[gmp.Node, gmp.Node]:
    one = make_node("one", secret=None, cert=cert, **settings)
    other = make_node("other", secret=None, cert=other_cert, seeds=one.binds, **settings)
    return one, other


def version_of(node: gmp.Node, peer: str) -> str | None:
    connection = node._core.network.peers[peer].connection
    assert connection is not None
    assert connection.tls is not None
    return connection.tls.version


def test_nodes_that_share_a_certificate_talk_encrypted_and_need_no_secret(make_node: MakeNode) -> None:
    one, other = linked(make_node, SHARED, SHARED)
    other.wait_up("one", timeout=20)
    port = one.port(lambda port: [one.send(reply, value) for value, reply in port])
    assert other.call(port.id, {"a": (1, [2])}) == ({"a": (1, [2])},)
    assert version_of(other, "one") == "TLSv1.3"


def test_large_and_many_small_messages_arrive_in_order_over_tls(make_node: MakeNode) -> None:
    one, other = linked(make_node, SHARED, SHARED)
    other.wait_up("one", timeout=20)
    port = one.port()
    large = bytes(range(256)) * 20_000
    for number in range(3000):
        other.send(port.id, number)
        if number % 1000 == 0:
            other.send(port.id, large)
    for number in range(3000):
        assert port.receive(timeout=20) == (number,)
        if number % 1000 == 0:
            assert port.receive(timeout=20) == (large,)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("nonce", [LOWEST, HIGHEST])
def test_the_lower_nonce_is_the_tls_client_whoever_dialled(
    make_node: MakeNode, tmp_path: Path, version: ssl.TLSVersion, nonce: bytes
) -> None:
    node = make_node("node", secret=None, cert=SHARED)
    with peer_of(node, tmp_path, nonce=nonce, version=version) as peer:
        assert peer.server is (nonce == HIGHEST)
        assert b";tls=1.0" in peer.greeting
        assert b";tls_sha3_512;" in peer.greeting
        assert peer.auth_line.startswith(b"tls_sha3_512;")
        eventually(lambda: node.is_up("tester"))
        assert version_of(node, "tester") == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        peer.send("", "time", "tester#r")
        while (message := peer.receive())[0] != "r":
            pass
        assert message[1] > 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("nonce", "cert", "said"),
    [  # a TLS server without a certificate cannot even begin
        (LOWEST, None, "TLS handshake: it has no certificate"),
        (LOWEST, self_signed("stranger"), "certificate is refused"),
        (HIGHEST, self_signed("stranger"), "certificate is refused"),
    ],
    ids=["none", "foreign client", "foreign server"],
)
def test_who_has_no_certificate_of_ours_does_not_get_in(
    make_node: MakeNode,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    version: ssl.TLSVersion,
    nonce: bytes,
    cert: str | None,
    said: str,
) -> None:
    node = make_node("node", secret=None, cert=SHARED)
    with (
        caplog.at_level(logging.WARNING, "gmp"),
        pytest.raises((ssl.SSLError, OSError, AssertionError)),
        peer_of(node, tmp_path, nonce=nonce, version=version, cert=cert) as peer,
    ):
        peer.receive()
    eventually(lambda: "authentication failed" in caplog.text)
    assert said in caplog.text
    assert node.up_nodes() == []


EXPIRED = self_signed(days=-1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("nonce", "said"),
    [  # a TLS client sees the server's certificate first
        (LOWEST, "TLS handshake: our certificate is refused there: it has expired"),
        (HIGHEST, "TLS handshake: its certificate is refused here: it has expired"),
    ],
    ids=["told by the other side", "found here"],
)
def test_the_log_says_whose_certificate_has_expired_whichever_side_finds_out(
    make_node: MakeNode, tmp_path: Path, caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion, nonce: bytes, said: str
) -> None:
    node = make_node("node", secret=None, cert=EXPIRED)
    with (
        caplog.at_level(logging.WARNING, "gmp"),
        pytest.raises((ssl.SSLError, OSError, AssertionError)),
        peer_of(node, tmp_path, nonce=nonce, version=version, cert=EXPIRED) as peer,
    ):
        peer.receive()
    eventually(lambda: "handshake with" in caplog.text)
    assert said in caplog.text
    assert node.up_nodes() == []


@pytest.mark.parametrize(
    ("certificates", "said"),
    [
        ((EXPIRED, EXPIRED), "it has expired"),
        ((Authority().issue("one"), Authority().issue("other")), "TLS handshake"),
    ],
    ids=["expired", "another authority"],
)
def test_a_certificate_that_will_not_do_does_not_get_in_and_the_log_says_why(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, certificates: tuple[str, str], said: str
) -> None:
    with caplog.at_level(logging.WARNING, "gmp"):
        one, other = linked(make_node, *certificates)
        eventually(lambda: said in caplog.text)
    assert one.up_nodes() == other.up_nodes() == []


def test_an_authority_and_a_certificate_per_node_will_do(make_node: MakeNode) -> None:
    authority = Authority()
    _one, other = linked(make_node, authority.issue("one"), authority.issue("other"))
    other.wait_up("one", timeout=20)


@pytest.mark.parametrize("names", [(), ("other",), ("oth/", "x")], ids=["common name", "URI", "prefix"])
def test_with_cert_names_a_certificate_must_name_its_node(make_node: MakeNode, names: tuple[str, ...]) -> None:
    authority = Authority()
    node_id = "oth/er" if len(names) > 1 else "other"
    one = make_node("one", secret=None, cert=authority.issue("one"), cert_names=True)
    cert = authority.issue("unrelated" if names else node_id, *names)
    make_node(node_id, secret=None, cert=cert, cert_names=True, seeds=one.binds).wait_up("one", timeout=20)


def test_with_cert_names_a_certificate_of_another_node_is_refused(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority()
    with caplog.at_level(logging.WARNING, "gmp"):
        one = make_node("one", secret=None, cert=authority.issue("one"), cert_names=True)
        make_node("other", secret=None, cert=authority.issue("third", "others", "oth"), seeds=one.binds)
        eventually(lambda: "node 'other' has a certificate for others, oth, third" in caplog.text)
    assert one.up_nodes() == []


def test_a_node_with_a_certificate_refuses_a_connection_without_tls(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "gmp"):
        one = make_node("one", cert=SHARED)
        make_node("other", seeds=one.binds)
        eventually(lambda: "does not do TLS, which is required here" in caplog.text)
    assert one.up_nodes() == []


def test_unless_tls_is_required_a_shared_secret_is_enough_without_it(make_node: MakeNode) -> None:
    one = make_node("one", cert=SHARED, require_tls=False)
    other = make_node("other", seeds=one.binds)
    other.wait_up("one", timeout=20)
    connection = one._core.network.peers["other"].connection
    assert connection is not None
    assert connection.tls is None


def test_tls_with_a_secret_on_both_sides_is_used_where_both_have_it(make_node: MakeNode) -> None:
    one = make_node("one", cert=SHARED)
    other = make_node("other", cert=SHARED, seeds=one.binds)
    other.wait_up("one", timeout=20)
    assert version_of(one, "other") == "TLSv1.3"


def test_a_certificate_can_be_given_as_the_path_of_its_file(make_node: MakeNode, tmp_path: Path) -> None:
    path = tmp_path / "gmp.pem"
    path.write_text(SHARED)
    path.chmod(0o600)
    _one, other = linked(make_node, str(path), SHARED)
    other.wait_up("one", timeout=20)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cert": "/nowhere/gmp.pem"}, "/nowhere/gmp.pem.*No such file"),
        ({"cert": 5}, "PEM"),
        ({"cert": "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"}, "private key"),
        ({"cert": SHARED.replace("CERTIFICATE-----\nM", "CERTIFICATE-----\nX", 1)}, "cannot be used together"),
        ({"require_tls": True}, "there is no cert"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named_and_its_key_is_not_shown(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(gmp.ConfigError, match=said) as error:
        gmp.Node("node", secret="geheim", **settings)
    assert "PRIVATE" not in str(error.value)


def test_a_connection_that_is_cut_is_lost(make_node: MakeNode, tmp_path: Path) -> None:
    node = make_node("node", secret=None, cert=SHARED)
    with peer_of(node, tmp_path) as peer:
        eventually(lambda: node.is_up("tester"))
        peer.sock.close()
        eventually(lambda: not node.is_up("tester"))


def test_garbage_instead_of_records_ends_the_connection(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gmp"):
        _one, other = linked(make_node, SHARED, SHARED)
        other.wait_up("one", timeout=20)
        connection = other._core.network.peers["one"].connection
        assert connection is not None
        connection.sock.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        eventually(lambda: "TLS: " in caplog.text)
