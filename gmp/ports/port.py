"""A port: a destination for messages and a context to run code in.

Life: *alive* → `kill` (dead at once: its messages are dropped, it is in no table any more) → *buried* in the next turn
of the loop: its greenlets end, what it owns is released, its monitors fire in the order they were set.

Handlers run one after another, never two at once, in a pooled greenlet that is borrowed while messages wait for
them; they may block. race: a kill while a handler runs: the task is thrown at only while it still runs for this port.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, overload

import gevent
import gevent.event
from greenlet import GreenletExit, getcurrent

from gmp.errors import GmpError, PortDied
from gmp.ports.mailbox import WARN_AT, Mailbox, Message, find_first, find_if, find_prefix
from gmp.ports.monitors import Monitor
from gmp.ports.workers import Task

if TYPE_CHECKING:
    from gmp.ports.table import Ports

log = logging.getLogger("gmp")
Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")
_current: ContextVar[Port | None] = ContextVar("gmp_current_port", default=None)
_NOT_GIVEN = object()
_DEFAULT = object()  # the tag under which the default handler is kept
_RELEASES = ("kill", "cancel", "close", "stop")
MESSAGES_A_TURN = 100  # that one port's handlers get before others have their turn


def current_port() -> Port | None:
    """The port whose body or handler runs now, or None. *Blocks:* never."""
    return _current.get()


class Port:
    """A port of this node, made by `gmp.port`. It may stand wherever a port ID may."""

    __slots__ = (
        "__weakref__",
        "_handled",
        "_handler_task",
        "_handlers",
        "_limit",
        "_mailbox",
        "_monitors",
        "_owned",
        "_tasks",
        "_waiters",
        "id",
        "name",
        "ports",
        "reason",
    )

    def __init__(self, name: str, ports: Ports, limit: int | None) -> None:
        self.id = f"{ports.node_id}#{name}"
        self.name = name
        self.ports = ports
        self.reason: tuple[Any, ...] | None = None  #: what it died with; None while it lives
        self._limit = limit
        self._mailbox = Mailbox()
        self._handlers: dict[Any, Callable[..., Any]] | None = None
        self._handled: deque[tuple[Callable[..., Any], Message]] | None = None
        self._handler_task: Task | None = None
        self._tasks: set[Task] | None = None
        self._owned: list[Any] | None = None
        self._monitors: dict[Monitor, None] | None = None
        self._waiters: gevent.event.Event | None = None

    # ---- identity

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<Port {self.id}{'' if self.alive else ' dead'}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Port):
            return self is other
        return self.id == other if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        """How many messages wait for `receive`."""
        return len(self._mailbox)

    @property
    def __gmp_port_id__(self) -> str:
        return self.id

    @property
    def alive(self) -> bool:
        """Whether it is not dead."""
        return self.reason is None

    @property
    def peak(self) -> int:
        """The most messages that ever waited at once."""
        return self._mailbox.peak

    # ---- messages come in

    def put(self, message: Message) -> None:
        """Deliver a message: to its handler, else into the mailbox; dropped and counted when the port is dead."""
        if self.reason is not None:
            self.ports.dropped += 1
            return
        handlers = self._handlers
        if handlers is not None:
            try:
                handler = handlers.get(message[0]) if message else None
            except TypeError:  # an unhashable first element matches no tag
                handler = None
            if handler is not None:
                self._put_handled(handler, message[1:])
                return
            handler = handlers.get(_DEFAULT)
            if handler is not None:
                self._put_handled(handler, message)
                return
        count = self._mailbox.put(message)
        if self._limit is not None:
            self._check_limit()
        elif count == WARN_AT:
            log.warning("port %s has %d messages waiting", self.id, count)

    def _put_handled(self, handler: Callable[..., Any], message: Message) -> None:
        if self._handled is None:
            self._handled = deque()
        self._handled.append((handler, message))
        if self._limit is not None:
            self._check_limit()
        if self._handler_task is None and self.reason is None:
            self._handler_task = self.ports.workers.spawn(self._run_handlers)

    def _check_limit(self) -> None:
        count = len(self._mailbox) + (0 if self._handled is None else len(self._handled))
        if self._limit is not None and count > self._limit:
            self._die(("queue_overflow", count))

    def _run_handlers(self) -> None:
        """Run what waits, in a pooled greenlet; after a while let other ports have their turn."""
        _current.set(self)
        handled = self._handled
        assert handled is not None
        try:
            for _ in range(MESSAGES_A_TURN):
                if not handled or self.reason is not None:
                    break
                handler, message = handled.popleft()
                handler(*message)
        except BaseException as error:
            self._failed(error)
        self._handler_task = self.ports.workers.spawn(self._run_handlers) if handled and self.alive else None

    # ---- receiving

    def receive(self, *prefix: Any, timeout: float | None = None) -> Message:
        """Take the first waiting message that begins with `prefix`, and return it without that prefix.

        Without a prefix: the next message whole. The others stay queued, in order.
        *Blocks:* until there is one, at most `timeout` seconds (0: look, do not wait; None: without end).
        *Raises:* `ReceiveTimeout`; `PortDied` when the port is dead or dies meanwhile; `GmpError` when another
        greenlet is already waiting here.
        """
        self._check_receive()
        if not prefix:
            return self._mailbox.take(find_first, timeout, self)
        return self._mailbox.take(find_prefix(prefix), timeout, self)[len(prefix) :]

    def receive_if(self, predicate: Callable[..., Any], timeout: float | None = None) -> Message:
        """Take the first waiting message for which `predicate(*message)` is true.

        *Blocks:* and *Raises:* as `receive`, and whatever the predicate raises.
        """
        self._check_receive()
        return self._mailbox.take(find_if(predicate), timeout, self)

    def _check_receive(self) -> None:
        self.ports.check_thread()
        if self.reason is not None:
            if _current.get() is self:
                raise GreenletExit
            raise PortDied(self.id, self.reason)

    def __iter__(self) -> Iterator[Message]:
        """The messages as they come, until the port dies. *Blocks:* between them."""
        while self.reason is None:
            try:
                message = self.receive()
            except PortDied as error:
                if error.port != self.id:
                    raise
                return
            yield message

    # ---- handlers

    @overload
    def on(self, tag: Any) -> Callable[[Function], Function]: ...
    @overload
    def on(self, tag: Any, handler: Callable[..., Any] | None) -> None: ...

    def on(self, tag: Any, handler: Any = _NOT_GIVEN) -> Any:
        """Give messages with that tag to `handler(*rest)` from now on; tag None: every message without a handler.

        The default handler gets the message whole. A second handler replaces the first, None removes it; with the tag
        alone it is a decorator. Messages that wait already stay for `receive`.
        *Raises:* `PortDied`; `GmpError` for a tag that cannot be looked up. *Blocks:* never.
        """
        self._check_alive()
        try:
            hash(tag)
        except TypeError:
            raise GmpError(f"{tag!r} cannot be a tag: expected something hashable, by custom a string") from None
        if handler is _NOT_GIVEN:


            def decorate(function: Function) -> Function:
                self._set_handler(tag, function)
                return function

            return decorate
        self._set_handler(tag, handler)
        return None

    def _set_handler(self, tag: Any, handler: Callable[..., Any] | None) -> None:
        key = _DEFAULT if tag is None else tag
        if handler is None:
            if self._handlers is not None:
                self._handlers.pop(key, None)
                self._handlers = self._handlers or None
        elif callable(handler):
            if self._handlers is None:
                self._handlers = {}
            self._handlers[key] = handler
        else:
            raise GmpError(f"{handler!r} cannot be a handler: expected something to call, or None")

    # ---- running code as the port

    def run(self, function: Callable[..., Result], *args: Any) -> Result | None:
        """Call `function(*args)` as this port: `current_port()` is it; an exception kills it, and None is returned.

        *Raises:* `PortDied` when the port is dead. *Blocks:* as the function does.
        """
        self._check_alive()
        token = _current.set(self)
        try:
            return function(*args)
        except Exception as error:
            self._failed(error)
            return None
        finally:
            _current.reset(token)

    def wrap(self, function: Callable[..., Result]) -> Callable[..., Result | None]:
        """A function that runs `function` as this port, for callbacks; once the port is dead it does nothing."""

        def run_as_port(*args: Any, **keywords: Any) -> Result | None:
            if self.reason is not None:
                return None
            return self.run(lambda: function(*args, **keywords))

        return run_as_port

    def spawn(self, function: Callable[..., Any], *args: Any) -> Task:
        """Run `function(*args)` as this port in a greenlet of its own, which ends when the port dies.

        Returns something to `join(timeout)`. *Raises:* `PortDied`. *Blocks:* never.
        """
        self._check_alive()
        return self._start(self._run_task, function, args)

    def _start(self, runner: Callable[..., None], function: Callable[..., Any], args: tuple[Any, ...]) -> Task:
        task = self.ports.workers.spawn(runner, function, args)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        return task

    def _run_task(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        _current.set(self)
        try:
            function(*args)
        except BaseException as error:
            self._failed(error)
        finally:
            if self._tasks is not None:
                self._tasks = {task for task in self._tasks if not task.ended and task.worker is not getcurrent()}

    def start_body(self, body: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Run the body; the port dies with it, unless it has handlers."""
        self._start(self._run_body, body, args)

    def _run_body(self, body: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._run_task(body, (self, *args))
        if self._handlers is None and self.reason is None:
            self._die(())

    def _failed(self, error: BaseException) -> None:
        """An exception escaped from user code: it kills this port, and the node lives on."""
        if isinstance(error, GreenletExit):
            return
        if self.reason is None:
            text = "".join(traceback.format_exception(error)).rstrip()
            log.error("port %s died of %s", self.id, error.__class__.__name__, exc_info=error)
            self._die(("die", f"{error.__class__.__name__}: {error}", text))
        elif not isinstance(error, PortDied):
            log.error("port %s, already dead, raised", self.id, exc_info=error)
        if not isinstance(error, Exception):
            raise error

    def own(self, resource: Result) -> Result:
        """Release `resource` when the port dies: kill, cancel, close or stop it, whichever it has; return it.

        *Raises:* `GmpError` when it has none of these; `PortDied`. *Blocks:* never.
        """
        self._check_alive()
        if not any(callable(getattr(resource, name, None)) for name in _RELEASES):
            raise GmpError(f"{resource!r} cannot be owned: expected a kill, cancel, close or stop method")
        if self._owned is None:
            self._owned = []
        self._owned.append(resource)
        return resource

    # ---- death

    def kill(self, *reason: Any) -> None:
        """Kill the port; no reason: a normal death. Dead at once, its greenlets and monitors follow in the next turn.

        Nothing when it is dead already. *Blocks:* never.
        """
        self.ports.check_thread()
        self._die(reason)

    def _die(self, reason: tuple[Any, ...]) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        self.ports.forget(self)
        self.ports.dropped += self._mailbox.clear() + (0 if self._handled is None else len(self._handled))
        self._handlers = None
        gevent.get_hub().loop.run_callback(self._bury)

    def _bury(self) -> None:
        waiter = self._mailbox.waiter
        tasks, self._tasks = self._tasks, None
        own = [task for task in (*(tasks or ()), self._handler_task) if task is not None]
        self._handler_task = None
        self._handled = None
        for task in own:
            task.throw()
        if waiter is not None and waiter is self._mailbox.waiter:
            waiter.throw(PortDied(self.id, self.reason or ()))
        self._release()
        monitors, self._monitors = self._monitors, None
        for monitor in monitors or ():
            monitor.fire(self.reason or ())
        if self._waiters is not None:
            self._waiters.set()

    def _release(self) -> None:
        owned, self._owned = self._owned, None
        for resource in reversed(owned or ()):
            method = next(name for name in _RELEASES if callable(getattr(resource, name, None)))
            # releasing may block or fail, which must not hold up the monitors
            self.ports.workers.spawn(getattr(resource, method))

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the port's death; return whether it is dead. *Blocks:* up to `timeout` seconds."""
        self.ports.check_thread()
        if self.reason is not None:
            return True
        if self._waiters is None:
            self._waiters = gevent.event.Event()
        return bool(self._waiters.wait(timeout))

    def add_monitor(self, monitor: Monitor) -> None:
        """Fire `monitor` at this port's death; in the next turn when it is dead already."""
        if self.reason is not None:
            gevent.get_hub().loop.run_callback(monitor.fire, self.reason)
            return
        if self._monitors is None:
            self._monitors = {}
        self._monitors[monitor] = None

    def discard_monitor(self, monitor: Monitor) -> None:
        """Forget `monitor`."""
        if self._monitors is not None:
            self._monitors.pop(monitor, None)

    def _check_alive(self) -> None:
        self.ports.check_thread()
        if self.reason is not None:
            raise PortDied(self.id, self.reason)


