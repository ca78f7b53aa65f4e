"""Ports and threads of the family: the forms of each function in AnyEvent::MP 2.02 and Coro::MP 0.1, and where they end."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import gevent
import pytest

import gmp
from gmp.compat import aemp
from gmp.compat.aemp import (
    NODE,
    SELF,
    after,
    cal,
    get,
    get_cond,
    guard,
    kil,
    mon,
    mon_guard,
    node_of,
    peval,
    peval_async,
    port,
    port_async,
    port_is_local,
    psub,
    rcv,
    rcv_async,
    snd,
    spawn,
    syncal,
)

from .conftest import Recorder, eventually

told = Recorder()


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.calls.clear()


@aemp.spawnable
def with_callbacks(*words: str) -> None:
    rcv(SELF(), "ask", lambda reply: snd(reply, *words))  # type: ignore[arg-type]


@aemp.spawnable
def with_thread(word: str) -> None:
    def thread() -> None:
        while True:
            snd(*get("ask"), word)

    rcv_async(SELF(), thread)  # type: ignore[arg-type]


@aemp.spawnable
def with_nothing() -> None:
    told("ran")


def test_node_of_and_port_is_local_look_at_the_id_alone() -> None:
    p = port()
    assert (node_of(p), node_of(p.id), node_of("far/away#x"), node_of("far")) == (NODE(), NODE(), "far/away", "far")
    kil(p)
    assert port_is_local(p.id)
    assert port_is_local(NODE())
    assert not port_is_local("far#x")
    with pytest.raises(gmp.GmpError, match="is not a port"):
        node_of(7)  # type: ignore[arg-type]


def test_rcv_takes_callbacks_and_tags_in_any_order() -> None:
    whole, one, two = Recorder(), Recorder(), Recorder()
    p = rcv(port(), "one", one, whole, "two", two)
    for tag in ("one", "two", "three"):
        snd(p, tag, 1)
    assert whole.wait() == [("three", 1)]
    assert (one.calls, two.calls) == ([(1,)], [(1,)])
    rcv(p, "one")  # as with undef: away with it
    rcv(p, "two", None, None)
    snd(p, "one", 2)
    snd(p, "two", 3)
    assert whole.wait(3)[1:] == [("one", 2), ("two", 3)]


def test_rcv_without_a_callback_changes_nothing() -> None:
    p = rcv(port(), None)
    snd(p, "tag", 1)
    assert p.receive("tag", timeout=5) == (1,)


def test_a_handler_may_replace_itself(recorder: Recorder) -> None:
    def once(*answer: Any) -> None:
        recorder("once", *answer)
        rcv(SELF(), "reply")  # type: ignore[arg-type]

    p = rcv(port(), recorder, "reply", once)
    snd(p, "reply", 1)
    assert recorder.wait() == [("once", 1)]
    snd(p, "reply", 2)
    assert recorder.wait(2)[1] == ("reply", 2)


@pytest.mark.parametrize("tag", ["what", "tab\tand more than thirty characters", 7])
def test_a_message_that_no_callback_is_for_kills_the_port(tag: Any) -> None:
    p = rcv(port(), "known", print)
    snd(p, tag, 1)
    assert p.join(5)
    shown = str(tag).replace("\t", ".")[:30]
    assert p.reason == ("unhandled_message", f"no callback found for message '{shown}'")


def test_kil_of_the_own_port_in_a_handler_lets_the_rest_be_done(recorder: Recorder) -> None:
    other = port(recorder)

    def handle(word: str) -> None:
        kil(SELF(), "why")  # type: ignore[arg-type]
        snd(other, "after", word, SELF())

    p = port(handle)
    mon(p, lambda *reason: recorder("died", *reason))
    snd(p, "first")
    snd(p, "second")
    assert sorted(map(str, recorder.wait(2))) == sorted(map(str, [("after", "first", p), ("died", "why")]))
    gevent.sleep(0)
    assert len(recorder.calls) == 2


def test_an_exception_in_a_handler_is_the_reason() -> None:
    p = port(lambda: 1 / 0)
    snd(p)
    assert p.join(5)
    assert p.reason is not None
    assert p.reason[:2] == ("die", "ZeroDivisionError: division by zero")


def test_mon_of_one_argument_kills_the_current_port_on_abnormal_death_alone() -> None:
    for reason in ((), ("why", 1)):
        watched, p = port(), port()
        peval(p, mon, watched)
        kil(watched, *reason)
        assert watched.join(5)
        gevent.sleep(0)
        assert p.reason == (reason or None)
    with pytest.raises(gmp.GmpError, match="mon with one argument needs a current port"):
        mon(port())


def test_mon_of_what_is_not_there_fires(recorder: Recorder) -> None:
    mon(f"{NODE()}#none", recorder)
    [(tag, text, _)] = recorder.wait()
    assert (tag, text) == ("no_such_port", "cannot monitor nonexistent port")


def test_mon_for_a_dead_port_does_nothing() -> None:
    watched, dead = port(), port()
    kil(dead)
    guards = [mon(watched, dead), mon(watched, dead, "message")]
    kil(watched, "why")
    assert watched.join(5)
    eventually(lambda: not any(each.active for each in guards))


def test_mon_guard_ends_what_it_keeps_at_death_and_when_cancelled(recorder: Recorder) -> None:
    for end in (lambda p, kept: kil(p), lambda p, kept: kept.cancel()):
        p = port()
        timer = after(0.05, recorder)
        inner = mon(p, recorder)
        kept = mon_guard(p, timer, inner, {"anything": 1})
        inner.cancel()
        assert kept.active
        end(p, kept)
        eventually(lambda kept=kept: not kept.active)
        gevent.sleep(0.1)
        assert recorder.calls == []


def test_mon_guard_lets_go_when_cancelled() -> None:
    class Resource:
        pass

    resource = Resource()
    there = weakref.ref(resource)
    with mon_guard(port(), resource):
        del resource
        gc.collect()
        assert there() is not None
    gc.collect()
    assert there() is None


def test_guard_ends_something_with_its_last_reference(recorder: Recorder) -> None:
    p = port()
    kept = guard(mon(p, recorder))
    other = guard(lambda: recorder("gone"))
    del kept, other
    kil(p, "why")
    assert p.join(5)
    gevent.sleep(0)
    assert recorder.calls == [("gone",)]
    with pytest.raises(gmp.GmpError, match="a guard, a timer or a function"):
        guard(7)


def test_psub_gives_what_the_function_gives_and_nothing_outside_a_port() -> None:
    p = port()
    assert peval(p, lambda: psub(lambda value: value + 1)(2)) == 3
    callback = peval(p, psub, lambda: SELF())
    assert callback() is p
    kil(p)
    assert callback() is None
    with pytest.raises(gmp.GmpError, match="psub needs a current port"):
        psub(print)


def test_peval_passes_arguments_and_returns(recorder: Recorder) -> None:
    p = port()
    assert peval(p, lambda *args: (*args, SELF()), 1, 2) == (1, 2, p)
    assert SELF() is None
    assert peval(p, lambda: {}["missing"]) is None
    assert not p.alive


def test_peval_async_takes_the_current_port_when_none_is_given(recorder: Recorder) -> None:
    p = port()
    peval(p, peval_async, lambda word: recorder(word, SELF()), "word")
    assert recorder.wait() == [("word", p)]
    assert p.alive
    with pytest.raises(gmp.GmpError, match="needs a current port"):
        peval_async(print)
    with pytest.raises(gmp.GmpError, match="expected a function"):
        peval_async(p)


def test_after_has_no_current_port_unless_psub_gives_one(recorder: Recorder) -> None:
    p = port()
    after(0, lambda: recorder(SELF()))
    peval(p, lambda: after(0, psub(lambda: recorder(SELF()))))
    assert sorted(map(str, recorder.wait(2))) == sorted([str((None,)), str((p,))])
    after(0, p, "tag", 1)
    assert p.receive(timeout=5) == ("tag", 1)


def test_cal_with_a_timeout_does_not_watch_the_target_and_without_one_does(recorder: Recorder) -> None:
    silent = port()
    kil(silent, "gone")
    begun = gevent.get_hub().loop.now()
    reply = cal(silent, "hi", recorder, 0.1)
    assert recorder.wait() == [()]
    gevent.get_hub().loop.update_now()
    assert gevent.get_hub().loop.now() - begun >= 0.09
    assert reply.reason == ()
    cal(silent, "hi", recorder, None)
    cal(silent, "hi", recorder)
    assert recorder.wait(3)[1:] == [(), ()]


def test_cal_calls_back_with_the_whole_reply(recorder: Recorder) -> None:
    cal(port(lambda *message: snd(message[-1], *message[:-1])), 1, "two", [3], recorder)
    assert recorder.wait() == [(1, "two", [3])]
    assert syncal(5, port(lambda reply: snd(reply))) == ()


def test_get_cond_calls_what_the_condition_returns(recorder: Recorder) -> None:
    def choose(tag: str, *rest: Any) -> Any:
        if tag == "log":
            return lambda: recorder("logged", *rest)
        if tag == "reverse":
            return lambda tag, text, reply: snd(reply, text[::-1])
        return tag == "end"

    def thread() -> None:
        while get_cond(choose, 10)[0] != "end":
            pass
        recorder("rest", get_cond(), get_cond(None, 0))

    p = port_async(thread)
    snd(p, "other", 1)
    snd(p, "log", 2)
    assert recorder.wait() == [("logged", 2)]
    assert syncal(5, p, "reverse", "Rotator") == ("rotatoR",)
    snd(p, "end")
    assert recorder.wait(2)[1] == ("rest", ("other", 1), ())


def test_what_the_condition_raises_kills_the_port() -> None:
    def choose(*message: Any) -> Any:
        raise ValueError(f"unexpected message {message[0]}")

    p = port_async(lambda: get_cond(choose))
    snd(p, "what")
    assert p.join(5)
    assert p.reason is not None
    assert p.reason[:2] == ("die", "ValueError: unexpected message what")


def test_port_async_without_a_function_is_a_port_that_waits() -> None:
    p = port_async()
    snd(p, "early", 1)
    received = Recorder()
    rcv_async(p, lambda: received(get("early", 5)))
    assert received.wait() == [((1,),)]


def test_spawned_functions_set_callbacks_or_a_thread_or_end() -> None:
    for function in (with_callbacks, with_thread, f"{__name__}:with_callbacks"):
        spawned = spawn(NODE(), function, "word")
        assert syncal(5, spawned, "ask") == ("word",)
        snd(spawned, "unknown")  # which Perl ignores on a spawned port, too
        assert syncal(5, spawned, "ask") == ("word",)
    ended = Recorder()
    mon(spawn(NODE(), with_nothing), ended)
    assert ended.wait() == [()]
    assert told.calls == [("ran",)]


def test_spawn_on_a_port_means_its_node() -> None:
    for where in (port(), port().id):
        spawned = spawn(where, with_callbacks, "word")
        assert node_of(spawned) == NODE()
        assert syncal(5, spawned, "ask") == ("word",)


def test_spawn_says_what_is_no_name_of_a_function() -> None:
    with pytest.raises(gmp.GmpError, match="'nothing' names no function"):
        spawn(NODE(), "nothing")
