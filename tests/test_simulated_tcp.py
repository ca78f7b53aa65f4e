"""Simulated TCP against the kernel's: the same calls give the same results at the other end; and what only faults show."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

import gmp
from gmp.testing import Simulation
from gmp.testing.simulated.tcp import CLOSED

LINGER_0 = struct.pack("ii", 1, 0)
Await = Callable[[Callable[[], Any]], None]


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation(seed=4) as sim:
        yield sim


@contextmanager
def real_pair() -> Iterator[tuple[Any, Any, Await]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()

    def wait(condition: Callable[[], Any]) -> None:
        with gevent.Timeout(20):
            while not condition():
                gevent.sleep(0.01)

    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far, wait


def simulated_sockets(sim: Simulation) -> tuple[Any, Any]:
    near, far = (sim._hosts[sim.node(name).id] for name in ("near", "far"))
    here, there = near._connect(far, far.address, (far.address, 9))
    return near.plain_socket_of(here), far.plain_socket_of(there)


@contextmanager
def simulated_pair() -> Iterator[tuple[Any, Any, Await]]:
    with Simulation(seed=4) as sim:
        yield *simulated_sockets(sim), sim.run_until


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except OSError as error:
        return type(error)


def receive(sock: Any) -> Any:
    """Return what is there, b"" at the end, or the class of the error."""
    buffer = bytearray(100_000)
    result = outcome(sock.recv_into, buffer)
    return bytes(buffer[:result]) if isinstance(result, int) else result


def waits(sock: Any, data: bytes) -> bool:
    """Return whether there is no room for more; sends otherwise."""
    return outcome(sock.send, data) is BlockingIOError


def is_dead(sock: Any) -> bool:
    """Return whether the connection has ended for the kernel, as by a reset; the program need not know."""
    state: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == CLOSED


def read_and_write(sock: Any) -> list[Any]:
    return [receive(sock), receive(sock), outcome(sock.send, b"x"), outcome(sock.send, b"x"), receive(sock)]


def closed_with_unread_bytes(near: Any, far: Any, wait: Await) -> Any:
    far.send(b"unread")
    near.send(b"before")
    arrived: list[Any] = []
    wait(lambda: arrived.append(receive(far)) or arrived[-1] is not BlockingIOError)
    buffer = bytearray(1)
    wait(lambda: outcome(near.recv_into, buffer) == 1)
    near.close()
    wait(lambda: is_dead(far))
    return read_and_write(far)


def closed_and_written_to(near: Any, far: Any, wait: Await) -> Any:
    """The end is read before the reset: whoever has read it reads it again, and is told by writing."""
    near.close()
    wait(lambda: receive(far) == b"")
    written = far.send(b"to nobody")
    wait(lambda: is_dead(far))
    return [written, *read_and_write(far)]


def half_closed(near: Any, far: Any, wait: Await) -> Any:
    near.send(b"last words")
    near.shutdown(socket.SHUT_WR)
    seen: list[Any] = []
    wait(lambda: seen.append(receive(far)) or seen[-1] == b"")
    written = outcome(far.send, b"answer")
    wait(lambda: seen.append(receive(near)) or seen[-1] == b"answer")
    return [written, outcome(near.send, b"x"), receive(near)]


def half_closed_and_aborted(near: Any, far: Any, wait: Await) -> Any:
    near.shutdown(socket.SHUT_WR)
    wait(lambda: receive(far) == b"")
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    near.close()
    wait(lambda: is_dead(far))
    return read_and_write(far)


def aborted_while_the_buffers_are_full(near: Any, far: Any, wait: Await) -> Any:
    """The reset does not wait for the program to read; what it had not made room for is lost."""
    sent: list[int] = []

    def is_full() -> bool:
        if waits(near, bytes(65536)):
            sent.append(0)
        else:
            sent.clear()
        return len(sent) > 20

    wait(is_full)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    near.close()
    wait(lambda: is_dead(far))
    read: list[Any] = []
    wait(lambda: read.append(receive(far)) or not isinstance(read[-1], bytes) or not read[-1])
    return [bool(read[0]), *read[-1:], *read_and_write(far)]


SCENARIOS = {
    closed_with_unread_bytes: [ConnectionResetError, b"", BrokenPipeError, BrokenPipeError, b""],
    closed_and_written_to: [9, b"", b"", BrokenPipeError, BrokenPipeError, b""],
    half_closed: [6, BrokenPipeError, BlockingIOError],
    half_closed_and_aborted: [b"", b"", BrokenPipeError, BrokenPipeError, b""],
    aborted_while_the_buffers_are_full: [True, ConnectionResetError, b"", b"", BrokenPipeError, BrokenPipeError, b""],
}


@pytest.mark.parametrize("pair", [real_pair, simulated_pair])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_other_end_sees_what_it_would_see_of_the_kernel(scenario: Any, pair: Any) -> None:
    with pair() as (near, far, wait):
        assert scenario(near, far, wait) == SCENARIOS[scenario]


# ---- what only a network sees that has faults


def finds_the_next_life(sim: Simulation, here: gmp.Node) -> None:
    """The node ``there`` has ended and was started again: `here` loses it, and talks to it again."""
    sim.run_until(lambda: not here.is_up("there"), timeout=10)
    here.wait_up("there", timeout=10)
    assert here.call("there", "time", timeout=10)


def trio(sim: Simulation) -> tuple[gmp.Node, gmp.Node]:
    sim.node("seed")
    here, there = sim.node("here"), sim.node("there")
    sim.settle()
    assert here.call("there", "time", timeout=5)
    return here, there


def test_a_kernel_answers_for_a_program_that_died_while_nothing_got_through(sim: Simulation) -> None:
    """Its reset was lost; whatever comes in later is answered by another, and acknowledged by nobody."""
    here, there = trio(sim)
    box = there.port()
    sim.stop("there")
    here.send(box.id, "never read")
    sim.run(1)
    with sim.partition("here", "there"):
        sim.crash("there")
        sim.run(1)
    sim.restart("there")
    finds_the_next_life(sim, here)


def test_so_it_does_when_one_direction_was_lost_behind_a_power_cut(sim: Simulation) -> None:
    here, _ = trio(sim)
    lost: list[Any] = []
    here.monitor("there", lambda *reason: lost.append(reason))
    with sim.partition("there", "here", one_way=True):
        sim.vanish("there")
        sim.restart("there")
        sim.run(5)
    sim.run_until(lambda: lost, timeout=10)
    here.wait_up("there", timeout=10)
    assert here.call("there", "time", timeout=10)


def test_whoever_waits_for_a_full_reader_is_reset_when_that_is_back_from_a_power_cut(sim: Simulation) -> None:
    here, there = trio(sim)
    box = there.port()
    sim.stop("there")
    while here.try_send(box.id, bytes(65536)):
        sim.run(0.1)
    sim.run(1)
    sim.vanish("there")
    sim.restart("there")
    finds_the_next_life(sim, here)


def test_what_comes_in_for_a_connection_that_a_keepalive_has_given_up_is_answered_by_a_reset(sim: Simulation) -> None:
    near, far = simulated_sockets(sim)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
        far.setsockopt(socket.IPPROTO_TCP, option, 1)
    with sim.partition("near", "far"):
        sim.run_until(lambda: is_dead(far))
        near.send(b"late")
    sim.run_until(lambda: is_dead(near))
    assert [receive(far), receive(far)] == [TimeoutError, b""]
