"""A TCP proxy that misbehaves on demand, to be put between two nodes: it delays, throttles, cuts, resets, swallows.

Each connection has two *legs* (to the dialler, to the target) and two *directions*, ``forward`` (dialler to target) and
``back``. For each direction one greenlet reads into a bounded line and one writes from it, so that a delay does not cost
throughput, and a slow reader at one end slows the other, as without a proxy.

What is in the hands of the kernel stays there: towards either end the proxy is a live TCP peer that acknowledges. A
``blackhole`` holds bytes, ends and new connections until `heal`, as a pulled cable does; it never loses the middle of a
stream.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from types import TracebackType
from typing import Any, Literal

import gevent
import gevent.event
import gevent.socket

import gmp
from gmp.outside import clock

Direction = Literal["forward", "back", "both"]
BACKLOG = 128
CHUNK = 64 * 1024
LINE = 256 * 1024  # bytes between reader and writer of one direction
TICK = 0.02  # seconds' worth of bytes that a throttled direction writes at once
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a RST


class Faults:
    """What is wrong in one direction now."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.rate: float | None = None
        self.open = gevent.event.Event()  #: cleared: nothing passes
        self.bytes = 0
        self.heal()

    def heal(self) -> None:
        """Nothing is wrong."""
        self.delay, self.rate = 0.0, None
        self.open.set()


class FaultProxy:
    """A TCP proxy in front of `target` (``host:port``); used in ``with``, or with `close`.

    `address` is where it listens; give it as a seed, or announce it (`advertise`) in place of the node's own. A node takes a
    proxy that it does not announce for an attack, unless its setting `reached_at` has that address, or is ``["*"]`` as in a
    `LocalNetwork`. `target` may be set anew, for connections to come. Directions are ``"forward"`` (towards the target),
    ``"back"`` and ``"both"``; faults hold for connections that are there and those to come, until `heal`.

    *Raises:* `gmp.ConfigError` for a target that is no address, `OSError` when `listen` cannot be had.
    """

    def __init__(self, target: str, *, listen: str = "127.0.0.1:0") -> None:
        _split(target)
        self.target = target
        self.accepted = 0  #: connections taken so far
        self._faults = {"forward": Faults(), "back": Faults()}
        self._links: dict[Link, None] = {}
        self._refusing = False
        self._listener = _listen(listen)
        self.address = _format(self._listener.getsockname())
        self._accepting: gevent.Greenlet[[], None] | None = gevent.spawn(self._accept)

    def __len__(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    def passed(self, direction: Direction) -> int:
        """How many bytes have passed so far."""
        return sum(faults.bytes for faults in self._of(direction))

    def _of(self, direction: Direction) -> list[Faults]:
        if direction == "both":
            return list(self._faults.values())
        if direction not in self._faults:
            raise gmp.ConfigError(f"direction {direction!r}: expected 'forward', 'back' or 'both'")
        return [self._faults[direction]]

    # ---- faults

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Let bytes arrive `seconds` later than they came. *Blocks:* never, nor do the others here."""
        for faults in self._of(direction):
            faults.delay = seconds

    def throttle(self, bytes_per_second: float | None, direction: Direction = "both") -> None:
        """Let no more than that pass on each connection; None: as fast as it goes."""
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise gmp.ConfigError(f"bytes_per_second {bytes_per_second!r}: expected over 0; blackhole() lets nothing pass")
        for faults in self._of(direction):
            faults.rate = bytes_per_second

    def blackhole(self, direction: Direction = "both") -> None:
        """Let nothing pass, neither bytes nor ends; what is held goes on at `heal`."""
        for faults in self._of(direction):
            faults.open.clear()

    def cut(self) -> None:
        """End every connection in good order (FIN to both ends); what was on the way is lost."""
        for link in list(self._links):
            link.close(abort=False)

    def reset(self) -> None:
        """Break every connection (RST to both ends)."""
        for link in list(self._links):
            link.close(abort=True)

    def half_close(self, direction: Direction) -> None:
        """Tell the receivers of that direction that nothing more comes; what the senders write on is swallowed."""
        for name in self._faults if direction == "both" else [direction]:
            self._of(direction)
            for link in list(self._links):
                link.half_close(name)

    def refuse(self) -> None:
        """Refuse new connections, as a host without a listener does. Those that are there stay."""
        if not self._refusing:
            self._refusing = True
            self._stop_accepting()
            # Linux takes a listening socket back to a bound one, so that the port stays ours
            self._listener.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """End every fault. Connections that were ended stay so."""
        for faults in self._faults.values():
            faults.heal()
        if self._refusing:
            self._refusing = False
            self._listener.listen(BACKLOG)
            self._accepting = gevent.spawn(self._accept)

    # ---- connections

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            self.accepted += 1
            link = Link(self, sock)
            self._links[link] = None

    def forget(self, link: Link) -> None:
        """A connection has ended."""
        self._links.pop(link, None)

    def faults(self, direction: str) -> Faults:
        """What is wrong in that direction."""
        return self._faults[direction]

    def _stop_accepting(self) -> None:
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.kill()

    def close(self) -> None:
        """End everything, in good order. Idempotent. *Blocks:* until its greenlets have ended."""
        self._stop_accepting()
        self._listener.close()
        links = list(self._links)
        for link in links:
            link.close(abort=False)
        gevent.joinall([greenlet for link in links for greenlet in link.greenlets])

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Line:
    """The bytes of one direction between its reader and its writer: bounded, each with the time it is due."""

    def __init__(self) -> None:
        self.chunks: deque[tuple[float, bytes]] = deque()  # an empty chunk is the end
        self.size = 0
        self.filled = gevent.event.Event()
        self.room = gevent.event.Event()
        self.room.set()
        self.swallow = False

    def put(self, due: float, chunk: bytes) -> None:
        """Add a chunk."""
        self.chunks.append((due, chunk))
        self.size += len(chunk)
        if self.size >= LINE:
            self.room.clear()
        self.filled.set()

    def take(self) -> bytes:
        """Wait for a chunk and for the time when it is due."""
        while not self.chunks:
            self.filled.clear()
            self.filled.wait()
        due = self.chunks[0][0]
        if due > clock.monotonic():
            gevent.sleep(due - clock.monotonic())
        _, chunk = self.chunks.popleft()
        self.size -= len(chunk)
        if self.size < LINE:
            self.room.set()
        return chunk


class Link:
    """One connection through the proxy: two legs, two directions, four greenlets, and one that dials."""

    def __init__(self, proxy: FaultProxy, dialler: Any) -> None:
        self._proxy = proxy
        self._legs: list[Any] = [dialler]
        self._lines = {"forward": Line(), "back": Line()}
        self._running = 2
        self._closed = False
        self.greenlets: list[gevent.Greenlet[..., None]] = [gevent.spawn(self._connect)]

    def _connect(self) -> None:
        self._proxy.faults("forward").open.wait()
        family, address = _resolve(self._proxy.target)
        if self._closed:
            return  # race: closed in the turn in which the address was found, before the kill reaches this greenlet
        target = gevent.socket.socket(family, socket.SOCK_STREAM)
        self._legs.append(target)
        try:
            target.connect(address)
            for leg in self._legs:
                leg.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # nobody listens, or race: the link was closed while this dialled
            self.close(abort=True)
            return
        dialler = self._legs[0]
        for direction, source, sink in (("forward", dialler, target), ("back", target, dialler)):
            self.greenlets.append(gevent.spawn(self._read, source, direction))
            self.greenlets.append(gevent.spawn(self._write, sink, direction))

    def _read(self, source: Any, direction: str) -> None:
        line, faults = self._lines[direction], self._proxy.faults(direction)
        chunk = b"-"
        while chunk:
            line.room.wait()
            faults.open.wait()
            try:
                chunk = source.recv(CHUNK)
            except OSError:
                # race: a RST while nothing may pass: the other end is told when it is healed
                faults.open.wait()
                self.close(abort=True)
                return
            line.put(clock.monotonic() + faults.delay, chunk)

    def _write(self, sink: Any, direction: str) -> None:
        line, faults = self._lines[direction], self._proxy.faults(direction)
        try:
            while chunk := line.take():
                self._pass(sink, chunk, line, faults)
            faults.open.wait()
            if not line.swallow:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(abort=True)
            return
        self._running -= 1
        if self._running == 0:
            self.close(abort=False)

    def _pass(self, sink: Any, chunk: bytes, line: Line, faults: Faults) -> None:
        start = 0
        while start < len(chunk):
            faults.open.wait()
            rate = faults.rate
            size = CHUNK if rate is None else max(1, int(rate * TICK))
            part = chunk[start : start + size]
            start += len(part)
            if not line.swallow:
                sink.sendall(part)
                faults.bytes += len(part)
            if rate is not None:
                gevent.sleep(len(part) / rate)

    def half_close(self, direction: str) -> None:
        """Nothing more goes that way."""
        self._lines[direction].swallow = True
        if len(self._legs) == 2:
            try:
                self._legs[1 if direction == "forward" else 0].shutdown(socket.SHUT_WR)
            except OSError:
                self.close(abort=True)  # it was broken already

    def close(self, *, abort: bool) -> None:
        """End both legs."""
        if self._closed:
            return
        self._closed = True
        self._proxy.forget(self)
        gevent.killall([one for one in self.greenlets if one is not gevent.getcurrent()], block=False)
        for leg in self._legs:
            if abort:
                leg.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            leg.close()


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise gmp.ConfigError(f"{address!r}: expected host:port, an IPv6 address in brackets")
    return host.strip("[]"), int(port)


def _resolve(address: str) -> tuple[int, Any]:
    host, port = _split(address)
    found = gevent.socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    return found[0], found[4]


def _listen(where: str) -> gevent.socket.socket:
    """A listening socket whose port was asked for by number, so that it keeps the port while it does not listen."""
    family, address = _resolve(where)
    listener = gevent.socket.socket(family, socket.SOCK_STREAM)
    try:
        with gevent.socket.socket(family, socket.SOCK_STREAM) as chooser:
            for sock in (chooser, listener):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
                address = sock.getsockname()
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _format(address: Any) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
