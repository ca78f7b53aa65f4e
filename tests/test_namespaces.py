"""Hosts that vanish, cables that are pulled, processes that stop: in network namespaces, so as root and on Linux only.

Each scenario has two hosts with a router between them, which drops packets on demand. They all run side by side, since most
of their time is waiting; a test waits for its scenario and looks at what the two nodes saw. Times are those of the issue.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.subprocess as subprocess
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]


def _why_not() -> str:
    if os.getuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs `ip` of the Debian package iproute2"
    made = subprocess.run(["ip", "netns", "add", "gmp-try"], capture_output=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.decode().strip()}"
    ip("netns", "del", "gmp-try")
    return ""


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


class Host:
    """A node in a namespace of its own, and what it has seen."""

    def __init__(self, namespace: str, node_id: str, *args: str) -> None:
        self.node_id = node_id
        self.seen: list[list[Any]] = []
        self._changed = gevent.event.Event()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.namespace_child", node_id, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "GMP_SECRET": "geheim"},
        )
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.seen.append(json.loads(line))
            self._changed.set()

    def tell(self, *words: str) -> None:
        self.process.stdin.write(" ".join(words).encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, *what: Any, timeout: float = 60.0) -> list[Any]:
        """The first thing seen that begins with `what`, the time in front."""
        with gevent.Timeout(timeout, AssertionError(f"{self.node_id} never saw {what}, but {self.seen}")):
            while True:
                for entry in self.seen:
                    if entry[1 : 1 + len(what)] == list(what):
                        return entry
                self._changed.clear()
                self._changed.wait()

    def events(self, kind: str) -> list[list[Any]]:
        return [entry for entry in self.seen if entry[1] == kind]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stdin.close()
        self.process.stdout.close()


class Net:
    """Two hosts, a and b, and the router between them."""

    def __init__(self, number: int) -> None:
        self.names = [f"gmp-{os.getpid()}-{number}{letter}" for letter in "arb"]
        self._addresses = ["10.77.1.2", "10.77.2.2"]
        self.hosts: list[Host] = []
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        router = self.names[1]
        for index, host in ((1, self.names[0]), (2, self.names[2])):
            ip("-n", router, "link", "add", f"to{index}", "type", "veth", "peer", "name", "eth", "netns", host)
            ip("-n", host, "addr", "add", f"10.77.{index}.2/24", "dev", "eth")
            ip("-n", router, "addr", "add", f"10.77.{index}.1/24", "dev", f"to{index}")
            ip("-n", host, "link", "set", "eth", "up")
            ip("-n", router, "link", "set", f"to{index}", "up")
            ip("-n", host, "route", "add", "default", "via", f"10.77.{index}.1")
        subprocess.run(
            ["ip", "netns", "exec", router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True
        )

    def start(self) -> tuple[Host, Host]:
        a = Host(self.names[0], "a", "10.77.1.2:4040")
        self.hosts.append(a)
        a.wait("ready")
        b = Host(self.names[2], "b", "10.77.2.2:4040", "10.77.1.2:4040")
        self.hosts.append(b)
        a.wait("node", "b", True)
        b.wait("node", "a", True)
        return a, b

    def cut(self, *to: str) -> float:
        """Drop what goes to those hosts, in silence; returns when."""
        now = time.monotonic()
        for host in to:
            ip("-n", self.names[1], "route", "add", "blackhole", self._addresses["ab".index(host)] + "/32")
        return now

    def heal(self) -> None:
        for address in self._addresses:
            subprocess.run(
                ["ip", "-n", self.names[1], "route", "del", "blackhole", address + "/32"], check=False, capture_output=True
            )

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


Figures = dict[str, Any]


def idle_host_vanishes(net: Net) -> Figures:
    a, b = net.start()
    gevent.sleep(4)
    cut = net.cut("a", "b")
    return {"a": _lost(a, cut), "b": _lost(b, cut)}


def host_vanishes_with_data_in_flight(net: Net) -> Figures:
    a, b = net.start()
    a.tell("flow", "b")
    gevent.sleep(3)
    cut = net.cut("a", "b")
    return {"a": _lost(a, cut), "b": _lost(b, cut)}


def one_way_is_cut(net: Net) -> Figures:
    a, b = net.start()
    gevent.sleep(1)
    cut = net.cut("b")
    return {"a": _lost(a, cut), "b": _lost(b, cut)}


def _lost(host: Host, cut: float) -> tuple[float, str]:
    when, _, _, _, *reason = host.wait("node", "b" if host.node_id == "a" else "a", False)
    return when - cut, reason[-1]


def five_seconds_cut(net: Net) -> Figures:
    a, b = net.start()
    a.tell("flow", "b")
    b.tell("flow", "a")
    gevent.sleep(2)
    net.cut("a", "b")
    gevent.sleep(5)
    net.heal()
    gevent.sleep(8)
    figures: Figures = {}
    for host in (a, b):
        host.tell("stop")
        figures[f"sent by {host.node_id}"] = host.wait("sent")[2]
    gevent.sleep(3)
    for host in (a, b):
        host.tell("count")
        figures[f"received by {host.node_id}"] = tuple(host.wait("count")[2:])
        figures[f"events of {host.node_id}"] = len(host.events("node"))
    return figures


def program_is_stopped(net: Net) -> Figures:
    a, b = net.start()
    gevent.sleep(2)
    stopped = time.monotonic()
    os.kill(b.process.pid, signal.SIGSTOP)
    busy = a.wait("busy", "b", True)[0] - stopped
    when, _, _, _, *reason = a.wait("node", "b", False, timeout=90)
    os.kill(b.process.pid, signal.SIGCONT)
    return {"busy": busy, "hung": when - stopped, "reason": reason[-1]}


def program_computes(net: Net) -> Figures:
    a, b = net.start()
    gevent.sleep(1)
    b.tell("compute", "30")
    a.wait("busy", "b", True)
    b.wait("computed")
    a.wait("busy", "b", False)
    gevent.sleep(3)
    return {host.node_id: (len(host.events("node")), [entry[3] for entry in host.events("busy")]) for host in (a, b)}


SCENARIOS: list[Callable[[Net], Figures]] = [
    idle_host_vanishes,
    host_vanishes_with_data_in_flight,
    one_way_is_cut,
    five_seconds_cut,
    program_is_stopped,
    program_computes,
]


@pytest.fixture(scope="module")
def outcome() -> Iterator[Callable[[Callable[[Net], Figures]], Figures]]:
    """Runs every scenario, side by side; gives what one of them saw."""
    problem = _why_not()
    if problem:
        pytest.skip(problem)
    nets: list[Net] = []
    try:
        runs = {}
        for number, scenario in enumerate(SCENARIOS):
            nets.append(Net(number))
            runs[scenario] = gevent.spawn(scenario, nets[-1])
        yield lambda scenario: runs[scenario].get(timeout=160)
        gevent.killall(list(runs.values()))
    finally:
        for net in nets:
            net.close()


Outcome = Callable[[Callable[[Net], Figures]], Figures]


@pytest.mark.parametrize("scenario", [idle_host_vanishes, host_vanishes_with_data_in_flight, one_way_is_cut])
def test_a_host_that_cannot_be_heard_is_lost_at_both_ends_after_twenty_seconds(
    outcome: Outcome, scenario: Callable[[Net], Figures]
) -> None:
    figures = outcome(scenario)
    assert 18 <= figures["a"][0] <= 25, figures
    assert 18 <= figures["b"][0] <= 25, figures


def test_a_cut_of_five_seconds_loses_nothing_and_fires_nothing(outcome: Outcome) -> None:
    figures = outcome(five_seconds_cut)
    assert figures["events of a"] == figures["events of b"] == 1, figures
    assert figures["received by b"] == (figures["sent by a"], 0), figures
    assert figures["received by a"] == (figures["sent by b"], 0), figures
    assert figures["sent by a"] > 100


def test_a_stopped_program_is_busy_after_ten_seconds_and_hung_after_sixty(outcome: Outcome) -> None:
    figures = outcome(program_is_stopped)
    assert 7.5 <= figures["busy"] <= 13, figures  # its last heartbeat may be two seconds old
    assert 57.5 <= figures["hung"] <= 66, figures
    assert figures["reason"].startswith("hung: "), figures


def test_a_program_that_computes_for_thirty_seconds_is_busy_and_never_lost(outcome: Outcome) -> None:
    assert outcome(program_computes) == {"a": (1, [True, False]), "b": (1, [])}
