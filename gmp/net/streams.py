"""Byte streams between nodes: what a connection becomes when its greeting began with ``aemp-dataconn``.

The greeting and the authentication are those of any connection (PROTOCOL.md section 14); then the socket is handed over,
with TLS where it was agreed on, and with the bytes that were read too far. Which streams may come is in a table: an ID is
for the one node that was told of it, and for one use.

A `Stream` is cooperative: one greenlet may read while another writes. Of TLS one must know: what is written must go out
in the order in which it was encrypted, so one greenlet at a time writes, and what a read makes TLS say is left to the
writer when there is one. To close one's direction wrecks what was received and not yet decrypted, so that is read
before. An end without TLS's goodbye is a cut: `recv` raises `ConnectionResetError`.
"""

from __future__ import annotations

import errno
import io
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from gevent.lock import Semaphore

from gmp.errors import ProtocolError
from gmp.net.tls import CHUNK, RECORD, Tls

DATACONN = "aemp-dataconn"  #: the first word of the greeting of whoever dials for a stream
STREAM_ID = "dataconn_id"  #: the key of that greeting with the stream's ID
READ_SIZE = 64 * 1024
MOST_EXPECTED = 1000
Buffer = bytes | bytearray | memoryview


class Stream:
    """A stream of bytes to or from the node `node_id`, with the methods of a socket. Usable in ``with``, which closes it.

    It ends by `close`, or when nothing refers to it any more. Timeouts are those of sockets: they raise `TimeoutError`.
    """

    def __init__(self, sock: Any, node_id: str, tls: Tls | None = None, read_ahead: bytes = b"") -> None:
        self.node_id = node_id
        self._sock = sock
        self._tls = tls
        self._rest: bytes | memoryview = read_ahead  # in the clear, not yet asked for
        self._writing = Semaphore(1)
        self._shut = False  # our direction is closed
        self._closed = False
        if tls is not None:
            tls.use_scratch(bytearray(READ_SIZE + 2 * RECORD))
            self._buffer = bytearray(READ_SIZE)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def encrypted(self) -> bool:
        """Whether TLS is below."""
        return self._tls is not None

    # ---- writing

    def sendall(self, data: Buffer) -> None:
        """Send all of `data`. *Blocks:* until the kernel has taken it. *Raises:* `OSError`, `TimeoutError`."""
        view = memoryview(data).cast("B")
        with self._writing:
            if self._shut:
                raise BrokenPipeError("the stream is shut down for writing")
            if self._tls is None:
                self._sock.sendall(view)
                return
            try:
                for start in range(0, len(view), CHUNK):
                    self._sock.sendall(self._tls.encrypt(view[start : start + CHUNK]))
                self._sock.sendall(self._tls.output())
            except BaseException as error:
                self._shut = True  # half of a record may be out: nothing can follow it
                if isinstance(error, ProtocolError):
                    raise ConnectionResetError(str(error)) from error
                raise

    def send(self, data: Buffer) -> int:
        """Send some of `data`, return how much. *Blocks:* until the kernel has taken that. *Raises:* as `sendall`."""
        view = memoryview(data).cast("B")
        if self._tls is None and not self._shut:
            with self._writing:
                return int(self._sock.send(view))
        self.sendall(view[:CHUNK])
        return min(len(view), CHUNK)

    # ---- reading

    def recv(self, size: int) -> bytes:
        """The next bytes, `size` at most; none: the other side has closed its direction.

        *Blocks:* until there are some. *Raises:* `TimeoutError`, `OSError`; `ConnectionResetError` when it was cut.
        """
        if not self._rest and size:
            if self._tls is None:
                return bytes(self._sock.recv(size))
            self._rest = self._decrypt(self._tls)
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0) -> int:
        """As `recv`, into `buffer`, up to `nbytes` (0: as much as it holds); return how many bytes came."""
        view = memoryview(buffer).cast("B")
        view = view[: nbytes or len(view)]
        if not self._rest and view:
            if self._tls is None:
                return int(self._sock.recv_into(view))
            self._rest = self._decrypt(self._tls)
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _decrypt(self, tls: Tls) -> memoryview:
        if self._closed:
            raise OSError(errno.EBADF, "the stream is closed")
        try:
            while not (plain := tls.read()) and not tls.ended:
                self._let_tls_answer(tls)
                count = self._sock.recv_into(self._buffer)
                if count:
                    tls.feed(memoryview(self._buffer)[:count])
                else:
                    tls.feed_end()
        except ProtocolError as error:
            raise ConnectionResetError(str(error)) from error
        self._let_tls_answer(tls)
        return plain

    def _let_tls_answer(self, tls: Tls) -> None:
        if not self._writing.locked():
            with self._writing:
                if answer := tls.output():
                    self._sock.sendall(answer)

    def makefile(
        self, mode: str = "r", buffering: int = -1, *, encoding: str | None = None, newline: str | None = None
    ) -> Any:
        """A file on the stream, as `socket.socket.makefile` makes one. Closing it leaves the stream open.

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
        """Close our direction (`socket.SHUT_WR`): the other side reads the end, and may go on writing; or both.

        *Blocks:* until what is being written is out. *Raises:* `OSError`.
        """
        if self._tls is None:
            with self._writing:
                self._shut = self._shut or how != socket.SHUT_RD
                self._sock.shutdown(how)
            return
        if how != socket.SHUT_RD:
            with self._writing:
                if not self._shut:
                    self._shut = True
                    self._sock.sendall(self._goodbye(self._tls))
        if how != socket.SHUT_WR:
            self._sock.shutdown(socket.SHUT_RD)

    def _goodbye(self, tls: Tls) -> bytes:
        """Close our direction of TLS; what has come and was not decrypted is, before."""
        pieces = [bytes(self._rest)]
        try:
            while plain := tls.read():
                pieces.append(bytes(plain))
        except ProtocolError:
            pass  # the next `recv` will meet it again
        self._rest = b"".join(pieces)
        return tls.end()

    def close(self) -> None:
        """End the stream; what the kernel has taken still goes out. Idempotent. *Blocks:* never."""
        if self._closed:
            return
        self._closed = True
        if self._tls is not None and not self._shut and not self._writing.locked():
            try:
                self._sock._sock.send(self._goodbye(self._tls))  # without waiting
            except OSError:
                pass  # the other side will see a cut, and we do not listen to it any more
        self._shut = True
        self._sock.close()

    def abandon(self) -> None:
        """Let go of the socket without a byte, in a child of `fork`: it is the parent's."""
        if not self._closed:
            self._closed = self._shut = True
            os.close(self._sock.detach())

    def settimeout(self, seconds: float | None) -> None:
        """How long each operation may block; None: without end."""
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        """What `settimeout` has set."""
        seconds: float | None = self._sock.gettimeout()
        return seconds

    def fileno(self) -> int:
        """The descriptor of the socket below, -1 when closed."""
        return int(self._sock.fileno())

    def getpeername(self) -> Any:
        """The other side's address. *Raises:* `OSError`."""
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        """Our address. *Raises:* `OSError`."""
        return self._sock.getsockname()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def __repr__(self) -> str:
        return f"<Stream with {self.node_id}{', closed' if self._closed else ''}>"


class _RawFile(io.RawIOBase):
    """What `Stream.makefile` puts a buffer on."""

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
    """A stream that may come: from that node, until then."""

    node_id: str
    deadline: float
    take: Callable[[Stream], object]
    port_id: str = ""  #: whom to kill when it comes to nothing


class ExpectedStreams:
    """The streams that this node waits for, by ID. Pure; bounded, the oldest goes first."""

    def __init__(self) -> None:
        self._table: dict[str, Expected] = {}

    def expect(self, stream_id: str, expected: Expected, now: float) -> None:
        """A stream of that ID may come, once."""
        for old in [each for each, entry in self._table.items() if entry.deadline <= now]:
            del self._table[old]
        if len(self._table) >= MOST_EXPECTED:
            del self._table[next(iter(self._table))]
        self._table[stream_id] = expected

    def take(self, stream_id: str, node_id: str, now: float) -> Expected | None:
        """Who waits for the stream that `node_id` has opened or opens now; None when nobody does, or not for that node.

        An ID that another node names stays as it was.
        """
        expected = self._table.get(stream_id)
        if expected is None or expected.node_id != node_id or expected.deadline <= now:
            return None
        return self._table.pop(stream_id)

    def forget(self, stream_id: str) -> None:
        """It is not waited for any more."""
        self._table.pop(stream_id, None)
