"""What follows the loss of a node, and in which order: promise 1, no silent hole.

1. *The step*, which nothing interrupts: the peer loses what waits, and what is sent to it from now on
   (`PeerState.LOST`); monitors kill, then put their messages; groups hide the node's ports. Callbacks are gathered: those
   of monitors in the order of the monitors, then those of groups, then those of node events.
2. *The aftermath*, a job that stands in the queue of the workers behind those that wait at the time of the step, so that
   what came first is begun first. It begins when the greenlets of the killed ports have ended. First entry: monitors
   that were set since the step fire, for the same reason, and the peer is idle. Then the callbacks are begun, each in a
   greenlet of its own, until it blocks. Last entry: ways to the node that came up meanwhile are taken, and greenlets
   that wait for room go on. No turn of the workers ends within an aftermath, so no other code runs before the last
   callback has begun.

The rule that follows from it. Nothing that was sent before the aftermath travels on the next connection, whoever sent it
and in whatever way it yielded. Whoever sends behind the first entry has been told, each by what it has asked for:

- a message lies in the mailbox since the step, and a killed port is dead since then, its greenlets have ended;
- a callback has begun. What one sends that begins earlier in the aftermath goes to the next connection, to whatever port:
  its reason has told it of the loss of the whole node;
- a call that waits has its outcome since the step, and its caller sends nothing before it has woken to that;
- callbacks of node events and groups have begun as well. One of a group that is still at its former call is told afterwards
  (its calls never overlap), but `members()` has hidden the ports since the step.

Who has read the message before the aftermath sends in vain until then: the monitor that it has set anew says so again.
Interrupted, by Ctrl-C, the step is gone on with in the next callback of the loop (`gmp.ports.duties`), and the aftermath is
begun again: each is a row of things that are done once, or can be done twice. The peer stays lost until then. A thing
that fails is logged, and the others are done all the same.

In no order with any of this is only what strikes between two lines: a signal handler, a finaliser, and the main greenlet,
which goes on at once when a callback raises `SystemExit` or `KeyboardInterrupt`.

A port's own death needs no aftermath: no port ever has its ID again, so nothing that is sent to it later can arrive.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gmp.kernel.monitoring import RemoteMonitors
from gmp.net.peer import Peer
from gmp.ports.monitors import Kind, Monitor, Reason
from gmp.ports.table import Ports
from gmp.ports.workers import Following, Lasting

log = logging.getLogger("gmp")


class Loss:
    """One loss of one peer. `begin` is the step; the aftermath follows by itself."""

    def __init__(self, peer: Peer, reason: Reason, monitors: RemoteMonitors, ports: Ports) -> None:
        self._peer = peer
        self._reason = reason
        self._monitors = monitors
        self._workers = ports.workers
        self._duties = ports.duties
        self._left: list[Monitor] = []  # those that have not fired
        self._callbacks: list[Following] = []
        self._steps: list[Callable[[], None]] = []  # those of the step that are not done
        self._events_from = -1  # where the callbacks of node events begin
        self._buried = True  # whether the greenlets of all killed ports have ended
        self._begun = False  # whether the aftermath has

    def begin(
        self, before: Callable[[], None], tell_mesh: Callable[[], None], tell_events: Callable[[], None]
    ) -> None:
        """Call `before`, fire the monitors, then `tell_mesh` and `tell_events`, whose callbacks come behind the monitors'.

        Interrupted, each is called again: what the former has added to the callbacks stays, what the latter has goes.
        """
        self._tell_events = tell_events
        # the aftermath is due before anybody is woken by a message
        self._steps = [before, self._take, self._kill, self._add_aftermath, self._fire, tell_mesh, self._tell]
        self._duties.run(self._go_on)

    def _go_on(self) -> None:
        self._do(self._steps)

    def _do(self, steps: list[Callable[[], None]]) -> None:
        workers = self._workers
        before, workers.gathered = workers.gathered, self._callbacks
        try:
            while steps:
                try:
                    steps[0]()
                except Exception:  # a bug of ours must not keep the others from being told; it would only fail again
                    log.exception("the loss of %s: a step failed", self._peer.node_id)
                del steps[0]
        finally:
            workers.gathered = before

    def _take(self) -> None:
        self._monitors.node_lost(self._peer.node_id, self._left)

    def _kill(self) -> None:
        """Fire those that kill, which come first."""
        left = self._left
        while left and left[0].kind is Kind.KILL:
            self._buried = False
            left[0].fire(self._reason)
            del left[0]
        if not self._buried:  # race: Ctrl-C: by this call or by one that was interrupted
            self._duties.add(self._set_buried)  # behind the burials

    def _fire(self) -> None:
        left = self._left
        for monitor in left:
            monitor.fire(self._reason)  # does nothing if it has fired already
        left.clear()

    def _tell(self) -> None:
        if self._events_from < 0:
            self._events_from = len(self._callbacks)
        del self._callbacks[self._events_from :]  # they are told again
        self._tell_events()

    def _set_buried(self) -> None:
        self._buried = True

    def _add_aftermath(self) -> None:
        self._workers.add(Lasting(self._begin_aftermath, (), self._workers))

    def _begin_aftermath(self) -> None:
        """The first entry."""
        peer, workers = self._peer, self._workers
        if self._begun:  # race: Ctrl-C: it was added twice
            return
        if self._steps:  # race: Ctrl-C: the step is gone on with
            self._duties.add(self._add_aftermath)
            return
        self._do([self._take, self._kill, self._fire])  # each can be done twice, and is when the aftermath is begun again
        if not self._buried:  # race: a turn of the workers was on its way, or somebody has told it to kill since
            self._duties.add(self._add_aftermath)
            return
        peer.told()
        tasks = [*self._callbacks, Lasting(peer.go_on, (), workers)][::-1]
        begin_next = workers.jobs.extendleft  # in one step, before everything that waits
        self._begun = True
        begin_next(tasks)
