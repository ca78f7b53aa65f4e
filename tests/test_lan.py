"""Networks on a LAN: nodes that find each other by mDNS, and pairing. On loopback, so nothing leaves the machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket as native_socket
import subprocess as native_subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.subprocess as subprocess
import pytest
import zeroconf
from click.testing import CliRunner
from gevent import monkey, socket
from zeroconf import const

import gmp
from gmp.cli.commands import pair
from gmp.config import Address
from gmp.lan import pairing
from gmp.lan.discovery import SEEDS, TYPE, Lan
from gmp.lan.mdns import Mdns
from gmp.lan.pairing import TRIES, WORDS, Offer, ask, check_words, new_words
from gmp.lan.pairing import TYPE as PAIRING
from gmp.secretfile import replace_secret

from .conftest import eventually
from .gmp_command import Commands, wait_for

LOOPBACK = "127.0.0.1"
PATIENCE = 40.0


def no_multicast() -> str:
    """Why there is no mDNS on loopback here, or nothing."""
    if monkey.is_module_patched("threading"):
        return "there is no mDNS in a patched program"
    with native_socket.socket(native_socket.AF_INET, native_socket.SOCK_DGRAM) as sock:
        try:
            joined = native_socket.inet_aton("224.0.0.251") + native_socket.inet_aton(LOOPBACK)
            sock.setsockopt(native_socket.IPPROTO_IP, native_socket.IP_ADD_MEMBERSHIP, joined)
        except OSError as error:
            return f"no multicast on loopback here: {error}"
    return ""


pytestmark = [pytest.mark.skipif(bool(no_multicast()), reason=no_multicast())]


@pytest.fixture
def lan(request: pytest.FixtureRequest) -> str:
    """The name of a network that no other test has."""
    return f"t{os.getpid()}-{abs(hash(request.node.name)) % 10**9}"


@pytest.fixture
def folder(tmp_path: Path, lan: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the configuration, with the secret of that network."""
    monkeypatch.setenv("GMP_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("GMP_SECRET", raising=False)
    (tmp_path / "lan").mkdir()
    secret = tmp_path / "lan" / lan
    secret.write_text("geheim\n")
    secret.chmod(0o600)
    return tmp_path


def start(node_id: str, lan: str, **settings: Any) -> gmp.Node:
    return gmp.Node(node_id, lan=lan, binds=[f"{LOOPBACK}:0"], **settings).start()


# ---- nodes that find each other


@pytest.mark.usefixtures("folder")
def test_nodes_with_one_secret_find_each_other_and_go_on_when_the_first_has_left(lan: str) -> None:
    first = start("first", lan)
    with start("second", lan) as second:
        with first:
            first.wait_up("second", timeout=PATIENCE)
            second.wait_up("first", timeout=PATIENCE)
        with start("third", lan) as third:
            third.wait_up("second", timeout=PATIENCE)
            port = third.port()
            third.group("workers").join(port)
            assert second.group("workers").wait(timeout=PATIENCE).keys() == {port.id}


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_an_announcement_without_the_secret_displaces_nobody(lan: str) -> None:
    stranger = Mdns([Address(LOOPBACK, 9)])
    ring = gevent.get_hub().loop
    other = Lan(lan, b"another secret", ring, lambda: None)
    try:
        for number in range(SEEDS):
            properties = {"lan": lan, "node": "x", "incarnation": f"0{number}", "proof": "f" * 64}
            stranger.announce(TYPE, f"{lan}-{number}", 9, properties)
        other.seeds("y", "00", [f"{LOOPBACK}:9"])
        with start("first", lan) as first, start("second", lan) as second:
            first.wait_up("second", timeout=PATIENCE)
            second.wait_up("first", timeout=PATIENCE)
    finally:
        other.close()
        stranger.close()


@pytest.mark.slow
def test_the_seeds_are_those_that_were_started_first(lan: str) -> None:
    lans = [Lan(lan, b"geheim", gevent.get_hub().loop, lambda: None) for _ in range(SEEDS + 2)]
    try:
        for number, each in enumerate(lans):
            each.seeds(f"n{number}", f"i{number}", [f"{LOOPBACK}:{4000 + number}"])
        expected = [Address(LOOPBACK, 4000 + number) for number in range(SEEDS)]
        for number, each in enumerate(lans):
            eventually(
                lambda each=each, number=number: each.seeds(f"n{number}", f"i{number}", []) == expected,  # type: ignore[misc]
                timeout=PATIENCE,
            )
        lans[0].close()
        expected = [Address(LOOPBACK, 4001 + number) for number in range(SEEDS)]
        eventually(lambda: lans[-1].seeds("n6", "i6", []) == expected, timeout=PATIENCE)
    finally:
        for each in lans:
            each.close()


def test_without_the_secret_of_that_network_a_node_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMP_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("GMP_SECRET", raising=False)
    with pytest.raises(gmp.ConfigError, match=r"lan 'lab'.*lan/lab: run 'gmp pair lab'"):
        gmp.Node("x", lan="lab")
    assert not (tmp_path / "lan").exists()


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 33, "x/y", 5])
def test_a_name_that_cannot_be_a_lans_is_refused(name: Any) -> None:
    with pytest.raises(gmp.ConfigError, match=r"lan: .*expected 1 to 32 letters, digits"):
        gmp.Node("x", lan=name)


@pytest.mark.usefixtures("folder")
def test_what_is_not_installed_is_named(lan: str) -> None:
    program = f"import sys; sys.modules['zeroconf'] = None; import gmp; gmp.configure(node_id='x', lan={lan!r}, binds=[])"
    result = native_subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ConfigError: nodes on a LAN find each other by zeroconf: pip install 'gevent-mp[lan]'" in result.stderr


@pytest.mark.usefixtures("folder")
def test_a_patched_program_is_told_that_it_cannot(lan: str) -> None:
    program = "from gevent import monkey; monkey.patch_all(); import gmp; "
    program += f"gmp.configure(node_id='x', lan={lan!r}, binds=['127.0.0.1:0'])"
    result = native_subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ConfigError: mDNS (lan) does not work in a program that gevent has patched: give seeds" in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_programs_find_each_other_and_end_at_once(lan: str) -> None:
    # it goes on running the event loop, as the others may have to hear of a node from this one
    program = f"""import gevent, gmp, sys
gmp.configure(node_id=sys.argv[1], lan={lan!r}, binds=["127.0.0.1:0"])
group = gmp.group("all")
group.join(gmp.port())
print(len(group.wait(3, timeout=40)), flush=True)
gevent.get_hub().threadpool.apply(sys.stdin.readline)
"""
    programs = [
        subprocess.Popen([sys.executable, "-c", program, f"n{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(3)
    ]
    try:
        for each in programs:
            with gevent.Timeout(PATIENCE, AssertionError("it does not find the others")):
                assert each.stdout.readline() == b"3\n"
        for each in programs:
            each.stdin.write(b"\n")
            each.stdin.flush()
            assert each.wait(timeout=PATIENCE) == 0
    finally:
        for each in programs:
            each.kill()
            each.wait()
            each.stdin.close()
            each.stdout.close()


# ---- pairing


@pytest.fixture
def words() -> list[str]:
    return new_words()


@pytest.fixture
def offer(lan: str, words: list[str]) -> Iterator[Offer]:
    with Offer(lan, b"geheim", words, LOOPBACK) as offered:
        yield offered


def test_who_types_the_words_gets_the_secret(lan: str, words: list[str], offer: Offer) -> None:
    waiting = gevent.spawn(offer.wait, PATIENCE)
    typed = check_words([" ".join(words).upper().replace(" ", "-", 2)])
    assert ask(lan, typed, PATIENCE, LOOPBACK) == b"geheim"
    assert waiting.get(timeout=PATIENCE) == LOOPBACK


@pytest.mark.slow
def test_after_three_wrong_codes_the_words_are_void(
    lan: str, words: list[str], offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait() -> str:
        with pytest.raises(gmp.GmpError, match="3 wrong codes were tried: these words are void") as raised:
            offer.wait(PATIENCE)
        return str(raised.value)

    monkeypatch.setattr(pairing, "LOOK_ON", 0.0)
    waiting = gevent.spawn(wait)
    wrong = [*words[1:], "zoo" if words[0] != "zoo" else "abandon"]
    for _ in range(TRIES):
        with pytest.raises(gmp.GmpError, match=f"not the words that are shown for '{lan}'"):
            ask(lan, wrong, PATIENCE, LOOPBACK)
    assert "void" in waiting.get(timeout=PATIENCE)


GARBAGE = [b"", b"\xff\xff" + b"x" * 99, b"\0\3abc", b"GET / HTTP/1.1\r\n\r\n"]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [*GARBAGE, b"\0\x21B" + b"\1" * 32, *(b"\0\x21A" + bytes([n]) * 32 for n in (1, 2))])
def test_garbage_is_no_guess_and_keeps_nobody_from_pairing(lan: str, words: list[str], offer: Offer, sent: bytes) -> None:
    waiting = gevent.spawn(offer.wait, PATIENCE)
    for _ in range(TRIES + 1):
        with socket.create_connection(("127.0.0.1", offer.port)) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            with gevent.Timeout(PATIENCE), contextlib.suppress(ConnectionResetError):
                while sock.recv(1024):
                    pass
    assert ask(lan, words, PATIENCE, LOOPBACK) == b"geheim"
    assert waiting.get(timeout=PATIENCE) == LOOPBACK


@pytest.mark.slow
def test_a_machine_that_offers_without_knowing_the_words_gets_nothing_and_is_passed_over(
    lan: str, words: list[str], offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = gevent.spawn(offer.wait, PATIENCE)
    with Offer(lan, b"a trap", new_words(), LOOPBACK) as trap:
        trapped = gevent.spawn(trap.wait, PATIENCE)
        found = Mdns([Address(LOOPBACK, 0)])
        try:
            found.browse(PAIRING)
            eventually(lambda: sum(each.get("lan") == lan for each in found.found(PAIRING)) == 2, timeout=PATIENCE)
        finally:
            found.close()
        monkeypatch.setattr(pairing, "LOOK_ON", PATIENCE)
        assert ask(lan, words, PATIENCE, LOOPBACK) == b"geheim"
        waiting.get(timeout=PATIENCE)
        trapped.kill()


def test_an_offer_that_is_seen_after_a_wrong_one_is_found(
    lan: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = gevent.event.Event()
    ask_there = pairing._ask_there

    def noted(*arguments: Any) -> bytes | None:
        secret = ask_there(*arguments)
        asked.set()
        return secret

    monkeypatch.setattr(pairing, "_ask_there", noted)
    monkeypatch.setattr(pairing, "LOOK_ON", PATIENCE)
    with Offer(lan, b"a trap", new_words(), LOOPBACK) as trap:
        trapped = gevent.spawn(trap.wait, PATIENCE)
        asking = gevent.spawn(ask, lan, words, PATIENCE, LOOPBACK)
        assert asked.wait(PATIENCE)
        assert not asking.ready()
        with Offer(lan, b"geheim", words, LOOPBACK) as offer:
            assert offer.wait(PATIENCE) == LOOPBACK
        assert asking.get(timeout=PATIENCE) == b"geheim"
        assert not trapped.ready()  # it was asked once, not three times
        trapped.kill()


def test_an_offer_is_found_that_is_seen_while_another_one_that_never_answers_is_asked(
    lan: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "LOOK_ON", 0.0)
    may_go, asked, ask_there = gevent.event.Event(), gevent.event.Event(), pairing._ask_there

    def held_up(*arguments: Any) -> bytes | None:
        secret = ask_there(*arguments)
        if not asked.is_set():
            asked.set()
            assert may_go.wait(PATIENCE)  # as behind a machine that takes the connection, and says nothing
        return secret

    monkeypatch.setattr(pairing, "_ask_there", held_up)
    found = Mdns([Address(LOOPBACK, 0)])
    with Offer(lan, b"a trap", new_words(), LOOPBACK) as trap, contextlib.closing(found):
        trapped = gevent.spawn(trap.wait, PATIENCE)
        asking = gevent.spawn(ask, lan, words, PATIENCE, LOOPBACK)
        assert asked.wait(PATIENCE)
        found.browse(PAIRING)
        with Offer(lan, b"geheim", words, LOOPBACK) as offer:
            eventually(lambda: sum(each.get("lan") == lan for each in found.found(PAIRING)) == 2, timeout=PATIENCE)
            may_go.set()
            assert offer.wait(PATIENCE) == LOOPBACK
        assert asking.get(timeout=PATIENCE) == b"geheim"
        trapped.kill()


def test_offers_at_which_nobody_pairs_are_passed_over(lan: str, words: list[str], offer: Offer) -> None:
    waiting = gevent.spawn(offer.wait, PATIENCE)
    others = Mdns([Address(LOOPBACK, 1)])
    try:
        others.browse(PAIRING)
        for name, at in (("00", "no:address:at:all"), ("01", f"{LOOPBACK}:1")):  # names that are looked at first
            others.announce(PAIRING, name + lan, 1, {"lan": lan, "at": at})
        eventually(lambda: sum(each.get("lan") == lan for each in others.found(PAIRING)) == 3, timeout=PATIENCE)
        assert ask(lan, words, PATIENCE, LOOPBACK) == b"geheim"
        assert waiting.get(timeout=PATIENCE) == LOOPBACK
    finally:
        others.close()


def test_an_offer_that_cannot_be_announced_leaves_nothing_open(lan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Mdns] = []
    close = Mdns.close

    def announce(*_: object) -> None:
        raise gmp.GmpError("no")

    def noted(mdns: Mdns) -> None:
        closed.append(mdns)
        close(mdns)

    monkeypatch.setattr(Mdns, "announce", announce)
    monkeypatch.setattr(Mdns, "close", noted)
    with pytest.raises(gmp.GmpError, match="no"):
        Offer(lan, b"geheim", new_words(), LOOPBACK)
    assert len(closed) == 1


def point_to(stranger: zeroconf.Zeroconf, name: str) -> None:
    """Announce a name, and nothing behind it."""
    out = zeroconf.DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    out.add_answer_at_time(zeroconf.DNSPointer(PAIRING, const._TYPE_PTR, const._CLASS_IN, 120, name), 0)
    stranger.send(out)


@pytest.mark.slow
def test_names_behind_which_nothing_is_hold_nobody_up(lan: str) -> None:
    mdns = Mdns([Address(LOOPBACK, 1)])
    stranger = zeroconf.Zeroconf([LOOPBACK])
    names = {f"0{number}{lan}.{PAIRING}" for number in range(30)}
    try:
        mdns.browse(PAIRING)
        mdns.announce(PAIRING, lan, 1, {"lan": lan})
        for name in names:
            point_to(stranger, name)
        eventually(lambda: names <= mdns._names[PAIRING], timeout=PATIENCE)
        begun = time.monotonic()
        eventually(lambda: any(each.get("lan") == lan for each in mdns.found(PAIRING)), timeout=PATIENCE)
        assert time.monotonic() - begun < 20, "each was asked for, a second each"
    finally:
        stranger.close()
        mdns.close()


def test_a_name_that_is_no_services_is_passed_over(lan: str) -> None:
    mdns = Mdns([Address(LOOPBACK, 1)])
    stranger = zeroconf.Zeroconf([LOOPBACK])
    try:
        mdns.browse(PAIRING)
        point_to(stranger, "a.example.com.")
        eventually(lambda: "a.example.com." in mdns._names[PAIRING], timeout=PATIENCE)
        mdns.announce(PAIRING, lan, 1, {"lan": lan})
        eventually(lambda: any(each.get("lan") == lan for each in mdns.found(PAIRING)), timeout=PATIENCE)
    finally:
        stranger.close()
        mdns.close()


def test_nobody_there_is_told(lan: str, words: list[str]) -> None:
    with pytest.raises(gmp.WaitTimeout, match=f"nobody on this LAN offers '{lan}': run 'gmp pair {lan}'"):
        ask(lan, words, 1, LOOPBACK)


def test_words_that_cannot_be_are_named() -> None:
    with pytest.raises(gmp.ConfigError, match=r"'abandn' is no word of a pairing code \(did you mean 'abandon'\?\)"):
        check_words(["zoo", "abandn"])
    with pytest.raises(gmp.ConfigError, match=f"5 words: expected the {WORDS} that the other machine shows"):
        check_words(["zoo"] * 5)


def test_the_command_pairs_two_machines_and_their_nodes_find_each_other(tmp_path: Path, lan: str) -> None:
    machines = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        machines.append(Commands(tmp_path / name))
    one, two = machines
    try:
        shows = one.start("pair", lan, "--bind", LOOPBACK, "--json")
        words = json.loads(wait_for(shows, b"words", stdout=True))["words"]
        wrong = two("pair", lan, "--bind", LOOPBACK, *["zoo"] * 6)
        assert (wrong.code, "not the words that are shown" in wrong.err) == (1, True)
        done = two("pair", lan, "--bind", LOOPBACK, "--json", *words)
        assert done.code == 0, done.err
        assert json.loads(wait_for(shows, b"fingerprint", stdout=True))["fingerprint"] == done.json["fingerprint"]
        assert shows.wait(timeout=PATIENCE) == 0
        again = two("pair", lan, "--bind", LOOPBACK, *words)
        assert (again.code, "--replace it" in again.err) == (2, True)
        texts = [(tmp_path / name / "lan" / lan).read_text() for name in ("a", "b")]
        assert texts[0] == texts[1]
    finally:
        for machine in machines:
            machine.close()


def test_a_secret_that_is_made_while_the_command_asks_is_kept(
    tmp_path: Path, lan: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMP_CONFIG", str(tmp_path / "config.toml"))
    path = tmp_path / "lan" / lan

    def ask_long(*_: object) -> bytes:
        replace_secret(path, "the own one")
        return b"another"

    monkeypatch.setattr(pairing, "ask", ask_long)
    result = CliRunner().invoke(pair.command, [lan, *words])
    assert "is there by now" in str(result.exception)
    assert path.read_text() == "the own one\n"
    assert CliRunner().invoke(pair.command, [lan, *words, "--replace"]).exit_code == 0
    assert path.read_text() == "another\n"
