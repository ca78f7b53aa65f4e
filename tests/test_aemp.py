"""The names of AnyEvent::MP and Coro::MP: each with its meaning there."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import gevent
import pytest

import gmp
from gmp.compat import aemp
from gmp.compat.aemp import *  # noqa: F403
from gmp.compat.aemp import (
    NODE,
    SELF,
    after,
    cal,
    get,
    get_cond,
    grp_get,
    grp_mon,
    grp_reg,
    kil,
    mon,
    mon_guard,
    peval,
    peval_async,
    port,
    port_async,
    psub,
    rcv,
    rcv_async,
    snd,
    spawn,
    syncal,
)

from .conftest import Recorder, eventually


@aemp.spawnable
def tell(boss: Any, *words: str) -> None:
    snd(boss, "from", SELF(), *words)


def test_every_name_of_the_family_is_there() -> None:
    names = (
        "snd rcv mon mon_guard kil psub peval cal syncal get get_cond port port_async rcv_async peval_async grp_reg grp_get "
        "grp_mon after spawn configure NODE SELF"
    )
    assert set(names.split()) <= set(aemp.__all__)
    assert all(callable(globals()[name]) for name in aemp.__all__)


def test_port_and_rcv_give_messages_to_callbacks(recorder: Recorder) -> None:
    whole, tagged = Recorder(), Recorder()
    p = port(whole)
    assert rcv(p, "tag", tagged, "other", recorder) is p
    snd(p, "tag", 1, 2)
    snd(p, "else", 3)
    snd(p.id, "other", 4)
    assert tagged.wait() == [(1, 2)]
    assert whole.wait() == [("else", 3)]
    assert recorder.wait() == [(4,)]
    rcv(p, "tag", None)
    snd(p, "tag", 5)
    assert whole.wait(2)[1] == ("tag", 5)


def test_rcv_async_starts_one_thread_at_once_whose_get_gives_the_first_message(recorder: Recorder) -> None:
    tagged = Recorder()

    def thread(word: str) -> None:
        recorder(word, SELF())
        recorder(get("second"))
        recorder(get("first"))

    p = rcv(port(), "tagged", tagged)
    assert rcv_async(p, thread, "begun") is p
    assert recorder.wait() == [("begun", p)]
    with pytest.raises(gmp.GmpError, match="has a thread already"):
        rcv_async(p, thread, "again")
    snd(p, "first", 1)
    snd(p, "tagged", 2)
    assert tagged.wait() == [(2,)]
    snd(p, "second", 3)
    assert recorder.wait(3)[1:] == [((3,),), ((1,),)]
    assert p.join(5)
    assert p.reason == ()


def test_a_thread_that_raises_kills_its_port_and_ends_with_it(recorder: Recorder) -> None:
    failing = rcv_async(port(), lambda: 1 / 0)
    assert failing.join(5)
    assert failing.reason is not None
    assert failing.reason[:2] == ("die", "ZeroDivisionError: division by zero")

    def wait() -> None:
        try:
            get("never")
        finally:
            recorder("ended")

    p = rcv_async(port(), wait)
    gevent.sleep(0)
    kil(p, "enough")
    assert recorder.wait() == [("ended",)]
    with pytest.raises(gmp.GmpError, match="'go' cannot be run"):
        rcv_async(port(), "go")  # type: ignore[arg-type]


def test_self_and_node() -> None:
    p = port()
    assert SELF() is None
    assert peval(p, SELF) is p
    assert NODE() == gmp.node_of(p)


def test_psub_runs_as_the_port_that_made_it(recorder: Recorder) -> None:
    p = port()
    callback = peval(p, psub, lambda value: recorder(value, SELF()))
    callback(7)
    assert recorder.calls == [(7, p)]
    peval(p, psub, lambda: 1 / 0)()
    assert p.reason is not None
    assert p.reason[1] == "ZeroDivisionError: division by zero"
    with pytest.raises(gmp.GmpError, match="psub needs a current port"):
        psub(print)


def test_peval_async_runs_apart(recorder: Recorder) -> None:
    p = port()
    peval_async(p, lambda: recorder(SELF()))
    assert recorder.calls == []
    assert recorder.wait() == [(p,)]


def test_mon_has_its_four_forms_and_a_guard(recorder: Recorder) -> None:
    watched, victim, box = port(), port(), port()
    mon(watched, recorder)
    mon(watched, victim)
    mon(watched, box, "down")
    guard = mon(watched, recorder)
    guard.cancel()
    kil(watched, "why", 1)
    assert recorder.wait() == [("why", 1)]
    assert box.receive(timeout=5) == ("down", "why", 1)
    assert victim.reason == ("why", 1)
    assert recorder.calls == [("why", 1)]


def test_mon_guard_keeps_its_references_until_the_death() -> None:
    class Resource:
        pass

    p, resource = port(), Resource()
    there = weakref.ref(resource)
    mon_guard(p, resource)
    del resource
    gc.collect()
    assert there() is not None
    kil(p)
    eventually(lambda: gc.collect() >= 0 and there() is None)


def test_cal_calls_back_with_the_reply_once(recorder: Recorder) -> None:
    echo = port(lambda word, reply: (snd(reply, "got", word), snd(reply, "again")))
    cal(echo, "hi", recorder)
    cal(echo, "there", recorder, 5)
    assert sorted(recorder.wait(2)) == [("got", "hi"), ("got", "there")]
    gevent.sleep(0)
    assert len(recorder.calls) == 2


def test_cal_calls_back_with_nothing_when_time_is_up_or_the_port_dies(recorder: Recorder) -> None:
    silent = port()
    cal(silent, "hi", recorder, 0.02)
    assert recorder.wait() == [()]
    cal(silent, "hi", recorder)
    kil(silent, "gone")
    assert recorder.wait(2) == [(), ()]
    with pytest.raises(gmp.GmpError, match="a callback"):
        cal(silent, "hi")


def test_the_callback_of_cal_may_block(recorder: Recorder) -> None:
    def answered(word: str) -> None:
        gevent.sleep(0.01)
        recorder(word)

    cal(port(lambda reply: snd(reply, "yes")), answered)
    assert recorder.wait() == [("yes",)]


def test_syncal_returns_the_reply_or_nothing() -> None:
    adder = port()
    rcv(adder, "add", lambda a, b, reply: snd(reply, a + b))
    assert syncal(5, adder, "add", 2, 3) == (5,)
    assert syncal(0.01, adder, "what") == ()
    assert syncal(None, f"{NODE()}#nobody", "add") == ()


def test_get_and_get_cond_take_from_the_current_port(recorder: Recorder) -> None:
    def body() -> None:
        recorder(get("tag"))
        recorder(get_cond(lambda first, *rest: first == "n" and rest[0] > 1))
        recorder(get("nothing", 0.01), get_cond(lambda *message: False, 0))
        recorder(get("other"))

    p = port_async(body)
    for message in [("other", 1), ("tag", 2), ("n", 1), ("n", 2)]:
        snd(p, *message)
    assert recorder.wait(4) == [((2,),), (("n", 2),), ((), ()), ((1,),)]
    assert p.join(5)
    assert p.reason == ()
    with pytest.raises(gmp.GmpError, match="get needs a current port"):
        get("tag")


def test_after_calls_or_sends(recorder: Recorder) -> None:
    p = port()
    after(0, recorder)
    after(0, p, "tick")
    assert p.receive(timeout=5) == ("tick",)
    assert recorder.wait() == [()]


def test_spawn_runs_the_function_with_its_arguments_alone() -> None:
    boss = port()
    spawned = spawn(NODE(), tell, boss, "a", "b")
    tag, who, *words = boss.receive(timeout=5)
    assert (tag, str(who), words) == ("from", spawned, ["a", "b"])


def test_groups_have_guards(recorder: Recorder) -> None:
    p = port()
    guard = grp_reg("g", p)
    assert grp_get("g") == [p.id]
    grp_mon("g", recorder)
    assert recorder.wait() == [([p.id], [p.id], [])]
    guard.cancel()
    assert recorder.wait(2)[1] == ([], [], [p.id])
    assert grp_get("g") == []


def test_grp_mon_tells_of_an_empty_group_too(recorder: Recorder) -> None:
    guard = grp_mon("h", recorder)
    assert recorder.wait() == [([], [], [])]
    p = port()
    grp_reg("h", p)
    assert recorder.wait(2)[1] == ([p.id], [p.id], [])
    guard.cancel()
    kil(p)
    eventually(lambda: grp_get("h") == [])
    assert len(recorder.calls) == 2


def test_configure_takes_pairs_as_in_perl() -> None:
    node = aemp.configure("nodeid", "perlish", "binds", [], secret="x")
    assert node.id == NODE() == "perlish"
    node.close()
    assert aemp.configure(nodeid="again", binds=[], secret="x").id == "again"


def test_ports_of_others_are_told_apart() -> None:
    with pytest.raises(gmp.GmpError, match="no live port of this node"):
        rcv("elsewhere#port", print)
