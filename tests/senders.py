"""Senders for `tests.history`: every way to learn of a loss (`WATCHES`) with every way to wait between two sends (`DRIVES`).

What a sender logs as `down` or `told` is what its program can know at that line: a message that lies in its box, a callback
that has begun, a call that has raised. One that its monitor kills logs nothing: it must never be heard of again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Protocol

import gevent
import gevent.event

import gmp

MOST_WATCHED = 3
SIZES: tuple[int, ...] = (0, 10, 10, 10, 1000, 40_000)  # bytes of a message, about


class Log(Protocol):
    """Where a sender writes what it does."""

    wrong: list[str]
    labels: dict[str, str]

    def append(self, event: tuple[Any, ...]) -> None:
        """One more event."""


class Stage:
    """What the senders of one node have in common. `rests`: whether each stops for a moment from time to time."""

    def __init__(self, node: gmp.Node, log: Log, rng: random.Random, *, rests: bool = True) -> None:
        self.node, self.log, self.rng = node, log, rng
        self.receivers = node.group("receivers")
        self.echo = node.port(lambda port: [node.send(reply, "echo") for (reply,) in port])
        self.bell = gevent.event.Event()  # rung at random
        self.rests = rests
        self.calm = False  # whether each rests after each step
        self.open = True
        self._ringer = gevent.spawn(self._ring)

    def _ring(self) -> None:
        while True:
            gevent.sleep(self.rng.random() * 0.01)
            self.bell.set()
            self.bell.clear()

    def close(self) -> None:
        """Nobody sends any more."""
        self.open = False
        self._ringer.kill()


class Sender:
    """One sender: it sends numbers, counted for each target."""

    def __init__(self, stage: Stage, watch: str, drive: str) -> None:
        self.stage, self.node, self.rng = stage, stage.node, random.Random(stage.rng.random())
        self.kind, self._drive = watch, DRIVES[drive]
        self._label = f"told by {watch}, goes on by {drive}"
        self.watched: set[str] = set()
        self._next: dict[str, int] = {}
        self._left = 0  # steps until the next rest
        self.box = self.node.port()  # for the messages of monitors
        if watch == "node":
            self.node.monitor_nodes(self._node_event)
        elif watch == "group":
            stage.receivers.monitor(self._group_event)
        self._begin()

    def _begin(self) -> None:
        self.port = self.node.port()
        self.stage.log.labels[self.port.id] = self._label
        if self.kind == "kill":
            self.node.monitor(self.port, self._again)
        self._drive(self)

    @property
    def active(self) -> bool:
        """Whether it is to go on."""
        return self.stage.open and self.port.alive

    def _again(self, *reason: Any) -> None:
        """It has been killed by its monitor: the same once more, under another name."""
        if self.stage.open and not self.node.closed:
            self.watched.clear()
            self._next.clear()
            self._begin()

    # ---- one step

    def step(self) -> float:
        """Send a few messages, or one call; return how many seconds to rest: mostly none."""
        try:
            self._look_around()
            for target in sorted(self.watched):
                for _ in range(1 if self.kind == "call" else self.rng.randrange(4)):
                    self._look()  # race: a send above the high mark let others run
                    if target in self.watched and self._may_send(target):
                        self._send(target)
        except Exception as error:
            if self.active and not self.node.closed:
                self.stage.log.wrong.append(f"{self.port} ({self._label}): {error!r}")
        self._left -= 1
        if (self._left > 0 or not self.stage.rests) and not self.stage.calm:
            return 0.0
        self._left = self.rng.randrange(1, 60)
        return self.rng.random() * 0.1

    def _look_around(self) -> None:
        self._look()
        if len(self.watched) < MOST_WATCHED and (not self.watched or self.rng.random() < 0.05):
            others = [one for one in self.stage.receivers.members() if gmp.node_of(one) != self.node.id]
            target = self.rng.choice(others) if others else None
            if target is not None and target not in self.watched:
                self._watch(target)

    def _watch(self, target: str) -> None:
        self.watched.add(target)
        self._next.setdefault(target, 0)
        if self.kind in ("message", "callback"):
            self.stage.log.append(("monitor", self.port.id, target))
        if self.kind == "message":
            self.node.monitor(target, self.box, "down", target)
        elif self.kind == "callback":
            self.node.monitor(target, lambda *reason: self._called_back(target, reason))
        elif self.kind == "kill":
            self.node.monitor(target, self.port)

    def _look(self) -> None:
        while len(self.box):
            target, *_ = self.box.receive("down", timeout=0)
            self.stage.log.append(("down", self.port.id, target))
            self.watched.discard(target)

    def _may_send(self, target: str) -> bool:
        if self.node.closed and self.kind in ("message", "node", "group"):
            return False  # as it leaves its ports are dead, with their monitors, and its events are over: nothing tells
        if self.kind == "node":  # a node that is not connected has no event to come
            return self.node.is_up(gmp.node_of(target))
        return self.kind != "group" or target in self.stage.receivers.members()

    def _send(self, target: str) -> None:
        number = self._next[target]
        self._next[target] = number + 1
        self.stage.log.append(("send", self.port.id, target, number))
        message = (self.port.id, target, number, b"x" * self.rng.choice(SIZES))
        if self.kind != "call":
            self.node.send(target, *message)
            return
        try:
            self.node.call(target, *message, timeout=None)
        except gmp.PortDied:
            self._told(target)

    # ---- what tells

    def _told(self, target: str) -> None:
        if target in self.watched:
            self.watched.discard(target)
            self.stage.log.append(("told", self.port.id, target))

    def _called_back(self, target: str, reason: tuple[Any, ...]) -> None:
        self.stage.log.append(("down", self.port.id, target))
        self.watched.discard(target)
        if self.active and self.rng.random() < 0.5:  # send from the callback, too: its reason tells of the whole node
            if reason[:1] in (("transport_error",), ("leaving",)):
                for other in sorted(self.watched):
                    if gmp.node_of(other) == reason[1]:
                        self.stage.log.append(("told", self.port.id, other))
            self.step()

    def _node_event(self, node_id: str, up: bool, *reason: Any) -> None:
        if not up:
            for target in [each for each in sorted(self.watched) if gmp.node_of(each) == node_id]:
                self._told(target)

    def _group_event(self, members: Any, added: Any, changed: Any, removed: list[str]) -> None:
        for target in removed:
            self._told(target)


# ---- how it waits between two steps


def _in_a_body(wait: Callable[[Sender], object]) -> Callable[[Sender], None]:
    def drive(sender: Sender) -> None:
        def body(port: gmp.Port) -> None:
            while sender.active:
                rest = sender.step()
                if rest:
                    gevent.sleep(rest)
                else:
                    wait(sender)

        sender.port.spawn(body, sender.port)

    return drive


def _by_callbacks(later: Callable[[Sender, float, Callable[[], None]], object]) -> Callable[[Sender], None]:
    def drive(sender: Sender) -> None:
        def go_on() -> None:
            if sender.active:
                rest = sender.step()
                if not sender.node.closed:
                    later(sender, rest, go_on)

        later(sender, 0.0, go_on)

    return drive


def _by_a_handler(sender: Sender) -> None:
    def go_on() -> None:
        if sender.active:
            rest = sender.step()
            if not sender.node.closed:
                sender.node.after(rest, sender.port, "step")

    sender.port.on("step", go_on)
    sender.node.send(sender.port, "step")


def _start_timer(sender: Sender, seconds: float, function: Callable[[], None]) -> None:
    timer = gevent.get_hub().loop.timer(seconds)
    timer.start(lambda: (timer.close(), gevent.get_hub().loop.run_callback(function)))


def _in_the_hub(sender: Sender, seconds: float, function: Callable[[], None]) -> None:
    if seconds:
        _start_timer(sender, seconds, function)
    else:
        gevent.get_hub().loop.run_callback(function)


def _in_raw_greenlets(sender: Sender, seconds: float, function: Callable[[], None]) -> None:
    gevent.spawn_later(seconds, function) if seconds else gevent.spawn_raw(function)


DRIVES: dict[str, Callable[[Sender], None]] = {
    "full turn": _in_a_body(lambda sender: gevent.sleep(0)),
    "tiny sleep": _in_a_body(lambda sender: gevent.sleep(sender.rng.random() * 0.002)),
    "idle": _in_a_body(lambda sender: gevent.idle()),
    "event": _in_a_body(lambda sender: sender.stage.bell.wait(0.1)),
    "wake-up": _in_a_body(lambda sender: sender.node.call(sender.stage.echo, timeout=None)),
    "handler": _by_a_handler,
    "after": _by_callbacks(lambda sender, seconds, function: sender.node.after(seconds, function)),
    "timer": _by_callbacks(_start_timer),
    "callback of the loop": _by_callbacks(_in_the_hub),
    "raw greenlet": _by_callbacks(_in_raw_greenlets),
}
WATCHES = ("message", "callback", "kill", "call", "node", "group")
_NO_GREENLET = ("timer", "callback of the loop")  # a call cannot wait there
_OUTSIDE = ("after", "timer", "callback of the loop", "raw greenlet")  # killing the port does not end it


def every_combination() -> list[tuple[str, str]]:
    """Every watch with every drive that can go with it."""
    return [
        (watch, drive)
        for watch, drive in product(WATCHES, DRIVES)
        if not (watch == "call" and drive in _NO_GREENLET) and not (watch == "kill" and drive in _OUTSIDE)
    ]


def combinations(rng: random.Random) -> Iterator[tuple[str, str]]:
    """`every_combination` in random order, again and again."""
    pairs = every_combination()
    while True:
        rng.shuffle(pairs)
        yield from pairs
