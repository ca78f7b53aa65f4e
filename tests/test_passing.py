"""What a node sends because another one has asked it to is bounded for each pair, and who has asked for too much is lost."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.kernel.passing import MOST_RECEIVERS, Passing
from gmp.mesh.backlog import Backlog, Share
from gmp.net.between import UNKNOWN_MACHINE
from gmp.net.machine import machine_name
from gmp.testing import LocalNetwork

from .conftest import Recorder, eventually

MakeNode = Callable[..., gmp.Node]
MARK = 200_000
MAX_MESSAGE = 1 << 20
KERNEL = 16 << 20  # bytes that the sockets' buffers may take


class Raw:
    """A peer that sends what it likes and reads only when told to."""

    def __init__(self, node: gmp.Node, node_id: str, *keys: str) -> None:
        host, port = node.binds[0].rsplit(":", 1)
        self.sock = gevent.socket.create_connection((host, int(port)), timeout=20)
        if "gmp=1" in keys:
            own_host, own_port = self.sock.getsockname()
            here = f"ownaddr={own_host}:{own_port}", f"machine={machine_name() or UNKNOWN_MACHINE}"
            keys = (*keys, "role=dialled", f"peeraddr={node.binds[0]}", *here)
        mine = ";".join(["aemp", "1", node_id, "hmac_sha3_512", "msgpack", *keys]) + f"\n{secrets.token_urlsafe(60)}\n"
        self.sock.sendall(mine.encode())
        theirs = self._lines(2)
        secret = node.settings.secret
        assert secret is not None
        proof = hmac.new(secret, mine.encode() + theirs, hashlib.sha3_512).hexdigest()
        self.sock.sendall(f"hmac_sha3_512;{proof};msgpack\n".encode())
        self._lines(1)
        eventually(lambda: node.is_up(node_id))

    def _lines(self, count: int) -> bytes:
        data = b""
        while data.count(b"\n") < count:
            octet = self.sock.recv(1)
            assert octet
            data += octet
        return data

    def flood(self, message: list[Any], most: int) -> bool:
        """Send the message again and again, `most` bytes in all; return whether the node has ended that before."""
        data = msgpack.packb(message) * 10
        try:
            for _ in range(0, most, len(data)):
                self.sock.sendall(data)
        except OSError:
            return True
        return False

    def ended(self) -> bool:
        """Read to the end."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True


@pytest.fixture
def node(make_node: MakeNode) -> gmp.Node:
    return make_node("middle", high_mark=MARK, low_mark=MARK // 2, max_message=MAX_MESSAGE, leave_timeout=0.1)


def test_who_has_more_passed_on_than_the_receiver_reads_is_lost(node: gmp.Node, caplog: pytest.LogCaptureFixture) -> None:
    told = Recorder()
    node.monitor_nodes(told)
    sink, honest, flooder = Raw(node, "sink"), Raw(node, "honest"), Raw(node, "flooder")
    assert flooder.flood(["", "snd", "sink#port", b"x" * 10_000], 2 * KERNEL)
    eventually(lambda: not node.is_up("flooder"))
    assert node.stats()["peers"]["sink"]["queued_bytes"] < 3 * MARK
    assert node.is_up("sink")
    assert node.is_up("honest")
    (lost,) = [call for call in told.calls if not call[1]]
    assert lost[:3] == ("flooder", False, "transport_error")
    assert f"over {MARK} bytes wait for sink" in lost[4]
    assert f"over {MARK} bytes wait for sink" in caplog.text
    for peer in (sink, honest, flooder):
        peer.sock.close()


@pytest.mark.parametrize("request_", ["gmp.info", "can", "mon1", "g_find", "time"])
def test_who_asks_and_does_not_read_the_answers_is_lost(node: gmp.Node, request_: str) -> None:
    flooder = Raw(node, "flooder", "gmp=1", "incarnation=1")
    args = {"can": ["x" * 1000, "flooder#r", "y" * 1000], "mon1": ["x" * 1000], "g_find": ["x" * 1000]}
    assert flooder.flood(["", request_, *args.get(request_, ["flooder#r", b"z" * 2000])], 8 * KERNEL)
    eventually(lambda: not node.is_up("flooder"))
    flooder.sock.close()


def test_whoever_asks_for_much_at_once_and_reads_gets_it(node: gmp.Node) -> None:
    """As a node does that comes to a seed with large groups."""
    family = node.family("f")
    for number in range(4000):
        family.set(f"key{number}", "x" * 100)
    peer = Raw(node, "peer", "gmp=1", "incarnation=1")
    peer.sock.sendall(msgpack.packb(["", "g_mon1", "f"]) * 3 + msgpack.packb(["", "time", "peer#end"]))
    unpacker, last = msgpack.Unpacker(), None
    with gevent.Timeout(20):
        while last != "end":
            unpacker.feed(peer.sock.recv(65536))
            for message in unpacker:
                last = message[0]
    assert node.is_up("peer")
    peer.sock.close()


def test_a_request_by_way_of_the_node_itself_is_counted_too(node: gmp.Node) -> None:
    sink, flooder = Raw(node, "sink"), Raw(node, "flooder")
    assert flooder.flood(["", "snd", "middle", "snd", "sink#port", b"x" * 10_000], 2 * KERNEL)
    eventually(lambda: not node.is_up("flooder"))
    assert node.is_up("sink")
    for peer in (sink, flooder):
        peer.sock.close()


def test_messages_for_many_nodes_that_nobody_knows_end_it_too(node: gmp.Node) -> None:
    flooder = Raw(node, "flooder")
    for number in range(2 * MOST_RECEIVERS):
        try:
            flooder.sock.sendall(msgpack.packb(["", "snd", f"nobody{number}#port"]))
        except OSError:
            break
    with gevent.Timeout(20):
        assert flooder.ended()
    flooder.sock.close()
    assert len(node._core.network.peers) < MOST_RECEIVERS + 10


def test_more_than_the_mark_is_passed_on_while_the_receiver_reads() -> None:
    with LocalNetwork(names=["asker", "middle", "reader"], high_mark=MARK, low_mark=MARK // 2) as network:
        asker, middle, reader = (network[name] for name in ("asker", "middle", "reader"))
        for other in (middle, reader):
            asker.wait_up(other.id, timeout=20)
        reader.wait_up(middle.id, timeout=20)
        port = reader.port()
        for number in range(200):
            asker.send_on(middle.id, port, number, b"x" * (MARK // 20))
            if number % 4 == 3:
                for wanted in range(number - 3, number + 1):
                    assert port.receive(timeout=20)[0] == wanted
        assert asker.is_up(middle.id)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20_000), st.integers(0, 30_000)), max_size=60))
def test_a_share_is_about_what_is_still_there(steps: list[tuple[bool, int, int]]) -> None:
    """Whoever else sends to that node, and however the socket takes it."""
    share, connection, queue, written = Share(), object(), [], 0
    for ours, size, taken in steps:
        waiting = sum(left for _, left in queue)
        before = Backlog(connection, written, waiting)
        queue.append([ours, size])
        if ours:
            share.add(before, Backlog(connection, written, waiting + size))
        taken = min(taken, waiting + size)
        written += taken
        while taken:
            part = min(taken, queue[0][1])
            queue[0][1] -= part
            taken -= part
            if not queue[0][1]:
                del queue[0]
        waiting = sum(left for _, left in queue)
        share.clear(Backlog(connection, written, waiting))
        true = sum(left for mine, left in queue if mine)
        assert true <= share.waiting <= true + 20_000 + 4096
    share.clear(Backlog(object(), 0, 5))
    assert share.waiting == 0


def test_nothing_is_kept_of_nodes_that_are_lost() -> None:
    backlogs: dict[str, int] = {}
    passing = Passing(MARK, MARK, lambda node_id: Backlog(None, 0, backlogs.get(node_id, 0)), lambda *told: None)

    def send() -> None:
        backlogs["to"] = backlogs.get("to", 0) + 10

    passing.run("from", "to", send)
    passing.run("other", "to", send)
    passing.node_down("to")
    assert not passing._shares
    passing.run("from", "to", send)
    passing.node_down("from")
    assert not passing._shares


def test_a_gmp_node_that_asks_for_too_much_is_told_why(node: gmp.Node, make_node: MakeNode) -> None:
    """By the loss of the node that it has asked, so that it knows that something may not have been passed on."""
    sink, told = Raw(node, "sink"), Recorder()
    asker = make_node("asker", seeds=node.binds, high_mark=8 * KERNEL)
    asker.wait_up("middle", timeout=20)
    asker.monitor("middle", told)
    for _ in range(2 * KERNEL // 10_000):
        asker.send_on("middle", "sink#port", b"x" * 10_000)
    ((kind, lost, text),) = told.wait(timeout=20)
    assert (kind, lost) == ("transport_error", "middle")
    assert f"over {MARK} bytes wait for sink" in text
    sink.sock.close()


def test_an_end_that_acknowledges_what_it_does_not_read_loses_its_pair(node: gmp.Node) -> None:
    """And nobody is lost but the pair: the seed goes on for both of them, and for others."""
    keys = ("gmp=1", "incarnation=1")
    sender, sink = Raw(node, "a-sender", *keys), Raw(node, "sink", *keys)
    relay = ["", "gmp.relay"]
    sender.sock.sendall(msgpack.packb([*relay, "open", "token", "sink", "a-sender", "1"]))
    eventually(lambda: len(node._core.mesh.router) == 1)
    sink.sock.sendall(msgpack.packb([*relay, "ack", "token", "a-sender", "sink", 1 << 60]))
    sender.sock.settimeout(20)
    sent = 0
    while len(node._core.mesh.router) and sent < 2 * KERNEL:
        sender.sock.sendall(msgpack.packb([*relay, "data", "token", "sink", "a-sender", b"x" * 50_000]))
        sink.sock.sendall(msgpack.packb([*relay, "ack", "token", "a-sender", "sink", sent]))
        sent += 50_000
        gevent.sleep(0.001)
    assert len(node._core.mesh.router) == 0
    assert node.stats()["peers"]["sink"]["queued_bytes"] < 3 * MARK
    assert node.is_up("sink")
    assert node.is_up("a-sender")
    for peer in (sender, sink):
        peer.sock.close()


@pytest.mark.parametrize(
    "args",
    [("data",), ("data", "text"), ("data", b"x", b"y"), ("ack", -1), ("ack", "x"), ("close", "x" * 2000), ("other", b"x"),
     ("refuse", *["x"] * 200), ("dial", ["x"] * 200), ("dial", [b"x"])],
)  # fmt: skip
def test_a_relay_request_of_another_form_is_not_passed_on(node: gmp.Node, args: tuple[Any, ...]) -> None:
    keys = ("gmp=1", "incarnation=1")
    sender, sink = Raw(node, "a-sender", *keys), Raw(node, "sink", *keys)
    for kind, *rest in (("open", "1"), args):
        sender.sock.sendall(msgpack.packb(["", "gmp.relay", kind, "token", "sink", "a-sender", *rest]))
    sender.sock.sendall(msgpack.packb(["", "snd", "sink#port", "the end"]))
    unpacker, seen = msgpack.Unpacker(), []
    with gevent.Timeout(20):
        while not seen or seen[-1][-1] != "the end":
            unpacker.feed(sink.sock.recv(65536))
            seen += unpacker
    assert [message[2] for message in seen if message[1] == "gmp.relay"] == ["open"]
    for peer in (sender, sink):
        peer.sock.close()


def test_nobody_opens_a_pair_by_the_name_of_another_one_and_two_ends_have_one(node: gmp.Node) -> None:
    keys = ("gmp=1", "incarnation=1")
    peers = {name: Raw(node, name, *keys) for name in ("aa", "bb", "sink")}
    for name, token in (("aa", "first"), ("bb", "first"), ("aa", "second"), ("bb", "third")):
        peers[name].sock.sendall(msgpack.packb(["", "gmp.relay", "open", token, "sink", name, "1"]))
        eventually(lambda t=token: t in node._core.mesh.router._pairs)
    eventually(lambda: len(node._core.mesh.router) == 2)
    assert {token: pair.ends[0] for token, pair in node._core.mesh.router._pairs.items()} == {"second": "aa", "third": "bb"}
    for peer in peers.values():
        peer.sock.close()
