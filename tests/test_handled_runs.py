"""Handlers that get a run, messages in a row at once, do as with one message after the other; struck at any point, too."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Any

import gevent
import pytest
from gevent.event import Event
from greenlet import GreenletExit
from hypothesis import given
from hypothesis import strategies as st

import gmp
from gmp.ports import handlers

from .conftest import Recorder, eventually
from .strikes import Striker, interrupt, strike_each, struck

TAGS = ("a", "b", "c", None)
SENT = st.sampled_from([("a", 1), ("b", 2, 3), ("c",), ("d", 4, 5, 6), ([], 7), ()])
STEPS = st.lists(
    st.one_of(
        st.lists(SENT, min_size=1, max_size=6).map(lambda messages: ("run", messages)),
        st.tuples(st.just("set"), st.tuples(st.sampled_from(TAGS), st.booleans())),
        st.tuples(st.just("turn"), st.none()),
    ),
    max_size=12,
)


def play(steps: list[Any], deliver: Callable[[gmp.Port, list[Any]], None]) -> tuple[list[Any], list[Any]]:
    """What was handled by whom, and what was left, when messages come by `deliver` between changes of the handlers."""
    port, handled = gmp.port(), list[Any]()
    for number, (what, given_) in enumerate(steps):
        if what == "run":
            deliver(port, given_)
        elif what == "set":
            tag, there = given_
            port.on(tag, (lambda *rest, by=(number, tag): handled.append((by, rest))) if there else None)
        else:
            gevent.sleep(0)
    gevent.sleep(0)
    left = [port.receive(timeout=0) for _ in range(len(port))]
    port.kill()
    return handled, left


@given(STEPS, st.sampled_from([2, 1000]))
def test_a_run_is_handled_as_its_messages_one_by_one(steps: list[Any], shortest: int) -> None:
    def one_by_one(port: gmp.Port, messages: list[Any]) -> None:
        for message in messages:
            port.put(message)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(handlers, "SHORTEST", shortest)  # of one call for all of its messages
        at_once = play(steps, lambda port, messages: port.put_all([*messages]))
    assert at_once == play(steps, one_by_one)


DEEDS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(TAGS)),
    st.tuples(st.just("remove"), st.sampled_from(TAGS)),
    st.tuples(st.sampled_from(["receive", "send", "send many"]), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["block", "set context", "kill", "raise", "end"]), st.none()),
)


def act(steps: list[Any], deeds: dict[int, Any], log: list[Any], deliver: Callable[[gmp.Port, list[Any]], None]) -> None:
    """Note in `log` what handlers see and get that do `deeds[number]` with the message of that number."""
    port, sent, made, used = gmp.port(), count(), count(), ContextVar("used", default=False)

    def send(tags: str) -> None:
        deliver(port, [(tag, next(sent)) for tag in tags])

    def make() -> Callable[..., None]:
        by = next(made)

        def handle(*rest: Any) -> None:
            log.append((by, rest, used.get()))
            deed, tag = deeds.get(rest[-1], ("", None))
            if deed in ("set", "remove"):
                port.on(tag, make() if deed == "set" else None)
            elif deed == "receive":
                with contextlib.suppress(gmp.ReceiveTimeout):
                    log.append(port.receive(tag, timeout=0))
            elif deed.startswith("send"):
                send(tag * (5 if deed == "send many" else 1))
            elif deed == "block":
                gevent.sleep(0)
            elif deed == "set context":
                used.set(True)
            elif deed == "kill":
                port.kill("by itself")
            elif deed == "raise":
                raise ZeroDivisionError
            elif deed == "end":
                raise GreenletExit
            log.append("done")

        return handle

    before = gmp.node().stats()["dropped"]
    for what, given_ in steps:
        if port.alive and what == "send":
            send(given_)
        elif port.alive:
            port.on(given_, make())
        else:
            break
    eventually(lambda: port.reason is not None or port.handlers is None or port.handlers.next is None)
    log.append((port.reason, list(port.queue), gmp.node().stats()["dropped"] - before))
    port.kill()
    gevent.sleep(0)


PLAYED = st.lists(
    st.one_of(
        st.lists(st.text("abc", min_size=1, max_size=1).map(lambda tag: tag * 4), min_size=1, max_size=4).map(
            lambda tags: ("send", "".join(tags))
        ),
        st.sampled_from(TAGS).map(lambda tag: ("set", tag)),
    ),
    min_size=1,
    max_size=6,
)


@given(PLAYED, st.dictionaries(st.integers(0, 12), DEEDS, min_size=1, max_size=6), st.sampled_from([2, 100]))
def test_what_a_handler_does_in_the_middle_of_a_run_changes_nothing(
    steps: list[Any], deeds: dict[int, Any], turn: int
) -> None:
    def one_by_one(port: gmp.Port, messages: list[Any]) -> None:
        for message in messages:
            port.put(message)

    at_once, alone = list[Any](), list[Any]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(handlers, "SHORTEST", 2)
        patched.setattr(handlers, "A_TURN", turn)
        steps = [("send", "c"), ("set", "a"), ("set", "b"), *steps]
        act(steps, deeds, at_once, lambda port, messages: port.put_all(messages))
        act(steps, deeds, alone, one_by_one)
    untraced(at_once)
    untraced(alone)
    assert at_once == alone


def untraced(log: list[Any]) -> None:
    """Take the lines of a traceback from the reason at its end, as they differ."""
    reason, *rest = log[-1]
    log[-1] = (reason and reason[:2], *rest)


def test_a_message_that_comes_twice_keeps_both_its_places() -> None:
    """A timer sends the very same object again and again."""
    tick, port, handled = ("tick", 1), gmp.port(), list[Any]()
    port.on("tick", handled.append)
    port.put_all([tick, ("other", 2), tick, ("other", 3), tick])
    port.on("other", handled.append)
    gevent.sleep(0)
    assert handled == [1, 2, 1, 3, 1]


def test_handlers_that_a_handler_sets_are_for_what_comes_later() -> None:
    port, handled = gmp.port(), list[Any]()

    def first(number: int) -> None:
        handled.append(("first", number))
        port.on("n", lambda number: handled.append(("second", number)))

    port.on("n", first)
    port.put_all([("n", number) for number in range(3)])
    gevent.sleep(0)
    port.put_all([("n", 3)])
    gevent.sleep(0)
    assert handled == [("first", 0), ("first", 1), ("first", 2), ("second", 3)]


@pytest.mark.parametrize("at", [0, 5, 19])
def test_what_a_handler_claims_in_the_middle_of_a_run_comes_where_it_came(at: int) -> None:
    port, handled = gmp.port(), list[Any]()

    def handle(number: int) -> None:
        handled.append(number)
        if number == at:
            port.on("late", lambda when: handled.append(when))

    port.on("n", handle)
    port.put(("late", "before"))
    port.put_all([("n", number) for number in range(20)])
    port.put(("late", "between"))
    port.put_all([("n", number) for number in range(20, 40)])
    port.put(("late", "after"))
    gevent.sleep(0)
    begun = at + 1
    assert handled == [*range(begun), "before", *range(begun, 20), "between", *range(20, 40), "after"]


def test_two_ports_with_long_runs_take_turns() -> None:
    turns, ports = list[str](), {name: gmp.port() for name in "ab"}
    for name, port in ports.items():
        port.on("n", lambda number, name=name: turns.append(name))
        port.put_all([("n", number) for number in range(2000)])
    eventually(lambda: len(turns) == 4000)
    assert "a" * 101 not in "".join(turns[:3000])
    assert turns.count("a") == turns.count("b") == 2000


def test_a_long_run_gets_no_more_turns_than_messages_that_came_one_by_one() -> None:
    turns, ports = list[str](), {name: gmp.port() for name in "ab"}
    for name, port in ports.items():
        port.on("n", lambda number, name=name: turns.append(name))
    ports["a"].put_all([("n", number) for number in range(2000)])
    for number in range(2000):
        ports["b"].put(("n", number))
    eventually(lambda: len(turns) == 4000)
    assert abs(turns[:2000].count("a") - turns[:2000].count("b")) <= 100


def test_timers_are_not_held_up_by_a_long_run() -> None:
    port, handled = gmp.port(), list[int]()

    def handle(number: int) -> None:
        handled.append(number)
        until = time.perf_counter() + 0.00002
        while time.perf_counter() < until:
            pass

    port.on("n", handle)
    port.put_all([("n", number) for number in range(5000)])
    gevent.sleep(0.001)
    assert len(handled) < 2000
    eventually(lambda: len(handled) == 5000)
    assert handled == list(range(5000))


@pytest.mark.parametrize("how", ["kill", "raise"])
def test_a_death_in_the_middle_of_a_run_drops_and_counts_the_rest(how: str) -> None:
    port, handled = gmp.port(), list[int]()

    def handle(number: int) -> None:
        handled.append(number)
        if number == 150:  # in the second turn of the port
            if how == "kill":
                port.kill("enough")
            else:
                raise ValueError("enough")

    port.on("n", handle)
    before = gmp.node().stats()["dropped"]
    port.put_all([("n", number) for number in range(400)])
    assert port.join(20)
    gevent.sleep(0)
    assert handled == list(range(151))
    assert gmp.node().stats()["dropped"] - before == 249


@pytest.mark.parametrize("count", [2, 40])
def test_messages_that_wait_for_handlers_set_one_after_the_other_are_counted_once(count: int) -> None:
    port, before = gmp.port(), gmp.node().stats()["dropped"]
    port.on("n", lambda number: None)
    port.put(("late", 0))
    port.put_all([("n", number) for number in range(count)])
    port.on("late", lambda number: None)
    port.kill()
    assert gmp.node().stats()["dropped"] - before == count + 1


def test_a_full_port_lives_whatever_the_order_in_which_its_handlers_are_set() -> None:
    port = gmp.port(max_queue=3)
    gmp.send(port, "late", 0)
    gmp.send(port, "n", 1)
    for tag in ("n", "late"):
        port.on(tag, lambda number: None)
    gmp.send(port, "n", 2)
    assert port.reason is None
    gevent.sleep(0)
    port.kill()


def test_each_message_of_a_run_finds_a_fresh_context() -> None:
    seen: list[str] = []
    setting: ContextVar[str] = ContextVar("setting", default="fresh")
    port = gmp.port()

    @port.on("set")
    def handle(*_rest: Any) -> None:
        seen.append(setting.get())
        setting.set("used")

    port.put_all([("set", *range(count % 5)) for count in range(20)])
    gevent.sleep(0)
    assert seen == ["fresh"] * 20


@pytest.mark.parametrize("count", [4, 40])
def test_a_handler_that_blocks_holds_up_its_own_run_only(count: int, recorder: Recorder) -> None:
    slow, quick, may_go, handled = gmp.port(), gmp.port(), Event(), list[int]()

    def handle(number: int) -> None:
        if number == 1:
            assert may_go.wait(20)
        handled.append(number)

    slow.on("n", handle)
    quick.on("n", recorder)
    slow.put_all([("n", number) for number in range(count)])
    quick.put_all([("n", number) for number in range(3)])
    assert recorder.wait(3) == [(0,), (1,), (2,)]
    assert handled == [0]
    slow.put_all([("n", count)])
    may_go.set()
    gevent.sleep(0.01)
    assert handled == [*range(count + 1)]


def test_what_waits_for_handlers_gives_the_garbage_collector_nothing_to_look_at() -> None:
    port = gmp.port()
    port.on("n", lambda number: None)
    gc.collect()
    before = len(gc.get_objects())
    port.put_all([("n", number) for number in range(1000)])
    for number in range(1000):
        gmp.send(port, "n", number)
    gc.collect()  # here it finds that these messages hold plain values only
    assert len(gc.get_objects()) - before < 100
    port.kill()


def turn_with_strike(striker: Striker, at: int) -> tuple[int, list[str]]:
    """A run, and a message more, with a strike at that point."""
    global _struck
    port = _struck = gmp.port()
    handled: list[Any] = []
    port.on("n", lambda value: handled.append(value))
    failures: list[Any] = []
    try:
        striker.arm(at)
        port.put_all([("n", number) for number in range(4)])
        gmp.send(port, "n", 4)
        gevent.sleep(0)
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        failures.append(error)
    passed, where = striker.passed, striker.where
    striker.disarm()
    other, came = gmp.port(), Event()
    other.on("n", lambda value: came.set())
    for _ in range(3):
        try:
            gevent.sleep(0.001)
        except KeyboardInterrupt:  # it comes to the main greenlet in a callback of its own
            pass
    gmp.send(other, "n", 5)
    wrong = [] if came.wait(5) else ["the pool stands still"]
    numbers = [value for value in handled if value != "struck"]
    if numbers != list(range(len(numbers))):
        wrong.append(f"out of order: {handled}")
    if sys.argv[1] == "interrupt" and port.alive and 0 < len(numbers) < 4:
        wrong.append(f"lost: {handled}")
    if sys.argv[1] == "send" and (len(numbers) < 5 or handled.count("struck") != bool(where)):
        wrong.append(f"lost or doubled: {handled}")
    if failures:
        wrong.append(f"raised {failures!r}")
    if sys.argv[1] == "kill" and port.reason not in (None, ("struck",)):
        wrong.append(f"died of {port.reason}")
    port.kill()
    return passed, [f"{where}: {text}" for text in wrong]


@pytest.mark.parametrize("shortest", ["2", "1000"])
@pytest.mark.parametrize("strike", ["send", "kill", "interrupt"])
def test_a_run_that_is_struck_is_whole_and_in_order(strike: str, shortest: str) -> None:
    points, bad = struck("tests.test_handled_runs", strike, shortest, timeout=300)
    assert points > 20
    assert bad == []


_struck: gmp.Port

if __name__ == "__main__":
    handlers.SHORTEST = int(sys.argv[2])
    strike_each(
        turn_with_strike,
        strike={
            "send": lambda: gmp.send(_struck, "n", "struck"),
            "kill": lambda: _struck.kill("struck"),
            "interrupt": interrupt,
        }[sys.argv[1]],
    )
