"""A program that is interrupted anywhere goes on whole: `tests.interrupted`, which see, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gmp
from gmp.net.connection import Connection
from gmp.net.requeue import send_again
from tests.certificates import self_signed

REMOTE = ["msgpack", "json", "tls", "relay", "large", "large_tls"]


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """What came of it."""
    cert = tmp_path / "cert.pem"
    cert.write_text(self_signed())
    cert.chmod(0o600)
    monkeypatch.setenv("INTERRUPTED_CERT", str(cert))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.interrupted", *arguments], capture_output=True, text=True, timeout=1200, check=False
    )
    assert ended.returncode == 0, ended.stderr
    figures: dict[str, Any] = json.loads(ended.stdout)
    print(figures["seen"])
    assert figures["bad"] == []
    return figures


@pytest.mark.parametrize("way", ["local", "msgpack", "large"])
@pytest.mark.parametrize("kind", ["raise", "send"])
def test_some_interrupts_leave_every_port_and_connection_whole_or_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, way: str
) -> None:
    seen = run(tmp_path, monkeypatch, kind, way, "60", "1")["seen"]
    assert seen["whole"] > 30
    if kind == "raise":
        assert seen["interrupted"] > 10
    else:
        assert seen.keys() == {"points", "seconds", "whole"}  # nothing is lost by a handler that sends


@pytest.mark.slow
@pytest.mark.parametrize("way", ["local", *REMOTE])
@pytest.mark.parametrize("kind", ["raise", "send"])
def test_an_interrupt_at_each_point_leaves_every_port_and_connection_whole_or_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, way: str
) -> None:
    some, each_in_order = ["250", "1"], ["2000", "1", "1"]  # one with large octets takes ten times as long
    run(tmp_path, monkeypatch, kind, way, *(some if "large" in way else each_in_order))


@pytest.mark.slow
def test_a_signal_handler_that_sends_neither_loses_nor_doubles_nor_overtakes_anything() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.signalled", "2000"], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["sent"]["handler"] > 3000
    assert told["wrong"] == []
    assert told["last"] == told["sent"]


@pytest.mark.parametrize("framing", ["msgpack", "cbor"])
def test_what_a_signal_handler_sends_while_the_queue_is_sent_over_the_new_connection_goes_with_it(
    make_node: Callable[..., gmp.Node], monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    far = make_node("far", framings=[framing])
    near = make_node("near", binds=[], seeds=far.binds, framings=[framing])
    port, strikes = far.port(), 3
    write = Connection.write

    def strike() -> None:
        nonlocal strikes
        if strikes:
            strikes -= 1
            near.send(port.id, "handler", strikes)

    def struck_write(connection: Connection, data: bytes) -> None:
        write(connection, data)
        if connection.up and connection.node_id == "far":
            strike()

    def struck_send_again(*args: Any) -> int:
        dropped = send_again(*args)
        strike()
        return dropped

    monkeypatch.setattr(Connection, "write", struck_write)
    monkeypatch.setattr("gmp.net.peer.send_again", struck_send_again)
    for number in range(2):
        near.send(port.id, "queued", number)
    near.wait_up("far", timeout=20)
    near.send(port.id, "last")
    came = [("queued", 0), ("queued", 1), ("handler", 2), ("handler", 1), ("handler", 0), ("last",)]
    assert [port.receive(timeout=5) for _ in came] == came
    assert near.stats()["peers"]["far"]["queued_bytes"] == 0
