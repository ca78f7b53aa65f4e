"""The watchers of `gmp.testing.simulated.loop`, with the methods and habits of gevent's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

READ, WRITE = 1, 2


class Callback:
    """A function that is to be called in the next pass. It is true until it has returned, or was stopped."""

    __slots__ = ("args", "callback", "owner")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], owner: Any = None) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args: tuple[Any, ...] | None = args
        self.owner = owner  #: the host whose program it is

    def stop(self) -> None:
        """Do not call it."""
        self.callback = self.args = None

    close = stop

    def __bool__(self) -> bool:
        return self.args is not None

    @property
    def pending(self) -> bool:
        """Whether it was neither called nor stopped."""
        return self.callback is not None


class Loop(Protocol):
    """What watchers need of the loop."""

    time: float
    references: int
    ready: Any
    idlers: dict[Idle, None]

    def running(self) -> Any:
        """Return the host whose program runs."""

    def add_timer(self, timer: Timer, due: float) -> int:
        """Let it fire then."""

    def timer_stopped(self) -> None:
        """Note that an entry is stale."""

    def run_callback(self, function: Callable[..., Any], *args: Any) -> Callback:
        """Call it in the next pass."""

    def check_thread(self) -> None:
        """*Raises:* `SimulationError` in another native thread."""

    def handle_error(self, context: Any, kind: Any, value: Any, trace: Any) -> None:
        """Report an error."""


class Watcher:
    """What all watchers share."""

    __slots__ = ("args", "callback", "loop", "owner", "ref")

    def __init__(self, loop: Loop, ref: bool) -> None:
        self.loop = loop
        self.ref = ref
        self.callback: Callable[..., Any] | None = None
        self.args: tuple[Any, ...] = ()
        self.owner: Any = None  #: the host whose program has started it

    pending = False

    @property
    def active(self) -> bool:
        """Whether it was started, and neither stopped nor has ended."""
        return self.callback is not None

    def start(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """Call `callback(*args)` when it happens."""
        if callback is None:
            raise TypeError("callback must be callable, not None")
        if self.ref and self.callback is None:
            self.loop.references += 1
        self.callback, self.args, self.owner = callback, args, self.loop.running()

    def stop(self) -> None:
        """Watch no more."""
        if self.ref and self.callback is not None:
            self.loop.references -= 1
        self.callback, self.args = None, ()

    def close(self) -> None:
        """Watch no more."""
        self.stop()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Timer(Watcher):
    """Fires after so many seconds, and then each `repeat` seconds unless that is 0."""

    __slots__ = ("_after", "_due", "_repeat", "entry")

    def __init__(self, loop: Loop, after: float, repeat: float, ref: bool) -> None:
        super().__init__(loop, ref)
        self._after, self._repeat = max(after, 0.0), repeat
        self._due = 0.0
        self.entry = 0  #: the number of its entry in the loop; 0: none

    @property
    def active(self) -> bool:
        """Whether it is going to fire."""
        return self.entry != 0

    def start(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """Fire `after` seconds from now."""
        self._begin(self._after, callback, args)

    def again(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """Fire `repeat` seconds from now, and so on."""
        self._begin(self._repeat, callback, args)

    def _begin(self, seconds: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if callback is None:
            raise TypeError("callback must be callable, not None")
        if self.entry:
            self.loop.timer_stopped()
        elif self.ref:
            self.loop.references += 1
        self.callback, self.args, self.owner = callback, args, self.loop.running()
        self._due = self.loop.time + seconds
        self.entry = self.loop.add_timer(self, self._due)

    def stop(self) -> None:
        """Do not fire."""
        if self.entry:
            self.entry = 0
            self.loop.timer_stopped()
            if self.ref:
                self.loop.references -= 1
        self.callback, self.args = None, ()

    def fires(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what to call now; it is stopped, or waits for the next time."""
        assert self.callback is not None
        call = self.callback, self.args
        if self._repeat:
            self._due = max(self._due + self._repeat, self.loop.time)
            self.entry = self.loop.add_timer(self, self._due)
        else:
            self.entry = 0
            self.callback, self.args = None, ()
            if self.ref:
                self.loop.references -= 1
        return call


class Async(Watcher):
    """Rung by another greenlet."""

    __slots__ = ()

    def send(self) -> None:
        """Call the callback in the next pass. *Raises:* `SimulationError` in another native thread."""
        self.loop.check_thread()
        if self.callback is not None:
            self.loop.run_callback(self.callback, *self.args)

    def send_ignoring_arg(self, _: object) -> None:
        """As `send`."""
        self.send()


class Idle(Watcher):
    """Is called in each pass in which there is nothing else to do."""

    __slots__ = ()

    def start(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """Call `callback(*args)` then."""
        super().start(callback, *args)
        self.loop.idlers[self] = None

    def stop(self) -> None:
        """Watch no more."""
        super().stop()
        self.loop.idlers.pop(self, None)


class Pollable(Protocol):
    """A simulated descriptor. It tells `Io.look` of each watcher in `watchers` when it may have become ready."""

    watchers: dict[Io, None]

    def is_ready(self, events: int) -> int:
        """Return those of `events` that would not wait."""


class Io(Watcher):
    """Waits until a descriptor can be read or written; it is called in each pass while that is so."""

    __slots__ = ("_pass_events", "_pollable", "_queued", "wants")

    def __init__(self, loop: Loop, pollable: Pollable, events: int, ref: bool) -> None:
        super().__init__(loop, ref)
        self._pollable, self.wants = pollable, events
        self._pass_events = self._queued = False

    def start(self, callback: Callable[..., Any], *args: Any, pass_events: bool = False, **_: Any) -> None:
        """Call `callback(*args)`, with the events in front if `pass_events`."""
        super().start(callback, *args)
        self._pass_events = pass_events
        self._pollable.watchers[self] = None
        self.look()

    def stop(self) -> None:
        """Watch no more."""
        super().stop()
        self._pollable.watchers.pop(self, None)

    def look(self) -> None:
        """Let the loop ask whether the descriptor is ready."""
        if not self._queued and self.callback is not None and self._pollable.is_ready(self.wants):
            self._queued = True
            self.loop.ready.append(self)

    def poll(self) -> None:
        """In the loop: call the callback if the descriptor is ready; as long as it stays so, this is called again."""
        self._queued = False
        callback = self.callback
        if callback is None:
            return
        events = self._pollable.is_ready(self.wants)
        if not events:
            return
        try:
            callback(*((events, *self.args) if self._pass_events else self.args))
        except BaseException:
            self.loop.handle_error(self, *sys.exc_info())
            self.stop()  # as gevent does
        else:
            self.look()
