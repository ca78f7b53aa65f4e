"""What the fuzzers and the tests feed bytes to. One invariant for all: any bytes whatever give messages or one of gmp's own
`ProtocolError`s, and the same ones whether they come whole or byte by byte; and nothing is delivered before a login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.errors import ProtocolError
from gmp.wire.batches import batch_head
from gmp.wire.events import NEED_DATA, Authenticated, Greeted
from gmp.wire.framing import make_decoder
from gmp.wire.perl_strings import PERL_STRINGS, PerlStrings
from gmp.wire.session import Session
from gmp.wire.states import State

LIMIT = 1 << 16  # bytes a message may have
NONCE = "QUFB" * 22
PEER = (b"aemp;1;beta;hmac_sha3_512;json;gmp=1", b"QkJC" * 22)


def make_session(*, tls: bool = False) -> Session:
    """A session of a node called alpha, whose secret is ``geheim``."""
    return Session(
        node_id="alpha",
        nonce=NONCE,
        secret=b"geheim",
        keys={"gmp": "1"},
        framings=("msgpack", "cbor", "json"),
        tls=tls,
        allow_cleartext=True,
        allow_anonymous=tls,
        max_message=LIMIT,
    )


def pieces(data: bytes, size: int) -> list[bytes]:
    """`data` cut into pieces of `size` bytes; 0: whole."""
    return [data[i : i + size] for i in range(0, len(data), size)] if size else [data]


def run_handshake(data: bytes, size: int, prefix: bytes = b"") -> list[Any]:
    """Feed `prefix`, then `data`; what happened: events as texts, the error's type at last."""
    session = make_session()
    said: list[Any] = []
    try:
        for piece in (prefix, *pieces(data, size)):
            session.receive_data(piece)
            while (event := session.next_event()) is not NEED_DATA:
                said.append(type(event).__name__)
                if isinstance(event, Greeted):
                    session.send_auth()
                assert not isinstance(event, Authenticated) or said[0] == "Greeted"
                if session.state is State.DATA:
                    break
    except ProtocolError as error:
        said.append(type(error).__name__)
        assert session.state is State.ERROR
    try:
        decoder: object = session.decoder
    except ProtocolError:
        decoder = None
    assert (decoder is not None) == ("Authenticated" in said), "a decoder before the login"
    return said


def greeting(data: bytes) -> None:
    """Any bytes instead of a greeting."""
    assert run_handshake(data, 0) == run_handshake(data, 1)


def auth_line(data: bytes) -> None:
    """Any bytes instead of the authentication line."""
    prefix = b"\n".join((*PEER, b""))
    whole = run_handshake(data, 0, prefix)
    assert whole == run_handshake(data, 1, prefix)
    assert "Authenticated" not in whole or b"geheim".hex().encode() in data or b"hmac" in data


def decode_all(framing: str, data: bytes, size: int, perl: PerlStrings | None = None) -> tuple[str, str]:
    """What the decoder makes of `data`: the messages, and the type of the error; as texts, for NaN does not equal itself."""
    decoder = make_decoder(framing, LIMIT, perl)
    messages: list[Any] = []
    try:
        for piece in pieces(data, size):
            messages += decoder.decode(piece)
    except ProtocolError:
        return repr(messages), "ProtocolError"
    return repr(messages), ""


def framing_target(name: str) -> Callable[[bytes], None]:
    """Any bytes instead of messages in that framing."""

    def decode(data: bytes) -> None:
        for perl in (None, *PERL_STRINGS.values()):
            whole, by_bytes = decode_all(name, data, 0, perl), decode_all(name, data, 1, perl)
            assert whole[1] == by_bytes[1], f"{name}: {whole} and byte by byte {by_bytes}"
            assert whole[1] or whole == by_bytes

    return decode


PLAIN_RUN, NESTED_RUN = (batch_head("p", 100) + row * 100 for row in (b"\x91\x01", b"\x91\x90"))


def dispatch_all(data: bytes, size: int, before: bytes) -> tuple[list[str], str]:
    """What the msgpack decoder delivers of `data`, and its error, when it was fed the run `before` it."""
    decoder = make_decoder("msgpack", LIMIT)
    decoder.dispatch(before, {}.get, lambda message: None)
    got: list[str] = []

    class Box:
        put = staticmethod(lambda message: got.append(repr(["p", *message])))
        put_all = staticmethod(lambda messages: got.extend(repr(["p", *message]) for message in messages))

    try:
        for piece in pieces(data, size):
            decoder.dispatch(piece, {"p": Box}.get, lambda message: got.append(repr(message)))
    except ProtocolError as error:
        return got, str(error)
    return got, ""


def msgpack_dispatch(data: bytes) -> None:
    """Any bytes instead of messages in msgpack, when arrays are decoded as lists at first, and when as tuples."""
    for size in (0, 1, 7):
        lists, tuples = dispatch_all(data, size, NESTED_RUN), dispatch_all(data, size, PLAIN_RUN)
        assert lists[0] == tuples[0]
        assert lists[1] or not tuples[1]  # what is wrong with a map may be seen before it is whole, or then


TARGETS: dict[str, Callable[[bytes], None]] = {
    "greeting": greeting,
    "auth_line": auth_line,
    "msgpack": framing_target("msgpack"),
    "msgpack_dispatch": msgpack_dispatch,
    "cbor": framing_target("cbor"),
    "json": framing_target("json"),
}
