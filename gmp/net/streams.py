"""Byte streams between nodes: what a connection becomes when its greeting began with ``aemp-dataconn``.

The greeting and the authentication are those of any connection (PROTOCOL.md section 14); then the socket is handed over,
with TLS where it was agreed on, and with the bytes that were read ahead. A table holds which streams may come: an ID is
for the one node that was told it, and for one use.

A `Stream` is cooperative: one greenlet may read while another writes. Between it and the socket is a layer: TLS, or
chunks (`gmp.wire.chunks`). Each has a goodbye, which `close` and `shutdown` send; an end of TCP without it is a cut, whoever
made it (a crash, a kill, `abort`, the network), and reading raises `ConnectionResetError`.

With TLS, bytes must be sent in the order in which they were encrypted, so only one greenlet at a time writes, and what a
read makes TLS send is left to the writer if there is one. Closing one's direction destroys what was received and not yet
decrypted, so that is read first.

race: the kernel has no room for the goodbye when the stream is closed: a greenlet waits for it, and keeps the socket.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent

from gmp.errors import ProtocolError
from gmp.later import later
from gmp.net.records import CHUNK, RECORD
from gmp.wire.chunks import Chunks, Layer, Raw

if TYPE_CHECKING:
    from gevent import lock

    from gmp.net.tls import Tls
else:
    lock = later("gevent.lock")

DATACONN = "aemp-dataconn"  #: the first word of the greeting of whoever dials for a stream
STREAM_ID = "dataconn_id"  #: the key of that greeting with the stream's ID
READ_SIZE, PLAIN_READ_SIZE = 64 * 1024, 256 * 1024
MOST_EXPECTED = 1000
LINGER = 60.0  # seconds that a closed stream waits for room for its goodbye
Buffer = bytes | bytearray | memoryview


class Stream:
    """A stream of bytes to or from the node `node_id`, with the methods of a socket.

    `close` ends it in order: the other side reads everything, then the end. Whatever else ends it is a cut, which the other
    side can tell from an end: `abort`, an exception that leaves its ``with`` block or the function that it was opened for,
    an abnormal death of the port that owns it, the end of the node or process, and that nothing refers to it any more.
    (What a function lets go of when it returns is closed.) Timeouts are those of sockets: they raise `TimeoutError`.
    """

    def __init__(
        self,
        sock: Any,
        node_id: str,
        layer: Tls | Raw | None = None,
        read_ahead: bytes = b"",
        *,
        let_go: Callable[[int], None] = os.close,
    ) -> None:
        self.node_id = node_id
        self.ends_when_dropped = False  #: for `gmp.kernel.streams`: whether to close it when nothing refers to it any more
        self.lingering: gevent.Greenlet[..., None] | None = None  #: waits for room for the goodbye
        self._sock = sock
        self._let_go = let_go
        self._layer: Layer = Chunks() if layer is None else layer
        self._rest: bytes | memoryview = b""  # decrypted, not yet read
        self._writing = lock.Semaphore(1)
        self._shut = False  # this side's direction is closed
        self._closed = False
        self._buffer = bytearray(READ_SIZE if self.encrypted else PLAIN_READ_SIZE)
        if layer is not None and not isinstance(layer, Raw):
            layer.use_scratch(bytearray(READ_SIZE + 2 * RECORD))
            self._rest = read_ahead
        else:
            self._layer.feed(read_ahead)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def encrypted(self) -> bool:
        """Whether the stream is encrypted by TLS."""
        return not isinstance(self._layer, Raw)

    # ---- writing

    def sendall(self, data: Buffer) -> None:
        """Send all of `data`. *Blocks:* until the kernel has taken it. *Raises:* `OSError`, `TimeoutError`."""
        view = memoryview(data).cast("B")
        with self._writing:
            if self._shut:
                raise BrokenPipeError("the stream is shut down for writing")
            try:
                for start in range(0, len(view), CHUNK):
                    self._sock.sendall(self._layer.encrypt(view[start : start + CHUNK]))
                if answer := self._layer.output():
                    self._sock.sendall(answer)
            except BaseException as error:
                self._shut = True  # half of a record or chunk may have been sent: nothing can follow it, not even a goodbye
                if isinstance(error, ProtocolError):
                    raise ConnectionResetError(str(error)) from error
                raise

    def send(self, data: Buffer) -> int:
        """Send some of `data`, return how much. *Blocks:* until the kernel has taken that. *Raises:* as `sendall`."""
        view = memoryview(data).cast("B")
        self.sendall(view[:CHUNK])
        return min(len(view), CHUNK)

    # ---- reading

    def recv(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; empty when the other side has closed its direction.

        *Blocks:* until there are some. *Raises:* `TimeoutError`, `OSError`; `ConnectionResetError` when it was cut.
        """
        if not self._rest and size:
            self._rest = self._read()
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0) -> int:
        """As `recv`, into `buffer`, up to `nbytes` (0: as much as it holds); return how many bytes came."""
        view = memoryview(buffer).cast("B")
        view = view[: nbytes or len(view)]
        if not self._rest and view:
            self._rest = self._read()
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _read(self) -> memoryview:
        if self._closed:
            raise OSError(errno.EBADF, "the stream is closed")
        layer = self._layer
        try:
            while not (plain := layer.read()) and not layer.ended:
                self._let_layer_answer()
                count = self._sock.recv_into(self._buffer)
                if count:
                    layer.feed(memoryview(self._buffer)[:count])
                else:
                    layer.feed_end()
        except ProtocolError as error:
            raise ConnectionResetError(str(error)) from error
        self._let_layer_answer()
        return plain

    def _let_layer_answer(self) -> None:
        if not self._writing.locked():
            with self._writing:
                if answer := self._layer.output():
                    self._sock.sendall(answer)

    def makefile(
        self, mode: str = "r", buffering: int = -1, *, encoding: str | None = None, newline: str | None = None
    ) -> Any:
        """Return a file on the stream, as `socket.socket.makefile` makes one. Closing it leaves the stream open.

        *Raises:* `ValueError` for another mode than r, w or rw, with b or without.
        """
        if not mode or not set(mode) <= set("rwb") or len(set(mode)) != len(mode) or mode == "b":
            raise ValueError(f"mode {mode!r}: expected r, w or rw, with b for bytes")
        raw = _RawFile(self, "r" in mode, "w" in mode)
        if buffering == 0 and "b" in mode:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering < 2 else buffering
        file: Any
        if "r" in mode and "w" in mode:
            file = io.BufferedRWPair(raw, raw, size)
        else:
            file = io.BufferedReader(raw, size) if "r" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return file
        return io.TextIOWrapper(file, encoding or "utf-8", newline=newline, line_buffering=buffering == 1)

    # ---- the rest of a socket

    def shutdown(self, how: int) -> None:
        """Close this side's direction (`socket.SHUT_WR`): the other side reads the end, and may go on writing; or both.

        *Blocks:* until what is being written is out. *Raises:* `OSError`.
        """
        if how != socket.SHUT_RD:
            with self._writing:
                if not self._shut:
                    self._shut = True
                    self._sock.sendall(self._goodbye())
                    if self._ends_by_tcp:
                        self._sock.shutdown(socket.SHUT_WR)
        if how != socket.SHUT_WR:
            self._sock.shutdown(socket.SHUT_RD)

    @property
    def _ends_by_tcp(self) -> bool:
        return type(self._layer) is Raw

    def _goodbye(self) -> bytes:
        """Close this side's direction, after decrypting what TLS has received; return what is to be sent."""
        if self.encrypted:
            pieces = [bytes(self._rest)]
            try:
                while plain := self._layer.read():
                    pieces.append(bytes(plain))
            except ProtocolError:
                pass  # the next `recv` will meet it again
            self._rest = b"".join(pieces)
        return self._layer.end()

    def close(self) -> None:
        """End the stream in order; what was written still goes out. Idempotent. *Blocks:* never.

        After a write that failed, or while another greenlet still writes, it is a cut, as by `abort`.
        """
        if self._closed:
            return
        self._closed = True
        rest = b""
        if not self._shut and not self._writing.locked():
            rest = self._send_now(self._goodbye())
        self._shut = True
        if rest:
            self.lingering = gevent.spawn(self._linger, rest)
        else:
            self._sock.close()

    def _send_now(self, data: bytes) -> bytes:
        """Send as much as is possible without waiting; return the rest."""
        try:
            return data[self._sock._sock.send(data) :] if data else b""
        except BlockingIOError:
            return data
        except OSError:
            return b""  # it is cut already, and nothing more is read

    def _linger(self, rest: bytes) -> None:
        try:
            self._sock.settimeout(LINGER)
            self._sock.sendall(rest)
        except OSError:
            pass  # the other side does not read, or is gone: for it the stream is cut
        finally:
            self.lingering = None
            self._sock.close()

    def abort(self) -> None:
        """Cut the stream: the other side's reading raises `ConnectionResetError`, behind what was written. Idempotent.

        *Blocks:* never.
        """
        if self._closed:
            return
        if self._ends_by_tcp and not self._shut:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset is the only way
        self._closed = self._shut = True
        self._sock.close()

    def abandon(self) -> None:
        """Let go of the socket without sending a byte, in a child of `fork`: it is the parent's."""
        if not self._closed or self.lingering is not None:
            self._closed = self._shut = True
            self._let_go(self._sock.detach())
            if self.lingering is not None:
                self.lingering.kill(block=False)

    def settimeout(self, seconds: float | None) -> None:
        """Set how many seconds each operation may block; None: without limit."""
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        """Return the seconds that `settimeout` has set."""
        seconds: float | None = self._sock.gettimeout()
        return seconds

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when closed."""
        return -1 if self._closed else int(self._sock.fileno())

    def getpeername(self) -> Any:
        """Return the other side's address. *Raises:* `OSError`."""
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        """Return this side's address. *Raises:* `OSError`."""
        return self._sock.getsockname()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            if self.ends_when_dropped:
                self.close()
            else:
                self.abort()

    def __repr__(self) -> str:
        return f"<Stream with {self.node_id}{', closed' if self._closed else ''}>"


class _RawFile(io.RawIOBase):
    """The raw file below the buffer that `Stream.makefile` returns."""

    def __init__(self, stream: Stream, readable: bool, writable: bool) -> None:
        self._stream = stream
        self._readable, self._writable = readable, writable

    def readable(self) -> bool:
        return self._readable

    def writable(self) -> bool:
        return self._writable

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._stream.send(data)

    def fileno(self) -> int:
        return self._stream.fileno()


class Expected(NamedTuple):
    """A stream that may arrive from the node `node_id` until `deadline`."""

    node_id: str
    deadline: float
    take: Callable[[Stream], object]
    port_id: str = ""  #: the port to kill when the stream does not come about


class ExpectedStreams:
    """The streams that this node waits for, by ID. Pure; bounded: the oldest is dropped first."""

    def __init__(self) -> None:
        self._table: dict[str, Expected] = {}

    def expect(self, stream_id: str, expected: Expected, now: float) -> None:
        """Expect a stream of that ID, once."""
        for old in [each for each, entry in self._table.items() if entry.deadline <= now]:
            del self._table[old]
        if len(self._table) >= MOST_EXPECTED:
            del self._table[next(iter(self._table))]
        self._table[stream_id] = expected

    def take(self, stream_id: str, node_id: str, now: float) -> Expected | None:
        """Return and remove the entry of a stream that `node_id` opens; None if none is expected from that node.

        An ID that another node names stays expected.
        """
        expected = self._table.get(stream_id)
        if expected is None or expected.node_id != node_id or expected.deadline <= now:
            return None
        return self._table.pop(stream_id)

    def forget(self, stream_id: str) -> None:
        """Stop expecting a stream."""
        self._table.pop(stream_id, None)
