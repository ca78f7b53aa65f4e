"""One TCP connection: watchers, outbox, and the session that gives the bytes their meaning.

States: *handshake* (bytes go to the session; a timer bounds it in all), *up* (bytes go to the decoder, messages to
their destinations), *closed*. The owner, a `Network`, decides what becomes of it; this file moves bytes.

Reading happens in the callback of a read watcher, once per turn of the loop, into a buffer that all connections of
a network share (it is consumed before the callback returns). Nothing in the callback blocks and no user code runs.

Writing goes through an outbox. The first message of a turn is written at once, the rest when the turn ends or at
64 KiB; what the socket does not take waits for the write watcher. Never a system call per message.
"""

from __future__ import annotations

import _socket
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gmp.errors import AuthenticationError, ProtocolError
from gmp.net.reasons import CloseReason
from gmp.wire.events import NEED_DATA, Authenticated, Greeted

if TYPE_CHECKING:
    from gmp.wire.session import Session

log = logging.getLogger("gmp.net")
FLUSH_AT = 64 * 1024
READ, WRITE = 1, 2


class Owner(Protocol):
    """What a connection tells; every method is called in the hub and must not block."""

    def greeted(self, connection: Connection) -> bool:
        """The other side has said who it claims to be: return whether to send our authentication line now."""

    def authenticated(self, connection: Connection) -> None:
        """The other side has proved itself: call `Connection.accept` or `Connection.close`."""

    def received(self, connection: Connection, message: list[Any]) -> None:
        """A message whose destination is not in the table: the node port, an unknown or a dead port."""

    def closed(self, connection: Connection) -> None:
        """The connection has ended; `Connection.reason` and `.detail` tell why."""


class Connection:
    """A connection to another node, dialled or accepted."""

    def __init__(
        self,
        fd: int,
        session: Session,
        owner: Owner,
        *,
        hub: Any,
        buffer: bytearray,
        destinations: dict[str, Any],
        address: str,
        handshake_timeout: float,
        drained: Callable[[Connection], None],
    ) -> None:
        self.session = session
        self.address = address  #: of the other side, ``host:port``
        self.up = False
        self.reason: CloseReason | None = None
        self.detail = ""
        self.auth_sent = False
        self.node_id = ""  #: of the other side, once it has proved it
        self.incarnation = ""
        self.low_mark = 0  #: `drained` is called when the queued bytes fall to this
        self.sent_messages = self.received_messages = 0
        self.sent_bytes = self.received_bytes = 0
        self.queued = 0  #: bytes in the outbox
        self._owner = owner
        self._destinations = destinations
        self._drained = drained
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._sock = _socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(self._sock)
        self._outbox: list[bytes] = []
        self._corked = False
        self._encode: Any = None
        loop = hub.loop
        self._run_callback = loop.run_callback
        self._reader = loop.io(fd, READ)
        self._writer = loop.io(fd, WRITE)
        self._writing = False
        self._deadline = loop.timer(handshake_timeout)
        self._deadline.start(self._handshake_timed_out)
        self._reader.start(self._readable)
        self.write(session.data_to_send())

    # ---- sending

    def send(self, name: str, message: tuple[Any, ...]) -> None:
        """Send `message` to the port `name` there. *Raises:* `MessageError` before anything is queued."""
        data = self._encode(name, message)
        self.sent_messages += 1
        self.write(data)

    def write(self, data: bytes) -> None:
        """Put bytes into the outbox; the first ones of a turn are written at once."""
        if not data or self.reason is not None:
            return
        self.queued += len(data)
        self._outbox.append(data)
        if not self._corked:
            self._corked = True
            self._run_callback(self._turn_ends)
            self._flush()
        elif self.queued >= FLUSH_AT:
            self._flush()

    def _turn_ends(self) -> None:
        self._corked = False
        if self._outbox:
            self._flush()

    def _flush(self) -> None:
        if self._writing or self.reason is not None:
            return
        outbox = self._outbox
        data = outbox[0] if len(outbox) == 1 else b"".join(outbox)
        outbox.clear()
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            # race: the owner may be in the middle of a send: let the loop tell of the end
            self._run_callback(self.close, CloseReason.RESET, str(error))
            return
        self.queued -= sent
        self.sent_bytes += sent
        if sent < len(data):
            outbox.append(data[sent:])
            self._writing = True
            self._writer.start(self._writable)

    def _writable(self) -> None:
        self._writing = False
        self._writer.stop()
        if self._outbox:
            self._flush()
        if self.queued <= self.low_mark:
            self._drained(self)

    # ---- receiving

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(CloseReason.RESET, str(error))
            return
        if count == 0:
            self.close(CloseReason.EOF)
            return
        self.received_bytes += count
        self._process(self._view[:count])

    def _process(self, data: memoryview) -> None:
        try:
            if self.up:
                self._dispatch(data)
            else:
                self.session.receive_data(bytes(data))
                self._advance()
        except AuthenticationError as error:
            self.close(CloseReason.AUTHENTICATION_FAILED, str(error))
        except ProtocolError as error:
            self.close(CloseReason.PROTOCOL_ERROR, str(error))
        except Exception as error:
            # a bug of ours must end this connection by name, not leave it open and deaf
            log.exception("connection with %s", self.address)
            self.close(CloseReason.INTERNAL_ERROR, repr(error))

    def _advance(self) -> None:
        """Let the session go on with what it has, as far as the handshake goes."""
        while self.reason is None and not self.up:
            event = self.session.next_event()
            if event is NEED_DATA:
                return
            if isinstance(event, Greeted):
                if event.tls_role is not None:
                    raise ProtocolError("TLS was agreed on, but this node cannot do it")
                if self._owner.greeted(self):
                    self.send_auth()
            elif isinstance(event, Authenticated):
                self._owner.authenticated(self)

    def send_auth(self) -> None:
        """Send our authentication line, once."""
        if not self.auth_sent:
            self.auth_sent = True
            self.session.send_auth()
            self.write(self.session.data_to_send())

    def accept(self) -> None:
        """The connection is up: from now on messages flow; what came behind the other's line is read first."""
        self.send_auth()
        self._deadline.close()
        self._encode = self.session.encoder.encode
        self.up = True

    def read_ahead(self) -> None:
        """Dispatch what was read too far during the handshake; no watcher fires for that."""
        rest = self.session.trailing_data()
        if rest and self.reason is None:
            self._process(memoryview(rest))

    def _dispatch(self, data: memoryview) -> None:
        find = self._destinations.get
        for message in self.session.decoder.decode(data):
            self.received_messages += 1
            destination = find(message[0])
            if destination is not None:
                del message[0]
                destination.put(tuple(message))
            else:
                self._owner.received(self, message)
                if self.reason is not None:
                    return

    # ---- the end

    def _handshake_timed_out(self) -> None:
        self.close(CloseReason.HANDSHAKE_TIMEOUT)

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """End the connection for `reason`; what is still in the outbox is lost. Idempotent."""
        if self.reason is not None:
            return
        self.reason, self.detail = reason, detail
        self._deadline.close()
        self._reader.close()
        self._writer.close()
        if reason is CloseReason.AUTHENTICATION_FAILED:
            log.debug("closing %s with its input unread", self.address)
        self._sock.close()
        self._outbox.clear()
        self.queued = 0
        self._owner.closed(self)

    def __str__(self) -> str:
        return f"{self.node_id or 'unknown node'} at {self.address}"


def set_keepalive(sock: _socket.socket) -> None:
    """Let the kernel notice a vanished host after about 20 s without traffic."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 6)):
        number = getattr(socket, option, None)
        if number is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
