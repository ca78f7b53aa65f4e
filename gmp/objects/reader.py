"""The end of a stream that reads: an iterator, and a port to which the other end sends the items.

*New*, until the first item is asked for → *open*: the other end may have `window` items on their way, and gets credit again
whenever half of them have been taken → *ended*: by the last item, an exception, a death, or `close`. The port dies then,
which ends the other side.

The port is not held by anything but the table of ports, so what ends a stream whose loop was left is that nobody has the
`RemoteStream` any more. race: that may be found in any native thread, by the garbage collector, and in the middle of
anything: so the end is put off to the next turn of the loop.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

from gmp.errors import CallTimeout, GmpError, PortDied, ReceiveTimeout
from gmp.objects import forms
from gmp.objects.context import current, left
from gmp.objects.faults import Declared, raised
from gmp.objects.source import Source
from gmp.ports.home import Message
from gmp.ports.monitors import Monitor
from gmp.ports.port import Port, current_port

if TYPE_CHECKING:
    from gmp.kernel.host import Host

WINDOW = 256  #: items that may be on their way to a reader
_DOWN = "down"


class _Way:
    """What a stream holds on this node, apart from itself, so that it can be given up when the stream is gone."""

    def __init__(self, host: Host, source: tuple[str, str]) -> None:
        self.host = host
        self.source, self.token = source
        self.port: Port | None = None
        self.monitor: Monitor | None = None  # of the port that reads
        self.come: deque[Message] = deque()  # what has come, and was taken from the port in one step
        self.ended = False

    def end(self, *_: Any) -> None:
        """Let both ends go. *Blocks:* never."""
        if self.ended:
            return
        self.ended = True
        self.come.clear()
        if self.monitor is not None:
            self.monitor.cancel()
        if self.port is not None:
            self.port.kill()
        elif not self.host.ports.closed:
            self.host.kill(self.source)


class RemoteStream:
    """The items of a stream of another port, as they come. Usable in ``for`` and in ``with``; `close()` ends it there, too.

    It ends by itself when the loop over it is left, when the port that reads dies, and when nobody has it any more. What
    the generator over there raises is raised here, as for calls. *Raises:* `CallTimeout` when no item comes within the
    time-out; `PortDied` when its other end died.
    """

    def __init__(
        self, host: Host, source: tuple[str, str], what: tuple[str, str], window: int, timeout: float | None,
        errors: Declared,
    ) -> None:  # fmt: skip
        self._way = _Way(host, source)
        self._service, self._method = what
        self._window = window
        self._most_taken = (window + 1) // 2  # items until credit is given again
        self._is_owned: Callable[[], bool] = host.ports.hold._is_owned  # as `Ports.hold`
        self._timeout = timeout
        self._errors = errors
        self._taken = 0
        self._make: Callable[[Any], Any] | None = None
        self._keeps: tuple[Source, ...] = ()  # what goes up the other way

    def keep(self, sources: Iterable[Source], make: Callable[[Any], Any] | None) -> None:
        """Let `sources` end with this stream, and `make` make each item of what has come."""
        self._keeps = tuple(sources)
        self._make = make

    def __iter__(self) -> RemoteStream:
        return self

    def __next__(self) -> Any:
        way = self._way
        is_owned, come = self._is_owned, way.come
        if is_owned() and come:  # race: a signal handler ends the stream: from here to `del` there is no call
            message = come[0]
            del come[0]
        elif way.ended:
            raise StopIteration
        else:
            message = self._wait(way)
        if len(message) > 1 and message[0] == forms.ITEM:
            self._taken += 1
            if self._taken >= self._most_taken:
                way.host.send_soon(way.source, forms.MORE, self._taken, way.port)
                self._taken = 0
            return message[1] if self._make is None else self._make(message[1])
        self.close()
        tag, *rest = message or ("",)
        if tag == forms.END:
            raise StopIteration
        if tag == forms.RAISE:
            raise raised(tuple(rest), self._errors, self._service, self._method)
        raise PortDied(way.source, tuple(rest))

    def _wait(self, way: _Way) -> Message:
        """Return the next message. *Blocks:* until it has come. *Raises:* `CallTimeout`, and as `Port.receive`."""
        if way.port is None:
            self._open()
        port = way.port
        assert port is not None
        patience = self._patience()
        try:
            message = port.receive(timeout=patience)
        except ReceiveTimeout:
            self.close()
            raise CallTimeout(f"no item of {self._method} came from {self._service} within {patience:.3g} s") from None
        if type(port) is Port:  # one that traces is to see each message that is received
            queue = port.queue
            with contextlib.suppress(IndexError):  # race: a signal handler ends the stream before this step, which is one
                way.come.extend(starmap(queue.popleft, repeat((), len(queue))))
        return message

    def _patience(self) -> float | None:
        within = left(current().until)
        return self._timeout if within is None or (self._timeout is not None and self._timeout < within) else within

    def _open(self) -> None:
        way = self._way
        port = way.port = way.host.ports.make()
        way.host.monitor(way.source, port, _DOWN)
        reading = current_port()
        if reading is not None and reading.ports is port.ports:
            way.monitor = way.host.watch(reading, way.end)
        way.host.send_soon(way.source, forms.MORE, self._window, port, way.token)

    def close(self) -> None:
        """End the stream, here and there. Does nothing if it has ended. *Blocks:* never."""
        self._way.end()
        for kept in self._keeps:
            kept.stop()
        self._keeps = ()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        way = getattr(self, "_way", None)
        if way is None or (way.ended and not self._keeps):
            return
        host, keeps = way.host, self._keeps

        def end() -> None:
            try:
                way.end()
                for kept in keeps:
                    kept.stop()
            except GmpError:
                pass  # race: its node was closed meanwhile, which has ended it

        ports = host.ports
        if ports.is_own_thread():
            ports.run_callback(end)
        elif (loop := ports.hub.loop) is not None:  # race: its thread has ended, and so has this
            loop.run_callback_threadsafe(end)
