"""The pure rules of liveness: own time, busy and hung, lost. No clock, no socket."""

from __future__ import annotations

from typing import Any

import pytest

from gmp.net.heartbeat import Limits, OwnTime, Pulse, Reach, Sign, TcpFigures

LIMITS = Limits()


def test_the_defaults_are_those_that_were_measured() -> None:
    assert (LIMITS.keepalive, LIMITS.probes, LIMITS.heartbeat, LIMITS.tick) == (3, 6, 2.0, 0.5)


@pytest.mark.parametrize("lost_after", [2, 3, 5, 10, 20, 30, 60, 200])
def test_keepalive_ends_an_idle_connection_at_about_lost_after(lost_after: float) -> None:
    limits = Limits(lost_after)
    assert limits.keepalive * (limits.probes + 1) == pytest.approx(lost_after, abs=max(1.0, lost_after * 0.08))


def test_own_time_counts_a_stall_as_little() -> None:
    own = OwnTime(100.0, LIMITS)
    assert own.advance(100.5) == pytest.approx(0.5)
    assert own.lag == 0.0
    assert own.advance(140.5) == pytest.approx(2.5)
    assert own.lag == own.peak == pytest.approx(39.5)
    own.advance(141.0)
    assert own.lag == pytest.approx(0.0)
    assert own.peak == pytest.approx(39.5)


def run(pulse: Pulse, seconds: float, received: dict[float, int], tick: float = 0.5) -> list[tuple[float, Sign]]:
    """Look every `tick`, with the bytes received by then."""
    signs, now, count = [], 0.0, 0
    while now <= seconds:
        count = max([count, *(value for when, value in received.items() if when <= now)])
        sign = pulse.look(now, count)
        if sign is not Sign.NOTHING:
            signs.append((now, sign))
        if sign is Sign.HUNG:
            break
        now += tick
    return signs


def test_silence_makes_busy_after_ten_seconds_and_hung_after_sixty() -> None:
    assert run(Pulse(LIMITS, 2.0, 0.0), 60, {}) == [(10.0, Sign.BUSY), (60.0, Sign.HUNG)]


def test_anything_received_ends_busy_and_each_is_told_once() -> None:
    signs = run(Pulse(LIMITS, 2.0, 0.0), 70, {15.0: 1, 40.0: 2, 42.0: 3})
    assert signs == [
        (10.0, Sign.BUSY),
        (15.0, Sign.NOT_BUSY),
        (25.0, Sign.BUSY),
        (40.0, Sign.NOT_BUSY),
        (52.0, Sign.BUSY),
    ]


def test_a_busy_peer_with_a_new_way_is_told_of_as_no_longer_busy() -> None:
    relayed, direct = Pulse(LIMITS, 2.0, 0.0), Pulse(LIMITS, 2.0, 11.0)
    assert run(relayed, 11.0, {}) == [(10.0, Sign.BUSY)]
    direct.carry_on(relayed)
    assert direct.look(11.5, 100) is Sign.NOT_BUSY
    assert direct.look(12.0, 100) is Sign.NOTHING


def test_never_hung_when_never_is_set_and_not_busy_either() -> None:
    assert run(Pulse(Limits(20, 10, None), 2.0, 0.0), 600, {}) == [(10.0, Sign.BUSY)]
    assert run(Pulse(Limits(20, None, None), 2.0, 0.0), 600, {}) == []


def test_who_sends_no_heartbeats_is_never_busy() -> None:
    pulse = Pulse(LIMITS, None, 0.0)
    assert run(pulse, 600, {}) == []
    assert not pulse.heartbeat_due(600.0, 0, 0)


def test_who_promised_to_send_seldom_is_judged_by_that() -> None:
    assert run(Pulse(Limits(20, 1, 2), 2.0, 0.0), 30, {}) == [(5.0, Sign.HUNG)]


def test_a_heartbeat_is_due_after_two_seconds_without_traffic() -> None:
    pulse = Pulse(LIMITS, 2.0, 0.0)
    assert not pulse.heartbeat_due(0.0, 10, 0)
    assert not pulse.heartbeat_due(1.5, 10, 0)
    assert pulse.heartbeat_due(2.0, 10, 0)
    pulse.next_token(2.0, 2.0)
    assert not pulse.heartbeat_due(2.5, 20, 0)
    assert not pulse.heartbeat_due(4.0, 30, 0)
    assert not pulse.heartbeat_due(5.5, 30, 0)
    assert pulse.heartbeat_due(6.0, 30, 0)


def test_no_heartbeat_is_piled_on_what_already_waits() -> None:
    pulse = Pulse(LIMITS, 2.0, 0.0)
    assert not any(pulse.heartbeat_due(float(now), 10, 1000) for now in range(100))


def test_a_busy_line_is_measured_now_and_then() -> None:
    pulse = Pulse(LIMITS, 2.0, 0.0)
    due = []
    for now in range(30):
        if pulse.heartbeat_due(float(now), now * 1000, 0):
            due.append(now)
            pulse.next_token(float(now), float(now))
    assert due == [10, 20]


def test_the_round_trip_is_that_of_the_last_heartbeat_alone() -> None:
    pulse = Pulse(LIMITS, 2.0, 0.0)
    first = pulse.next_token(2.0, 102.0)
    second = pulse.next_token(4.0, 104.0)
    pulse.answered(first, 104.1)
    assert pulse.round_trip is None
    pulse.answered(second, 104.25)
    pulse.answered(second, 109.0)
    pulse.answered("nonsense", 110.0)
    assert pulse.round_trip == pytest.approx(0.25)


def figures(**changes: Any) -> TcpFigures:
    return TcpFigures(0, 0, 0, 0, 100, 0)._replace(**changes)


def lost_at(reach: Reach, seconds: float, tcp: Any) -> float | None:
    """When the rule says lost, with `tcp(now)` as the kernel's figures."""
    for step in range(int(seconds * 2) + 1):
        now = step / 2
        if reach.lost(now, tcp(now)):
            return now
    return None


def reach(**changes: Any) -> Reach:
    return Reach(20.0, **{"retry_bounded": True, "peer_keepalive": 3.0, "now": 0.0, **changes})


def test_an_idle_connection_is_the_kernels_business() -> None:
    assert lost_at(reach(), 600, lambda now: figures()) is None


def test_unacknowledged_bytes_and_no_segment_for_twenty_seconds_is_lost() -> None:
    assert lost_at(reach(), 60, lambda now: figures(unacked=1)) == 20.0
    assert lost_at(reach(), 60, lambda now: figures(not_sent=1)) == 20.0


def test_any_segment_is_a_sign_of_life() -> None:
    assert lost_at(reach(), 60, lambda now: figures(unacked=1, segments_in=min(now // 12, 2))) == 44.0
    assert lost_at(reach(), 600, lambda now: figures(unacked=9, not_sent=9, segments_in=now // 15)) is None


def test_without_bounded_retries_the_path_must_have_been_tried_late_enough() -> None:
    late = 30.0  # when the kernel's last retransmission went out

    def tcp(now: float) -> TcpFigures:
        sent = late if now >= late else 5.0
        return figures(unacked=1, last_ack_received=int(now * 1000), last_data_sent=int((now - sent) * 1000))

    assert lost_at(reach(retry_bounded=False), 60, tcp) == 30.0


def test_with_a_closed_window_the_peers_keepalives_or_our_probes_tell() -> None:
    assert lost_at(reach(retry_bounded=False), 60, lambda now: figures(not_sent=1)) == 20.0
    foreign = reach(retry_bounded=False, peer_keepalive=None)
    assert lost_at(foreign, 200, lambda now: figures(not_sent=1, probes=int(now >= 30) + int(now >= 60))) == 60.0
    seldom = reach(retry_bounded=False, peer_keepalive=30.0)
    assert lost_at(seldom, 200, lambda now: figures(not_sent=1, probes=0)) is None
