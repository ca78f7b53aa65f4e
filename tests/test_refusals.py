"""What does not belong is refused with a clear line, and hurts nothing else."""

from __future__ import annotations

import logging
import os
import socket as plain_socket
from collections.abc import Callable

import gevent
import gevent.socket
import pytest

import gmp

from .addresses import free_address
from .conftest import Recorder

MakeNode = Callable[..., gmp.Node]
NONCE = b"QkJC" * 22


def converse(node: gmp.Node, data: bytes) -> bytes:
    """Send `data` to a node; return all it says until it closes."""
    host, port = node.binds[0].split(":")
    received = b""
    with gevent.socket.create_connection((host, int(port)), timeout=15) as sock:
        sock.sendall(data)
        try:
            while chunk := sock.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass  # closed with our bytes unread: an end as good as any
    return received


@pytest.fixture
def healthy(make_node: MakeNode) -> Callable[[], bool]:
    """Whether a pair of nodes that has nothing to do with it still talks."""
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    other.wait_up("seed", timeout=10)
    return lambda: other.call("seed", "time", timeout=10)[0] > 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "unknown protocol"),
        (b"\x00\xff" * 100 + b"\n", "no UTF-8"),
        (b"aemp;2;x;hmac_sha3_512;json\n" + NONCE + b"\n", "version"),
        (b"aemp;1;x;hmac_sha3_512\n" + NONCE + b"\n", "fields"),
        (b"a" * 4096, "longer than 4096"),
        (b"aemp;1;x;hmac_sha3_512;json;pad=" + b"p" * 5000 + b"\n", "longer than 4096"),
        (b"aemp;1;x;hmac_md6_64_256;json\n" + NONCE + b"\n", "no authentication method"),
        (b"aemp;1;x;hmac_sha3_512;storable\n" + NONCE + b"\n", "no framing"),
        (b"aemp;1;;hmac_sha3_512;json\n" + NONCE + b"\n", "node ID"),
        (b"aemp;1;x#y;hmac_sha3_512;json\n" + NONCE + b"\n", "node ID"),
        (b"aemp;1;x;hmac_sha3_512;json\n" + NONCE + b"\nhmac_sha3_512;00;json\n", "does not have our secret"),
        (b"aemp;1;x;hmac_sha3_512;json\n" + NONCE + b"\ncleartext;67656865696d;json\n", "not offered"),
        (b"aemp;1;x;hmac_sha3_512;json\n" + NONCE + b"\nnonsense\n", "expected METHOD"),
    ],
)
def test_a_bad_handshake_is_closed_with_one_clear_line(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, data: bytes, said: str
) -> None:
    node = make_node("target")
    with caplog.at_level(logging.WARNING, "gmp"):
        received = converse(node, data)
    assert received.startswith(b"aemp;1;target;")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert said in lines[0]
    assert node.up_nodes() == []


def test_the_healthy_go_on_while_others_are_refused(make_node: MakeNode, healthy: Callable[[], bool]) -> None:
    node = make_node("target")
    for data in (os.urandom(3000), b"aemp;1;x\n", b"\n" * 50, b"aemp;1;x;hmac_sha3_512;msgpack\n" + NONCE + b"\nx\n"):
        converse(node, data)
        assert healthy()


def test_a_silent_connection_is_closed_after_the_handshake_time(make_node: MakeNode) -> None:
    node = make_node("target", handshake_timeout=0.3)
    assert converse(node, b"").startswith(b"aemp;1;target;")
    assert converse(node, b"aemp;1;x;hmac_sha3_512;json\n").startswith(b"aemp;1;target;")


def test_a_wrong_secret_keeps_both_apart_and_both_say_so(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture, healthy: Callable[[], bool]
) -> None:
    with caplog.at_level(logging.WARNING, "gmp"):
        right = make_node("right")
        wrong = make_node("wrong", secret="falsch", seeds=right.binds)
        with pytest.raises(gmp.WaitTimeout, match=r"seed 127\.0\.0\.1:.*node 'right', .*perhaps the secrets differ"):
            wrong.wait_up(timeout=1)
    assert right.up_nodes() == wrong.up_nodes() == []
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "does not have our secret" in text
    assert healthy()


def test_malformed_data_after_the_handshake_ends_that_connection_only(make_node: MakeNode) -> None:
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    third = make_node("third", seeds=seed.binds)
    third.wait_up("seed", timeout=10)
    other.wait_up("seed", timeout=10)
    connection = other._core.network.peers["seed"].connection
    assert connection is not None
    lost = Recorder()
    seed.monitor("other", lost)
    connection.write(b"\xc1\xc1\xc1")
    assert "bad msgpack" in str(lost.wait())
    assert third.call("seed", "time", timeout=10)


def test_a_bind_that_is_taken_names_address_and_cause_and_leaves_nothing_open(make_node: MakeNode) -> None:
    taken = make_node("first").binds[0]
    free = free_address()
    with pytest.raises(gmp.ConfigError, match=rf"{taken}.*in use"):
        gmp.Node("second", secret="geheim", binds=[free, taken]).start()
    with plain_socket.socket() as probe:
        probe.bind(("127.0.0.1", int(free.partition(":")[2])))


def test_a_seed_that_does_not_answer_is_tried_on_and_named(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    with plain_socket.socket() as silent, caplog.at_level(logging.INFO, "gmp"):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        node = make_node("node", seeds=[f"127.0.0.1:{port}", "127.0.0.1:1"], handshake_timeout=0.2)
        with pytest.raises(gmp.WaitTimeout, match="no seed"):
            node.wait_up(timeout=1)
        own = node.port()
        node.send(own, "works")
        assert own.receive(timeout=0) == ("works",)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert f"seed 127.0.0.1:{port} is not reached yet" in text
    assert "seed 127.0.0.1:1 is not reached yet" in text


def test_a_seed_that_is_the_node_itself_is_dropped(make_node: MakeNode) -> None:
    address = free_address()
    node = make_node("self", binds=[address], seeds=[address])
    node.wait_up(timeout=10)
    other = make_node("other", seeds=[address])
    other.wait_up("self", timeout=10)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"binds": ["127.0.0.1:notaport"]}, "notaport"),
        ({"binds": ["1:2:3"]}, "host:port"),
        ({"seeds": ["example.org"]}, "host:port"),
        ({"seeds": ["127.0.0.1:70000"]}, "70000"),
        ({"node_id": "a#b"}, "a#b"),
        ({"node_id": "-x"}, "-x"),
        ({"secret": ""}, "secret"),
        ({"high_mark": -1}, "high_mark"),
        ({"colour": "red"}, "colour"),
        ({"profile": "nope"}, "nope"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(gmp.ConfigError, match=said):
        gmp.Node(**settings)  # type: ignore[arg-type]
