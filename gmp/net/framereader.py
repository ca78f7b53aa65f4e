"""The part of a connection that reads large octets beside a message (`gmp.wire.beside`), straight into what is delivered.

A frame begins in what the decoder was given. Until it is whole, the read watcher calls `_fill`, and `_take_part` stands in
the place of the decoder's `dispatch`, for what TLS has decrypted: so ordinary reads need not ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gmp.net.outbox import Outbox
from gmp.net.reasons import CloseReason, reason_of
from gmp.wire.beside import Frame

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from gmp.net.tls import Tls
    from gmp.wire.dispatch import Decoded
    from gmp.wire.session import Session

_NOTHING = memoryview(b"")


class FrameReader(Outbox):
    """What reads the octets of frames; `Connection` is built on it."""

    __slots__ = ("_dispatch", "_frame", "_reader", "received_bytes", "received_messages", "session")

    session: Session
    _find: Any
    _owner: Any
    _readable: Any

    def __init__(self, sock: _socket.socket, loop: Any, drained: Callable[[Any], None]) -> None:
        super().__init__(sock, loop, drained)
        self._dispatch: Any = None
        self._reader: Any = None
        self._frame: Frame | None = None  # the message whose large octets are being read
        self.received_messages = self.received_bytes = 0

    def _failed(self, error: BaseException) -> None:
        raise NotImplementedError

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """End the connection."""
        raise NotImplementedError

    def _unaddressed(self, message: Decoded | Frame) -> bool:
        """Pass on a message whose destination is not in the table, or `Undecodable`; return whether to stop."""
        if isinstance(message, Frame):
            self._begin_frame(message)
        else:
            self._owner.received(self, message)
        return self.reason is not None

    def _begin_frame(self, frame: Frame) -> None:
        """Read the large octets of a message: from the socket straight into them, or what TLS makes of it."""
        self._frame = frame
        self._dispatch = self._take_part
        if self.tls is None and self._reader.active:
            self._reader.callback = self._fill

    def _fill(self) -> None:
        try:
            frame = self._frame
            assert frame is not None
            try:
                count = self.sock.recv_into(frame.room)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.close(reason_of(error), str(error))
                return
            if count == 0:
                self.close(CloseReason.EOF)
                return
            self.received_bytes += count
            if frame.advance(count):
                self.received_messages += self._frame_ends(frame, _NOTHING)
        except BaseException as error:
            self._failed(error)

    def _decrypt_part(self, tls: Tls) -> bool:
        """Decrypt into the octets of a frame, all but what is less than a record; return whether the frame has ended."""
        frame = self._frame
        assert frame is not None
        while count := tls.read_into(frame.room):
            if frame.advance(count):
                self.received_messages += self._frame_ends(frame, _NOTHING)
                return True
        return False

    def _take_part(self, data: memoryview, _find: Any, _other: Any) -> int:
        """In the place of the decoder's `dispatch`, while a frame is read."""
        frame = self._frame
        assert frame is not None
        rest = frame.take(data)
        return self._frame_ends(frame, rest) if frame.is_whole else 0

    def _frame_ends(self, frame: Frame, rest: memoryview) -> int:
        self._frame = None
        decoder: Any = self.session.decoder
        self._dispatch = decoder.dispatch
        if self._reader.active:
            self._reader.callback = self._readable
        count: int = decoder.finish(frame, rest, self._find, self._unaddressed)
        return count
