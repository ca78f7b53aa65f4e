"""The node's side of the hand-over: works off the jobs, in the node's native thread.

Each ring of the bell starts one pooled greenlet, if none is at work. It runs what does not block by itself, and gives
the rest greenlets of their own, which are tasks of one port, so that they end with the node. Those begin in the order
in which they were started: so what comes behind a call goes on in a greenlet that is started behind it, and does not
overtake what it sends.

A send that finds a node over its high mark waits for room in a greenlet of its own; what is for the same node is held
until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from greenlet import GreenletExit

import gmp
from gmp.aio.handover import Handover
from gmp.aio.jobs import Ask, Cancel, Job, Line, Order, Send
from gmp.aio.weighing import with_ids
from gmp.errors import GmpError
from gmp.kernel.node import core_of
from gmp.outside import clock

log = logging.getLogger("gmp")
A_TURN = 500  # jobs that are worked off before the node's other greenlets have a turn
ENDS_PROGRAM = (KeyboardInterrupt, SystemExit)


class Desk:
    """Works for one node, whose thread it is made in."""

    def __init__(self, node: gmp.Node, handover: Handover) -> None:
        self.node = node
        self.core = core_of(node)
        self.groups: dict[str, gmp.Group] = {}  #: those in use; a handle keeps the node's copy of what is in it
        self.families: dict[str, gmp.Family] = {}
        self._handover = handover
        self._jobs = handover.jobs
        self._port = node.port()  # what is asked for runs as this port, and ends with it
        self._hub = gevent.get_hub()
        self._working = False
        self._waking = False
        self._eased: set[Line] = set()  # lines with senders that wait for room, which there is now
        self._low_mark = node.settings.low_mark
        self._busy: set[Line] = set()
        self._quiet = gevent.event.Event()  # set when no line is busy any more
        self.ended = gevent.event.Event()  #: set when there is no more to do here
        self.why_ended = "is closed"
        self.core.watch(self._port, self._died)
        bell = self._hub.loop.async_()  # what keeps the loop of a node without a network waiting
        bell.start(self._heard)
        handover.open(bell)
        self._watch = self._hub.loop.timer(1.0, 1.0, ref=False)
        self._watch.start(self._look)
        self._later = self._hub.loop.timer(0, ref=False)

    def _look(self) -> None:
        if self._handover.loop.is_closed():
            self.end("is closed, as its event loop is")

    def _died(self, reason: tuple[Any, ...]) -> None:
        if not self.core.closed:
            self.end(f"has ended, as what serves its event loop died of {reason[:2]!r}")

    def end(self, why: str = "is closed") -> None:
        """There is no more to do."""
        if not self.ended.is_set():
            self.why_ended = why
            self.ended.set()

    def close(self) -> None:
        """Take no more jobs."""
        self._handover.close()
        self._watch.close()
        self._later.close()

    def settle(self, timeout: float | None = None) -> None:
        """Wait until no send waits for room. *Blocks:* up to `timeout` seconds (None: without end)."""
        if self._busy and self._port.alive:
            self._quiet.clear()
            self._quiet.wait(timeout)

    # ---- what is asked for, beside the methods of the node

    def group(self, name: str) -> gmp.Group:
        """The group of that name. *Blocks:* never."""
        if name not in self.groups:
            self.groups[name] = self.node.group(name)
        return self.groups[name]

    def family(self, name: str) -> gmp.Family:
        """The family of that name. *Blocks:* never."""
        if name not in self.families:
            self.families[name] = self.node.family(name)
        return self.families[name]

    def call(self, timeout: float | None, dest: str, *message: Any) -> tuple[Any, ...]:
        """As `gmp.Node.call`; ports of this node in the reply are given by their IDs, as those of others are."""
        return with_ids(self.node.call(dest, *message, timeout=timeout))

    def flush(self, timeout: float | None) -> bool:
        """Let everything be written that was handed over. *Blocks:* up to `timeout` seconds (None: without end)."""
        began = clock.monotonic()
        self.settle(timeout)
        return self.node.flush(None if timeout is None else max(0.0, began + timeout - clock.monotonic()))

    def send_to_group(self, name: str, message: tuple[Any, ...]) -> None:
        """Send to a group, behind all that is held. *Blocks:* as that does."""
        self.settle()
        self.group(name).send(*message)

    # ---- working

    def _heard(self) -> None:
        self._handover.heard()
        self.work()

    def work(self) -> None:
        """Work off what was handed over, soon. *Blocks:* never."""
        if not self._working and self._port.alive:
            self._working = True
            self._port.spawn(self._work)

    def _work(self) -> None:
        jobs, sends = self._jobs, False
        for _ in range(A_TURN):
            if not jobs or (sends and not jobs[0].blocks):
                break
            sends = self._do(jobs.popleft()) or sends
        self._working = False
        if jobs and sends:
            self.work()  # behind what was started
        elif jobs:
            self._later.start(self.work)

    def _do(self, job: Job) -> bool:
        """Do one job; return True if a greenlet was started for it whose messages must not be overtaken."""
        line = job.line
        if line is not None and line.busy:
            line.held.append(job)
            return False
        match job:
            case Send():
                self._send(job)
            case Cancel():
                self._cancel(job.ask)
            case Order():
                self._obey(job)
            case Ask(blocks=True):
                job.task = self._port.spawn(self._answer, job)
                return job.sends
            case Ask():
                self._answer(job)
        return False

    def _send(self, send: Send) -> None:
        line = send.line
        assert line is not None
        try:
            sent = self.node.try_send(send.dest, *send.message)
        except GmpError as error:
            sent = True
            self._refused(send, error)
        if sent:
            self._took(line, send.size)
        else:
            line.busy = True
            self._busy.add(line)
            line.held.append(send)
            self._port.spawn(self._send_held, line)

    def _send_held(self, line: Line) -> None:
        """Do what is held at `line`, of which each send may block."""
        while line.held:
            job = line.held.popleft()
            if isinstance(job, Send):
                try:
                    self.node.send(job.dest, *job.message)
                except GmpError as error:
                    self._refused(job, error)
                self._took(line, job.size)
                continue
            line.busy = False
            sends = self._do(job)
            line.busy = True
            if sends:
                self._port.spawn(self._send_held, line)  # until that has begun the line is busy, even with nothing held
                return
        line.busy = False
        self._busy.discard(line)
        if not self._busy:
            self._quiet.set()

    def _refused(self, send: Send, error: GmpError) -> None:
        """The node refuses what seemed sure to travel, or came by `try_send`."""
        log.error("%s: a message to %s cannot be sent: %s", self.node.id, send.dest, error)

    def _took(self, line: Line, size: int) -> None:
        line.taken += size
        if line.wanted and line.size <= self._low_mark:
            self._eased.add(line)
            self._wake_soon()

    def _obey(self, order: Order) -> None:
        try:
            order.function(*order.args)
        except Exception:
            log.exception("%s: what was ordered from an event loop failed", self.node.id)

    # ---- answers

    def _answer(self, ask: Ask) -> None:
        if ask.cancelled:
            self._end(ask, False, GmpError("it was cancelled"))
            return
        try:
            value = ask.function(*ask.args)
        except GreenletExit:
            self._end(ask, False, GmpError(f"node {self.node.id} is closed"))
            raise
        except BaseException as error:
            if isinstance(error, StopIteration):
                error = RuntimeError(f"{ask.function!r} raised StopIteration")  # which no future can hold
            if not isinstance(error, ENDS_PROGRAM):
                self._end(ask, False, error.with_traceback(None) if isinstance(error, GmpError) else error)
                return
            self._end(ask, False, GmpError(f"{ask.function!r} raised {type(error).__name__}"))
            raise
        self._end(ask, True, value)

    def _end(self, ask: Ask, is_result: bool, value: Any) -> None:
        ask.task = None
        self.say(self._handover.answer, ask, is_result, value)

    def _cancel(self, ask: Ask) -> None:
        ask.cancelled = True
        task = ask.task
        if task is not None and task.worker is not None:
            task.kill()  # one that has not begun sees that it was cancelled

    def say(self, function: Callable[..., Any], *args: Any) -> None:
        """Let the loop call `function` soon. *Blocks:* never."""
        self._handover.say(function, *args)
        self._wake_soon()

    def _wake_soon(self) -> None:
        if not self._waking:
            self._waking = True
            self._hub.loop.run_callback(self._wake)

    def _wake(self) -> None:
        self._waking = False
        eased, self._eased = self._eased, set()
        for line in eased:
            self._handover.say(self._handover.wake, line)
        if not self._handover.wake_loop():
            self.end("is closed, as its event loop is")
