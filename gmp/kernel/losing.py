"""What follows the loss of a node, and in which order: promise 1, no silent hole.

1. *The step*, which nothing interrupts: the peer loses what waits, and what is sent to it from now on
   (`PeerState.LOST`); monitors kill, then put their messages; groups hide the node's ports. Callbacks are gathered: those
   of monitors in the order of the monitors, then those of groups, then those of node events.
2. *The batch*, a job that stands in the queue of the workers behind those that wait at the time of the step, so that
   what came first is begun first. It begins when the greenlets of the killed ports have ended. First entry: monitors
   that were set since the step fire, for the same reason, and the peer is idle. Then the callbacks are begun, each in a
   greenlet of its own, until it blocks. Last entry: ways to the node that came up meanwhile are taken, and whoever waits
   for room goes on. No turn of the workers ends within a batch, so nobody else's code runs before the last callback has
   begun.

The rule that follows from it. Nothing that was sent before the batch travels on the next connection, whoever sent it and in
whatever way it yielded. Whoever sends behind the first entry has been told, each by what it has asked for:

- a message lies in the mailbox since the step, and a killed port is dead since then, its greenlets have ended;
- a callback has begun. What one sends that begins earlier in the batch goes to the next connection, to whatever port:
  its reason has told it of the loss of the whole node;
- a call that waits has its outcome since the step, and its caller sends nothing before it has woken to that;
- callbacks of node events and groups have begun as well. One of a group that is still at its former call is told afterwards
  (its calls never overlap), but `members()` has hidden the ports since the step.

Who has read the message before the batch sends in vain until the batch: the monitor that it has set anew says so again.
In no order with any of this is only what strikes between two lines: a signal handler, a finaliser, and the main greenlet,
which goes on at once when a callback raises `SystemExit` or `KeyboardInterrupt`.

A port's own death needs no batch: no port ever has its ID again, so nothing that is sent to it later can arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gmp.kernel.monitoring import RemoteMonitors
from gmp.net.peer import Peer
from gmp.ports.monitors import Kind, Monitor, Reason
from gmp.ports.workers import Following, Task, Workers


class Loss:
    """One loss of one peer. `begin` is the step; the batch follows by itself."""

    def __init__(self, peer: Peer, reason: Reason, monitors: RemoteMonitors, workers: Workers) -> None:
        self._peer = peer
        self._reason = reason
        self._monitors = monitors
        self._workers = workers
        self._left: deque[Monitor] = deque()  # those that have not fired
        self._callbacks: list[Following] = []
        self._buried = True  # whether the greenlets of all killed ports have ended

    def begin(self, tell_others: Callable[[], None]) -> None:
        """Fire the monitors, then `tell_others`, whose callbacks come behind those of the monitors."""
        workers = self._workers
        with workers.gathering(self._callbacks):
            try:
                self._kill()
            finally:  # race: Ctrl-C: the batch does what is left to do
                workers.add(Task(self._begin_batch, (), workers))  # before what the messages wake
            self._fire()
            tell_others()

    def _kill(self) -> None:
        """Take the monitors that are set now, and fire those that kill, which come first."""
        left = self._left
        left.extend(self._monitors.node_lost(self._peer.node_id))
        if left and left[0].kind is Kind.KILL:
            self._buried = False
            try:
                while left and left[0].kind is Kind.KILL:
                    left[0].fire(self._reason)
                    left.popleft()  # behind it: what an interrupt leaves is fired by the batch
            finally:  # race: Ctrl-C
                self._workers.run_callback(self._set_buried)  # behind the burials

    def _fire(self) -> None:
        while self._left:
            self._left[0].fire(self._reason)
            self._left.popleft()

    def _set_buried(self) -> None:
        self._buried = True

    def _begin_batch(self) -> None:
        """The first entry."""
        peer, workers = self._peer, self._workers
        with workers.gathering(self._callbacks):
            self._kill()
            self._fire()
        if not self._buried:  # race: a turn of the workers was on its way, or somebody has told it to kill since
            workers.run_callback(workers.spawn, self._begin_batch)
            return
        with workers.gathering(self._callbacks):
            peer.told()
            workers.spawn(peer.go_on)
        workers.add_next(self._callbacks)
