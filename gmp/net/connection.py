"""One TCP connection: watchers, outbox, and the session that gives the bytes their meaning.

States: *handshake* (bytes go to the session; a timer bounds it in all), *up* (bytes go to the decoder, messages to
their destinations), *closed*. The owner, a `Network`, decides what becomes of it; this file moves bytes.

Reading happens in the callback of a read watcher, once per turn of the loop, into a buffer that all connections of
a network share (it is consumed before the callback returns). Nothing in the callback blocks and no user code runs.

Writing goes through an outbox. The first message of a turn is written at once, the rest when the turn ends, or after 4, 16
and then each 64 KiB (the other side has something to do while a hundred callers send one after the other); what the socket
does not take waits for the write watcher. Never a system call per message. One pass of the loop writes `A_TURN` bytes at
most, or a stream of large messages would keep everybody else waiting.

Messages in a row for one port go out as a *run* when the other side reads them (`gmp.wire.runs`): `_run` is the one that is
being collected. It joins the outbox before anything else does, and before the outbox is written. The first message of a turn
is in none.

The outbox is three things in a row: `_pending`, what the socket is in the middle of; `_outbox`; and, only while the
socket is full, the `SlowLane` of large messages, which small ones for other ports may overtake. race: a small message is
followed by a large one for the same port: what is in the outbox when one takes the slow lane is sealed, and goes first.

With TLS (`gmp.net.tls`) bytes are decrypted between socket and session, and encrypted between outbox and `_pending`: what
waits stays plaintext until the socket has room.
"""

from __future__ import annotations

import _socket
import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gmp.errors import AuthenticationError, ProtocolError
from gmp.net import tcp
from gmp.net.heartbeat import Limits
from gmp.net.lanes import LARGE, SlowLane
from gmp.net.reasons import CloseReason, reason_of
from gmp.net.tls import CHUNK, Contexts, Tls, names_node
from gmp.wire.events import NEED_DATA, Authenticated, Greeted
from gmp.wire.nesting import CONTAINERS, SHORT
from gmp.wire.runs import longest_row, run_head

if TYPE_CHECKING:
    from gmp.net.housekeeper import Watch
    from gmp.wire.session import Session

log = logging.getLogger("gmp.net")
FIRST_FLUSH, FLUSH_AT = 4 * 1024, 64 * 1024  # each flush of a turn waits for four times the bytes of the one before
PIECE = 32 * 1024  # bytes that are worth a system call
ROW = 40  # bytes of memory that a message in a run takes besides its own: they count while it waits there
A_TURN = 512 * 1024  # bytes written per pass of the loop
NEVER = 1 << 62
READ, WRITE = 1, 2
REFUSED = "gmp.refused"
# ends after which what was written cannot arrive, or must not: the other side is told by a RST
_ABORT = {CloseReason.RESET, CloseReason.LOST, CloseReason.HUNG, CloseReason.REPLACED}


class Owner(Protocol):
    """What a connection tells; every method is called in the hub and must not block."""

    def greeted(self, connection: Connection) -> bool:
        """The other side has said who it claims to be: return whether to send our authentication line now."""

    def authenticated(self, connection: Connection) -> None:
        """The other side has proved itself: call `Connection.accept` or `Connection.close`."""

    def received(self, connection: Connection, message: list[Any]) -> None:
        """A message whose destination is not in the table: the node port, an unknown or a dead port."""

    def hold(self, connection: Connection) -> bool:
        """The handshake has failed: return True to keep the socket open for a while, and close it yourself."""

    def closed(self, connection: Connection) -> None:
        """The connection has ended; `Connection.reason` and `.detail` tell why."""


class Connection:
    """A connection to another node, dialled or accepted.

    `buffer` and `scratch` are for what is read and what TLS makes of it; they are shared, as they are only used within a
    callback. `contexts` are there when this node can do TLS; `cert_names` is the setting of that name.
    """

    # slots, as so many attributes would not be looked up fast in an instance's dict
    __slots__ = (
        "_auth_wanted",
        "_budget",
        "_buffer",
        "_cert_names",
        "_check",
        "_contexts",
        "_deadline",
        "_dispatch",
        "_drained",
        "_encode",
        "_find",
        "_flush_at",
        "_longest_row",
        "_max_message",
        "_outbox",
        "_owner",
        "_pack",
        "_pending",
        "_plain",
        "_reader",
        "_row_limit",
        "_run",
        "_run_callback",
        "_run_name",
        "_scratch",
        "_sealed",
        "_short",
        "_slow",
        "_slow_next",
        "_tight",
        "_view",
        "_writer",
        "_writing",
        "address",
        "auth_sent",
        "detail",
        "high_mark",
        "incarnation",
        "low_mark",
        "node_id",
        "queued",
        "reason",
        "received_bytes",
        "received_messages",
        "refused",
        "retry_bounded",
        "sent_bytes",
        "sent_messages",
        "session",
        "sock",
        "tls",
        "up",
        "watch",
    )

    def __init__(
        self,
        fd: int,
        session: Session,
        owner: Owner,
        *,
        hub: Any,
        buffer: bytearray,
        scratch: bytearray,
        contexts: Contexts | None,
        cert_names: bool,
        destinations: dict[str, Any],
        address: str,
        handshake_timeout: float,
        limits: Limits,
        send_buffer: int | None,
        drained: Callable[[Connection], None],
    ) -> None:
        self.session = session
        self.address = address  #: of the other side, ``host:port``
        self.up = False
        self.reason: CloseReason | None = None
        self.detail = ""
        self.auth_sent = False
        self.refused = False  #: the other side was told that it is not wanted, and is to close
        self.node_id = ""  #: of the other side, once it has proved it
        self.incarnation = ""
        self.high_mark = NEVER  #: `send` returns True when more bytes wait
        self.low_mark = 0  #: `drained` is called when the queued bytes fall to this
        self.sent_messages = self.received_messages = 0
        self.sent_bytes = self.received_bytes = 0
        self.queued = 0  #: bytes that the socket has not taken
        self.tls: Tls | None = None
        self.watch: Watch | None = None  #: what the housekeeper knows of it, once it is up
        self._owner = owner
        self._find = destinations.get
        self._drained = drained
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._scratch, self._contexts, self._cert_names = scratch, contexts, cert_names
        self.sock = _socket.socket(fileno=fd)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.retry_bounded = tcp.set_keepalive(self.sock, limits)
        tcp.bound_send_buffer(self.sock, send_buffer)
        self._row_limit = -1  # bytes of a message that may go in a run
        self._longest_row = -1  # the same, while that is allowed
        self._run: list[bytes] = []  # its messages, packed without the name
        self._run_name: str | None = None  # the port that a run is for, or would be
        self._outbox: list[bytes] = []
        self._sealed: list[bytes] = []  # was in the outbox when a message took the slow lane
        self._tight = 0  # how many pieces at the front of the outbox need not be joined with others
        self._slow = SlowLane()
        self._slow_next = False
        self._short = SHORT  # a message of more bytes must be looked at
        self._plain: bytes | memoryview = b""  # taken from the outbox, not yet encrypted
        self._pending: bytes | memoryview = b""  # as it goes over the wire
        self._flush_at = 0  # `send` flushes when so many bytes wait: at once, when the turn has enough, or not now
        self._budget = A_TURN
        self._auth_wanted = False  # our authentication line goes out as soon as it may
        self._max_message = 0
        self._pack: Any = None
        self._encode: Any = None
        self._check: Any = None
        self._dispatch: Any = None
        loop = hub.loop
        self._run_callback = loop.run_callback
        self._reader = loop.io(fd, READ)
        self._writer = loop.io(fd, WRITE)
        self._writing = False
        self._deadline = loop.timer(handshake_timeout)
        self._deadline.start(self._handshake_timed_out)
        self._reader.start(self._readable)
        self.write(session.data_to_send())

    @property
    def is_gmp(self) -> bool:
        """Whether the other side says that it is a gmp node."""
        return "gmp" in self.session.greeting.keys

    @property
    def framing(self) -> str:
        """The framing of what is sent."""
        return self.session.encoder.name

    # ---- sending

    def send(self, name: str, message: tuple[Any, ...]) -> bool:
        """Send `message` to the port `name` there; return whether more than the high mark waits now.

        *Raises:* `MessageError` before anything is queued.
        """
        if name is self._run_name:
            try:
                data = self._pack([*message])
            except Exception:
                self._encode(name, message)  # this time it says what is wrong
                raise
            size = len(data)
            if (
                size <= SHORT
                # what is no deeper than the rest is long; most often it is octets at the end that make it long
                or (message[-1].__class__ is bytes and size - len(message[-1]) <= SHORT and size <= self._longest_row)
                or self._may_join(name, message, size)
            ) and name is self._run_name:  # race: a signal handler or `__del__` has sent to another port meanwhile
                self.queued = queued = self.queued + size + ROW
                self._run.append(data)  # race: Ctrl-C before it: what is counted too much is found out by `_flush`
                return False if queued < self._flush_at else self._push()
        try:
            data = self._pack([name, *message])
        except Exception:
            data = self._encode(name, message)
        size = len(data)
        # one comparison for two questions: must it be checked, and may it overtake what waits
        if size > self._short and not self._may_go(name, message, data):
            self._slow.put(name, data)
        else:
            while self._run:  # `while`, as a signal handler may begin another one
                self._end_run()
            self._outbox.append(data)
            if size <= self._longest_row:
                self._run_name = name
        self.queued = queued = self.queued + size
        # one comparison for all states: first message of the turn (0), 64 KiB more of them or for a full socket, high mark
        return False if queued < self._flush_at else self._push()

    def _may_join(self, name: str, message: tuple[Any, ...], size: int) -> bool:
        """Check a message that is not short; return whether it may go in a run: large ones go by themselves."""
        if size > self._longest_row:
            self._stop_runs()
            return False
        for item in message:
            if item.__class__ in CONTAINERS:
                self._check(name, message, size)
                break
        return True

    def _end_run(self) -> None:
        """Put the run into the outbox, which must not be written, or be added to, without that."""
        run, rows, name = self._run, [*self._run], self._run_name
        count, head = len(rows), run_head(name or "", len(rows))
        data, change = b"".join((head, *rows)), len(head) - len(rows) * ROW
        # race: Ctrl-C, or a signal handler that sends. No call follows, so they strike before or behind all of this
        if self._run is not run:
            return  # it has been ended
        self._run = run[count:]
        self._outbox += [data]
        self.queued += change
        self.sent_messages += count - 1  # as one piece it will count for one

    def _stop_runs(self) -> None:
        """Let the next message go by itself."""
        while self._run:
            self._end_run()
        self._run_name = None

    def _may_go(self, name: str, message: tuple[Any, ...], data: bytes) -> bool:
        """Check a message that is not short; return whether it may go into the outbox, or must take the slow lane."""
        size = len(data)
        if size > SHORT:
            if size > self._max_message:
                self._check(name, message, size)
            for item in message:
                if type(item) in CONTAINERS:
                    self._check(name, message, size)
                    break
        if not self._writing or not ((self._slow or size >= LARGE) and self._slow.is_for(name, data)):
            return True
        self._stop_runs()
        self._short = self._longest_row = -1  # as long as somebody waits there, each message must ask
        self._sealed += self._outbox  # what was sent before it stays before it
        self._outbox.clear()
        self._tight = 0
        return False

    def _push(self) -> bool:
        if self._run:
            self._end_run()
        if self._writing:
            self._tighten()
        else:
            if self._flush_at == 0:
                self._run_callback(self._turn_ends)  # race: Ctrl-C anywhere from here on, and the turn ends all the same
                self._flush_at = FIRST_FLUSH
            else:
                self._flush_at = min(4 * self._flush_at, FLUSH_AT)
            self._flush()
        return self.queued > self.high_mark

    def _tighten(self) -> None:
        """Join messages that wait for a full socket: a tiny one takes five times its length as long as it is by itself."""
        outbox, start = self._outbox, self._tight
        end = len(outbox) - (1 if outbox and len(outbox[-1]) >= PIECE else 0)  # what is long enough is not copied
        if end - start > 1:
            outbox[start:end] = [b"".join(outbox[start:end])]
            self.sent_messages += end - start - 1  # as one piece it will count for one
        self._tight = len(outbox)
        self._flush_at = min(self.queued + FLUSH_AT, self.high_mark)

    def write(self, data: bytes) -> None:
        """Put bytes into the outbox, as `send` does with a message."""
        if data and self.reason is None:
            if self._run:
                self._end_run()
            self._outbox.append(data)
            self.queued += len(data)
            if self.queued >= self._flush_at:
                self._push()

    def _turn_ends(self) -> None:
        if self.queued or self.tls is not None:
            self._flush()
        if not self._writing:
            if self._run:  # race: a signal handler has sent meanwhile
                self._run_callback(self._turn_ends)
                return
            self._flush_at, self._run_name = 0, None
            if self.low_mark == 0:  # somebody waits for the last byte
                self._drained(self)

    def flush(self) -> None:
        """Write now what would be written at the end of the turn, as far as the socket takes it."""
        if self.up:
            self._flush()

    def _flush(self) -> None:
        """Write until the outbox is empty, the socket is full, or this pass of the loop has written enough."""
        if self._writing or self.reason is not None:
            return
        try:
            while data := self._pending or self._next_piece():
                self._pending = b""  # race: Ctrl-C behind the write: it counts as written
                try:
                    sent = self.sock.send(data)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                self.queued -= sent
                self.sent_bytes += sent
                self._budget -= sent
                if sent < len(data):
                    self._pending = memoryview(data)[sent:]
                elif self._budget > 0:
                    if self.queued == 0 and self.tls is None:  # TLS may have something of its own to say
                        return
                    continue
                self._wait_writable()
                return
            if self.tls is None or self.tls.ready:
                self.queued = 0  # race: Ctrl-C between a write and its count
        except (OSError, ProtocolError) as error:
            # race: the owner may be in the middle of a send: let the loop tell of the end
            self._run_callback(self._write_failed, error)

    def _write_failed(self, error: Exception) -> None:
        """race: the other side is gone, and a write tells so before its last words were read: they may say why."""
        try:
            while self.up and self.reason is None and (count := self.sock.recv_into(self._buffer)):
                self._take(count)
        except OSError:
            pass  # all is read; the error that is told is the first one
        self.close(reason_of(error), str(error))

    def _next_piece(self) -> bytes | memoryview:
        """What to write next, as it goes over the wire; nothing: empty."""
        tls = self.tls
        if tls is None:
            return self._take_plain()
        plain = memoryview(self._plain or self._take_plain()) if tls.ready else memoryview(b"")
        self._plain = plain[CHUNK:] if tls.ready else self._plain
        data = tls.encrypt(plain[:CHUNK]) if tls.ready else tls.output()
        self.queued += len(data) - len(plain[:CHUNK])
        return data

    def _take_plain(self) -> bytes:
        """The small messages that wait and one of the slow lane in turn, so that neither starves the other.

        race: Ctrl-C. Small ones leave the outbox and become what is written next in one step, without a call.
        """
        if self._run:
            self._end_run()
        outbox = self._sealed or self._outbox
        if self._short < 0 and not self._sealed and (self._slow_next or not outbox):  # somebody waits in the slow lane
            self._slow_next = False
            data = self._slow.pop() if self._slow else b""
            if not self._slow:
                self._short, self._longest_row = SHORT, self._row_limit
            if not data:  # race: Ctrl-C before the first one was put there
                return self._take_plain()
            self.sent_messages += 1
            return data
        if not outbox:
            return b""
        self._slow_next = True
        if self._tight and outbox is self._outbox:
            self._tight -= 1
            count, data = 1, outbox[0]
        else:
            count, data = len(outbox), b"".join(outbox)
        if self.tls is None:
            self._pending = data
        else:
            self._plain = data
        del outbox[:count]
        self.sent_messages += count
        return data

    def _wait_writable(self) -> None:
        if self._run:  # or it would grow by as much each time the socket takes a bit: none may be longer than is read
            self._end_run()
        self._writing = True
        self._flush_at = min(self.queued + FLUSH_AT, self.high_mark)
        self._writer.start(self._writable)

    def _writable(self) -> None:
        self._writing = False
        self._writer.stop()
        self._budget = A_TURN
        self._flush_at = FLUSH_AT
        self._flush()
        if not self._writing:
            if self._run:  # race: as in `_turn_ends`
                self._run_callback(self._turn_ends)
            else:
                self._flush_at, self._run_name = 0, None
        if self.queued <= self.low_mark:
            self._drained(self)

    # ---- receiving

    def _readable(self) -> None:
        try:
            count = self.sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(reason_of(error), str(error))
            return
        if count == 0:
            self.close(CloseReason.EOF)
            return
        self._take(count)

    def _take(self, count: int) -> None:
        """So many bytes were read into the buffer."""
        self.received_bytes += count
        self._guard(self._process if self.tls is None else self._receive, self._view[:count])

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function`; what it raises ends this connection by name."""
        try:
            function(*args)
        except AuthenticationError as error:
            self.close(CloseReason.AUTHENTICATION_FAILED, str(error))
        except ProtocolError as error:
            self.close(CloseReason.PROTOCOL_ERROR, str(error))
        except Exception as error:
            # a bug of ours must end this connection, not leave it open and deaf
            log.exception("connection with %s", self.address)
            self.close(CloseReason.INTERNAL_ERROR, repr(error))

    def _receive(self, data: memoryview) -> None:
        """Encrypted bytes from the socket."""
        assert self.tls is not None
        self.tls.feed(data)
        self._run_tls(self.tls)

    def _process(self, data: memoryview) -> None:
        """Bytes in the clear."""
        if self.up:
            self.received_messages += self._dispatch(data, self._find, self._unaddressed)
        elif not self.refused:
            self.session.receive_data(data)
            self._advance()

    def _run_tls(self, tls: Tls) -> None:
        """Go on as far as TLS has bytes for; no event of the socket tells of what it still has."""
        if not tls.ready:
            if tls.handshake():
                self._secured(tls)
            self._flush()
        while self.reason is None and tls.ready:
            plain = tls.read()
            self._flush()  # a read may have made TLS answer
            if plain:
                self._process(plain)
            elif tls.ended:
                self.close(CloseReason.EOF)
            else:
                return

    def _secured(self, tls: Tls) -> None:
        node_id, names = self.session.greeting.node_id, tls.peer_names() if self._cert_names else []
        if self._cert_names and not names_node(names, node_id):
            raise AuthenticationError(f"node {node_id!r} has a certificate for {', '.join(names) or 'nobody'}")
        self.session.tls_started()
        if self._auth_wanted:
            self.send_auth()

    def _start_tls(self, role: Literal["client", "server"]) -> None:
        self._flush()  # our greeting goes in the clear
        assert self._contexts is not None
        self.tls = tls = Tls(self._contexts, role, self._scratch)
        tls.feed(self.session.trailing_data())
        self._run_tls(tls)

    def _advance(self) -> None:
        """Let the session go on with what it has, as far as the handshake goes."""
        while self.reason is None and not self.up:
            event = self.session.next_event()
            if event is NEED_DATA:
                return
            if isinstance(event, Greeted):
                self._auth_wanted = self._owner.greeted(self)
                if event.tls_role is not None:
                    self._start_tls(event.tls_role)
                elif self._auth_wanted:
                    self.send_auth()
            elif isinstance(event, Authenticated) and event.refused:
                self.close(CloseReason.REFUSED, event.refused)
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
        self._reader.start(self._readable)
        self.sent_messages = -len(self._outbox)  # they are counted as they are written, and lines are no messages
        encoder = self.session.encoder
        self._pack, self._encode, self._check = encoder.pack, encoder.encode, encoder.check
        self._max_message = encoder.max_message
        self._row_limit = self._longest_row = longest_row(encoder.name, self.session.greeting.keys, encoder.max_message)
        self._dispatch = self.session.decoder.dispatch
        self.up = True

    def hand_over(self) -> tuple[int, Tls | None, bytes]:
        """Give the socket away: its descriptor, TLS, and what was read too far. This connection is closed, in silence.

        *Raises:* `ProtocolError`.
        """
        self.send_auth()
        self._flush()
        if self.queued:
            raise ProtocolError("the socket does not even take the authentication line")
        self.reason = CloseReason.HANDED_OVER
        self._deadline.close()
        self._reader.close()
        self._writer.close()
        return self.sock.detach(), self.tls, self.session.trailing_data()

    def pause(self) -> None:
        """Read nothing more until `accept` or `refuse`."""
        self._reader.stop()

    def refuse(self, text: str) -> None:
        """Tell the other side, which has proved itself, why it is not wanted. It closes, or the time limit does."""
        self.refused = True
        if self.auth_sent:
            self.write(self.session.encoder.encode("", (REFUSED, text)))
        else:
            self.auth_sent = True
            self.session.send_auth(refused=text)
            self.write(self.session.data_to_send())
        self._reader.start(self._readable)

    def read_ahead(self) -> None:
        """Dispatch what was read too far during the handshake; no watcher fires for that."""
        rest = self.session.trailing_data()
        if rest and self.reason is None:
            self._guard(self._process, memoryview(rest))

    def _unaddressed(self, message: list[Any]) -> bool:
        """A message for the node port, or for a port that is not in the table; return whether to stop."""
        self._owner.received(self, message)
        return self.reason is not None

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
        if self.tls is not None:
            self._last_words(self.tls)
        if reason in _ABORT:
            tcp.abort_on_close(self.sock)
        if self.up or not self._owner.hold(self):
            self.sock.close()
        self._outbox.clear()
        self._tight = 0
        self._sealed.clear()
        self._slow.clear()
        self._run.clear()
        self._pending = self._plain = b""
        self.queued = 0
        self._owner.closed(self)

    def half_close(self) -> None:
        """Close our direction, once everything is written; the other one is read on."""
        if self.reason is None:
            if self.tls is not None:
                self._last_words(self.tls)
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._run_callback(self._write_failed, error)

    def abandon(self) -> None:
        """Let go of the socket without a byte, in a child of `fork`: it is the parent's."""
        if self.reason is None:
            self.reason = CloseReason.NODE_CLOSED
            for watcher in (self._deadline, self._reader, self._writer):
                watcher.close()
            os.close(self.sock.detach())

    def _last_words(self, tls: Tls) -> None:
        """Tell the other side by TLS's own means, an alert or its proper end, when the socket takes it."""
        data = tls.end()
        if data and not self._pending:
            try:
                self.sock.send(data)
            except OSError:
                pass  # the other side will see the end of the connection, which says the same

    def __str__(self) -> str:
        return f"{self.node_id or 'unknown node'} at {self.address}"
