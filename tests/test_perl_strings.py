"""Perl's strings: one rule in cbor and json, and back as they came."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmp
from gmp.characters import Characters
from gmp.wire.dispatch import Undecodable
from gmp.wire.framing import make_decoder, make_encoder
from gmp.wire.perl_strings import PERL_STRINGS

from . import functions
from .conftest import Recorder, eventually
from .perl_peer import PerlPeer, characters, octets

MakeNode = Callable[..., gmp.Node]
LIMIT = 1_000_000
FRAMINGS = ["json", "cbor"]
#: a string of Perl's, and what it is here by default
STRINGS: list[tuple[str, str | bytes]] = [
    ("", ""),
    ("abc", "abc"),
    ("\xc3\xa4", "ä"),  # octets that are UTF-8
    ("\xe2\x82\xac", "€"),
    ("\xe4", b"\xe4"),  # a Latin-1 letter, or an octet: nobody can tell
    ("\xff\x00\x80", b"\xff\x00\x80"),
    ("\u20ac", "€"),  # a wide character
    ("\xe4\u20ac", "ä€"),
    ("\U0001f600", "\U0001f600"),
]


def written(framing: str, message: list[Any], *, flagged: bool = False) -> bytes:
    """A message as Perl writes it; `flagged`: its strings happen to be kept as characters, which shows in cbor alone."""
    if framing == "json":
        return json.dumps(message, ensure_ascii=False).encode()
    return cbor2.dumps(message if flagged else octets(message))


def read(framing: str, data: bytes, setting: str = "text") -> list[Any]:
    (message,) = make_decoder(framing, LIMIT, PERL_STRINGS[setting]).decode(data)
    assert isinstance(message, list), message
    return message


def answered(framing: str, message: list[Any], setting: str = "text") -> Any:
    """What Perl gets of a message that goes there."""
    data = make_encoder(framing, LIMIT, PERL_STRINGS[setting]).encode(message[0], tuple(message[1:]))
    return characters(json.loads(data) if framing == "json" else cbor2.loads(data))


@pytest.mark.parametrize("flagged", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_string_becomes_the_same_however_it_comes(framing: str, flagged: bool) -> None:
    strings = [string for string, _ in STRINGS]
    got = read(framing, written(framing, ["p", *strings, strings], flagged=flagged))
    expected = [here for _, here in STRINGS]
    assert got == ["p", *expected, expected]
    assert list(map(type, got[2:-1])) == [
        Characters if max(string, default="") > "\xff" else type(here) for string, here in STRINGS[1:]
    ]
    assert answered(framing, got) == ["p", *strings, strings]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_name_is_always_a_text_and_goes_back_as_it_came(framing: str) -> None:
    for string, here in STRINGS:
        got = read(framing, written(framing, [string, "tag", {string: {string: 1}}]))
        name = here if isinstance(here, str) else here.decode("latin-1")
        assert got == [name, "tag", {name: {name: 1}}]
        assert type(got[0]) is str
        assert answered(framing, ["p", *got[1:]]) == ["p", "tag", {string: {string: 1}}]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_setting_keeps_perls_characters(framing: str) -> None:
    strings = [string for string, _ in STRINGS]
    message = ["p", *strings, dict.fromkeys(strings, strings)]
    got = read(framing, written(framing, message), "characters")
    assert got == message
    assert {type(string) for string in got[:-1]} == {str}
    assert answered(framing, got, "characters") == message
    assert answered(framing, ["p", "ä", b"\xff"], "characters") == ["p", "ä", "\xff"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_texts_of_ours_go_as_octets_in_utf8_and_ascii_as_plain_strings(framing: str) -> None:
    keys = {"ä": "ä", b"\xe4": 1, 7: 2, True: 3}
    assert answered(framing, ["p", "plain", "ä", "€", b"\xff\x00", Characters("ä"), keys]) == [
        "p", "plain", "\xc3\xa4", "\xe2\x82\xac", "\xff\x00", "ä", {"\xc3\xa4": "\xc3\xa4", "\xe4": 1, "7": 2, "true": 3},
    ]  # fmt: skip
    if framing == "cbor":  # as Perl's own: a byte string, and a text only when it must be
        data = make_encoder(framing, LIMIT, PERL_STRINGS["text"]).encode("p", ("t", Characters("ä"), Characters("€")))
        assert cbor2.loads(data) == [b"p", b"t", b"\xe4", "€"]


@pytest.mark.parametrize("setting", PERL_STRINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_integers_that_perl_does_not_read_as_such_go_as_their_digits(framing: str, setting: str) -> None:
    for number in (0, -1, 1 - 2**63, 2**63, 2**64 - 1):
        assert answered(framing, ["p", number, [{"k": number}]], setting) == ["p", number, [{"k": number}]]
    for number in (-(2**63), -(2**64), 2**64, 10**4000):
        assert answered(framing, ["p", number, [{"k": number}]], setting) == ["p", str(number), [{"k": str(number)}]]
    with pytest.raises(gmp.MessageError, match="an integer of 20001 bits cannot travel as its digits"):
        make_encoder(framing, LIMIT, PERL_STRINGS[setting]).encode("p", (1 << 20_000,))


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("keys", [{"ä": 1, b"\xc3\xa4": 2}, {Characters("é"): 1, b"\xe9": 2}, {7: 1, "7": 2}], ids=str)
def test_keys_that_would_be_one_in_perl_are_refused(framing: str, keys: dict[Any, Any]) -> None:
    with pytest.raises(gmp.MessageError, match="two keys of a dict would be one"):
        make_encoder(framing, LIMIT, PERL_STRINGS["text"]).encode("p", (keys,))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_map_of_which_two_keys_would_be_one_is_lost_alone(framing: str) -> None:
    decoder = make_decoder(framing, LIMIT, PERL_STRINGS["text"])
    data = written(framing, ["\xc3\xa4", {"\u20ac": 1, "\xe2\x82\xac": 2}]) + written(framing, ["p"])
    lost, after = decoder.decode(data)
    assert lost == Undecodable("ä", "two keys of a map are the same text, once as octets and once as characters")
    assert after == ["p"]


@pytest.mark.parametrize("setting", PERL_STRINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_whatever_comes_from_perl_goes_back_as_it_was(framing: str, setting: str) -> None:
    strings = st.text(st.characters(max_codepoint=255)) | st.text(st.characters(exclude_categories=["Cs"]))
    strings |= st.text().map(lambda text: text.encode().decode("latin-1"))
    values = st.recursive(
        strings | st.none() | st.integers(0, 99),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=2),
        max_leaves=6,
    )

    @settings(max_examples=200, deadline=None)
    @given(strings, st.lists(values, max_size=4), st.booleans())
    def check(name: str, rest: list[Any], flagged: bool) -> None:
        data = written(framing, [name, *rest], flagged=flagged)
        (message,) = make_decoder(framing, LIMIT, PERL_STRINGS[setting]).decode(data)
        if isinstance(message, Undecodable):
            assert setting == "text"
            assert message.what.startswith("two keys")
        else:
            assert answered(framing, ["p", *message[1:]], setting) == ["p", *rest]

    check()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_between_gmp_nodes_a_text_is_a_text(framing: str) -> None:
    message = ("täg", "€", Characters("é"), {"ä": "\xc3\xa4"})
    ((_, *got),) = make_decoder(framing, LIMIT).decode(make_encoder(framing, LIMIT).encode("p", message))
    assert got == list(message)
    assert {type(item) for item in got[:3]} == {str}


# ---- what Perl's own encoders write, and read

WRITE = r"""
use strict; use JSON::XS; use CBOR::XS;
my @strings = map { my $flag = s/^u//; my $s = join "", map chr hex, split /,/; utf8::upgrade $s if $flag; $s } @ARGV;
print unpack ("H*", encode_json ["p", @strings, {map +($_ => 1), @strings}]), "\n";
print unpack ("H*", encode_cbor ["p", @strings, {map +($_ => 1), @strings}]), "\n";
"""
READ = r"""
use strict; use JSON::XS; use CBOR::XS;
my ($framing, $hex) = @ARGV; my $data = pack "H*", $hex;
my $message = $framing eq "json" ? JSON::XS->new->utf8->decode ($data) : CBOR::XS->new->decode ($data);
sub shown { join ",", map sprintf ("%x", ord), split //, $_[0] }
my $keys = pop @$message;
print join (" ", map shown ($_), @$message), "\n", join (" ", sort map shown ($_), keys %$keys), "\n";
"""


def perl(program: str, *args: str) -> list[str]:
    try:
        run = subprocess.run(["perl", "-e", program, *args], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("perl is not installed")
    if "Can't locate" in run.stderr:
        pytest.skip("Perl's modules CBOR::XS and JSON::XS are not installed")
    assert run.returncode == 0, run.stderr
    return run.stdout.split("\n")


def hexadecimal(string: str) -> str:
    return ",".join(f"{ord(character):x}" for character in string)


@pytest.mark.parametrize("flag", ["", "u"], ids=["as octets", "as characters"])
def test_perls_own_encoders_and_decoders_agree(flag: str) -> None:
    strings = [string for string, _ in STRINGS[1:]]
    same = ["\u20ac", "\xe4"]  # as keys they are the same texts as others are
    for string_list in ([string for string in strings if string not in same], same):
        here = [dict(STRINGS)[string] for string in string_list]
        lines = perl(WRITE, *(flag + hexadecimal(string) for string in string_list))
        for framing, line in zip(FRAMINGS, lines, strict=False):
            *got, keys = read(framing, bytes.fromhex(line))
            assert got == ["p", *here]
            assert len(keys) == len(string_list)
            data = make_encoder(framing, LIMIT, PERL_STRINGS["text"]).encode(got[0], (*got[1:], keys))
            values, names, _ = perl(READ, framing, data.hex())
            assert values == " ".join(map(hexadecimal, ["p", *string_list]))
            assert names == " ".join(sorted(map(hexadecimal, string_list)))


# ---- nodes

ECHO = """
import sys
if sys.argv[1] == "without": sys.modules["cbor2"] = None
import gmp
node = gmp.Node("gmp", binds=["127.0.0.1:0"], secret="geheim").start()
port = node.port()
print(node.binds[0], port.id, flush=True)
*strings, reply = port.receive(timeout=30)
node.send(reply, *strings)
print(ascii(strings), flush=True)
node.flush(20)
sys.stdin.read()
node.close()
"""


@pytest.mark.parametrize(("installed", "framing"), [("with", "cbor"), ("with", "json"), ("without", "json")])
def test_what_arrives_does_not_hang_on_what_is_installed(installed: str, framing: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", ECHO, installed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(gmp.__file__).parent.parent,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        bind, port_id = child.stdout.readline().split()
        strings = [string for string, _ in STRINGS]
        with PerlPeer.dial(bind, framing=framing) as peer:
            assert peer.call(port_id, *strings) == strings
            assert child.stdout.readline().strip() == ascii([here for _, here in STRINGS])
        child.communicate("", timeout=30)
        assert child.returncode == 0
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_ids_tags_reasons_functions_and_families_are_read_alike(make_node: MakeNode, framing: str) -> None:
    functions.calls = Recorder()
    node = make_node("gmp", allow=["tests.functions"])
    own = "Perl\xc3\xa4"  # the octets of "Perlä"
    with PerlPeer.dial(node.binds[0], own, framing=framing) as peer:
        node.wait_up("Perlä", timeout=20)
        for string, here in STRINGS[1:]:
            name = here if isinstance(here, str) else here.decode("latin-1")
            port, killed = node.port(), Recorder()
            peer.snd(port.id, string, string)
            assert port.receive(here, timeout=20) == (here,)
            node.monitor(port, killed)
            peer.kil(port.id, string, [string])
            assert killed.wait(timeout=20) == [(here, [here])]
            peer.request("tests::functions::note", string)
            eventually(lambda here=here: functions.calls.calls[-1:] == [(here,)])  # type: ignore[misc]
            port_name = characters(name.encode())
            peer.ports[port_name] = None
            node.monitor(f"Perlä#{name}", died := Recorder())
            peer.expect("", "mon1", port_name)
            peer.request("kil0", port_name, string)
            assert died.wait(timeout=20)[0] == (here,)
        port = node.port()
        reply = peer.port()
        assert reply.startswith(own)
        peer.snd(port.id, "ask", reply)
        ((asker),) = port.receive("ask", timeout=20)
        assert asker.startswith("Perlä#")
        node.send(asker, "answer", asker)
        assert peer.expect(reply.partition("#")[2], "answer") == [reply]


def test_what_perl_strings_may_be_is_said() -> None:
    with pytest.raises(gmp.ConfigError, match=r"perl_strings.*'bytes'.*'text' or 'characters'"):
        gmp.Node("gmp", perl_strings="bytes")


def test_a_node_keeps_perls_characters_when_it_is_told_to(make_node: MakeNode) -> None:
    node = make_node("gmp", perl_strings="characters")
    port = node.port()
    for framing in FRAMINGS:
        with PerlPeer.dial(node.binds[0], f"Perl-{framing}", framing=framing) as peer:
            reply = peer.port()
            peer.snd(port.id, "t\xe4g", "\xc3\xa4", "\u20ac", reply)
            message = port.receive(timeout=20)
            assert message == ("t\xe4g", "\xc3\xa4", "\u20ac", reply)
            node.send(reply, *message[:-1])
            assert peer.expect(reply.partition("#")[2]) == ["t\xe4g", "\xc3\xa4", "\u20ac"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_goes_to_perl_as_characters_does_so_before_it_is_connected_too(make_node: MakeNode, framing: str) -> None:
    node = make_node("gmp")
    message = ["tag", Characters("\xe4\u20ac"), {Characters("\xe9"): [(Characters("\xe9"), "\xe9", b"\xe9")]}]
    node.send("PerlA#port", *message)
    message[2][Characters("\xe9")].append("set afterwards")
    with PerlPeer.dial(node.binds[0], framing=framing) as perl:
        early = perl.expect("port", "tag")
        message[2][Characters("\xe9")].pop()
        node.send("PerlA#port", *message)
        assert early == perl.expect("port", "tag") == ["\xe4\u20ac", {"\xe9": [["\xe9", "\xc3\xa9", "\xe9"]]}]
