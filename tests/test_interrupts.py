"""A program that is interrupted anywhere goes on whole: `tests.interrupted`, which see, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
