"""Sockets of a simulated host: the plain ones, which never wait, and those whose methods wait cooperatively."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent.hub import Waiter

from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulated.tcp import End
from gmp.testing.simulated.watchers import READ, WRITE

_KEEPALIVE = {
    getattr(socket, name): place
    for place, name in enumerate(("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"))
    if hasattr(socket, name)
}
_LINGER_0 = b"\x01\x00\x00\x00\x00\x00\x00\x00"


class Attempt:
    """A dial that goes on until it is answered, fails, or is given up."""

    given_up = answered = False


class Kernel(Protocol):
    """What sockets need of their host."""

    def end_of(self, descriptor: int) -> End:
        """Return the connection that a descriptor stands for."""

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""

    def dial(self, host: str, port: int, done: Callable[[Any], None]) -> Attempt:
        """Begin to connect; `done` gets a descriptor, or an `OSError`."""

    def bind(self, host: str, port: int) -> tuple[str, int]:
        """Return the address to listen at. *Raises:* `OSError`."""

    def listen(self, bound: tuple[str, int]) -> None:
        """Note that somebody listens there."""

    def stop_listening(self, bound: tuple[str, int]) -> None:
        """Nobody listens there any more."""


class PlainSocket:
    """A connected socket on `descriptor` that never waits."""

    family = socket.AF_INET

    def __init__(self, host: Kernel, descriptor: int) -> None:
        self._host = host
        self._descriptor = descriptor
        self.end: End = host.end_of(descriptor)

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed."""
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        """*Raises:* `SimulationError` unless `flag` is false: it never waits."""
        if flag:
            raise SimulationError("a simulated socket cannot wait natively")

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set what has a meaning here: SO_LINGER, SO_SNDBUF and the keepalive."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self.end.resets = value == _LINGER_0
        elif isinstance(value, int) and (level, option) == (socket.SOL_SOCKET, socket.SO_SNDBUF):
            self.end.send_buffer = 2 * value  # as Linux does
        elif isinstance(value, int) and level == socket.IPPROTO_TCP and option in _KEEPALIVE:
            self.end.keepalive[_KEEPALIVE[option]] = value

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """Return the kernel's figures of the connection (TCP_INFO), or 0."""
        self._check()
        if level == socket.IPPROTO_TCP and option == getattr(socket, "TCP_INFO", None):
            return self.end.info()[:size]
        return 0

    def getsockname(self) -> tuple[str, int]:
        """Return the address of this end."""
        self._check()
        return self.end.local

    def getpeername(self) -> tuple[str, int]:
        """Return the address of the other end."""
        self._check()
        return self.end.remote

    def recv_into(self, buffer: Any) -> int:
        """As a socket's."""
        self._check()
        return self.end.receive_into(memoryview(buffer).cast("B"))

    def send(self, data: Any) -> int:
        """As a socket's."""
        self._check()
        return self.end.send(data)

    def shutdown(self, how: int) -> None:
        """As a socket's; closing the reading side alone does nothing."""
        self._check()
        if how != socket.SHUT_RD:
            self.end.shut()

    def close(self) -> None:
        """As a socket's."""
        if self._descriptor >= 0:
            self._host.close(self.detach())

    def detach(self) -> int:
        """As a socket's."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def _check(self) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "Bad file descriptor")


class CooperativeSocket:
    """A TCP socket, new or connected, whose methods wait cooperatively."""

    def __init__(self, host: Kernel, plain: PlainSocket | None = None) -> None:
        self._host = host
        self._plain = plain
        self._timeout: float | None = None
        self._options: list[tuple[int, int, Any]] = []
        self._bound: tuple[str, int] | None = None
        self._closed = False

    @property
    def _sock(self) -> PlainSocket:
        """The socket that does not wait, as gevent calls it."""
        if self._plain is None:
            raise OSError(errno.ENOTCONN if not self._closed else errno.EBADF, "Transport endpoint is not connected")
        return self._plain

    # ---- before it is connected

    def connect(self, address: tuple[Any, ...]) -> None:
        """Connect. *Blocks:* until then, at most the timeout. *Raises:* `OSError`."""
        waiter: Waiter[Any] = Waiter()
        host, port = str(address[0]), int(address[1])
        attempt = self._host.dial(host, port, waiter.switch)
        try:
            with gevent.Timeout(self._timeout, TimeoutError("timed out")):
                outcome = waiter.get()
        finally:
            attempt.given_up = True
        if isinstance(outcome, OSError):
            raise outcome
        self._plain = PlainSocket(self._host, outcome)
        for option in self._options:
            self._plain.setsockopt(*option)

    def bind(self, address: tuple[Any, ...]) -> None:
        """Choose where to listen. *Raises:* `OSError`."""
        self._bound = self._host.bind(str(address[0]), int(address[1]))

    def listen(self, backlog: int) -> None:
        """Make the address known to the kernel."""
        assert self._bound is not None
        self._host.listen(self._bound)

    # ---- when it is

    def recv_into(self, buffer: Any) -> int:
        """As a socket's. *Blocks:* until something is there."""
        while True:
            try:
                return self._sock.recv_into(buffer)
            except BlockingIOError:
                self._wait(READ)

    def sendall(self, data: Any) -> None:
        """As a socket's. *Blocks:* while there is no room."""
        view = memoryview(data).cast("B")
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._wait(WRITE)

    def _wait(self, events: int) -> None:
        if self._timeout == 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        hub = gevent.get_hub()
        watcher = hub.loop.io(self.fileno(), events)
        with gevent.Timeout(self._timeout, TimeoutError("timed out")):
            hub.wait(watcher)  # which stops it, whatever happens

    def settimeout(self, seconds: float | None) -> None:
        """As a socket's."""
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """As a socket's."""
        return self._timeout

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As a socket's."""
        if self._plain is None:
            self._options.append((level, option, value))
        else:
            self._plain.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """As a socket's."""
        self._sock.shutdown(how)

    def getsockname(self) -> tuple[str, int]:
        """As a socket's."""
        return self._sock.getsockname() if self._bound is None else self._bound

    def getpeername(self) -> tuple[str, int]:
        """As a socket's."""
        return self._sock.getpeername()

    def fileno(self) -> int:
        """As a socket's."""
        return -1 if self._plain is None else self._plain.fileno()

    def detach(self) -> int:
        """As a socket's."""
        descriptor = self._sock.detach()
        self._plain, self._closed = None, True
        return descriptor

    def close(self) -> None:
        """As a socket's."""
        if self._bound is not None:
            self._host.stop_listening(self._bound)
        if self._plain is not None:
            self._plain.close()
        self._closed, self._plain = True, None


class Server:
    """Accepts what arrives at a listening socket. `gmp.net.machine.Server` says what its methods are for."""

    def __init__(self, host: Kernel, bound: tuple[str, int], accepted: Callable[[Any, tuple[Any, ...]], None]) -> None:
        self._host, self._bound, self._accepted = host, bound, accepted
        self._arrived: deque[int] = deque()
        self._loop: Any = gevent.get_hub().loop
        self._loop.ref()  # whoever listens may still hear something
        self._stopped = False

    def arrived(self, descriptor: int) -> None:
        """Accept a connection in the next pass."""
        self._arrived.append(descriptor)
        self._loop.run_callback_of(self._host, self._accept)

    def _accept(self) -> None:
        if self._arrived:
            plain = PlainSocket(self._host, self._arrived.popleft())
            address = plain.getpeername()
            self._accepted(CooperativeSocket(self._host, plain), address)

    def stop(self) -> None:
        """Close it, and what it has not accepted."""
        if not self._stopped:
            self._stopped = True
            self._loop.unref()
        self._host.stop_listening(self._bound)
        while self._arrived:
            self._host.close(self._arrived.popleft())

    def mend(self) -> None:
        """Nothing stops it."""

    def abandon(self) -> None:
        """As `stop`."""
        self.stop()
