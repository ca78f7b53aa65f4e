"""Calls: a table of waiting callers, without a port, a timer or a monitor message for each.

The reply goes to a name of its own, under which the waiting call stands in the table of ports. Time-outs are found by a
housekeeper that looks every 50 ms while calls wait. One monitor for each target serves all calls to it and is kept for ten
seconds after the last. A late reply finds no such name and is dropped.

A call does not wait for room above the high mark as a send does: its caller waits for the reply anyway, and so the
timeout includes everything.

A request joins the batch to its target by itself (`gmp.net.batch`), as a message of `gmp.send` does, where that is certain
to have room for one more; else it goes the way of all messages, by `Routes.send_soon`, and the batch that it begins or joins
there is remembered for the next one. It stands in the table before that, so nothing is in a batch without being there.

race: a signal handler sends, or `__del__`, while the request is packed and put into the batch, and so the batch may end,
or the connection. It has no room from then on: if it is empty, the request went with the others or is lost with them, which
the monitor tells; if not, the request came too late, and is sent anew.
race: a reply and a death, or the timeout, come in the same turn: the first outcome counts, and the caller is woken once.
race: the caller is killed when its wake-up is on its way: it is crossed out of those to be woken (`gmp.ports.wakeups`), or
that would hit whatever the greenlet does next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from gmp.errors import CallTimeout, GmpError, PortDied
from gmp.ids import INCARNATION_LENGTH, USED_ONCE, split_port_id
from gmp.net.batch import KEPT, ROW, Batch
from gmp.net.peer import Peer
from gmp.outside import clock
from gmp.ports.handlers import Handlers
from gmp.ports.mailbox import Message
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.port import Port
from gmp.ports.table import Ports
from gmp.ports.wakeups import Wakeups
from gmp.wire.nesting import SHORT

if TYPE_CHECKING:
    from gmp.ports.tracing import Tracer

TICK = 0.05
KEEP = 10.0


class Call:
    """One waiting caller, in the place of a port. Has no `__init__`: Python would call it by way of C, at 3 % of a call."""

    __slots__ = ("caller", "deadline", "outcome", "target", "wakeups", "waking")

    target: Target
    deadline: float | None
    outcome: Message | Exception | None
    waking: greenlet | None
    caller: greenlet
    wakeups: Wakeups

    def put(self, message: Message | Exception) -> None:
        """The reply, or why there is none; only the first outcome counts. Wakes the caller."""
        if self.outcome is None:
            self.outcome = message
            self.waking = self.caller
            wakeups = self.wakeups
            try:
                wakeups.pending.append(self)
            finally:  # as `Wakeups.add`: a call of it would let Ctrl-C in before the caller is on its way
                if not wakeups.scheduled:
                    wakeups.scheduled = True
                    wakeups.run_callback(wakeups.begin)

    def put_all(self, messages: list[Message]) -> None:
        """Only the first outcome counts."""
        self.put(messages[0])

    def kill(self, *reason: Any) -> None:
        """End the call: its reply port was killed, or the node ends."""
        self.put(PortDied(self.target.port_id, reason))

    def add_monitor(self, monitor: Monitor) -> None:
        """A reply port is gone when its call is: its monitors do not fire before that."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """As `add_monitor`."""


class Target:
    """A port that is called, and what all calls to it share: the monitor, and the batch."""

    __slots__ = ("_calls", "batch", "last_used", "monitor", "name", "peer", "port", "port_id")

    def __init__(self, port_id: str, calls: Calls) -> None:
        self.port_id = port_id
        self.monitor: Monitor | None = None
        self.port: Port | None = None  #: when it is a port of this node
        self.name = port_id.partition("#")[2]
        self.peer: Peer | None = None  #: the node that it is on, once there was a batch
        self.batch: Batch | None = None  #: the last batch to it that was seen
        self.last_used = 0.0
        self._calls = calls

    def died(self, reason: Reason) -> None:
        """Raise in every caller."""
        self.monitor = None
        self._calls.target_died(self, reason)


class Calls:
    """The waiting calls of one node. `send` takes a port ID and a message, and returns the peer that it went to, if any;
    `monitor` watches a port; `why_unreached` tells why no reply may have come."""

    def __init__(
        self,
        ports: Ports,
        send: Callable[[str, Message], Peer | None],
        monitor: Callable[[str, Callable[[Reason], None]], Monitor],
        why_unreached: Callable[[str], str],
    ) -> None:
        self._ports = ports
        self._hold = ports.hold  # as in `Routes`
        self._node_part = f"{ports.node_id}#"  # of the IDs of reply ports
        # bytes of a request that may join a batch as it is: room is counted for so many (`gmp.net.batch`), and without the
        # ID of the reply port it is too short to be nested too deep
        self._short = min(ROW - KEPT, SHORT + len(self._node_part) + INCARNATION_LENGTH)
        self._send = send
        self._joins = True  # whether requests may join batches by themselves
        self._monitor = monitor
        self._why_unreached = why_unreached
        self.call: Callable[..., Message] = self._call  #: of a `Port` or port ID
        self.targets: dict[str, Target] = {}
        self._waiting: dict[str, Call] = {}
        self._timer: Any = None
        self._keeps_loop = False  # whether the loop would go on for the timer alone: only while a greenlet waits for it

    def tracer(self, tracer: Tracer | None) -> None:
        """Report each call to `tracer` from now on."""
        self.call = self._call if tracer is None else partial(self._traced_call, tracer)

    def send_by(self, send: Callable[[str, Message], Peer | None], joins: bool) -> None:
        """Send by `send` from now on; if `joins`, only what does not join a batch by itself."""
        self._send, self._joins = send, joins
        for target in self.targets.values():
            target.batch = None

    def _traced_call(
        self, tracer: Tracer, dest: Any, message: Message, timeout: float | None, name: str | None = None
    ) -> Message:
        self._ports.check()
        port_id = _called(dest)
        with tracer.calling(port_id, message):
            return self._call(port_id, message, timeout, name)

    def _call(self, dest: Any, message: Message, timeout: float | None, name: str | None = None) -> Message:
        """Send `message` with a reply port's ID behind it and wait for what comes there. `name` is that of the reply port,
        which `Ports.new_reply_name` has made (None: another one)."""
        ports, me, hold = self._ports, getcurrent(), self._hold
        if not hold._is_owned():
            ports.check()
        target = self.targets.get(dest) if type(dest) is str else None
        if target is None or target.monitor is None or me is ports.hub:
            target = self._find(_called(dest), me)
        if target.port is not None:
            handlers = target.port.handlers
            if handlers is not None and handlers.worker is me:
                self._check_other(handlers, message)
        if name is None:
            name = f"{ports.incarnation}{next(ports.numbers)}{USED_ONCE}"  # `Ports.new_reply_name`, without its frame
        reply, wakeups, batch = self._node_part + name, ports.wakeups, target.batch
        target.last_used = now = clock.monotonic()
        call = Call()
        call.target, call.caller, call.wakeups = target, me, wakeups
        call.deadline = None if timeout is None else now + timeout
        call.outcome = call.waking = None
        ports.by_name[name] = self._waiting[name] = call
        try:
            if not self._keeps_loop:
                self._start_timer(True)
            is_sent = False
            if batch is not None and batch.room > len(batch.rows) + 1:
                pack = batch.pack  # as in `gmp.send`
                try:
                    data = pack([*message, reply])
                except Exception:
                    is_sent = False  # there is more to it
                else:
                    if len(data) <= self._short:
                        batch.rows.append(data)
                        is_sent = batch.room > 0 or not batch.rows
                    else:
                        is_sent = _join(target, batch, (*message, reply), data)
            if not is_sent:
                if target.monitor is None:  # race: a signal handler let others run, and the target was lost before this
                    target = call.target = self._find(target.port_id, me)
                send = self._send
                peer = send(target.port_id, message + (reply,))  # noqa: RUF005  # half the time of (*message, …)
                if peer is not None and (outbox := peer.outbox) is not None and (batch := outbox.batch) is not None:
                    self._remember(target, peer, batch)
            wakeups.sleep()
            while call.outcome is None:
                wakeups.sleep()  # another waiter switched to this greenlet
        finally:
            call.waking = None
            del self._waiting[name]
            ports.by_name.pop(name, None)
        outcome = call.outcome
        if isinstance(outcome, tuple):
            return outcome
        raise self._failure(target.port_id, outcome, timeout)

    def _failure(self, port_id: str, outcome: Exception | None, timeout: float | None) -> Exception:
        """What a call without a reply raises."""
        assert isinstance(outcome, Exception)
        if not isinstance(outcome, CallTimeout):
            return outcome
        text, why = f"no reply from {port_id} within {timeout} s", self._why_unreached(port_id)
        return CallTimeout(f"{text}: {why}" if why else text)

    def _find(self, port_id: str, caller: greenlet) -> Target:
        """Return a target that is watched for its death; a dead one fires in the next turn, when its first call waits."""
        if caller is self._ports.hub:
            raise GmpError(f"call to {port_id} in the hub: a callback of the event loop must not block")
        target = self.targets.get(port_id)
        if target is not None and target.monitor is not None:
            return target
        target = Target(port_id, self)
        target.monitor = self._monitor(port_id, target.died)
        self.targets[port_id] = target
        local = self._ports.find(port_id)
        target.port = local if isinstance(local, Port) else None
        return target

    def _remember(self, target: Target, peer: Peer, batch: Batch) -> None:
        """Let the next requests to `target` join `batch`, which `peer` sends, if it is for that port."""
        if self._joins and batch.name == target.name and batch.longest >= self._short:
            target.peer, target.batch = peer, batch

    def _check_other(self, handlers: Handlers, message: Message) -> None:
        """*Raises:* `GmpError` when the message would have to wait for the caller, which is one of these handlers."""
        if handlers.match((*message, "")) is not None:
            raise GmpError(
                f"a handler of {handlers.port} calls its own port: handlers run one after another, so it would wait"
                " for itself; call the function, or call from port.spawn"
            )

    def target_died(self, target: Target, reason: Reason) -> None:
        """Fail the calls that wait for `target`."""
        if self.targets.get(target.port_id) is target:
            del self.targets[target.port_id]
        for call in self._waiting.values():
            if call.target is target:
                call.put(PortDied(target.port_id, reason))

    def _start_timer(self, keeps_loop: bool) -> None:
        self.close()
        self._timer = self._ports.hub.loop.timer(TICK, TICK, ref=keeps_loop)
        self._timer.start(self._tick)
        self._keeps_loop = keeps_loop  # race: Ctrl-C before this: the next call starts it anew

    def _tick(self) -> None:
        now = clock.monotonic()
        for call in self._waiting.values():
            call.target.last_used = now
            if call.deadline is not None and call.deadline <= now:
                call.put(CallTimeout())
        for port_id, target in list(self.targets.items()):
            if now - target.last_used > KEEP:
                del self.targets[port_id]
                if target.monitor is not None:
                    target.monitor.cancel()
        if self._waiting:
            return
        if not self.targets:
            self.close()
        elif self._keeps_loop:
            self._start_timer(False)

    def close(self) -> None:
        """Stop the housekeeper."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
            self._keeps_loop = False


def _called(dest: Any) -> str:
    """Return the ID of a port that is to be called. *Raises:* `ConfigError` if it is none; `PortDied` for a dead `Port`."""
    if isinstance(dest, Port) and dest.reason is not None:
        raise PortDied(dest.id, dest.reason)
    node_id, name = split_port_id(dest)
    return f"{node_id}#{name}" if name else node_id


def _join(target: Target, batch: Batch, message: Message, data: bytes) -> bool:
    """Let a request that is not short, packed as `data`, join `batch`; return whether it has. *Raises:* `MessageError`."""
    outbox = None if target.peer is None else target.peer.outbox
    if outbox is None or outbox.batch is not batch:  # race: a signal handler or `__del__` has sent something meanwhile
        return False
    return outbox.join(batch.name, message, data) is not None
