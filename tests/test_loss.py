"""What happens when a node is lost, in which order: promise 1."""

from __future__ import annotations

from typing import Any

import gevent
import gevent.event

from gmp.testing import FaultProxy, LocalNetwork

from .conftest import eventually


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
        gevent.sleep(0.05)
        proxy.refuse()
        proxy.reset()
        eventually(lambda: not here.is_up("bb"))
        gevent.sleep(0.05)
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
