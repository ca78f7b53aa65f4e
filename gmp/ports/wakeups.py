"""Who waits and is to go on: greenlets that got a message or a reply, woken one after the other by one callback of the loop.

A callback for each costs more than everything else about a local message. Whoever is to go on stands in one queue, in the
order of what woke them. A turn begins in the hub, by `run`, with a switch to the first; who waits for something again, in
`sleep`, switches to the next one, and the last one to the hub. So two ports that talk to each other do so at the price of
two switches. As they could do so for ever, a turn ends after `TURN` seconds, and goes on by a timer of no length: timers
and sockets have theirs in between (callbacks of the loop would be run in a row without looking at these).

race: who is in the queue has ended its wait otherwise (timeout, kill, a switch of somebody else): it has set `waking` to
None, and is passed over. race: Ctrl-C strikes in `run`: it is between two switches, and the next turn goes on. race: who was
woken forks: the child has forgotten the queue when `run` goes on there. race: a port is killed and its greenlet gets what it
waited for in the same turn: `yield_to_callbacks` lets the callback that ends it come first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from greenlet import greenlet

A_LOOK = 32  # switches between two looks at the clock
TURN = 0.002  # seconds


class Sleeper(Protocol):
    """What a greenlet waits at."""

    waking: greenlet | None  #: which one is to go on; None: none, any more


class Wakeups:
    """Those of one node."""

    __slots__ = ("_later", "_left", "_loop", "_switch_to_hub", "_yields", "pending", "scheduled")

    def __init__(self, loop: Any, switch_to_hub: Callable[[], Any]) -> None:
        self._loop = loop
        self._switch_to_hub = switch_to_hub
        self._later: Any = None  # the timer that goes on with `run`
        self._left = 0  # switches until somebody has to look at the clock; 0 when no turn is on
        self._yields = False  # whether callbacks of the loop come first
        self.pending: deque[Sleeper] = deque()
        self.scheduled = False  #: whether `run` runs or will: true whenever somebody is pending

    def add(self, sleeper: Sleeper) -> None:
        """Let `sleeper.waking` go on, from the next turn of the loop on."""
        self.pending.append(sleeper)
        if not self.scheduled:
            self.schedule()

    def schedule(self) -> None:
        """Go on with those who are pending in the next turn of the loop."""
        self.scheduled = True
        self._loop.run_callback(self.run)

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

    def run(self) -> None:
        """In the hub: a switch returns when nobody is left, or it is time to look at the clock, or a greenlet has ended."""
        pending, until = self.pending, 0.0
        if self._yields:
            self._yields = False
            self.schedule()
            return
        if self._later is not None:
            self._later.close()
            self._later = None
        try:
            while pending and not self._yields:
                waking = pending[0].waking
                del pending[0]
                if waking is not None:
                    self._left = A_LOOK
                    waking.switch()
                    if pending and not self._yields:
                        now = time.monotonic()
                        until = until or now + TURN
                        if now >= until:
                            break
        finally:  # also when a greenlet's end raises here
            self._left, self.scheduled = 0, bool(pending)
            if pending and self._yields:
                self._yields = False
                self.schedule()
            elif pending:
                self._go_on()

    def yield_to_callbacks(self) -> None:
        """Let the callbacks that stand in the loop now have their turn before anybody else goes on."""
        self._yields = True
        self._left = 0

    def _go_on(self) -> None:
        self._later = self._loop.timer(0)
        self._later.start(self.run)

    def forget(self) -> None:
        """In a child of `fork`: nobody goes on."""
        self.pending.clear()
