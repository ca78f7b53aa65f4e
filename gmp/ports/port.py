"""A port: a destination for messages and a context to run code in. The messages that wait are in its base, `Mailbox`.

Life: *alive* → `kill` (dead at once: its messages are dropped, it is in no table any more) → *buried* in the next turn
of the loop: its greenlets end, what it owns is released, its monitors fire in the order they were set.

A plain port is a small object (some 300 bytes with its name and its place in the table): its ID is made when somebody asks
for it, and what only some ports have stands in `_ties` and `handlers`, which are made when needed. A port without them
has nothing to bury.

Relations are cleaned from both sides: a port that dies fires the monitors that watch it (`_Ties.monitors`), and ends
those that it had set itself (`_Ties.watching`), so that nothing keeps a dead port alive.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, overload

import gevent.event
from greenlet import GreenletExit, getcurrent

from gmp.errors import GmpError, PortDied
from gmp.ports.handlers import Handlers, LimitedHandlers
from gmp.ports.home import Home
from gmp.ports.mailbox import FIRST_MARK, NO_QUEUE, Mailbox, Message
from gmp.ports.monitors import Monitor
from gmp.ports.tasks import Body, PortTask
from gmp.ports.ties import Ties
from gmp.ports.workers import ENDS_PROGRAM, Task, Worker
from gmp.showing import show_by

log = logging.getLogger("gmp")
Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")
_NOT_GIVEN = object()


def current_port() -> Port | None:
    """The port whose body or handler runs now, or None. *Blocks:* never.

    It is also set in what `Port.run`, `Port.wrap` and `Port.spawn` run. A greenlet that was started in another way, and
    the callback of a monitor or timer, has none: give them `port.wrap(callback)`.

    >>> import gmp
    >>> print(gmp.current_port())
    None
    >>> port = gmp.port()
    >>> port.run(gmp.current_port) is port
    True
    """
    port: Port | None = getattr(getcurrent(), "gmp_port", None)
    return port


def check_count(what: str, value: object) -> int:
    """`value`, which is a number of messages. *Raises:* `GmpError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise GmpError(f"{what} {value!r}: expected a whole number over 0, or None")
    return value


class Port(Mailbox):
    """A port of this node, made by `gmp.port`. It may stand wherever a port ID may: it equals and hashes as its ID."""

    __slots__ = ("__weakref__", "_ties")

    handlers_class: ClassVar[type[Handlers]] = Handlers
    limited_handlers_class: ClassVar[type[Handlers]] = LimitedHandlers
    handlers: Handlers | None

    def __init__(self, name: str, ports: Home, limit: int | None) -> None:
        self.name = name
        self.ports = ports
        self.reason = None
        self._id = None
        self._limit = limit
        self._mark = FIRST_MARK if limit is None else check_count("max_queue", limit)
        self.queue = NO_QUEUE
        self.room = 0
        self._receiver = self._sleeper = self.waking = self._scanned = None
        self.handlers = None
        self._ties: Ties | None = None

    def __repr__(self) -> str:
        return f"<Port {self.id}{'' if self.alive else ' dead'}>"

    @property
    def alive(self) -> bool:
        """Whether it is not dead."""
        return self.reason is None

    # ---- messages for handlers

    def put_unhandled(self, message: Message) -> None:
        """`put` for a message that has no handler, or that comes to a dead port."""
        self._put_closely(message)
        self.room = 0  # the next one may have a handler
        if self.handlers is not None and self.reason is None:
            self.handlers.passed_over(message)
            if self._limit is not None:
                self.handler_queue_grew(self.handlers.waiting())

    def handler_queue_grew(self, waiting: int) -> None:
        """So many messages wait for handlers: over the limit, with those in the mailbox, the port dies."""
        if self._limit is not None and waiting + len(self.queue) > self._limit:
            self._die(("queue_overflow", waiting + len(self.queue)))

    @overload
    def on(self, tag: Any) -> Callable[[Function], Function]: ...
    @overload
    def on(self, tag: Any, handler: Callable[..., Any] | None) -> None: ...

    def on(self, tag: Any, handler: Any = _NOT_GIVEN) -> Any:
        """Give messages with that tag to `handler(*rest)` from now on; tag None: every message without a handler.

        The default handler gets the message whole. A second handler replaces the first, None removes it; with the tag
        alone it is a decorator. The handlers of a port run one after another and may block.

        Messages that wait already and that the handler matches go to it, before later ones: whoever spawns a port may send
        to it at once. What waits for handlers and has not begun is in the order in which it came, in whatever order the
        handlers were set; what no handler matches stays for `receive`. A message that waits for a handler stays with it
        when that is replaced or removed. No handler begins before whoever calls `on` blocks or returns.
        *Raises:* `PortDied`; `GmpError` for a tag that cannot be looked up. *Blocks:* never.

        >>> import gmp
        >>> adder = gmp.port()
        >>> @adder.on("add")
        ... def add(a, b, reply):
        ...     gmp.send(reply, a + b)
        >>> gmp.call(adder, "add", 2, 3)
        (5,)
        """
        self._check_alive()
        try:
            hash(tag)
        except TypeError:
            raise GmpError(f"{tag!r} cannot be a tag: expected something hashable, by custom a string") from None
        if handler is not _NOT_GIVEN:
            self._set_handler(tag, handler)
            return None

        def decorate(function: Function) -> Function:
            self._check_alive()
            self._set_handler(tag, function)
            return function

        return decorate

    def _set_handler(self, tag: Any, handler: Callable[..., Any] | None) -> None:
        if handler is not None and not callable(handler):
            raise GmpError(f"{handler!r} cannot be a handler: expected something to call, or None")
        if self.handlers is None:
            if handler is None:
                return
            self.handlers = self.handlers_class(self) if self._limit is None else self.limited_handlers_class(self)
        self.handlers.set(tag, handler)
        self.room = 0
        if handler is not None and self.queue:
            self.handlers.claim()

    # ---- running code as the port

    def run(self, function: Callable[..., Result], *args: Any) -> Result | None:
        """Call `function(*args)` as this port: `current_port()` is it; an exception kills it, and None is returned.

        *Raises:* `PortDied` when the port is dead. *Blocks:* as the function does.

        >>> import gmp
        >>> port = gmp.port()
        >>> port.run(int, "12")
        12
        >>> port.run(int, "twelve")
        >>> port.reason[:2]
        ('die', "ValueError: invalid literal for int() with base 10: 'twelve'")
        """
        self._check_alive()
        me: Any = getcurrent()
        before = getattr(me, "gmp_port", None)
        me.gmp_port = self
        try:
            return function(*args)
        except Exception as error:
            self.failed(error)
            return None
        finally:
            me.gmp_port = before

    def wrap(self, function: Callable[..., Result]) -> Callable[..., Result | None]:
        """A function that runs `function` as this port, for callbacks; once the port is dead it does nothing.

        *Blocks:* never; the function it returns, as `function` does.

        >>> import gmp
        >>> port = gmp.port()
        >>> timer = gmp.after(0, port.wrap(lambda: gmp.send(gmp.current_port(), "tick")))
        >>> port.receive()
        ('tick',)
        """

        def run_as_port(*args: Any, **keywords: Any) -> Result | None:
            if self.reason is not None:
                return None
            return self.run(lambda: function(*args, **keywords))

        return run_as_port

    def spawn(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function(*args)` as this port in a greenlet of its own, which ends when the port dies.

        Returns a `Task`: `join(timeout)`, `kill()`, `ended`. The port does not die when it returns.
        *Raises:* `PortDied`; `GmpError` for what cannot be called. *Blocks:* never.

        >>> import gmp
        >>> port = gmp.port()
        >>> port.spawn(lambda: gmp.send(port, "from", gmp.current_port() is port)).join()
        True
        >>> port.receive()
        ('from', True)
        """
        self._check_alive()
        if not callable(function):
            raise GmpError(f"{function!r} cannot be run: expected something to call")
        return self._start(PortTask(function, args, self.ports.workers, self))

    def start_body(self, body: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Run the body."""
        self._start(Body(body, (self, *args), self.ports.workers, self))

    def _start(self, task: Task) -> Task:
        self._tied().tasks.add(task)
        self.ports.workers.add(task)
        return task

    def _body_ended(self) -> None:
        if self.handlers is None or not self.handlers.any():
            self._die(())

    def _task_ended(self, task: Task) -> None:
        if self._ties is not None:
            self._ties.tasks.discard(task)

    def failed(self, error: BaseException) -> None:
        """An exception escaped from user code: it kills this port, and the node lives on. It is logged once.

        `GreenletExit` is how a greenlet ends in silence. `SystemExit` and `KeyboardInterrupt` kill the port too, and
        then end the program, as from any greenlet. (What else is no `Exception`, as `gevent.Timeout`, is an error like any.)
        """
        if isinstance(error, GreenletExit):
            return
        ends_program = isinstance(error, ENDS_PROGRAM)
        if self.reason is None:
            if not ends_program:
                log.error("port %s died of %s", self.id, type(error).__name__, exc_info=error)
            trace = "".join(traceback.format_exception(error)).rstrip()
            self._die(("die", f"{type(error).__name__}: {_text(error)}", trace))
        elif not ends_program and not self._follows_from_death(error):
            log.error("port %s, already dead, raised %s", self.id, type(error).__name__, exc_info=error)
        if ends_program:
            self.ports.workers.failed(error)

    def _follows_from_death(self, error: BaseException) -> bool:
        """Whether a greenlet of this dead port raised it only because of the death, or of the node's end that caused it."""
        if isinstance(error, PortDied) and error.port == self.id:
            return True
        # race: the node closed, and something woke the greenlet before it could be ended: its next call raises
        return self.ports.leaving and isinstance(error, GmpError)

    def greenlets(self) -> list[Worker]:
        """The greenlets that run for this port now: its body's, those of `spawn`, and its handler's. *Blocks:* never."""
        found = [] if self._ties is None else self._ties.workers()
        handling = None if self.handlers is None else self.handlers.worker
        return found if handling is None else [*found, handling]

    def own(self, resource: Result) -> Result:
        """Release `resource` when the port dies: kill, cancel, close or stop it, whichever it has first; return it.

        After an abnormal death a resource that has an `abort` method, as a `Stream` has, is aborted instead. The last one
        owned is released first, each in a greenlet of its own.
        *Raises:* `GmpError` when it has none of these; `PortDied`. *Blocks:* never.

        >>> import gmp
        >>> port = gmp.port()
        >>> helper = port.own(gmp.port())
        >>> port.kill()
        >>> helper.join(5)
        True
        """
        self._check_alive()
        self._tied().own(resource)
        return resource

    # ---- death

    def kill(self, *reason: Any) -> None:
        """Kill the port; no reason: a normal death. Dead at once, its greenlets and monitors follow in the next turn.

        Nothing when it is dead already. A port that kills itself does not get past its next switch. *Blocks:* never.

        >>> import gmp
        >>> port = gmp.port()
        >>> port.kill("no longer needed")
        >>> port.alive, port.reason
        (False, ('no longer needed',))
        """
        if not self.ports.hold._is_owned():
            self.ports.check_thread()  # the node may be closing, which is how its ports are killed
        self._die(reason)

    def _die(self, reason: tuple[Any, ...], again: bool = False) -> None:
        if self.reason is not None and not again:
            return
        ports = self.ports
        self.reason = reason
        try:
            ports.forget(self)
            queue, handlers, ties = self.queue, self.handlers, self._ties
            self.room = 0
            if queue:
                ports.dropped += len(queue)
                queue.clear()  # somebody may be in the middle of it
            self.queue = NO_QUEUE
            if handlers is not None:
                ports.dropped += handlers.stop()
            if handlers is not None or ties is not None or self._receiver is not None:
                self.waking = self._sleeper or self.waking
                self._scanned = self._sleeper = None
                if ties is not None:
                    for task in ties.tasks:
                        if task.worker is None:
                            task.prevent()  # race: it may have its turn before the burial
                duties = ports.duties
                duties.due.append(self._bury)  # as `Duties.add`
                duties.run_callback(duties.begin)
                ports.wakeups.yield_to_callbacks()  # or its own greenlets would go on before they are ended
        except BaseException:  # race: Ctrl-C: it is dead and buried all the same
            ports.duties.add(lambda: self._die(reason, again=True))
            raise

    def _bury(self) -> None:
        """In the hub, one turn after the death. Interrupted, it is called again, and goes on with what is left."""
        ties, handlers, receiver = self._ties, self.handlers, self._receiver
        if ties is not None:
            ties.end_tasks()
        if handlers is not None:
            handlers.throw()
        if receiver is not None and receiver is self._receiver:  # not one of those that have just ended
            if receiver is self.waking:
                receiver.switch()  # as in `Workers.throw`
            else:
                receiver.throw(PortDied(self.id, self.reason or ()))
        if ties is not None and (ties.owned or ties.watching or ties.monitors or ties.joined is not None):
            ties.untie(self.reason or (), self.ports.workers)
        self._ties = self.handlers = None

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the port's death; return whether it is dead.

        *Blocks:* up to `timeout` seconds (None: without end).

        >>> import gmp
        >>> gmp.port(lambda port: port.receive("stop")).join(timeout=0.01)
        False
        """
        self.ports.check_thread()
        if self.reason is not None:
            return True
        ties = self._tied()
        if ties.joined is None:
            ties.joined = gevent.event.Event()
        return bool(ties.joined.wait(timeout))

    def add_monitor(self, monitor: Monitor) -> None:
        """Fire `monitor` at this port's death; in the next turn when it is dead already."""
        if self.reason is not None and self._ties is None:
            reason = self.reason
            self.ports.duties.add(lambda: monitor.fire(reason))
        else:
            self._tied().monitors[monitor] = None

    def discard_monitor(self, monitor: Monitor) -> None:
        """Forget `monitor`."""
        if self._ties is not None:
            self._ties.monitors.pop(monitor, None)

    def watches(self, monitor: Monitor) -> None:
        """`monitor`, of another port, was set for this one: it ends with this port."""
        if self.reason is not None:
            monitor.cancel()
        elif monitor.watch_for(self):
            self._tied().watching.add(monitor)

    def watches_no_more(self, monitor: Monitor) -> None:
        """It has fired or was cancelled."""
        if self._ties is not None:
            self._ties.watching.discard(monitor)

    def _tied(self) -> Ties:
        if self._ties is None:
            self._ties = Ties()
        return self._ties

    def _check_alive(self) -> None:
        self.ports.check_thread()
        if self.reason is not None:
            raise PortDied(self.id, self.reason)

    def _check_receive(self) -> None:
        if self.reason is not None:
            current = getcurrent()
            if self._ties is not None and self._ties.runs_in(current):
                raise GreenletExit  # it has killed itself, and would be ended at its next switch
            if self.handlers is not None and self.handlers.runs_in(current):
                raise GreenletExit
            self.ports.check_thread()
            raise PortDied(self.id, self.reason)
        self.ports.check_thread()
        self.ports.check()
        if self._receiver is not None:
            raise GmpError(f"another greenlet already waits in receive at {self.id}: only one may at a time")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # whatever it is, the port dies of the first one
        return f"<its text cannot be made: {type(second).__name__}>"


show_by(Port, Port.__repr__)
