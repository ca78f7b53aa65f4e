"""A connection that ends in the middle of large octets delivers and keeps nothing of them, and the next one starts clean."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.subprocess
import pytest

import gmp
from gmp.testing import FaultProxy
from gmp.wire.beside import WORTH, Frame

from .conftest import Recorder, eventually
from .test_tls import SHARED

MakeNode = Callable[..., gmp.Node]
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
            assert port.receive(timeout=20) == (number, BIG)
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
            assert port.receive(timeout=20) == ("after", number, BIG * 2)
            assert port.receive(timeout=20) == ("small",)
        assert not len(port)


SENDER = """
import os, signal, sys
import gmp
from tests.test_cut_frames import BIG, LONG
node = gmp.configure(node_id="near", binds=[], seeds=sys.argv[1:2])
node.wait_up("far", timeout=20)
for number in range(3):
    gmp.call(sys.argv[2], number, BIG, timeout=20)
gmp.send(sys.argv[2], "cut", bytes(LONG))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_sender_that_is_killed_in_the_middle_of_large_octets(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last send writes 512 KiB and no more before its end comes: what arrives is a part, however fast anybody is."""
    begun: list[int] = []
    begin = Frame.__init__

    def noted(frame: Frame, *args: Any) -> None:
        begin(frame, *args)
        begun.append(frame.size)

    monkeypatch.setattr(Frame, "__init__", noted)
    far = make_node("far")
    port = far.port()
    for _ in range(2):  # the second takes the place of the first, and finds no trace of it
        begun.clear()
        told = Recorder()
        watch = far.monitor_nodes(told)
        command = [sys.executable, "-c", SENDER, far.binds[0], port.id]
        with gevent.subprocess.Popen(
            command, env={**os.environ, "GMP_SECRET": "geheim"}, stdout=subprocess.DEVNULL
        ) as process:
            for number in range(3):
                *message, reply = port.receive(timeout=20)
                assert message == [number, BIG]
                far.send(reply, "go on")
            assert process.wait() == -9
        up, down = told.wait(2, timeout=20)
        assert up[:2] == ("near", True)
        assert down[:3] == ("near", False, "transport_error")
        assert begun[-1] > LONG
        eventually(lambda: not frames(), timeout=5)
        assert not len(port)
        watch()
