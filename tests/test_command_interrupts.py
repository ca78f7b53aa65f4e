"""Ctrl-C while a command runs comes to its main greenlet, whatever runs just then."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from gmp.cli.common.interrupts import held, interruptible


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def strike(*_: object) -> None:
    """Be interrupted here."""
    signal.raise_signal(signal.SIGINT)
    for _ in range(2):
        pass


def in_a_finaliser() -> None:
    class Dying:
        def __del__(self) -> None:
            strike()

    Dying()


def in_a_weak_reference() -> None:
    class Target:
        pass

    target = Target()
    kept = weakref.ref(target, strike)
    del target
    assert kept() is None


def in_a_collection() -> None:
    def callback(*_: Any) -> None:
        gc.callbacks.remove(callback)
        strike()  # not in the callback itself, but below it

    gc.callbacks.append(callback)
    gc.collect()


def in_the_hub() -> None:
    gevent.get_hub().loop.run_callback(strike)


@pytest.mark.parametrize("where", [in_a_finaliser, in_a_weak_reference, in_a_collection, in_the_hub])
def test_an_interrupt_where_it_would_be_lost_is_raised_all_the_same(where: Callable[[], None]) -> None:
    def command() -> None:
        where()
        gevent.sleep(10)

    with interruptible(), pytest.raises(KeyboardInterrupt):
        command()


def test_what_others_raise_where_it_goes_no_further_is_shown_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda what: shown.append(what.exc_type))

    class Dying:
        def __del__(self) -> None:
            raise LookupError

    with interruptible():
        Dying()
        gevent.sleep(0)
    assert shown == [LookupError]
    Dying()
    assert shown == [LookupError] * 2


def test_an_interrupt_waits_for_the_end_of_a_held_block_that_begins_before_it_is_thrown() -> None:
    done, begin = [], gevent.event.Event()

    def command() -> None:
        gevent.get_hub().loop.run_callback(lambda: (begin.set(), strike()))
        begin.wait()  # what sets it wakes this greenlet before the interrupt is thrown
        with held():
            gevent.sleep(0.05)
            done.append("whole")
        done.append("behind")

    with interruptible(), pytest.raises(KeyboardInterrupt):
        command()
    assert done == ["whole"]


def test_an_interrupt_in_a_held_block_is_raised_at_the_end_of_the_outermost_even_if_that_raises() -> None:
    done = []

    def command() -> None:
        with held():
            with held():
                strike()
            done.append("inner")
            raise LookupError

    with interruptible(), pytest.raises(KeyboardInterrupt) as raised:
        command()
    assert done == ["inner"]
    assert isinstance(raised.value.__context__, LookupError)


def test_an_interrupt_that_is_thrown_behind_the_end_of_the_command_ends_the_process_in_silence() -> None:
    program = """if True:
        import gevent, gevent.event, signal
        from gmp.cli.common.interrupts import interruptible
        with interruptible():
            loop = gevent.get_hub().loop
            wake = gevent.event.Event()
            loop.run_callback(lambda: (wake.set(), signal.raise_signal(signal.SIGINT), [None for _ in range(2)]))
            wake.wait()
        gevent.sleep(10)
        print("not ended")
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")
