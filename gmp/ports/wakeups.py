"""Who waits and is to go on: greenlets that got a message or a reply, woken one after the other by one callback of the loop.

A callback for each costs more than everything else about a local message. Whoever is to go on stands in one queue, in the
order of what woke them. A turn begins in the hub, by `begin`, with a switch to the first; who waits for something again, in
`sleep`, switches to the next one, and the last one to the hub. So two ports that talk to each other do so at the price of
two switches. As they could do so for ever, a turn ends after `TURN` seconds, and the next one begins behind a timer of no
length: timers and sockets have theirs in between (callbacks of the loop would be run in a row without looking at these).

It is always a callback that begins a turn, never a watcher: gevent keeps the loop's clock up to date for what callbacks
start only.

race: who is in the queue has ended its wait otherwise (timeout, kill, a switch of somebody else): it has set `waking` to
None, and is passed over. race: Ctrl-C strikes wherever Python looks for signals: what begins a turn is a generator, as in
`gmp.ports.workers`, and whoever adds to the queue sees to it that there is a turn, also when struck meanwhile. race: who
was woken forks: the child has forgotten the queue when `_run_turn` goes on there. race: a port is killed and its greenlet
gets what it waited for in the same turn: `yield_to_callbacks` lets the callback that ends it come first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Protocol

from greenlet import GreenletExit, greenlet

from gmp.ports.duties import pass_on

A_LOOK = 32  # switches between two looks at the clock
TURN = 0.002  # seconds


class Place(Protocol):
    """What a greenlet waits at."""

    waking: greenlet | None  #: which one is to go on; None: none, any more


class Wakeups:
    """Those of one node."""

    __slots__ = ("_hub", "_later", "_left", "_switch_to_hub", "_yields", "begin", "pending", "run_callback", "scheduled")

    def __init__(self, hub: Any, switch_to_hub: Callable[[], Any]) -> None:
        self._hub = hub
        self._switch_to_hub = switch_to_hub
        self.run_callback: Callable[..., Any] = hub.loop.run_callback
        self._later: Any = hub.loop.timer(0)  # behind which the next turn begins
        self._left = 0  # switches until somebody has to look at the clock; 0 when no turn is on
        self._yields = False  # whether callbacks of the loop come first
        self.pending: deque[Place] = deque()
        self.scheduled = False  #: whether there is a turn, or will be: true whenever somebody is pending
        turns = self._turns()
        next(turns)
        self.begin: Callable[[], Any] = turns.__next__  #: the callback of the loop that is a turn

    def add(self, place: Place) -> None:
        """Let `place.waking` go on, in this turn, or in the next pass of the loop."""
        try:
            self.pending.append(place)
        finally:
            if not self.scheduled:
                self.scheduled = True
                self.run_callback(self.begin)

    def sleep(self) -> Any:
        """Let somebody else go on, until another greenlet switches to this one; return what it says. Not in the hub."""
        pending = self.pending
        if self._left > 0:
            while pending:
                waking = pending[0].waking
                del pending[0]  # race: Ctrl-C cannot strike between this and the switch, as no call is between
                if waking is not None:
                    self._left -= 1
                    return waking.switch()
        switch = self._switch_to_hub
        return switch()

    def _turns(self) -> Iterator[None]:
        """In the hub, a turn each time: it ends when nobody is left, or by the clock, or when a greenlet's end raises."""
        while True:
            try:
                for _ in repeat(None):  # going back is in the `try`, too
                    try:
                        yield
                        self._run_turn()
                    finally:
                        self._left, self.scheduled = 0, False
                        if self.pending:
                            self.scheduled = True
                            if self._yields:
                                self._yields = False
                                self.run_callback(self.begin)
                            else:
                                self._later.start(self.run_callback, self.begin)
            except (GreenletExit, GeneratorExit):
                raise
            except BaseException as error:
                pass_on(self._hub, error)

    def _run_turn(self) -> None:
        """A switch returns when nobody is left, or it is time to look at the clock, or a greenlet has ended."""
        pending, until = self.pending, 0.0
        if self._yields:
            return
        while pending:
            waking = pending[0].waking
            del pending[0]
            if waking is not None:
                self._left = A_LOOK
                waking.switch()
                if not pending or self._yields:
                    return
                now = time.monotonic()
                until = until or now + TURN
                if now >= until:
                    return

    def yield_to_callbacks(self) -> None:
        """Let the callbacks that stand in the loop now have their turn before anybody else goes on."""
        self._yields = True
        self._left = 0

    def close(self) -> None:
        """Nobody goes on any more, in a child of `fork`."""
        self.pending.clear()
        self._later.close()
