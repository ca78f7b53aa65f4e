"""Who may be in handshake: the rules by themselves, told the time, and what a node makes of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import gevent
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.net.admission import LONGEST_DELAY, MOST_ADDRESSES, Admission

from .conftest import eventually

MakeNode = Callable[..., gmp.Node]
BAD_LOGIN = b"aemp;1;guesser;hmac_sha3_512;json\n" + b"QkJC" * 22 + b"\nhmac_sha3_512;00;json\n"


def test_over_the_limit_of_an_address_its_oldest_goes() -> None:
    admission = Admission[int](limit=10, limit_per_address=3, patience=10)
    for visitor in range(3):
        assert admission.make_room("a") is None
        admission.enter(visitor, "a", 0)
    assert admission.make_room("a") == 0
    assert admission.make_room("b") is None
    admission.leave(0)
    assert admission.make_room("a") is None


def test_over_the_limit_in_all_the_oldest_goes() -> None:
    admission = Admission[int](limit=5, limit_per_address=3, patience=10)
    for visitor in range(5):
        admission.enter(visitor, str(visitor), 0)
    assert admission.make_room("new") == 0


def test_those_refused_already_go_first() -> None:
    admission = Admission[int](limit=5, limit_per_address=3, patience=10)
    for visitor in range(3):
        admission.enter(visitor, "a", 0)
    admission.refuse(2, 0)
    assert admission.make_room("a") == 2


def test_each_failure_makes_the_next_refusal_slower_until_a_success_or_a_minute_without() -> None:
    admission = Admission[int](limit=100, limit_per_address=100, patience=10)
    delays = [admission.failed("a", now) for now in range(12)]
    assert delays[:3] == [0, 0, 0]
    assert delays == sorted(delays)
    assert delays[3] > 0
    assert delays[-1] == LONGEST_DELAY
    assert admission.failed("b", 12) == 0
    admission.succeeded("a")
    assert admission.failed("a", 12) == 0
    assert [admission.failed("a", 13) for _ in range(10)][-1] == LONGEST_DELAY
    assert admission.failed("a", 1000) == 0


def test_no_visitor_stays_longer_than_the_handshake_may_take() -> None:
    admission = Admission[str](limit=100, limit_per_address=100, patience=10)
    for _ in range(20):
        admission.failed("a", 9)
    admission.enter("late", "a", 0)
    assert admission.refuse("late", 9.5) == 0.5
    admission.enter("later", "a", 0)
    assert admission.refuse("later", 11) == 0


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    admission = Admission[int](limit=5, limit_per_address=3, patience=10)
    for number in range(10 * MOST_ADDRESSES):
        admission.failed(str(number), number)
    assert len(admission._addresses) <= MOST_ADDRESSES


@given(st.lists(st.tuples(st.sampled_from(["enter", "refuse", "leave"]), st.sampled_from("abc"), st.integers(0, 30))))
def test_whatever_happens_there_are_never_more_visitors_than_allowed(steps: list[tuple[str, str, int]]) -> None:
    admission = Admission[int](limit=6, limit_per_address=3, patience=10)
    inside: dict[int, str] = {}
    handshaking: set[int] = set()
    for number, (step, host, which) in enumerate(steps):
        if step == "enter":
            leaver = admission.make_room(host)
            if leaver is not None:
                admission.leave(leaver)
                inside.pop(leaver)
                handshaking.discard(leaver)
            admission.enter(number, host, number)
            inside[number] = host
            handshaking.add(number)
        elif step == "refuse" and handshaking:
            visitor = sorted(handshaking)[which % len(handshaking)]
            handshaking.discard(visitor)
            assert 0 <= admission.refuse(visitor, number) <= LONGEST_DELAY
        elif inside:
            visitor = sorted(inside)[which % len(inside)]
            admission.leave(visitor)
            inside.pop(visitor)
            handshaking.discard(visitor)
        assert len(inside) <= 6
        assert max([list(inside.values()).count(each) for each in "abc"]) <= 3
        assert set(admission._in_handshake) == handshaking
        assert set(admission._refused) == set(inside) - handshaking
        assert set(admission._since) == set(inside)


def guess(bind: str, data: bytes = BAD_LOGIN) -> float:
    """Log in wrongly; return how many seconds the refusal took."""
    host, port = bind.split(":")
    start = time.monotonic()
    with gevent.socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(data)
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
    return time.monotonic() - start


def test_a_guesser_waits_longer_each_time_and_an_honest_node_at_its_address_does_not(make_node: MakeNode) -> None:
    target = make_node("target", unix_sockets=False)  # by that, all come from one address
    delays = [guess(target.binds[0]) for _ in range(6)]
    assert delays[5] > 0.3  # 0.4 s are due
    held = gevent.spawn(guess, target.binds[0])
    eventually(lambda: target._core.network.visitors.refused)
    honest = make_node("honest", seeds=target.binds)
    honest.wait_up("target", timeout=20)
    assert honest.call("target", "time", timeout=20)
    assert held.get(timeout=20) > 0.5
    assert guess(target.binds[0]) < delays[5]


def test_a_node_that_closes_does_not_wait_for_the_refused(make_node: MakeNode) -> None:
    target = make_node("target")
    for _ in range(5):
        guess(target.binds[0])
    held = gevent.spawn(guess, target.binds[0])
    eventually(lambda: target._core.network.visitors.refused)
    target.close()
    assert held.get(timeout=1.0) < 20


def test_failures_of_one_address_are_logged_once(make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    target = make_node("target")
    with caplog.at_level(logging.WARNING, "gmp"):
        for data in (BAD_LOGIN, b"GET / HTTP/1.0\r\n", BAD_LOGIN):
            guess(target.binds[0], data)
        honest = make_node("honest", seeds=target.binds)
        honest.wait_up("target", timeout=20)
        guess(target.binds[0])
    assert len(caplog.records) == 1
