"""Wakes waiting greenlets that got a message or a reply, all from one loop callback, one after the other.

A callback for each would cost more than everything else about a local message. The greenlets to be woken are in one queue,
in the order of the events that woke them. A turn begins in the hub, by `begin`, with a switch to the first. A greenlet that
waits again, in `sleep`, switches to the next one, and the last one to the hub. So a message and its answer between two ports
cost two switches. As two ports could go on so for ever, a turn ends after `TURN` seconds, and the next one begins after a
timer of no length: timers and sockets have their turn in between (the loop would run its callbacks in a row without looking
at these).

A turn is always begun by a callback, never by a watcher: gevent keeps the loop's clock up to date only for what callbacks
start.

race: a greenlet in the queue has ended its wait otherwise (timeout, kill, another switch): it has set `waking` to None, and
is passed over. race: Ctrl-C strikes wherever Python looks for signals: what begins a turn is a generator, as in
`gmp.ports.workers`, and code that adds to the queue makes sure of a turn, even if it is interrupted. race: a woken greenlet
forks: in the child the queue is empty when `_run_turn` goes on. race: a port is killed, and in the same turn its greenlet
gets what it waited for: `yield_to_callbacks` lets the callback that ends the greenlet come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Protocol

from greenlet import GreenletExit, greenlet

from gmp.outside import clock
from gmp.ports.duties import pass_on

A_LOOK = 32  # switches between two looks at the clock
TURN = 0.002  # seconds


class Place(Protocol):
    """What a greenlet waits at."""

    waking: greenlet | None  #: the greenlet to wake; None if it waits no more


class Wakeups:
    """The wake-ups of one node."""

    __slots__ = ("_hub", "_later", "_left", "_switch_to_hub", "_yields", "begin", "pending", "run_callback", "scheduled")

    def __init__(self, hub: Any, switch_to_hub: Callable[[], Any]) -> None:
        self._hub = hub
        self._switch_to_hub = switch_to_hub
        self.run_callback: Callable[..., Any] = hub.loop.run_callback
        self._later: Any = hub.loop.timer(0)  # the next turn begins after it
        self._left = 0  # switches until the next look at the clock; 0 when no turn is on
        self._yields = False  # True when callbacks of the loop come first
        self.pending: deque[Place] = deque()
        self.scheduled = False  #: True when a turn is on or will be: always while any are pending
        turns = self._turns()
        next(turns)
        self.begin: Callable[[], Any] = turns.__next__  #: the loop's callback: runs a turn

    def add(self, place: Place) -> None:
        """Wake `place.waking`, in this turn or in the next pass of the loop."""
        try:
            self.pending.append(place)
        finally:
            if not self.scheduled:
                self.scheduled = True
                self.run_callback(self.begin)

    def sleep(self) -> Any:
        """Let others run until another greenlet switches to this one; return the value it passes. Not for the hub."""
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
        """Run one turn each time, in the hub. It ends when none is pending, by the clock, or if a greenlet raises."""
        while True:
            try:
                for _ in repeat(None):  # so that the jump back is inside the `try`, too
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
        """Wake greenlets. A switch returns when none is pending, a look at the clock is due, or a greenlet has ended."""
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
                now = clock.monotonic()
                until = until or now + TURN
                if now >= until:
                    return

    def yield_to_callbacks(self) -> None:
        """Let the loop run the callbacks that are in it now before any greenlet is woken."""
        self._yields = True
        self._left = 0

    def close(self) -> None:
        """Wake no greenlet any more, in a child of `fork`."""
        self.pending.clear()
        self._later.close()
