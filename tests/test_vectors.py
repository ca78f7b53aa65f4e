"""The test vectors and the recorded session of AnyEvent::MP 2.02, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gmp
from gmp.wire import auth
from gmp.wire.events import NEED_DATA, Authenticated, Greeted
from gmp.wire.framing import make_decoder
from gmp.wire.greeting import parse_greeting
from gmp.wire.session import Session

A = (
    b"aemp;1;alpha;tls_sha3_512,hmac_sha3_512,tls_anon,cleartext;cbor,json,storable;mproto=1;gproto=1;provider=AE-2.02;"
    b"peeraddr=127.0.0.1:51000",
    b"QUFB" * 22,
)
B = (b"aemp;1;beta;hmac_sha3_512;json;provider=py-0.1;peeraddr=127.0.0.1:4040", b"QkJC" * 22)
SECRET = b"geheim"
VECTORS = [
    ("hmac_sha3_512", SECRET, A, B, "3d1a8baf990d114918617047091f803df53b36118d7dc599b109bcf9316b68f7"
     "0f2455522ebc99800cd6d442dc679efe8857a0567955131a841975c99c8557fd"),
    ("hmac_sha3_512", SECRET, B, A, "f20709822301073e9e001212f2c4c131cebaa16a7d834d6a70d802d56194cd01"
     "2441ad07cb14b2615cb2abc082718e64d3cf3b4b464a437bac54fbc31d484cc8"),
    ("hmac_sha3_512", b"k" * 100, A, B, "43cca5041faad02c708f09dd771c58d365ad293d7e18c96657276bc905db28cc"
     "cc707dc257c1e58b93f3d8d95b3574b32993e691eab8c40836db5087defa950d"),
    ("hmac_sha3_512", b"k" * 100, B, A, "447a294b5106db62c7546b277da73500e1fa3c009bfa5c95beeb6a785038ea94"
     "c7bf31887687b0ff187c4678ee85c15f11e27889973fb2eec0d61cd54d79d28c"),
    ("tls_sha3_512", SECRET, A, B, "a585fc25829a22ce3a4eda00c0d3cc8b92b502abbbca5be08091600eacd5a375"
     "cb97018f0d8331cded0366a47525b76af3b5e1671c5415c8681dd4fcb621b67d"),
    ("tls_sha3_512", SECRET, B, A, "6efc6e32c920d94e4faffa6302fa3692517055600978afe3bc1a1c64fc45714d"
     "1de4be8d17529e463066c75c7a3d41ed8783caa387f56b7fbab7002a44e43ac2"),
    ("cleartext", SECRET, A, B, "67656865696d"),
    ("tls_anon", SECRET, A, B, ""),
]  # fmt: skip

OURS = (
    "aemp;1;PyNode;hmac_sha3_512;json;provider=probe-0;peeraddr=127.0.0.1:0;mproto=1;gproto=1",
    "NkGhKMlUSzxdM2yyXohy07nhTt8UWCpSIpY+LrwtL0SkUF85HaUzdjASZOeWXMusrEDGKGasYVikozq+/u5dTzwE",
    "hmac_sha3_512;18bf55bdb02b44d12d7ce091e6878efe3e15bff192a0556646c033bfbfb11a34"
    "b9beeab371f87a082458a0be6704314d572a1111cf294260866d462babab2554;json",
)
THEIRS = (
    "aemp;1;PerlA;tls_sha3_512,hmac_sha3_512,tls_anon,cleartext;json,cbor,storable;gproto=1;provider=AE-2.02;"
    "peeraddr=127.0.0.1:49352;mproto=1",
    "jAuWOMPYNxTPzJYha492NQURv9W0iP1GXsDvSqxnxQaoxIHgXFGBXjOprlop83337HAhP3mO7wfVFUotx57UqPgY",
    "hmac_sha3_512;a01b515f3c4d6c544a6c0255d2caf2b7f47ee7856e52ac28fe0eb46af1dd37b5"
    "9c50cd492b444fe096cf5f1dbfacd05e51527db22c50a6c0696a7b6351c002ed;json",
)
SENT = r"""
["","time","PyNode#rt"]
["","AnyEvent::MP::_spawn","PYrnd000Xa","Svc::echo","PyNode#boss","extra"]
["","mon1","PYrnd000Xa"]
["PYrnd000Xa","ping","PyNode#boss",1,"two",[3]]
["PYrnd000Xa","die"]
["","mon1","gone"]
["","kil1","PYrnd000Xb","because",{"x":1}]
["","g_slave",{"'l":{"PyNode":["127.0.0.1:4049"]},"Fam":{"k1":"v1"}}]
["","g_mon1","Fam"]
["","g_upd","Fam",null,["k1"]]
["","g_find","Nobody"]
""".strip().splitlines()
RECEIVED = r"""
["","g_global"]
["rt",1795424333.59782]
["","mon1","boss"]
["boss","ready","PerlA#PYrnd000Xa","extra"]
["boss","pong","PerlA#PYrnd000Xa",1,"two",[3]]
["","kil0","PYrnd000Xa","die","asked to die"]
["","kil0","gone","no_such_port","cannot monitor nonexistent port","PerlA#gone"]
["","kil0","PYrnd000Xb","because",{"x":1}]
["","g_chg1","Fam",{"k1":"v1"}]
["","g_chg2","Fam",{},["k1"]]
["","g_found","Nobody",null]
""".strip().splitlines()


@pytest.mark.parametrize(("method", "secret", "sender", "receiver", "data"), VECTORS)
def test_the_data_of_an_authentication_line_is_as_perl_computes_it(
    method: str, secret: bytes, sender: tuple[bytes, bytes], receiver: tuple[bytes, bytes], data: str
) -> None:
    assert auth.compute(method, secret, sender, receiver) == data.encode()
    assert auth.verify(method, data.encode(), secret, sender, receiver)
    assert not auth.verify(method, (data + "0").encode(), secret, sender, receiver)
    if "sha3" in method:
        assert not auth.verify(method, data.upper().encode(), secret, sender, receiver)
        assert not auth.verify(method, data.encode(), secret, receiver, sender)


def test_the_vectors_lines_are_understood() -> None:
    alpha, beta = parse_greeting(A[0]), parse_greeting(B[0])
    assert alpha.auth == ("tls_sha3_512", "hmac_sha3_512", "tls_anon", "cleartext")
    assert alpha.framings == ("cbor", "json", "storable")
    assert alpha.keys["provider"] == "AE-2.02"
    assert (beta.node_id, beta.framings, beta.offers_tls) == ("beta", ("json",), False)


def replay(piece_size: int) -> tuple[bytes, list[Any], Session]:
    """Play PyNode's part against the recorded bytes; return what was sent, and the messages that were received."""
    session = Session(
        node_id="PyNode",
        nonce=OURS[1],
        secret=SECRET,
        keys={"provider": "probe-0", "peeraddr": "127.0.0.1:0", "mproto": "1", "gproto": "1"},
        framings=("json",),
        max_message=1 << 20,
    )
    incoming = "\n".join((*THEIRS, "")).encode() + "".join(RECEIVED).encode()
    received: list[Any] = []
    for start in range(0, len(incoming), piece_size):
        piece = incoming[start : start + piece_size]
        if session.has_greeting and session.state.value == "data":
            received += session.decoder.decode(piece)
            continue
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA:
            if isinstance(event, Greeted):
                assert event.tls_role is None
                session.send_auth()
            if isinstance(event, Authenticated):
                assert event == Authenticated("hmac_sha3_512", "json")
                received += session.decoder.decode(session.trailing_data())
                break
    return session.data_to_send(), received, session


@pytest.mark.parametrize("piece_size", [1, 7, 100, 4096, 1 << 20])
def test_the_recorded_session_replays_byte_for_byte(piece_size: int) -> None:
    sent, received, session = replay(piece_size)
    for line in SENT:
        name, *args = json.loads(line)
        sent += session.encoder.encode(name, tuple(args))
    assert sent == "\n".join((*OURS, "")).encode() + "".join(SENT).encode()
    assert received == [json.loads(line) for line in RECEIVED]


def test_a_flipped_bit_in_the_recorded_authentication_line_is_noticed() -> None:
    line = THEIRS[2].replace("a01b", "a01a")
    session = Session(node_id="PyNode", nonce=OURS[1], secret=SECRET, keys={}, framings=("json",), max_message=1 << 20)
    session.receive_data("\n".join((*THEIRS[:2], line, "")).encode())
    assert isinstance(session.next_event(), Greeted)
    with pytest.raises(gmp.AuthenticationError, match="PerlA"):
        session.next_event()


def test_octets_of_a_perl_cbor_message_are_text_where_names_stand() -> None:
    assert list(make_decoder("cbor", 1000).decode(bytes.fromhex("82404474696d65"))) == [["", "time"]]
