"""The handshake on bytes alone: who is refused and why, whatever pieces the bytes come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmp
from gmp.wire import auth
from gmp.wire.events import NEED_DATA, Authenticated, Greeted
from gmp.wire.session import Session
from gmp.wire.states import TRANSITIONS, State, Step

from .fuzz.targets import LIMIT, NONCE, PEER, TARGETS, run_handshake

CORPUS = Path(__file__).parent / "fuzz" / "corpus"


def session(**options: Any) -> Session:
    options = {"secret": b"geheim", "keys": {"gmp": "1"}, "framings": ("msgpack", "json"), **options}
    return Session(node_id="alpha", nonce=NONCE, max_message=LIMIT, **options)


def own_lines(of: Session) -> tuple[bytes, bytes]:
    line, nonce, _ = of.data_to_send().split(b"\n")
    return line, nonce


def auth_line(method: str, theirs: tuple[bytes, bytes], ours: tuple[bytes, bytes], framing: str = "json") -> bytes:
    return b"%s;%s;%s" % (method.encode(), auth.compute(method, b"geheim", theirs, ours), framing.encode())


def events(of: Session, data: bytes, size: int) -> list[Any]:
    """What happens when `data` comes in pieces of `size` bytes; TLS counts as set up at once."""
    happened = []
    for start in range(0, len(data), size):
        of.receive_data(data[start : start + size])
        while not happened or happened[-1] is not Authenticated:
            event = of.next_event()
            if event is NEED_DATA:
                break
            happened.append(type(event))
            if isinstance(event, Greeted) and event.tls_role is not None:
                of.tls_started()
    return happened


SIZES = [1, 2, 13, 1 << 20]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("behind", [b"", b'["port",1]' * 3])
def test_a_login_is_seen_in_any_pieces_with_either_line_end_and_what_is_behind_it_stays(
    end: bytes, behind: bytes
) -> None:
    for size in SIZES:
        one = session()
        line = auth_line("hmac_sha3_512", PEER, own_lines(one))
        assert events(one, end.join((*PEER, line, b"")) + behind, size) == [Greeted, Authenticated]
        assert one.greeting.node_id == "beta"
        if size > 1000:
            assert one.trailing_data() == behind
            assert one.trailing_data() == b""


@pytest.mark.parametrize(
    "line",
    [
        b"aemp;01;beta;hmac_sha3_512;json",
        b"aemp;1.0;beta;hmac_sha3_512;json",
        b"aemp;1;beta;x,hmac_sha3_512,y;storable,json;a;b=c=d;tls=2.0;zz=1;unknown",
        b"aemp-dataconn;1;b/e:ta;hmac_sha3_512;json;dataconn_id=b@I",
    ],
)
def test_unusual_greetings_are_understood(line: bytes) -> None:
    for size in SIZES:
        one = session()
        peer = (line, b"")  # a nonce may be empty
        login = auth_line("hmac_sha3_512", peer, own_lines(one))
        assert events(one, b"\n".join((*peer, login, b"")), size) == [Greeted, Authenticated]


def test_values_of_keys_may_hold_equal_signs_or_be_missing() -> None:
    one = session()
    events(one, b"aemp;1;beta;hmac_sha3_512;json;a;b=c=d;gmp=1\nx\n", 5)
    assert dict(one.greeting.keys) == {"a": "", "b": "c=d", "gmp": "1"}


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"http;1;beta;hmac_sha3_512;json\nx\n", gmp.ProtocolError, "unknown protocol 'http'"),
        (b"aemp-other;1;beta;hmac_sha3_512;json\nx\n", gmp.ProtocolError, "unknown protocol"),
        (b"aemp;2;beta;hmac_sha3_512;json\nx\n", gmp.ProtocolError, "version '2'"),
        (b"aemp;x;beta;hmac_sha3_512;json\nx\n", gmp.ProtocolError, "version 'x'"),
        (b"aemp;1;beta;hmac_sha3_512\nx\n", gmp.ProtocolError, "4 fields"),
        (b"\n\n", gmp.ProtocolError, "unknown protocol ''"),
        (b"\xff\n", gmp.ProtocolError, "no UTF-8"),
        (b"aemp;1;alpha;hmac_sha3_512;json\nx\n", gmp.ProtocolError, "is another one than this node"),
        (PEER[0] + b"\n" + NONCE.encode() + b"\n", gmp.ProtocolError, "our own nonce"),
        (b"aemp;1;beta;cleartext;json\nx\n", gmp.AuthenticationError, "'cleartext' is accepted there"),
        (b"aemp;1;beta;tls_sha3_512;json\nx\n", gmp.AuthenticationError, "no authentication method in common"),
        (b"aemp;1;beta;;json\nx\n", gmp.AuthenticationError, "no authentication method in common"),
        (b"aemp;1;beta;hmac_sha3_512;storable\nx\n", gmp.ProtocolError, "'storable' can be read there"),
        (b"a" * 5000, gmp.ProtocolError, "longer than 4096"),
        (PEER[0] + b";pad=" + b"x" * 4096 + b"\nx\n", gmp.ProtocolError, "longer than 4096"),
        (PEER[0] + b"\n" + b"n" * 4096 + b"\n", gmp.ProtocolError, "longer than 4096"),
        (b"\n".join((*PEER, b"nonsense", b"")), gmp.AuthenticationError, "expected METHOD;DATA;FRAMING"),
        (b"\n".join((*PEER, b"hmac_sha3_512;00;json", b"")), gmp.AuthenticationError, "'beta' does not have our secret"),
        (b"\n".join((*PEER, b"cleartext;67656865696d;json", b"")), gmp.AuthenticationError, "'cleartext' was not offered"),
        (b"\n".join((*PEER, b"tls_anon;;json", b"")), gmp.AuthenticationError, "'tls_anon' was not offered"),
        (b"\n".join((*PEER, b"hmac_sha3_512;00;cbor", b"")), gmp.ProtocolError, "framing 'cbor' was not offered"),
        (b"\n".join((*PEER, b"l" * 5000)), gmp.ProtocolError, "longer than 4096"),
    ],
)
def test_who_is_refused_hears_nothing_and_the_error_names_what_was_wrong(
    data: bytes, error: type[Exception], said: str
) -> None:
    for size in SIZES:
        one = session()
        with pytest.raises(error, match=said):
            events(one, data, size)
        assert one.state is State.ERROR
        with pytest.raises(gmp.ProtocolError, match="failed before"):
            one.next_event()
        with pytest.raises(gmp.ProtocolError, match="not proved itself"):
            one.decoder  # noqa: B018


def test_a_line_of_exactly_4096_octets_passes() -> None:
    one = session()
    line = PEER[0] + b";pad="
    line += b"x" * (4095 - len(line))
    assert events(one, line + b"\nx\n", 1000) == [Greeted]


def test_a_login_with_the_other_sides_digest_is_no_login() -> None:
    one = session()
    ours = own_lines(one)
    reflected = auth_line("hmac_sha3_512", ours, PEER)
    with pytest.raises(gmp.AuthenticationError, match="secret"):
        events(one, b"\n".join((*PEER, reflected, b"")), 100)


def test_upper_case_digits_are_refused() -> None:
    one = session()
    method, data, framing = auth_line("hmac_sha3_512", PEER, own_lines(one)).split(b";")
    with pytest.raises(gmp.AuthenticationError):
        events(one, b"\n".join((*PEER, b";".join((method, data.upper(), framing)), b"")), 100)


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ({}, "hmac_sha3_512"),
        ({"allow_cleartext": True}, "hmac_sha3_512,cleartext"),
        ({"tls": True}, "tls_sha3_512,hmac_sha3_512"),
        ({"tls": True, "secret": None, "allow_cleartext": True}, "tls_sha3_512"),
        ({"tls": True, "allow_cleartext": True, "allow_anonymous": True}, "tls_sha3_512,hmac_sha3_512,tls_anon,cleartext"),
        ({"allow_anonymous": True}, "hmac_sha3_512"),
        ({"secret": None}, ""),
    ],
)
def test_what_is_offered_has_the_tls_methods_first(options: dict[str, Any], offered: str) -> None:
    line, _ = own_lines(session(**options))
    assert line.split(b";")[3].decode() == offered
    assert (b";tls=1.0" in line) is bool(options.get("tls"))


def test_cleartext_is_accepted_where_it_was_switched_on_and_never_sent() -> None:
    one = session(allow_cleartext=True)
    assert events(one, b"\n".join((*PEER, b"cleartext;67656865696d;json", b"")), 9) == [Greeted, Authenticated]
    one = session(allow_cleartext=True)
    with pytest.raises(gmp.AuthenticationError, match="secret"):
        events(one, b"\n".join((*PEER, b"cleartext;00;json", b"")), 9)
    one = session(allow_cleartext=True)
    with pytest.raises(gmp.AuthenticationError, match="no authentication method"):
        events(one, b"aemp;1;beta;cleartext;json\nx\n", 9)


TLS_PEER = (b"aemp;1;beta;hmac_sha3_512,tls_sha3_512;json;tls=1.7", b"~")


def test_methods_of_tls_count_only_under_tls_and_the_first_usable_one_is_taken() -> None:
    for secret, expected in ((b"geheim", b"hmac_sha3_512;"), (None, b"tls_sha3_512;")):
        one = session(tls=True, secret=secret)
        own_lines(one)
        assert events(one, b"\n".join((*TLS_PEER, b"")), 9) == [Greeted]
        one.send_auth()
        assert one.data_to_send().startswith(expected)


@pytest.mark.parametrize(("method", "allowed"), [("tls_sha3_512", True), ("tls_anon", False), ("hmac_sha3_512", True)])
def test_under_tls_a_login_by_what_was_offered_passes(method: str, allowed: bool) -> None:
    for anonymous in (False, True):
        one = session(tls=True, allow_anonymous=anonymous)
        data = b"\n".join((*TLS_PEER, auth_line(method, TLS_PEER, own_lines(one)), b""))
        if allowed or anonymous:
            assert events(one, data, 9) == [Greeted, Authenticated]
        else:
            with pytest.raises(gmp.AuthenticationError, match="was not offered"):
                events(one, data, 9)


def test_a_wrong_digest_under_tls_is_refused() -> None:
    one = session(tls=True)
    with pytest.raises(gmp.AuthenticationError, match="wrong tls_sha3_512 digest"):
        events(one, b"\n".join((*TLS_PEER, b"tls_sha3_512;00;json", b"")), 9)


def test_octets_behind_the_nonce_belong_to_tls_and_no_line_is_taken_from_them() -> None:
    one = session(tls=True)
    one.receive_data(b"\n".join((*TLS_PEER, b"\x16\x03\x01 a record\n")))
    event = one.next_event()
    assert isinstance(event, Greeted)
    assert event.tls_role == "client"
    assert one.next_event() is NEED_DATA
    assert one.trailing_data() == b"\x16\x03\x01 a record\n"


@pytest.mark.parametrize(("nonce", "role"), [(b"!", "server"), (b"~", "client")])
def test_the_lower_nonce_is_the_client(nonce: bytes, role: str) -> None:
    one = session(tls=True)
    one.receive_data(TLS_PEER[0] + b"\n" + nonce + b"\n")
    event = one.next_event()
    assert isinstance(event, Greeted)
    assert event.tls_role == role


@pytest.mark.parametrize(
    ("value", "on"), [("1", True), ("1.0", True), ("1.7", True), ("01", True), ("2.0", False), ("11", False), ("", False)]
)
def test_tls_is_used_when_the_integer_part_of_the_key_is_one(value: str, on: bool) -> None:
    one = session(tls=True)
    one.receive_data(f"aemp;1;beta;hmac_sha3_512;json;tls={value}\n~\n".encode())
    event = one.next_event()
    assert isinstance(event, Greeted)
    assert (event.tls_role is not None) is on


def test_required_tls_is_required() -> None:
    one = session(tls=True, require_tls=True)
    with pytest.raises(gmp.AuthenticationError, match="'beta' does not do TLS"):
        events(one, b"\n".join((*PEER, b"")), 9)


def test_our_line_cannot_be_sent_before_the_greeting() -> None:
    with pytest.raises(gmp.ProtocolError, match="too early"):
        session().send_auth()


def test_the_table_of_states_has_every_way_to_an_end() -> None:
    for state in State:
        assert TRANSITIONS[state, Step.FAILED] is State.ERROR
    assert {before for before, _ in TRANSITIONS} == set(State)


# ---- whatever comes


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_corpus_of_the_fuzzers_holds(target: str) -> None:
    files = sorted((CORPUS / target).iterdir())
    assert files
    for file in files:
        TARGETS[target](file.read_bytes())


@pytest.mark.parametrize("target", ["greeting", "auth_line"])
@settings(max_examples=60)
@given(data=st.binary(max_size=200) | st.text("aemp;1,json=\r\n", max_size=200).map(str.encode))
def test_any_bytes_give_no_login_and_no_foreign_error(target: str, data: bytes) -> None:
    TARGETS[target](data)


@settings(max_examples=150)
@given(
    cuts=st.lists(st.integers(0, 600), max_size=5),
    flips=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 255)), max_size=2),
    order=st.permutations([0, 1, 2]),
    keep=st.integers(0, 600),
)
def test_a_login_damaged_anyhow_is_none(
    cuts: list[int], flips: list[tuple[int, int]], order: list[int], keep: int
) -> None:
    one = session()
    lines = [*PEER, auth_line("hmac_sha3_512", PEER, own_lines(one))]
    good = b"\n".join((*lines, b""))
    data = bytearray(b"\n".join([*(lines[i] for i in order), b""]))
    for place, mask in flips:
        data[place % len(data)] ^= mask
    data = data[: max(keep, len(data) - keep)]
    try:
        happened = events(one, bytes(data), max([1, *cuts]))
    except gmp.ProtocolError:
        happened = []
    # the terminator itself may be damaged, and the framing's name is not part of the digest
    assert Authenticated not in happened or bytes(data).startswith(good[:-6])
    assert run_handshake(bytes(data), 0) == run_handshake(bytes(data), 7)
