"""The chunks of a stream without TLS: any bytes, cut up in any way, and an end that nothing else looks like."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmp.errors import ProtocolError
from gmp.wire.chunks import Chunks, layer_for


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def read_all(layer: Chunks) -> bytes:
    found = b""
    while piece := layer.read():
        found += bytes(piece)
    return found


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 10_000)), st.booleans())
def test_what_is_sent_is_read_however_it_is_cut_up(written: list[bytes], cuts: list[int], closed: bool) -> None:
    writer, reader = Chunks(), Chunks()
    sent = b"".join(writer.encrypt(data) for data in written) + (writer.end() if closed else b"")
    found = b""
    for piece in pieces_of(sent, cuts):
        assert not reader.ended
        reader.feed(piece)
        found += read_all(reader)
    assert found == b"".join(written)
    assert reader.ended == closed
    if closed:
        reader.feed_end()
        reader.feed(b"x")
        with pytest.raises(ProtocolError, match="behind the end"):
            reader.read()
    else:
        for _ in range(2):
            with pytest.raises(ProtocolError, match="cut off"):
                reader.feed_end()


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.data())
def test_every_shorter_beginning_is_a_cut(written: list[bytes], data: st.DataObject) -> None:
    writer, reader = Chunks(), Chunks()
    sent = b"".join(map(writer.encrypt, written)) + writer.end()
    reader.feed(sent[: data.draw(st.integers(0, len(sent) - 1))])
    read_all(reader)
    assert not reader.ended
    with pytest.raises(ProtocolError, match="cut off"):
        reader.feed_end()


def test_only_a_side_that_says_so_gets_chunks() -> None:
    assert isinstance(layer_for({"chunks": "1"}), Chunks)
    for keys in ({}, {"chunks": "2"}):
        assert not isinstance(layer_for(keys), Chunks)
