"""Large octets travel beside a message, as frames: what arrives is what was sent, whatever is around it."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import eq  # by it pytest shows no difference between large octets, which would take it minutes
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmp
from gmp.errors import MessageError, ProtocolError
from gmp.net.lanes import SlowLane
from gmp.wire.batches import batch_head
from gmp.wire.beside import FRAME, LEAST, PLACE, WORTH, reads_frames
from gmp.wire.framing import make_decoder
from gmp.wire.large import LOOKED_AT, Large, LargePacker, Pieces
from gmp.wire.msgpack_framing import MsgpackEncoder

from .conftest import eventually
from .test_tls import SHARED

MakeNode = Callable[..., gmp.Node]
LIMIT = 1 << 24
BIG = bytes(range(256)) * (WORTH // 256)
OCTETS = st.sampled_from([b"", b"x" * (WORTH - 1), BIG, BIG + b"y", BIG * 5])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | OCTETS,
    lambda values: st.lists(values, max_size=3) | st.tuples(values, values) | st.dictionaries(OCTETS, values, max_size=2),
    max_leaves=6,
)


class Box:
    """A destination that keeps what comes."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.put, self.put_all = self.got.append, self.got.extend


def packed(*elements: Any) -> bytes:
    """The bytes of a message, as a connection packs it that expects large ones."""
    data = LargePacker(MsgpackEncoder(LIMIT).pack).repack("a", ["a", *elements])
    return b"".join(data.pieces) if isinstance(data, Pieces) else data


def received(data: bytes, cut: int = LEAST) -> list[Any]:
    """What a decoder makes of `data` that comes in pieces of `cut` octets, read as a connection does."""
    decoder: Any = make_decoder("msgpack", LIMIT)
    box = Box()
    open_frames: list[Any] = []
    find = {"a": box}.get
    for start in range(0, len(data), cut):
        view = memoryview(data)[start : start + cut]
        if open_frames:
            view = open_frames[0].take(view)
            if not open_frames[0].is_whole:
                continue
            decoder.finish(open_frames.pop(), view, find, open_frames.append)
        else:
            decoder.dispatch(view, find, open_frames.append)
    assert not open_frames
    return box.got


def frame(message: Any, *sizes: Any) -> bytes:
    """The head of a frame."""
    return bytes(msgpack.packb([FRAME, msgpack.packb(message), *sizes]))


def place(number: int) -> msgpack.ExtType:
    """What stands in the place of octets."""
    return msgpack.ExtType(PLACE, number.to_bytes(2, "big"))


def test_a_frame_byte_for_byte() -> None:
    data = packed("h", BIG)
    assert eq(data, frame(["a", "h", place(0)], WORTH) + BIG)
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    (shown,) = re.findall(r"^    (93 01 c4 .*)$", page, re.MULTILINE)
    assert data.removesuffix(BIG) == bytes.fromhex(shown)
    assert eq(received(data), [("h", BIG)])


def test_octets_of_each_type_arrive_as_bytes_and_what_the_caller_changes_later_does_not_count() -> None:
    changeable = bytearray(BIG)
    data = LargePacker(MsgpackEncoder(LIMIT).pack).repack("a", ["a", changeable, memoryview(BIG), memoryview(changeable)])
    changeable[:] = bytes(len(changeable))
    assert isinstance(data, Pieces)
    assert eq(received(b"".join(data.pieces)), [(BIG, BIG, BIG)])
    with pytest.raises(MessageError):
        LargePacker(MsgpackEncoder(LIMIT).pack).repack("a", [memoryview(BIG * 2)[::2]])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(VALUES, max_size=3), min_size=1, max_size=4), st.sampled_from([1000, LEAST, 256 * 1024]))
def test_any_nesting_arrives_as_it_was_sent(messages: list[list[Any]], cut: int) -> None:
    if sum(map(len, map(repr, messages))) > LIMIT:
        return
    data = b"".join(packed(*message) for message in messages)
    assert eq(received(data, cut), [tuple(message) for message in messages])


@pytest.mark.parametrize("cut", [1000, LEAST, LIMIT])
def test_frames_among_batches_hold_what_was_sent(cut: int) -> None:
    """After a batch of plain values arrays are decoded as tuples, which what is in a frame must not be taken for."""
    rows = [(number, "plain") for number in range(100)]
    batch = batch_head("a", len(rows)) + b"".join(map(msgpack.packb, rows))
    held = (BIG, (1, [2, (3,)]), {"k": [(4, 5), {6}]}, [])
    assert eq(received((batch + packed(*held)) * 2 + packed(BIG) * 2 + batch, cut), [*rows, held] * 2 + [(BIG,)] * 2 + rows)


@pytest.mark.parametrize(
    "data",
    [
        frame(["a", place(0)]),
        frame(["a", place(0)], LEAST - 1),
        frame(["a", place(0)], -1),
        frame(["a", place(0)], 0),
        frame(["a", place(0)], True),
        frame(["a", place(0)], "x"),
        frame(["a", place(0)], 1 << 60),
        frame(["a", place(0)], *[LEAST] * (LIMIT // LEAST)),
        frame(["a", place(1)], WORTH) + BIG,
        frame(["a", place(0), place(0)], WORTH) + BIG,
        frame(["a"], WORTH) + BIG,
        frame(7, WORTH) + BIG,
        frame([7, place(0)], WORTH) + BIG,
        bytes(msgpack.packb([FRAME])),
        bytes(msgpack.packb([FRAME, "text", WORTH])) + BIG,
        bytes(msgpack.packb([FRAME, b"\xc1", WORTH])) + BIG,
        bytes(msgpack.packb([FRAME, frame(["a", place(0)], WORTH), WORTH])) + BIG,
    ],
)
def test_a_malformed_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        received(data)


def test_a_frame_nested_too_deep_and_a_place_outside_of_a_frame_are_undecodable() -> None:
    deep: Any = place(0)
    for _ in range(70):
        deep = [deep]
    others: list[Any] = []
    decoder = make_decoder("msgpack", LIMIT)
    box = Box()
    decoder.dispatch(frame(["a", deep], WORTH) + BIG, {"a": box}.get, others.append)
    decoder.dispatch(msgpack.packb(["a", place(0)]) + msgpack.packb(["a", "next"]), {"a": box}.get, others.append)
    assert [other.name for other in others] == ["a", "a"]
    assert box.got == [("next",)]


def test_a_packer_looks_at_so_many_messages_after_a_large_one() -> None:
    packer = LargePacker(MsgpackEncoder(LIMIT).pack)
    assert not packer.expect(("text" * WORTH, [b"few"] * 1000, {"a": [range(WORTH)]}))
    assert packer.expect((1, [{"a": BIG}]))
    for _ in range(LOOKED_AT):
        assert packer.pack(["a", 1]) == msgpack.packb(["a", 1])
    for elements in (["a", 1], ["a", BIG]):
        with pytest.raises(Large):
            packer.pack(elements)
    assert packer.is_done
    assert packer.repack("a", ["a", 1]) == msgpack.packb(["a", 1])


def test_only_who_says_so_gets_frames() -> None:
    assert reads_frames("msgpack", {"gmp": "1", "frames": "1"})
    assert not reads_frames("msgpack", {"gmp": "1", "runs": "1"})
    assert not reads_frames("json", {"gmp": "1", "frames": "1"})
    assert not reads_frames("msgpack", {"frames": "2"})


def linked(make_node: MakeNode, tls: bool = False, **settings: Any) -> tuple[gmp.Node, gmp.Port]:
    """A node, and a port of another one to which it has sent large octets: the next ones travel beside their messages."""
    settings |= {"secret": None, "cert": SHARED} if tls else {}
    far = make_node("far", **settings)
    near = make_node("near", seeds=far.binds, **settings)
    near.wait_up("far", timeout=20)
    port = far.port()
    near.send(port.id, BIG)
    assert eq(port.receive(timeout=20), (BIG,))
    return near, port


@pytest.mark.parametrize("tls", [False, True])
def test_large_and_small_messages_between_two_nodes_in_order(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    made: list[int] = []
    begin = Pieces.__init__

    def counted(self: Pieces, *args: Any) -> None:
        made.append(1)
        begin(self, *args)

    monkeypatch.setattr(Pieces, "__init__", counted)
    settings_: dict[str, Any] = {"secret": None, "cert": SHARED} if tls else {}
    far = make_node("far", **settings_)
    near = make_node("near", seeds=far.binds, **settings_)
    near.wait_up("far", timeout=20)
    port = far.port()
    sent: list[tuple[Any, ...]] = []
    for number in range(60):
        message = (number, BIG * (number % 4), {"x": [number, BIG]}) if number % 3 else (number, "small")
        sent.append(message)
        near.send(port.id, *message)
    for wanted in sent:
        assert eq(port.receive(timeout=20), wanted)
    assert len(made) >= 20  # all but the first, by which large ones are noticed
    for number in range(3 * LOOKED_AT):
        near.send(port.id, number)
    assert [port.receive(timeout=20) for _ in range(3 * LOOKED_AT)] == [(number,) for number in range(3 * LOOKED_AT)]
    figures = near.stats()["peers"]["far"], far.stats()["peers"]["near"]
    eventually(lambda: near.stats()["peers"]["far"]["queued_bytes"] == 0)
    assert figures[0]["queued_bytes"] == 0


@pytest.mark.parametrize("octets", [b"", BIG])
@pytest.mark.parametrize("tls", [False, True])
def test_what_a_signal_handler_sends_while_large_octets_are_put_in_their_place_holds_up_nothing(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, octets: bytes, tls: bool
) -> None:
    """race: it writes all that waits, and so finds nothing large there."""
    near, port = linked(make_node, tls)
    put = SlowLane.put

    def strike(lane: SlowLane, *args: Any) -> None:
        monkeypatch.undo()
        near.send(port.id, "handler", octets)
        put(lane, *args)

    for sends_before in range(3):
        for _ in range(sends_before):
            near.send(port.id, "before")
        monkeypatch.setattr(SlowLane, "put", strike)
        near.send(port.id, "main", BIG)
        got = [port.receive(timeout=5) for _ in range(sends_before + 2)]
        assert eq(got[:sends_before], [("before",)] * sends_before)
        assert eq(sorted(got[sends_before:]), [("handler", octets), ("main", BIG)])


def test_a_message_over_the_limit_is_refused_by_the_sender(make_node: MakeNode) -> None:
    far = make_node("far", max_message=1 << 20)
    near = make_node("near", seeds=far.binds, max_message=1 << 20)
    near.wait_up("far", timeout=20)
    port = far.port()
    near.send(port.id, BIG)
    with pytest.raises(MessageError, match=f"over the limit of {1 << 20}"):
        near.send(port.id, bytes(1 << 20))
    near.send(port.id, BIG, BIG)
    assert eq(port.receive(timeout=20), (BIG,))
    assert eq(port.receive(timeout=20), (BIG, BIG))
