"""A port: a destination for messages and a context to run code in. Waiting messages are in its base, `Mailbox`.

Life: *alive* → `kill` (dead at once: its messages are dropped, and it leaves the table) → *buried* in the next turn of the
loop: its greenlets end, what it owns is released, its monitors fire in the order in which they were set.

A plain port is a small object (some 300 bytes with its name and its place in the table): its ID is made on first use, and
what only some ports have is in `_ties` and `handlers`, which are made when needed. A port without them needs no burial.

Relations are cleaned up from both sides: a dying port fires the monitors that watch it (`Ties.monitors`), and cancels those
that were set for it (`Ties.watching`), so that nothing keeps a dead port alive.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, overload

import gevent.event
from greenlet import GreenletExit, getcurrent

from gmp.errors import GmpError, PortDied
from gmp.ports.duties import pass_on
from gmp.ports.handlers import Handlers, LimitedHandlers
from gmp.ports.home import Home
from gmp.ports.mailbox import FIRST_MARK, NO_QUEUE, Mailbox, Message
from gmp.ports.monitors import Monitor
from gmp.ports.tasks import Body, PortTask
from gmp.ports.ties import Ties
from gmp.ports.workers import ENDS_PROGRAM, Task, Worker
from gmp.showing import error_text, show_by

log = logging.getLogger("gmp")
Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")
_NOT_GIVEN = object()


def current_port() -> Port | None:
    """Return the port whose body or handler runs now, or None. *Blocks:* never.

    It is also set in functions run by `Port.run`, `Port.wrap` and `Port.spawn`. A greenlet started in another way has no
    port, nor has the callback of a monitor or timer: use `port.wrap(callback)` there.

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
    """Return `value` if it is a number of messages. *Raises:* `GmpError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise GmpError(f"{what} {value!r}: expected a whole number over 0, or None")
    return value


class Port(Mailbox):
    """A port of this node, made by `gmp.port`. It may be used wherever a port ID may: it equals and hashes as its ID."""

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
        """True until the port is dead."""
        return self.reason is None

    # ---- messages for handlers

    def put_unhandled(self, message: Message) -> None:
        """Do as `put` with a message that has no handler, or that comes to a dead port."""
        self._put_closely(message)
        self.room = 0  # the next one may have a handler
        if self.handlers is not None and self.reason is None:
            self.handlers.passed_over(message)
            if self._limit is not None:
                self.handler_queue_grew(self.handlers.waiting())

    def handler_queue_grew(self, waiting: int) -> None:
        """Die if `waiting` messages, together with those in the mailbox, are over the limit."""
        if self._limit is not None and waiting + len(self.queue) > self._limit:
            self._die(("queue_overflow", waiting + len(self.queue)))

    @overload
    def on(self, tag: Any) -> Callable[[Function], Function]: ...
    @overload
    def on(self, tag: Any, handler: Callable[..., Any] | None) -> None: ...

    def on(self, tag: Any, handler: Any = _NOT_GIVEN) -> Any:
        """Call `handler(*rest)` for each message with that tag from now on. Tag None sets the default handler.

        The default handler gets every message without a handler, whole. A second handler for a tag replaces the first;
        None removes it. With the tag alone, `on` is a decorator. The handlers of a port run one after another, and may
        block.

        Matching messages that wait already go to the handler, before later ones, so a port may be sent messages as soon
        as it is spawned. Messages that wait for handlers are handled in the order in which they came, in whatever order
        the handlers were set; those that no handler matches stay for `receive`. A message that waits for a handler stays
        with it even if the handler is replaced or removed. No handler starts before the caller of `on` blocks or returns.
        *Raises:* `PortDied`; `GmpError` for a tag that is not hashable. *Blocks:* never.

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
        """Call `function(*args)` as this port and return its result; an exception kills the port, and returns None.

        `current_port()` is this port there. *Raises:* `PortDied` if the port is dead. *Blocks:* as the function does.

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
        """Return a function that runs `function` as this port, for callbacks. It does nothing once the port is dead.

        *Blocks:* never; the returned function, as `function` does.

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

        Return a `Task`, with `join(timeout)`, `kill()` and `ended`. The port does not die when the function returns.
        *Raises:* `PortDied`; `GmpError` if `function` is not callable. *Blocks:* never.

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
        task = PortTask(function, args, self.ports.workers, self)
        task.start()
        return task

    def start_body(self, body: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Start the port's body."""
        Body(body, (self, *args), self.ports.workers, self).start()

    def _body_ended(self) -> None:
        if self.handlers is None or not self.handlers.any():
            self._die(())

    def failed(self, error: BaseException) -> None:
        """Die of an exception that escaped from user code, and log it once. The node lives on.

        `GreenletExit` ends a greenlet silently. `SystemExit` and `KeyboardInterrupt` kill the port too, and then end the
        program, as from any greenlet. (Other exceptions outside `Exception`, as `gevent.Timeout`, are like any error.)
        """
        if isinstance(error, GreenletExit):
            return
        ends_program = isinstance(error, ENDS_PROGRAM)
        if self.reason is None:
            if not ends_program:
                log.error("port %s died of %s", self.id, type(error).__name__, exc_info=error)
            trace = "".join(traceback.format_exception(error)).rstrip()
            self._die(("die", f"{type(error).__name__}: {error_text(error)}", trace))
        elif not ends_program and not self._follows_from_death(error):
            log.error("port %s, already dead, raised %s", self.id, type(error).__name__, exc_info=error)
        if ends_program:
            self.ports.workers.failed(error)

    def _follows_from_death(self, error: BaseException) -> bool:
        """True if `error` only follows from this port's death, or from the end of the node that caused it."""
        if isinstance(error, PortDied) and error.port == self.id:
            return True
        # race: the node closed, and the greenlet was woken before it could be ended: its next call raises
        return self.ports.leaving and isinstance(error, GmpError)

    def greenlets(self) -> list[Worker]:
        """Return the greenlets that run for this port now: of its body, of `spawn` and of its handlers. *Blocks:* never."""
        found = [] if self._ties is None else self._ties.workers()
        handling = None if self.handlers is None else self.handlers.worker
        return found if handling is None else [*found, handling]

    def own(self, resource: Result) -> Result:
        """Release `resource` when the port dies, and return it now.

        Its `kill`, `cancel`, `close` or `stop` method is called, the first of these that it has; after an abnormal death
        its `abort` method, if it has one, as a `Stream` has. The last resource owned is released first, each in a
        greenlet of its own. *Raises:* `GmpError` if it has no such method; `PortDied`. *Blocks:* never.

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
        """Kill the port; without a reason, its death is a normal one.

        The port is dead at once; its greenlets end and its monitors fire in the next turn. Does nothing if already dead.
        A port that kills itself does not get past its next switch. *Blocks:* never.

        >>> import gmp
        >>> port = gmp.port()
        >>> port.kill("no longer needed")
        >>> port.alive, port.reason
        (False, ('no longer needed',))
        """
        if not self.ports.hold._is_owned():
            self.ports.check_thread()  # and no more, as a node that is closing kills its last ports when it is closed
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
                queue.clear()  # an iteration over it may be going on
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
                ports.wakeups.yield_to_callbacks()  # or its greenlets would go on before they are ended
        except BaseException:  # race: Ctrl-C: the death must be completed all the same
            ports.duties.add(lambda: self._die(reason, again=True))
            raise

    def _bury(self) -> None:
        """Bury the port, in the hub, one turn after its death. If interrupted, it is called again, and does the rest."""
        ties, handlers, receiver = self._ties, self.handlers, self._receiver
        if ties is not None:
            for task in list(ties.tasks):
                task.throw()
        if handlers is not None:
            handlers.throw()
        if receiver is not None and receiver is self._receiver:  # it is not one of those that have just ended
            try:
                if receiver is self.waking:
                    receiver.switch()  # as in `Workers.throw`
                else:
                    receiver.throw(PortDied(self.id, self.reason or ()))
            except Exception as error:  # a greenlet without a loop of its own around it (`gevent.spawn_raw`) ends here
                pass_on(self.ports.hub, error)
        if ties is not None and (ties.owned or ties.watching or ties.monitors or ties.joined is not None):
            ties.untie(self.reason or (), self.ports.workers)
        self._ties = self.handlers = None

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the port's death; return True if it is dead.

        *Blocks:* up to `timeout` seconds (None: without limit).

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
        """Fire `monitor` at this port's death; in the next turn if it is dead already."""
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
        """Cancel `monitor`, which watches another port for this one, when this port dies."""
        if self.reason is not None:
            monitor.cancel()
        elif monitor.watch_for(self):
            self._tied().watching[monitor] = None

    def watches_no_more(self, monitor: Monitor) -> None:
        """Forget `monitor`, which has fired or was cancelled."""
        if self._ties is not None:
            self._ties.watching.pop(monitor, None)

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
            if self._ties is not None:
                for task in self._ties.tasks:
                    if task.worker is current:
                        raise GreenletExit  # the port has killed itself, and this greenlet would end at its next switch
            if self.handlers is not None and self.handlers.runs_in(current):
                raise GreenletExit
            self.ports.check_thread()
            raise PortDied(self.id, self.reason)
        self.ports.check_thread()
        self.ports.check()
        if self._receiver is not None:
            raise GmpError(f"another greenlet already waits in receive at {self.id}: only one may at a time")


show_by(Port, Port.__repr__)
