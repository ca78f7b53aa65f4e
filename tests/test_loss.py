"""What happens when a node is lost, in which order: promise 1."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, NamedTuple

import gevent
import gevent.event
import pytest

import gmp
from gmp.config import parse_seed
from gmp.kernel.losing import Loss
from gmp.net.peer import Peer
from gmp.net.reasons import CloseReason
from gmp.testing import FaultProxy, LocalNetwork
from gmp.wire.framing import make_encoder
from tests.history import History
from tests.senders import Sender, Stage, every_combination

from .conftest import Recorder, eventually


def test_at_a_loss_mailboxes_and_kills_come_before_every_callback_in_one_step() -> None:
    """Each callback finds everything done already, whatever was set first, and can send to the node anew."""
    with LocalNetwork(names=["aa"]) as network, FaultProxy(network.seeds[0]) as proxy:
        here = network["aa"]
        far = network.add("bb", seeds=[proxy.address])
        here.wait_up("bb", timeout=20)
        there, box, victim = far.port(), here.port(), here.port()
        far.group("g").join(there)
        here.group("g").wait(timeout=20)
        seen: list[Any] = []
        came = gevent.event.Event()

        def lost(*reason: Any) -> None:
            seen.append((reason[:2], len(box), victim.alive, here.is_up("bb"), here.group("g").members()))
            here.send(there.id, "after", len(seen))
            again = here.monitor(there.id, lambda *_: seen.append("second"))
            again.cancel()
            came.set()

        here.monitor(there.id, lost)
        here.monitor(there.id, box, "down")
        here.monitor("bb", lost)
        here.monitor(there.id, victim)
        here.call("bb", "time", timeout=20)
        proxy.blackhole("forward")
        here.send(there.id, "before")
        here.call("aa", "time")
        proxy.reset()
        eventually(lambda: len(seen) == 2)
        assert seen == [(("transport_error", "bb"), 1, False, False, {})] * 2
        assert box.receive("down", timeout=0)[:2] == ("transport_error", "bb")
        assert victim.reason is not None
        assert victim.reason[:2] == ("transport_error", "bb")
        proxy.heal()
        assert [there.receive("after", timeout=30) for _ in range(2)] == [(1,), (2,)]
        assert here.group("g").wait(timeout=20) == {there.id: None}


def test_no_user_code_runs_between_the_loss_and_its_consequences() -> None:
    """A greenlet that spins sees either everything as before, or everything done."""
    with LocalNetwork(names=["aa"]) as network, FaultProxy(network.seeds[0]) as proxy:
        here = network["aa"]
        far = network.add("bb", seeds=[proxy.address])
        here.wait_up("bb", timeout=20)
        boxes = [here.port() for _ in range(50)]
        for box in boxes:
            here.monitor(far.port().id, box)
        here.call("bb", "time", timeout=20)
        states: set[tuple[bool, int]] = set()
        stop = gevent.event.Event()

        def spin() -> None:
            while not stop.is_set():
                states.add((here.is_up("bb"), sum(not box.alive for box in boxes)))
                gevent.sleep(0)

        spinner = gevent.spawn(spin)
        eventually(lambda: states)
        proxy.refuse()
        proxy.reset()
        eventually(lambda: not here.is_up("bb"))
        eventually(lambda: (False, 50) in states)
        stop.set()
        spinner.join()
        assert states == {(True, 0), (False, 50)}


def test_a_message_sent_from_a_callback_goes_over_the_next_connection_and_a_lost_one_never_comes() -> None:
    with LocalNetwork(names=["aa"]) as network, FaultProxy(network.seeds[0]) as proxy:
        here = network["aa"]
        far = network.add("bb", binds=[], seeds=[proxy.address])  # nobody can dial it
        here.wait_up("bb", timeout=20)
        port = far.port()
        fired: list[int] = []
        number = 0

        def lost(*_: Any) -> None:
            fired.append(number)
            here.monitor(port.id, lost)

        here.monitor(port.id, lost)
        for _ in range(5):
            here.call("bb", "time", timeout=20)
            for _ in range(50):
                here.send(port.id, number, len(fired))
                number += 1
            proxy.reset()
            count = len(fired)
            while len(fired) == count:
                here.send(port.id, number, len(fired))
                number += 1
                gevent.sleep(0.001)
            here.wait_up("bb", timeout=30)
        here.send(port.id, "end", len(fired))
        last: dict[int, int] = {}
        while (message := port.receive(timeout=30))[0] != "end":
            value, epoch = message
            if epoch in last:
                assert value == last[epoch] + 1, f"a hole in epoch {epoch}"
            else:
                assert epoch == 0 or value == fired[epoch - 1], f"epoch {epoch} begins with {value}"
                assert not last or epoch > max(last)
            last[epoch] = value


# ---- whoever sends in whatever way between the loss and what tells of it


def cut(times: int) -> History:
    """Senders of every kind, all at once, while the connection is broken so many times."""
    log = History()
    with FaultProxy("127.0.0.1:1") as proxy, LocalNetwork(names=["bb"], advertise=[proxy.address]) as network:
        far = network["bb"]
        proxy.target = far.binds[0]
        here = network.add("aa", binds=[], seeds=[proxy.address])
        for _ in range(2):
            port = far.port()
            port.on(None, received(far, port, log))
            far.group("receivers").join(port)
        here.group("receivers").wait(2, timeout=20)
        stage = Stage(here, log, random.Random(1), rests=False)
        for watch, drive in every_combination():
            Sender(stage, watch, drive)
        told: list[str] = []
        here.monitor_nodes(lambda node_id, up, *_: None if up else told.append(node_id))

        def arrived(count: int) -> bool:
            return log.counts["receive"] > count

        def lost(count: int) -> bool:
            return len(told) > count

        for count in range(times):
            eventually(partial(arrived, log.counts["receive"] + 300))
            proxy.reset()
            eventually(partial(lost, count))
        eventually(partial(arrived, log.counts["receive"] + 300))
        stage.close()
    return log


def received(node: gmp.Node, port: gmp.Port, log: History) -> Callable[..., None]:
    def receive(sender: str, target: str, number: int, _: bytes, *reply: str) -> None:
        log.append(("receive", port.id, sender, target, number))
        for caller in reply:
            node.send(caller, "got it")

    return receive


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_nothing_sent_before_the_loss_is_told_travels_on_the_next_connection(times: int) -> None:
    log = cut(times)
    assert log.wrong == []
    assert log.counts["down"] > times
    assert log.counts["told"] > times


def test_these_senders_find_a_peer_that_is_idle_before_the_callbacks_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(loss: Loss, before: Callable[[], None], *tell_others: Callable[[], None]) -> None:
        before()
        loss._monitors.node_lost(loss._peer.node_id, loss._left)
        for monitor in loss._left:
            monitor.fire(loss._reason)
        for tell in tell_others:
            tell()
        loss._peer.told()
        loss._peer.go_on()

    monkeypatch.setattr(Loss, "begin", begin)
    assert any("never told" in words for words in cut(3).wrong)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """``aa`` and ``bb``, which has dialled it, and a port of each."""
    with LocalNetwork(names=["aa"]) as network:
        here, far = network["aa"], network.add("bb")
        here.wait_up("bb", timeout=20)
        pair = Pair(here, far, far.port())
        here.call("bb", "time", timeout=20)
        yield pair


class Pair(NamedTuple):
    here: gmp.Node
    far: gmp.Node
    port: gmp.Port  #: of ``bb``

    @property
    def peer(self) -> Peer:
        return self.here._core.network.peers["bb"]

    def lose(self) -> None:
        """The connection ends at this very line, on the side of ``aa``."""
        connection = self.peer.connection
        assert connection is not None
        connection.close(CloseReason.RESET, "by the test")
        assert self.peer.stats()["state"] == "lost"


LOST = ("transport_error", "bb", "connection broken: by the test")


def test_a_monitor_set_between_the_loss_and_its_callbacks_fires_for_the_same_reason(pair: Pair) -> None:
    here, port = pair.here, pair.port
    order: list[Any] = []
    box, victim = here.port(), here.port()
    here.monitor(port.id, lambda *reason: order.append(("before", reason)))
    pair.lose()
    here.monitor(port.id, lambda *reason: order.append(("after", reason)))
    here.monitor(port.id, box, "down")
    here.monitor(port.id, victim)
    here.monitor(port.id, lambda *reason: order.append("never")).cancel()
    assert box.receive("down", timeout=20) == LOST
    assert victim.join(timeout=20)
    assert victim.reason == LOST
    eventually(lambda: len(order) == 2)
    assert order == [("before", LOST), ("after", LOST)]


def test_what_is_sent_while_the_peer_is_lost_raises_blocks_and_is_lost_as_what_waits(pair: Pair) -> None:
    here, port, peer = pair.here, pair.port, pair.peer
    fired: list[int] = []
    sent = 0
    here.monitor(port.id, lambda *_: fired.append(sent))
    pair.lose()
    with pytest.raises(gmp.MessageError):
        here.send(port.id, object())
    while not fired:  # it would go on for ever if that did not block
        here.send(port.id, sent, b"x" * 10_000)
        sent += 1
    assert fired == [sent - 1]  # before the last one returned
    assert peer.stats()["queued_bytes"] == 0
    here.send(port.id, "after")
    assert port.receive(timeout=20) == ("after",)


def test_who_blocks_above_the_high_mark_goes_on_when_the_loss_has_been_told() -> None:
    with LocalNetwork(names=["aa"]) as network, FaultProxy(network.seeds[0]) as proxy:
        here = network["aa"]
        far = network.add("bb", binds=[], seeds=[proxy.address])
        here.wait_up("bb", timeout=20)
        port = far.port()
        fired: list[Any] = []
        here.monitor(port.id, lambda *reason: fired.append(reason))
        here.call("bb", "time", timeout=20)
        proxy.blackhole("back")
        blocked = gevent.spawn(lambda: [here.send(port.id, b"x" * 100_000) for _ in range(200)] and len(fired))
        eventually(lambda: here._core.network.peers["bb"].congested)
        proxy.reset()
        assert blocked.get(timeout=20) == 1


def test_who_wants_a_connection_while_the_peer_is_lost_gets_one(pair: Pair) -> None:
    pair.lose()
    pair.here.wait_up("bb", timeout=20)


def test_callbacks_begin_in_one_step_behind_what_waited_before_them(pair: Pair) -> None:
    """However long each takes until it blocks, and whatever is due meanwhile."""
    here, order, seen = pair.here, list[Any](), set[int]()  # seen: how many had begun, by who is due in each pass

    def lost(number: int) -> None:
        until = time.monotonic() + 0.003  # longer than a turn of the workers
        while time.monotonic() < until:
            pass
        order.append(number)
        gevent.sleep(0)

    for number in range(5):
        here.monitor(pair.port.id, lambda *_, number=number: lost(number))
    here.group("empty").monitor(lambda *_: None)
    here.monitor_nodes(lambda node_id, up, *_: None if up else lost(5))
    here._core.defer(order.append, "before")
    pair.lose()
    here._core.defer(order.append, "behind")
    while "behind" not in order:
        gevent.sleep(0)
        seen.add(len(order))
    assert order == ["before", 0, 1, 2, 3, 4, 5, "behind"]
    assert seen <= {0, 1, 7, 8}


def test_a_port_killed_by_the_loss_sends_no_more_on_the_next_connection(pair: Pair) -> None:
    """Its greenlet is due behind the callbacks, but before the turn in which it is ended."""
    here, port = pair.here, pair.port
    go = gevent.event.Event()

    def body(me: gmp.Port) -> None:
        here.monitor(port.id, me)
        while True:
            go.wait()
            here.send(port.id, "from the dead")
            gevent.sleep(0)

    told = gevent.event.Event()
    here.monitor(port.id, lambda *_: told.set())
    victim = here.port(body)
    here.call("aa", "time")
    here._core.defer(lambda: None)  # a turn of the workers is on its way
    go.set()
    pair.lose()
    assert told.wait(timeout=20)
    assert not victim.alive
    here.send(port.id, "after")
    assert port.receive(timeout=20) == ("after",)


def test_a_connection_that_replaces_a_dead_one_waits_until_the_loss_has_been_told() -> None:
    """Loss and acceptance are one verdict of ``zz``, which does not know that its connection is dead."""
    log = History()
    with LocalNetwork(names=["aa", "zz"]) as network, ExitStack() as proxies:
        here, far = network["aa"], network["zz"]
        port = here.port()
        port.on(None, received(here, port, log))
        here.group("receivers").join(port)
        far.group("receivers").wait(timeout=20)
        stage = Stage(far, log, random.Random(1), rests=False)
        for watch, drive in every_combination():
            Sender(stage, watch, drive)
        peer, ended = here._core.network.peers["zz"], 0
        for _ in range(8):
            proxy = proxies.enter_context(FaultProxy(far.binds[0]))
            if peer.connection is not None:
                peer.connection.close(CloseReason.RESET)
            with suppress(gmp.GmpError):  # race: a dial of the other side has won
                here._core.ground.dial(parse_seed(proxy.address), expect="zz")
            here.wait_up("zz", timeout=20)
            ended += 1
            gevent.sleep(0.03)
            proxy.blackhole()
        stage.close()
    assert log.wrong == []
    assert log.counts["down"] > ended


def test_what_comes_early_by_a_relayed_way_waits_until_the_loss_has_been_told(pair: Pair) -> None:
    here, box, order = pair.here, pair.here.port(), list[Any]()
    here.monitor(pair.port.id, lambda *_: order.append(len(box)))
    pair.lose()
    carried: list[Any] = []
    token, incarnation = "token", pair.far.incarnation
    link = here._core.network.relays.attach("bb", incarnation, token, "seed", lambda *piece: carried.append(piece))
    assert link is not None
    link.arrived("data", (make_encoder("msgpack", 1000).encode(box.name, ("early",)),))
    assert len(box) == 0
    assert not here.is_up("bb")
    assert box.receive(timeout=20) == ("early",)
    assert order == [0]
    link.close(CloseReason.RELAY_LOST)
    assert [kind for kind, _ in carried] == ["lost"]


def test_a_node_that_closes_leaves_no_hole_whoever_sends() -> None:
    log = History()
    with LocalNetwork(names=["aa", "bb"]) as network:
        far = network["bb"]
        for _ in range(2):
            port = far.port()
            port.on(None, received(far, port, log))
            far.group("receivers").join(port)
        for number in range(3):
            here = network.add(f"cc{number}")
            here.group("receivers").wait(2, timeout=20)
            stage = Stage(here, log, random.Random(number), rests=False)
            for watch, drive in every_combination():
                Sender(stage, watch, drive)
            gevent.sleep(0.2)
            here.close()
            stage.close()
        assert log.wrong == []
        assert log.counts["receive"] > 100


def test_each_loss_tells_groups_in_its_own_batch_whatever_else_is_on_its_way(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    """race: the batch of another loss, which has the group's report, is held up until behind this one's."""
    node = make_node("node", binds=[], seeds=[])
    workers, family = node._core.ports.workers, node.family("f")
    family.set("this", 1)
    family.monitor(lambda items, *news: recorder(*news))
    recorder.wait()
    others: list[Any] = []
    these: list[Any] = []
    workers.gathered = others  # the step of a loss
    family.set("other", 1)
    workers.gathered = these  # the step of the next one
    family.delete("this")
    workers.gathered = None
    for task in these:  # its batch comes first
        workers.add(task)
    recorder.wait(2)
    family.set("this", 1)  # the node is up again
    for task in others:
        workers.add(task)
    recorder.wait(3)
    assert recorder.calls[1:] == [(["other"], [], ["this"]), (["this"], [], [])]


def test_a_loss_is_told_to_groups_though_what_came_before_it_had_not_been_reported(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    """race: a member is back, and seen by `members`; it is lost again before the callback has run."""
    node = make_node("node", binds=[], seeds=[])
    family = node.family("f")
    family.monitor(lambda items, *news: recorder(sorted(items), *news))
    recorder.wait()
    family.set("this", 1)
    assert family.items() == {"this": 1}
    lose(node, lambda: family.delete("this"))
    recorder.wait(3)
    assert recorder.calls[1:] == [(["this"], ["this"], [], []), ([], [], [], ["this"])]


def test_a_loss_is_told_to_groups_though_it_is_over_before_their_callback_returns(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    node = make_node("node", binds=[], seeds=[])
    family, go_on = node.family("f"), gevent.event.Event()
    family.set("this", 1)

    def callback(_: object, *news: list[str]) -> None:
        recorder(*news)
        go_on.wait()

    family.monitor(callback)
    recorder.wait()
    for _ in range(2):
        lose(node, lambda: family.delete("this"))
        family.set("this", 2)
        gevent.sleep(0)
    go_on.set()
    recorder.wait(3)
    assert recorder.calls[1:] == [([], [], ["this"]), (["this"], [], [])]


def test_a_loss_is_told_to_groups_though_their_monitor_is_new(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    node = make_node("node", binds=[], seeds=[])
    family = node.family("f")
    family.set("this", 1)
    family.set("that", 1)
    family.monitor(lambda items, *news: recorder(sorted(items), *news))
    lose(node, lambda: family.delete("this"))
    family.set("this", 1)
    recorder.wait(3)
    assert [(items, sorted(added), *others) for items, added, *others in recorder.calls] == [
        (["that", "this"], ["that", "this"], [], []),
        (["that"], [], [], ["this"]),
        (["that", "this"], ["this"], [], []),
    ]


def test_a_loss_is_told_to_groups_though_their_callback_raises(
    make_node: Callable[..., gmp.Node], caplog: pytest.LogCaptureFixture, recorder: Recorder
) -> None:
    """What comes behind the call that raises is told all the same, and in the same batch."""
    node = make_node("node", binds=[], seeds=[])
    workers, family = node._core.ports.workers, node.family("f")
    errors = [gevent.Timeout(), RuntimeError("a bug")]

    def callback(_: object, *news: list[str]) -> None:
        recorder(*news)
        if errors:
            raise errors.pop()

    family.monitor(callback)
    eventually(lambda: len(errors) == 1)
    family.set("this", 1)
    lose(node, lambda: family.delete("this"))
    workers.spawn(recorder, "whatever is behind the loss")
    recorder.wait(4)
    assert recorder.calls == [
        ([], [], []),
        (["this"], [], []),
        ([], [], ["this"]),
        ("whatever is behind the loss",),
    ]
    family.set("this", 2)
    recorder.wait(5)
    assert recorder.calls[4:] == [(["this"], [], [])]
    assert caplog.text.count("a callback failed") == 2


def test_a_change_is_told_to_groups_though_the_callback_that_was_under_way_raises(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    node = make_node("node", binds=[], seeds=[])
    family, go_on = node.family("f"), gevent.event.Event()

    def callback(_: object, *news: list[str]) -> None:
        recorder(*news)
        go_on.wait()
        raise RuntimeError("a bug")

    family.monitor(callback)
    recorder.wait()
    family.set("this", 1)
    go_on.set()
    recorder.wait(2)
    assert recorder.calls[1:] == [(["this"], [], [])]


def test_no_loss_is_told_to_groups_before_its_aftermath(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    """race: a report is on its way at the loss. What its callback sent on hearing of that would be lost too, untold."""
    node = make_node("node", binds=[], seeds=[])
    family = node.family("f")
    family.set("this", 1)
    family.monitor(lambda items, *news: recorder(sorted(items), *news))
    recorder.wait()
    family.set("new", 1)  # is reported soon
    family.set("other", 1)
    lose(node, lambda: (family.delete("this"), family.delete("new")), before=lambda: recorder("the aftermath begins"))
    recorder.wait(5)
    assert recorder.calls[1:] == [
        (["other", "this"], ["other"], [], []),
        ("the aftermath begins",),
        (["other"], [], [], ["this"]),
        (["new", "other"], ["new"], [], []),
        (["other"], [], [], ["new"]),
    ]


def test_a_new_monitor_of_a_group_is_told_with_which_value_a_lost_member_was_there(
    make_node: Callable[..., gmp.Node], recorder: Recorder
) -> None:
    node = make_node("node", binds=[], seeds=[])
    family = node.family("f")
    family.set("this", "a value")
    family.monitor(lambda items, *news: recorder(dict(items), *news))
    lose(node, lambda: family.delete("this"))
    recorder.wait(2)
    assert recorder.calls == [({"this": "a value"}, ["this"], [], []), ({}, [], [], ["this"])]


def lose(node: gmp.Node, change: Callable[[], object], before: Callable[[], object] = bool) -> None:
    """Do what a loss does to the directory, as its step does it; what follows from it waits for its aftermath."""
    workers = node._core.ports.workers
    aftermath: list[Any] = []
    workers.gathered = aftermath
    change()
    workers.gathered = None
    workers.spawn(before)
    for task in aftermath:
        workers.add(task)


def test_a_step_of_a_loss_that_fails_keeps_nobody_else_from_being_told(
    pair: Pair, caplog: pytest.LogCaptureFixture, recorder: Recorder
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    here = pair.here
    pair.far.group("g").join(pair.port)
    here.group("g").wait(timeout=20)
    here._core.mesh.backbone.watch("g", fail)
    here.monitor_nodes(recorder)
    pair.lose()
    assert recorder.wait()[0] == ("bb", False, *LOST)
    assert "a bug" in caplog.text
    here._core.mesh.backbone.unwatch("g", fail)
    here.wait_up("bb", timeout=20)


def test_a_way_that_cannot_be_taken_behind_a_loss_keeps_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    peer = Peer("far", Nobody(), max_message=1000, high_mark=10, low_mark=5)
    calls: list[str] = []
    peer.after_loss(fail)
    peer.after_loss(lambda: calls.append("the next"))
    peer.go_on()
    assert calls == ["the next"]
    assert "a bug" in caplog.text


class Nobody:
    """Hears of a peer."""

    def peer_wanted(self, peer: Peer) -> None: ...

    def peer_up(self, peer: Peer) -> None: ...

    def peer_lost(self, peer: Peer, reason: tuple[Any, ...], was_up: bool) -> None: ...
