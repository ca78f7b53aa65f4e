"""The table of a node's ports: names, look-up, delivery, and the check that the node is used in its own thread.

`by_name` has every live destination under its local name, which is what peers send to. `by_id` has those ports that were
looked up by their full ID, so no ID is made or split for a port that is never named, nor twice for one that is.

`hold` is a lock that the node's own thread holds while the node is open, so one cheap question tells whether the node can
be used here and now. `send` asks it each time: `hold._is_owned()` costs 10 ns (20 when the method is kept in a variable,
which Python 3.11 calls slowly), a comparison of thread IDs 36. If the answer is no, `check` raises an error that says why.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import gevent
from gevent.hub import get_thread_ident  # type: ignore[attr-defined]  # the native thread's, also in patched programs

from gmp.errors import GmpError
from gmp.ids import USED_ONCE
from gmp.outside import clock
from gmp.ports.duties import Duties
from gmp.ports.history import Deaths, RecordingPort
from gmp.ports.home import Resident
from gmp.ports.mailbox import Message
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.port import Port, check_count
from gmp.ports.wakeups import Wakeups
from gmp.ports.workers import Worker, Workers, nothing

ENDS_REMEMBERED = 1000
LEFT_TO_PARENT = "was left to the parent process by fork: configure one in the child"
A_LOOK = 0.01  # seconds between two checks whether the greenlets of killed ports have ended


def _make_never_held() -> Any:
    """Check that a lock tells whether the current thread holds it; return one that no thread ever holds.

    `_is_owned` is a private method of Python's, though its `threading.Condition` relies on it as we do.
    *Raises:* `ImportError`.
    """
    lock: Any = _thread.RLock()
    is_owned = getattr(lock, "_is_owned", None)
    if is_owned is not None:
        before = is_owned()
        with lock:
            within = is_owned()
        if within and not before and not is_owned():
            return lock
    raise ImportError(
        f"gmp cannot run on Python {sys.version.split()[0]}: expected _thread.RLock()._is_owned to say who holds a lock"
    )


NEVER_HELD = _make_never_held()


class Destination(Protocol):
    """Has a local name on this node: a port, or the entry of a call that waits for its reply."""

    def put(self, message: Message) -> None:
        """Take a message."""

    def put_all(self, messages: list[Message]) -> None:
        """Take messages, at least one, in this order."""

    def kill(self, *reason: Any) -> None:
        """End it."""

    def add_monitor(self, monitor: Monitor) -> None:
        """Fire `monitor` when it ends."""

    def discard_monitor(self, monitor: Monitor) -> None:
        """Forget `monitor`."""


class Ports:
    """All ports of a node."""

    def __init__(self, node_id: str, incarnation: str) -> None:
        self.node_id = node_id
        self.by_name: dict[str, Destination] = {}
        self.by_id: dict[str, Destination] = {}
        self.dropped = 0  #: messages for dead and unknown ports
        self.peak: tuple[str, int] | None = None  #: the port with the most messages ever waiting at once, and about how many
        self.ended: dict[str, Reason] = {}  #: reasons of the last ports that peers had spawned here and that died
        self.inherited = False  #: True in a child of `fork`: this is the parent's table
        self.deaths = Deaths()
        self.followed: dict[str, Callable[[str, str, Message], None]] = {}  #: by port name, the follower
        self.port_class: type[Port] = Port  #: what `make` makes; a subclass while the node traces
        self.node: Any = None  #: the `gmp.Node` that users see, for code that has only a port
        self.host: Any = None  #: the same from within, a `gmp.kernel.host.Host`
        self.workers = Workers(node_id)
        self.hub = self.workers.hub
        self.run_callback = self.workers.run_callback
        self.duties = Duties(self.hub)
        self.wakeups = Wakeups(self.hub, self.workers.switch_to_hub)
        self.leaving = False  #: True when no more ports are made; `closed` follows
        self._leaving_for: Reason = ()
        self._ending: list[tuple[Worker, Port]] = []  # what ran for the ports that `leave` killed
        self.closed = False
        self.closed_because = "is closed"
        self.hold: Any = _thread.RLock()
        self.hold.acquire()
        self._make_hold: Any = self.hold  # owned while ports may be made
        self.put_hold: Any  #: for `gmp.send`: a lock that is owned when it may put by itself
        self.put_hold_changed: Callable[[], None] = nothing  #: called when `put_hold` is another lock
        self.watch_puts(False)
        self._thread = get_thread_ident()
        self.incarnation = incarnation
        self.numbers = count(1)  #: of which names are made, with the incarnation

    def watch_puts(self, watched: bool) -> None:
        """While `watched`, keep `gmp.send` from putting messages by itself, past those who watch sends."""
        self.put_hold = NEVER_HELD if watched else self.hold
        self.put_hold_changed()

    def is_own_thread(self) -> bool:
        """True in the native thread that the node belongs to."""
        return bool(get_thread_ident() == self._thread)

    def check_thread(self) -> None:
        """Check the thread. *Raises:* `GmpError` in any native thread but the node's own, and in a child of `fork`."""
        if self.inherited:
            raise GmpError(f"node {self.node_id} {self.closed_because}")
        if get_thread_ident() != self._thread:
            raise GmpError(
                f"node {self.node_id} belongs to another native thread: call it from this one by node.from_thread, or by"
                " what run_in_thread has returned"
            )

    def check(self) -> None:
        """Check that the node can be used here. *Raises:* `GmpError` in another native thread, and when it is closed."""
        if not self.hold._is_owned():
            self.check_thread()
            raise GmpError(f"node {self.node_id} {self.closed_because}")

    def make(
        self,
        body: Callable[..., Any] | None = None,
        args: tuple[Any, ...] = (),
        max_queue: int | None = None,
        name: str | None = None,
        max_history: int | None = None,
    ) -> Port:
        """Make a port. `body(port, *args)` starts soon; bodies start in the order of their ports. *Raises:* `GmpError`."""
        if not self._make_hold._is_owned():
            self.check()
            raise GmpError(f"node {self.node_id} is leaving: no more ports are made")
        if body is not None and not callable(body):
            raise GmpError(f"{body!r} cannot be a port's body: expected something to call")
        if name is None:
            name = self.new_name()
        if max_history is None:
            port = self.by_name[name] = self.port_class(name, self, max_queue)
        else:
            port = self.by_name[name] = RecordingPort(name, self, max_queue, check_count("max_history", max_history))
        if body is not None:
            port.start_body(body, args)
        return port

    def new_name(self) -> str:
        """Make a name that no other node makes: the incarnation and a count."""
        return f"{self.incarnation}{next(self.numbers)}"

    def new_reply_name(self) -> str:
        """Make such a name for a reply port, which one message comes to."""
        return f"{self.incarnation}{next(self.numbers)}{USED_ONCE}"

    def find(self, port_id: str) -> Destination | None:
        """Find the destination with that full ID on this node; None if there is none."""
        found = self.by_id.get(port_id)
        if found is None:
            node_id, _, name = port_id.partition("#")
            if node_id == self.node_id:
                found = self.by_name.get(name)
                if isinstance(found, Port):
                    self.by_id[found.id] = found
        return found

    def forget(self, port: Resident) -> None:
        """Take `port`, which died, out of the table, and record an abnormal death."""
        name = port.name
        try:
            del self.by_name[name]
        except KeyError:
            pass  # race: Ctrl-C: its death was interrupted, and goes on here
        if port._id is not None:  # without an ID it was never looked up
            self.by_id.pop(port._id, None)
        if port.reason and not self.leaving:
            self.deaths.remember(port)
        if not name.startswith(self.incarnation):
            self.remember_end(name, port.reason or ())

    def is_used(self, name: str) -> bool:
        """True if no peer may spawn a port of that name: it is or was in use, or is of the kind that this node makes."""
        return name in self.by_name or name in self.ended or name.startswith(self.incarnation)

    def remember_end(self, name: str, reason: Reason) -> None:
        """Remember why a spawned port died.

        race: it may die before the ``mon1`` that follows the spawn is read; the answer must have the true reason.
        """
        self.ended[name] = reason
        if len(self.ended) > ENDS_REMEMBERED:
            del self.ended[next(iter(self.ended))]

    def note_peak(self, port: Resident, waiting: int) -> None:
        """Note that `waiting` messages wait at `port`, more than at its last doubling."""
        if self.peak is None or waiting > self.peak[1]:
            self.peak = (port.id, waiting)

    def forked(self) -> None:
        """Close the table in a child of `fork`: nothing runs any more, and every call raises."""
        self.leaving = self.closed = True
        self._make_hold = NEVER_HELD
        self.closed_because = LEFT_TO_PARENT
        self._thread = get_thread_ident()
        if self.hold._is_owned():
            self.hold.release()
        else:  # race: another thread forked
            self.hold = _thread.RLock()
        self.inherited = True
        self.watch_puts(True)
        self.workers.forked()
        self.wakeups.close()
        self.by_name.clear()
        self.by_id.clear()

    def leave(self, reason: tuple[Any, ...]) -> None:
        """Kill every port, and make no more. Greenlets may still send until `close`."""
        self.leaving = True
        self._make_hold = NEVER_HELD
        self._leaving_for = reason
        ports = [port for port in self.by_name.values() if isinstance(port, Port)]
        self._ending = [(worker, port) for port in ports for worker in port.greenlets()]
        self._kill_all(reason)

    def close(self, deadline: float) -> None:
        """Wait until the greenlets of the killed ports have ended, then close: the node cannot be used any more.

        *Blocks:* until then, at most until `deadline`, in monotonic time, for greenlets that do not end.
        """
        gevent.sleep(0)  # ports are buried in the next turn, and their monitors send then
        while any(worker.gmp_port is port for worker, port in self._ending) and clock.monotonic() < deadline:
            gevent.sleep(A_LOOK)
        self._ending.clear()
        self.closed = True
        if self.hold._is_owned():
            self.hold.release()
        self._kill_all(self._leaving_for)  # calls that were made in the meantime

    def _kill_all(self, reason: tuple[Any, ...]) -> None:
        for destination in list(self.by_name.values()):
            destination.kill(*reason)
