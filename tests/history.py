"""A checker in the manner of Jepsen: many ports send to each other while the network between them misbehaves and nodes are
killed and restarted; every send, receive and fired monitor is logged, and the promises are checked over the whole log.

Everything runs in one process, so the log's order is the order of events. A sender's monitor is a message to its own
mailbox, put there in the uninterrupted step of the loss, and it looks for it before each send; so what the log calls
"after the monitor fired" is what the program could know.

    ("monitor", sender, target)            a monitor was set
    ("down", sender, target)               it fired
    ("send", sender, target, number)       numbers of one pair count from 0
    ("receive", port, sender, target, number)
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import gevent

import gmp
from gmp.testing import FaultProxy

Event = tuple[Any, ...]
FAULTS = ("cut", "reset", "delay", "blackhole", "half_close", "refuse", "throttle", "crash")


def check(history: list[Event]) -> list[str]:
    """What the log shows against the promises, in words; nothing when they were held."""
    wrong: list[str] = []
    sent: dict[tuple[str, str], list[int]] = defaultdict(list)  # of each pair the place of each send
    downs: dict[tuple[str, str], list[int]] = defaultdict(list)
    got: dict[tuple[str, str], list[int]] = defaultdict(list)
    armed: dict[tuple[str, str], int] = defaultdict(int)
    for place, event in enumerate(history):
        if event[0] == "monitor":
            armed[event[1:3]] += 1
        elif event[0] == "down":
            downs[event[1:3]].append(place)
            armed[event[1:3]] -= 1
            if armed[event[1:3]] < 0:
                wrong.append(f"a monitor of {event[1]} for {event[2]} fired twice")
        elif event[0] == "send":
            if event[3] != len(sent[event[1:3]]):
                raise ValueError(f"the log itself is wrong at {place}: {event}")
            sent[event[1:3]].append(place)
        else:
            _, port, sender, target, number = event
            if port != target:
                wrong.append(f"{port} received message {number} that {sender} sent to {target}")
            if number >= len(sent[sender, target]):
                wrong.append(f"{target} received message {number}, which {sender} has not sent yet")
            else:
                got[sender, target].append(number)
    for pair, numbers in got.items():
        wrong += _check_pair(pair, numbers, sent[pair], downs[pair])
    return wrong


def _check_pair(pair: tuple[str, str], numbers: list[int], sent: list[int], downs: list[int]) -> list[str]:
    wrong = []
    last = -1
    for number in numbers:
        if number <= last:
            wrong.append(f"{pair[1]} received message {number} of {pair[0]} after {last}: again, or out of order")
            continue
        # every hole before it must have been told: a monitor fired between its last lost message and this one
        if number > last + 1 and not any(sent[number - 1] < down < sent[number] for down in downs):
            first_told = [down for down in downs if sent[last + 1] < down < sent[number]]
            told = "told too early" if first_told else "never told"
            wrong.append(f"{pair[1]} received message {number} of {pair[0]}; {last + 1} to {number - 1} were lost, {told}")
        last = number
    return wrong


class Network:
    """Seeds and nodes, each behind a `FaultProxy`, and two private nodes; ports on each that send and receive."""

    def __init__(self, seed: int, *, seeds: int = 2, publics: int = 3, privates: int = 2) -> None:
        self.history: list[Event] = []
        self.random = random.Random(seed)
        self.counts: dict[str, int] = defaultdict(int)
        self.proxies: dict[str, FaultProxy] = {}
        self.nodes: dict[str, gmp.Node] = {}
        self.quiet = gevent.event.Event()
        self._privates = [f"private{number}" for number in range(privates)]
        self._seeds = [f"seed{number}" for number in range(seeds)]
        self._publics = [f"node{number}" for number in range(publics)]
        for name in [*self._seeds, *self._publics]:
            self.proxies[name] = FaultProxy("127.0.0.1:1")
        for name in [*self._seeds, *self._publics, *self._privates]:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a node, and its ports."""
        seeds = [self.proxies[seed].address for seed in self._seeds]
        settings: dict[str, Any] = {"seeds": seeds, "secret": "geheim", "address_timeout": 0.5, "connect_timeout": 3.0}
        if name in self.proxies:
            node = gmp.Node(name, binds=["127.0.0.1:0"], advertise=[self.proxies[name].address], **settings).start()
            self.proxies[name].target = node.binds[0]
        else:
            node = gmp.Node(name, binds=[], **settings).start()
        self.nodes[name] = node
        for _ in range(2):
            node.group("receivers").join(node.port(self._receive))
            node.port(self._send, node)

    def _receive(self, port: gmp.Port) -> None:
        for sender, target, number, _ in port:
            self.history.append(("receive", port.id, sender, target, number))

    def _send(self, port: gmp.Port, node: gmp.Node) -> None:
        """Send to a few ports of other nodes; look for fired monitors before each send."""
        targets: dict[str, int] = {}  # port ID → number of the next message
        watched: set[str] = set()
        rng = random.Random(self.random.random())
        while True:
            self._fired(port, watched)
            if self.quiet.is_set() and not watched:
                port.receive("nothing more")
            others = [one for one in node.group("receivers").members() if gmp.node_of(one) != node.id]
            if others and (len(watched) < 3 or rng.random() < 0.02):
                target = rng.choice(others)
                if target not in watched:
                    watched.add(target)
                    targets.setdefault(target, 0)
                    self.history.append(("monitor", port.id, target))
                    node.monitor(target, port, "down", target)
            for target in list(watched):
                for _ in range(rng.randrange(8)):
                    self._fired(port, watched)  # race: a send above the high mark let others run
                    if target not in watched:
                        break
                    number, targets[target] = targets[target], targets[target] + 1
                    self.history.append(("send", port.id, target, number))
                    node.send(target, port.id, target, number, b"x" * rng.choice((0, 10, 10, 1000, 40_000)))
            gevent.sleep(rng.random() * 0.06)

    def _fired(self, port: gmp.Port, watched: set[str]) -> None:
        while len(port):
            target, *_ = port.receive("down")
            self.history.append(("down", port.id, target))
            watched.discard(target)

    def crash(self, name: str) -> None:
        """As SIGKILL: its sockets close, nobody is told."""
        node = self.nodes.pop(name)
        self.counts["crash"] += 1
        node.mesh.stop()
        node.network.close()
        node.close()

    def misbehave(self, seconds: float) -> None:
        """Let one thing after the other go wrong."""
        with gevent.Timeout(seconds, False):
            while True:
                proxy = self.proxies[self.random.choice(sorted(self.proxies))]
                what = self.random.choice(FAULTS)
                self.counts[what] += 1
                if what in ("cut", "reset"):
                    getattr(proxy, what)()
                elif what == "delay":
                    proxy.delay(self.random.random() * 0.05, self.random.choice(("forward", "back", "both")))
                elif what == "half_close":
                    proxy.half_close(self.random.choice(("forward", "back")))
                elif what == "throttle":
                    proxy.throttle(self.random.uniform(50_000, 500_000))
                elif what == "crash":
                    name = self.random.choice(sorted(self.nodes))
                    self.crash(name)
                    gevent.sleep(self.random.random() * 0.3)
                    self.start(name)
                else:
                    getattr(proxy, what)()
                    gevent.sleep(self.random.random() * 0.4)
                    proxy.heal()
                if self.random.random() < 0.4:
                    for each in self.proxies.values():
                        each.heal()
                gevent.sleep(self.random.random() * 0.2)
        for name in [*self._seeds, *self._publics, *self._privates]:
            if name not in self.nodes:
                self.start(name)
        for each in self.proxies.values():
            each.heal()

    def settle(self, timeout: float) -> None:
        """Wait until every node sees every receiver, and can talk to it. *Raises:* `gmp.WaitTimeout`, `gmp.GmpError`."""
        count = 2 * len(self.nodes)
        for node in self.nodes.values():
            with gevent.Timeout(timeout, gmp.WaitTimeout(f"{node.id} does not see all {count} receivers")):
                while len(node.group("receivers").members()) != count:
                    gevent.sleep(0.05)
        for node in self.nodes.values():
            for other in self.nodes:
                with gevent.Timeout(timeout, gmp.WaitTimeout(f"{node.id} cannot talk to {other}")):
                    while True:
                        try:
                            node.call(other, "time", timeout=5)
                            break
                        except gmp.GmpError:
                            gevent.sleep(0.1)

    def close(self) -> None:
        """End everything."""
        gevent.joinall([gevent.spawn(node.close) for node in self.nodes.values()], raise_error=True)
        for proxy in self.proxies.values():
            proxy.close()
