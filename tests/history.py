"""A checker in the manner of Jepsen: many ports send to each other while the network between them misbehaves and nodes are
killed and restarted; every send, receive and fired monitor is logged, and the promises are checked over the whole log.
From time to time everything is healed, and soon every node must see every receiver again and be able to talk to all.

Everything runs in one process, so the log's order is the order of events. `tests.senders` has the senders, which wait in
every way and learn of a loss in every way; what the log calls "after the monitor fired" is what the program could know.

    ("monitor", sender, target)            a monitor was set
    ("down", sender, target)               it fired
    ("told", sender, target)               the sender knows of a loss otherwise: a call has raised, a node is down
    ("send", sender, target, number)       numbers of one pair count from 0
    ("receive", port, sender, target, number)
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import Any

import gevent

import gmp
from gmp.net.connection import Connection
from gmp.testing import FaultProxy
from tests.addresses import free_addresses
from tests.senders import Sender, Stage, combinations

Event = tuple[Any, ...]
FAULTS = ("cut", "reset", "delay", "blackhole", "half_close", "refuse", "throttle", "crash", "leave")
FAULTS_WITHOUT_PROXIES = ("shut", "shut", "shut", "crash", "leave")
ENDS = (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)
SENDERS = 4  # of each node
MOST_GONE = 6  # calls of `History.forget`
LAST = 100_000  # events that are kept for whoever looks for the cause


class Pair:
    """What was sent from one port to another, as far as the check needs it."""

    __slots__ = ("armed", "down", "gone", "received", "sent", "told")

    def __init__(self) -> None:
        self.sent = 0  # the number of the next message
        self.received = -1  # the number of the last one that came
        self.armed = 0  # monitors that have not fired
        self.down = False  # whether one has fired since the last send
        self.gone = 0  # how often one of the two was no more when that was asked
        self.told: list[int] = []  # the messages, not received yet, before which one had fired


class History:
    """The log of all events, checked as it grows: `wrong` has in words what is against the promises."""

    def __init__(self) -> None:
        self.last: deque[Event] = deque(maxlen=LAST)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.labels: dict[str, str] = {}  # of the senders
        self._pairs: dict[tuple[str, str], Pair] = defaultdict(Pair)

    def append(self, event: Event) -> None:
        """One more event."""
        self.counts[event[0]] += 1
        self.last.append(event)
        if event[0] == "receive":
            self._receive(*event[1:])
            return
        pair = self._pairs[event[1:3]]
        if event[0] == "monitor":
            pair.armed += 1
        elif event[0] == "down":
            pair.down = True
            pair.armed -= 1
            if pair.armed < 0:
                self.wrong.append(f"a monitor of {event[1]} for {event[2]} fired twice")
        elif event[0] == "told":
            pair.down = True
        else:
            if event[3] != pair.sent:
                raise ValueError(f"the log itself is wrong: {event}")
            if pair.down:
                pair.down = False
                pair.told.append(event[3])
            pair.sent += 1

    def forget(self, alive: set[str]) -> None:
        """Keep no pair of which one port was not among `alive` in this call and the last: nothing of it is on its way.

        When it is the target that is gone, its monitors must fire before that; a sender that is blocked looks late.
        """
        for names, pair in list(self._pairs.items()):
            sender, target = names
            pair.gone = 0 if sender in alive and target in alive else pair.gone + 1
            if pair.gone > 1 and (sender not in alive or not pair.armed):
                del self._pairs[names]
            elif pair.gone == MOST_GONE:
                self.wrong.append(f"a monitor of {sender} for {target} has not fired, but that has been gone for long")
        self.labels = {port_id: label for port_id, label in self.labels.items() if port_id in alive}

    def __len__(self) -> int:
        return len(self._pairs)

    def _receive(self, port: str, sender: str, target: str, number: int) -> None:
        pair = self._pairs[sender, target]
        if port != target:
            self.wrong.append(f"{port} received message {number} that {sender} sent to {target}")
        if number >= pair.sent:
            self.wrong.append(f"{target} received message {number}, which {sender} has not sent yet")
        elif number <= pair.received:
            self.wrong.append(f"{target} received {number} of {sender} after {pair.received}: again, or out of order")
        else:
            lost, pair.received = pair.received + 1, number
            # every hole before it must have been told: a monitor fired between its last lost message and this one
            if number > lost and number not in pair.told:
                told = "told too early" if any(lost < each < number for each in pair.told) else "never told"
                label = self.labels.get(sender, "no more")
                self.wrong.append(
                    f"{target} received {number} of {sender} ({label}); {lost} to {number - 1} were lost, {told}"
                )
            pair.told = [each for each in pair.told if each > number]


def check(events: Iterable[Event]) -> list[str]:
    """What the log shows against the promises, in words; nothing when they were held."""
    history = History()
    for event in events:
        history.append(event)
    return history.wrong


class Network:
    """Seeds and nodes, each behind a `FaultProxy`, and two private nodes; ports on each that send and receive.

    Who dials a proxy does so by TCP. Without proxies the nodes are connected by Unix sockets, which break at random.
    """

    def __init__(self, seed: int, *, seeds: int = 2, publics: int = 3, privates: int = 2, proxied: bool = True) -> None:
        self.history = History()
        self.random = random.Random(seed)
        self.counts: dict[str, int] = defaultdict(int)
        self.proxies: dict[str, FaultProxy] = {}
        self.nodes: dict[str, gmp.Node] = {}
        self._combinations = combinations(self.random)
        self._calm = False
        self._stages: dict[str, tuple[Stage, list[Sender]]] = {}
        self._privates = [f"private{number}" for number in range(privates)]
        self._seeds = [f"seed{number}" for number in range(seeds)]
        self._publics = [f"node{number}" for number in range(publics)]
        names = [*self._seeds, *self._publics]
        if proxied:
            self.proxies = {name: FaultProxy("127.0.0.1:1") for name in names}
        own = [proxy.address for proxy in self.proxies.values()] or free_addresses(len(names))
        self._addresses = dict(zip(names, own, strict=True))  # by which others dial them
        for name in [*self._seeds, *self._publics, *self._privates]:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a node, and its ports."""
        seeds = [self._addresses[seed] for seed in self._seeds]
        settings: dict[str, Any] = {"seeds": seeds, "secret": "geheim", "address_timeout": 0.5, "connect_timeout": 3.0}
        settings["leave_timeout"] = 0.5
        if name in self.proxies:
            node = gmp.Node(name, binds=["127.0.0.1:0"], advertise=[self.proxies[name].address], **settings).start()
            self.proxies[name].target = node.binds[0]
        else:
            node = gmp.Node(name, binds=[self._addresses[name]] if name in self._addresses else [], **settings).start()
        self.nodes[name] = node
        receivers = [node.port(self._receive), node.port()]
        receivers[1].on(None, lambda *message: self._received(node, receivers[1].id, message))
        for receiver in receivers:
            node.group("receivers").join(receiver)
        stage = Stage(node, self.history, self.random)
        stage.calm = self._calm
        self._stages[name] = stage, [Sender(stage, *next(self._combinations)) for _ in range(SENDERS)]

    def _receive(self, port: gmp.Port) -> None:
        for message in port:
            self._received(port.ports.node, port.id, message)

    def _received(self, node: gmp.Node, port_id: str, message: tuple[Any, ...]) -> None:
        sender, target, number, _, *reply = message
        self.history.append(("receive", port_id, sender, target, number))
        for caller in reply:
            node.send(caller, "got it")

    def _be_calm(self, calm: bool) -> None:
        """Whether the senders leave time for everything else."""
        self._calm = calm
        for stage, _ in self._stages.values():
            stage.calm = calm

    def crash(self, name: str) -> None:
        """As SIGKILL: its sockets close, nobody is told."""
        node, stage = self.nodes.pop(name), self._stages.pop(name)[0]
        node._core.mesh.stop()
        node._core.network.close()
        node.close()
        stage.close()

    def leave(self, name: str) -> None:
        """Close a node in good order, while its senders go on."""
        node, stage = self.nodes.pop(name), self._stages.pop(name)[0]
        node.close()
        stage.close()

    def misbehave(self, seconds: float) -> None:
        """Let one thing after the other go wrong; stop when a promise is broken, so that the last events show how."""
        self._be_calm(False)
        end = time.monotonic() + seconds
        # no `gevent.Timeout`: it would leave a node behind in the middle of its crash
        while time.monotonic() < end and not self.history.wrong:
            if self.proxies:
                self._fault(self.random.choice(FAULTS), self.proxies[self.random.choice(sorted(self.proxies))])
            else:
                self._fault_without_proxies(self.random.choice(FAULTS_WITHOUT_PROXIES))
            if self.random.random() < 0.4:
                self._heal()
            gevent.sleep(self.random.random() * 0.2)
        self._heal()

    def _fault(self, what: str, proxy: FaultProxy) -> None:
        self.counts[what] += 1
        if what in ("cut", "reset"):
            getattr(proxy, what)()
        elif what == "delay":
            proxy.delay(self.random.random() * 0.05, self.random.choice(("forward", "back", "both")))
        elif what == "half_close":
            proxy.half_close(self.random.choice(("forward", "back")))
        elif what == "throttle":
            proxy.throttle(self.random.uniform(50_000, 500_000))
        elif what in ("crash", "leave"):
            self._restart(what)
        else:
            getattr(proxy, what)()
            gevent.sleep(self.random.random() * 0.4)
            proxy.heal()

    def _fault_without_proxies(self, what: str) -> None:
        self.counts[what] += 1
        if what in ("crash", "leave"):
            self._restart(what)
        elif connections := self.connections():
            self.random.choice(connections).sock.shutdown(self.random.choice(ENDS))

    def _restart(self, what: str) -> None:
        name = self.random.choice(sorted(self.nodes))
        getattr(self, what)(name)
        gevent.sleep(self.random.random() * 0.3)
        self.start(name)

    def connections(self) -> list[Connection]:
        """Those that are up now, both ends of each, without relays."""
        peers = [peer for node in self.nodes.values() for peer in node._core.network.up_peers()]
        return [peer.connection for peer in peers if isinstance(peer.connection, Connection)]

    def _heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()

    def settle(self, timeout: float) -> None:
        """Wait until every node sees every receiver, and can talk to it. *Raises:* `gmp.WaitTimeout`, `gmp.GmpError`."""
        self._be_calm(True)
        present = self._present()
        for node in self.nodes.values():
            group = node.group("receivers")
            try:
                with gevent.Timeout(timeout, gmp.WaitTimeout(f"{node.id} does not see just the receivers that there are")):
                    while set(group.members()) != present:
                        gevent.sleep(0.05)
            except gmp.WaitTimeout as error:
                raise gmp.WaitTimeout("\n".join([str(error), *self.directories()])) from None
        for node in self.nodes.values():
            for other in self.nodes:
                with gevent.Timeout(timeout, gmp.WaitTimeout(f"{node.id} cannot talk to {other}")):
                    while True:
                        try:
                            node.call(other, "time", timeout=5)
                            break
                        except gmp.GmpError:
                            gevent.sleep(0.1)

        self.history.forget({port_id for node in self.nodes.values() for port_id in self._ports_of(node)})

    def directories(self) -> list[str]:
        """What each node holds of the group, and by whom it knows it, for whoever looks for the cause."""
        present, lines = self._present(), []
        for node in self.nodes.values():
            core, seen = node._core, set(node.group("receivers").members())
            backbone = core.mesh.backbone
            up = {peer.node_id: getattr(peer.connection, "incarnation", "") for peer in core.network.up_peers()}
            role = "a seed" if backbone.is_global else f"at {backbone.master}"
            lines.append(
                f"{node.id} {core.incarnation}, {role}: misses {sorted(present - seen)}, has besides"
                f" {sorted(seen - present)}; hidden {sorted(backbone._hidden)}; up {up}"
            )
            if backbone.is_global:
                claims = backbone.registry.claims
                lines.append(f"  {claims._records}, orphans {claims._orphans}, ended {claims._ended}")
        return lines

    def _present(self) -> set[str]:
        """All receivers, as the nodes that have them know."""
        own = [node._core.mesh.backbone.own_entries() for node in self.nodes.values()]
        return {port_id for entries in own for port_id in entries["receivers"]}

    @staticmethod
    def _ports_of(node: gmp.Node) -> list[str]:
        return [f"{node.id}#{name}" for name in node._core.ports.by_name]

    def close(self) -> None:
        """End everything."""
        for stage, _ in self._stages.values():
            stage.close()
        gevent.joinall([gevent.spawn(node.close) for node in self.nodes.values()], raise_error=True)
        for proxy in self.proxies.values():
            proxy.close()
