"""One connection, by TCP or a Unix socket: watchers, outbox, and the session that gives the bytes their meaning.

States: *handshake* (bytes go to the session; a timer limits it), *up* (bytes go to the decoder, messages to
their destinations), *closed*. The owner, a `Network`, decides what becomes of it; this file moves bytes.

Reading happens in the callback of a read watcher, once per turn of the loop, into a buffer that all connections of
a network share (it is consumed before the callback returns). Nothing in the callback blocks, and no user code runs in it.

Sending is in the base class, `Outbox`. With TLS (`gmp.net.tls`) bytes are decrypted between socket and session, and
encrypted between outbox and socket.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gmp.errors import AuthenticationError, ProtocolError
from gmp.net import tcp
from gmp.net.framereader import FrameReader
from gmp.net.heartbeat import Limits
from gmp.net.machine import Machine
from gmp.net.outbox import Outbox
from gmp.net.reasons import CloseReason, reason_of
from gmp.net.way import Watch
from gmp.wire.admitting import AdmittingEncoder
from gmp.wire.dispatch import Decoded
from gmp.wire.events import NEED_DATA, Authenticated, Greeted
from gmp.wire.requests import REFUSAL, REFUSED, admits

if TYPE_CHECKING:
    from gmp.net.between import Way
    from gmp.net.tls import Contexts, Tls
    from gmp.wire.perl_strings import PerlStrings
    from gmp.wire.session import Session

log = logging.getLogger("gmp.net")
READ = 1
# ends after which what was written cannot or must not arrive: the other side gets a RST
_ABORT = {CloseReason.RESET, CloseReason.LOST, CloseReason.HUNG, CloseReason.REPLACED}


class Owner(Protocol):
    """What a connection reports; every method is called in the hub and must not block."""

    def greeted(self, connection: Connection) -> bool:
        """The other side has said who it claims to be: return whether to send this side's authentication line now."""

    def authenticated(self, connection: Connection) -> None:
        """The other side has proved itself: call `Connection.accept` or `Connection.close`."""

    def received(self, connection: Connection, message: Decoded) -> None:
        """A message arrived whose destination is not in the table (node port, unknown or dead port), or `Undecodable`."""

    def hold(self, connection: Connection) -> bool:
        """The handshake has failed: return True to keep the socket open, and close it later."""

    def closed(self, connection: Connection) -> None:
        """The connection has ended; `Connection.reason` and `.detail` say why."""


class Connection(FrameReader):
    """A connection to another node, dialled or accepted.

    `buffer` and `scratch` hold what is read and what TLS makes of it; all connections share them, as they are used only
    within a callback. `contexts` is None when this node has no certificate; `cert_names` is the setting of that name.
    """

    # slots: an instance's dict with so many attributes would be slow to look up
    __slots__ = (
        "_auth_wanted", "_buffer", "_cert_names", "_contexts", "_deadline", "_find", "_let_go", "_owner", "_paused",
        "_scratch", "_view", "address", "auth_sent", "detail", "incarnation", "node_id", "number", "on_this_host",
        "refused", "retry_bounded", "watch", "way",
    )  # fmt: skip
    is_direct = True

    def __init__(
        self,
        fd: int,
        session: Session,
        owner: Owner,
        *,
        machine: Machine,
        hub: Any,
        buffer: bytearray,
        scratch: bytearray,
        contexts: Contexts | None,
        cert_names: bool,
        destinations: dict[str, Any],
        address: str,
        way: Way,
        number: int,
        handshake_timeout: float,
        limits: Limits,
        send_buffer: int | None,
        drained: Callable[[Connection], None],
    ) -> None:
        super().__init__(machine.plain_socket_of(fd), hub.loop, drained)
        self._let_go = machine.let_go
        self.session = session
        self.address = address  #: of the other side, ``host:port``
        self.way, self.on_this_host = way, way.on_this_host
        self.number = number  #: greater than that of every earlier connection
        self.detail = ""
        self.auth_sent = False
        self.refused = False  #: the other side was told that it is refused, and has to close
        self.node_id = ""  #: of the other side, once it has proved it
        self.incarnation = ""
        self.watch: Watch | None = None  #: what the housekeeper knows of it, while it is up
        self._owner = owner
        self._find = destinations.get
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._scratch, self._contexts, self._cert_names = scratch, contexts, cert_names
        self.sock.setblocking(False)
        self.retry_bounded = False if way.unix else tcp.set_up(self.sock, limits)
        tcp.bound_send_buffer(self.sock, send_buffer, near=way.other.is_loopback)
        self._paused = False
        self._auth_wanted = False  # send our authentication line as soon as TLS is ready
        loop = hub.loop
        self._reader = loop.io(fd, READ)
        self._deadline = loop.timer(handshake_timeout)
        self._deadline.start(self._handshake_timed_out)
        self._reader.start(self._readable)
        self.write(session.data_to_send())

    @property
    def is_gmp(self) -> bool:
        """Whether the other side says that it is a gmp node."""
        return self.session.is_gmp

    def admits(self, name: str) -> bool:
        """Whether the other side knows the request or addition `name` (`gmp.wire.requests`)."""
        return admits(self.session.greeting.keys, name)

    @property
    def admits_all(self) -> bool:
        """Whether the other side knows every request."""
        return not isinstance(self.session.encoder, AdmittingEncoder)

    @property
    def framing(self) -> str:
        """The framing of what is sent."""
        return self.session.encoder.name

    @property
    def strings(self) -> PerlStrings | None:
        """As `Session.strings`."""
        return self.session.strings

    @property
    def outbox(self) -> Outbox:
        """This very connection: `gmp.send` may add to its batches."""
        return self

    def stats(self) -> dict[str, Any]:
        """Return where the other side sees this node, and what TLS does, if it is used."""
        seen_as = self.session.greeting.keys.get("peeraddr", "")
        figures = {"transport": "unix" if self.way.unix else "tcp", "seen_as": seen_as}
        return figures | ({} if self.tls is None else self.tls.stats())

    # ---- receiving

    def _readable(self) -> None:
        try:
            try:
                count = self.sock.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.close(reason_of(error), str(error))
                return
            if count == 0:
                self.close(CloseReason.EOF)
            elif self.up and self.tls is None:  # as `_read` does, in fewer frames: this is the hot path
                self.received_bytes += count
                self.received_messages += self._dispatch(self._view[:count], self._find, self._unaddressed)
            else:
                self._read(count)
        except BaseException as error:
            self._failed(error)

    def _read(self, count: int) -> None:
        """Handle `count` bytes that were read into the buffer."""
        self.received_bytes += count
        self.guard(self._process if self.tls is None else self._receive, self._view[:count])

    def _write_failed(self, error: Exception) -> None:
        """race: a write fails as the other side is gone, before its last words were read: they may say why."""
        try:
            while self.up and self.reason is None and (count := self.sock.recv_into(self._buffer)):
                self._read(count)
        except OSError:
            pass  # everything is read; the first error is the one to report
        self.close(reason_of(error), str(error))

    def guard(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function`; what it raises ends this connection by name."""
        try:
            function(*args)
        except BaseException as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """End this connection with the reason for `error`; re-raise what is meant to interrupt the program."""
        if isinstance(error, AuthenticationError):
            self.close(CloseReason.AUTHENTICATION_FAILED, str(error))
        elif isinstance(error, ProtocolError):
            self.close(CloseReason.PROTOCOL_ERROR, str(error))
        elif not isinstance(error, Exception):  # race: Ctrl-C: what was read may be delivered in part
            self._torn(error)
            raise error
        else:
            # a bug in gmp must end this connection, not leave it open and deaf
            log.error("%s: connection with %s failed", self.session.node_id, self.address, exc_info=error)
            self.close(CloseReason.INTERNAL_ERROR, repr(error))

    def _torn(self, error: BaseException) -> None:
        self.close(CloseReason.INTERRUPTED, type(error).__name__)

    def _receive(self, data: memoryview) -> None:
        """Handle encrypted bytes from the socket."""
        assert self.tls is not None
        self.tls.feed(data)
        self._run_tls(self.tls)

    def _process(self, data: memoryview) -> None:
        """Handle bytes in the clear."""
        if self.up:
            self.received_messages += self._dispatch(data, self._find, self._unaddressed)
        elif not self.refused:
            self.session.receive_data(data)
            self._advance()

    def _run_tls(self, tls: Tls) -> None:
        """Handle all that TLS has: no event of the socket reports what is buffered there."""
        if not tls.ready:
            if tls.handshake():
                self._secured(tls)
            self._flush()
        while self.reason is None and tls.ready:
            if self._frame is not None and self._decrypt_part(tls):
                continue
            plain = tls.read()
            self._flush()  # reading may have made TLS send something
            if plain:
                self._process(plain)
            elif tls.ended:
                self.close(CloseReason.EOF)
            else:
                return

    def _secured(self, tls: Tls) -> None:
        if self._cert_names:
            tls.check_name(self.session.greeting.node_id)
        self.session.tls_started()
        if self._auth_wanted:
            self.send_auth()

    def _start_tls(self, role: Literal["client", "server"]) -> None:
        self._flush()  # our greeting is sent in the clear
        assert self._contexts is not None
        self.tls = tls = self._contexts.begin(role, self._scratch)
        tls.feed(self.session.trailing_data())
        self._run_tls(tls)

    def _advance(self) -> None:
        """Run the handshake as far as what was received allows."""
        while self.reason is None and not self.up:
            event = self.session.next_event()
            if event is NEED_DATA:
                return
            if isinstance(event, Greeted):
                self._auth_wanted = self._owner.greeted(self)
                if self.reason is not None:
                    return  # this node has dialled itself
                if event.tls_role is not None:
                    self._start_tls(event.tls_role)
                elif self._auth_wanted:
                    self.send_auth()
            elif isinstance(event, Authenticated) and event.refused:
                taken = event.refused == CloseReason.TAKEN.value
                self.close(CloseReason.TAKEN if taken else CloseReason.REFUSED, "" if taken else event.refused)
            elif isinstance(event, Authenticated):
                self._owner.authenticated(self)

    def send_auth(self) -> None:
        """Send this side's authentication line, once."""
        if not self.auth_sent:
            self.auth_sent = True
            self.session.send_auth()
            self.write(self.session.data_to_send())

    def accept(self) -> None:
        """Make the connection ready for messages; what arrived after the other side's line is handled by `read_ahead`."""
        self.send_auth()
        self._deadline.close()
        self._read_on()
        self._send_by(self.session.encoder, self.session.greeting.keys)
        self._dispatch = self.session.decoder.dispatch
        self.up = True

    def hand_over(self) -> tuple[int, Tls | None, bytes]:
        """Give the socket away and close this connection silently: return descriptor, TLS, and what was read ahead.

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

    def probe(self) -> None:
        """Send a no-op, so that the kernels find out whether the connection is dead. Does nothing before it is up."""
        if self.up:
            self.send("", ())

    def pause(self) -> None:
        """Read nothing more until `accept` or `refuse`."""
        self._paused = True
        self._reader.stop()

    def refuse(self, text: str) -> None:
        """Tell the other side, which has proved itself, why it is refused. It closes, or the handshake times out."""
        self.refused = True
        if not self.admits(REFUSAL):
            self.close(CloseReason.DUPLICATE)
            return
        if self.auth_sent:
            self.write(self.session.encoder.encode("", (REFUSED, text)))
        else:
            self.auth_sent = True
            self.session.send_auth(refused=text)
            self.write(self.session.data_to_send())
        self._read_on()

    def close_second(self) -> None:
        """Close a connection that is not needed. A gmp node is told so with a proof, as anybody could say it in our name."""
        if self.admits(REFUSAL) and not self.auth_sent and self.reason is None:
            self.auth_sent = True
            self.session.send_auth(refused=CloseReason.TAKEN.value)
            self.write(self.session.data_to_send())
            self._flush()
        self.close(CloseReason.DUPLICATE)

    def _read_on(self) -> None:
        self._paused = False
        self._reader.start(self._readable)

    def mend(self) -> None:
        """Resume after an interrupt: gevent stops the watcher of a socket for good when its callback raises.

        `_readable` ends the connection when interrupted, but not when the interrupt comes at its very beginning. An end that
        an interrupt kept from being reported is reported again.
        """
        if self.reason is not None:
            self._owner.closed(self)
            return
        if not self._reader.active and not self._paused:
            self._reader.start(self._readable)
        if not self.up and not self._deadline.active:
            self._handshake_timed_out()
        else:
            super().mend()

    def turn_away(self, text: str) -> None:
        """Tell a gmp node why it gets no authentication line from us; the caller ends the connection."""
        if not self.auth_sent:
            self.session.send_refusal(text)
            self.write(self.session.data_to_send())
            self._flush()

    def read_ahead(self) -> None:
        """Handle what was read ahead during the handshake: no watcher fires for that."""
        rest = self.session.trailing_data()
        if rest and self.reason is None:
            self.guard(self._process, memoryview(rest))

    # ---- the end

    def _handshake_timed_out(self) -> None:
        self.close(CloseReason.HANDSHAKE_TIMEOUT)

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """End the connection for `reason`; what is still in the outbox is lost. Idempotent."""
        if self.reason is not None:
            return
        self.reason, self.detail = reason, detail
        try:
            self._deadline.close()
            self._reader.close()
            if self.tls is not None:
                self._last_words(self.tls)
            if reason in _ABORT:
                tcp.abort_on_close(self.sock)
            self._discard()
            if self.up or not self._owner.hold(self):
                self.sock.close()
        finally:  # race: Ctrl-C: the monitors still fire, nothing more is delivered, and the other side sees the end
            self._reader.close()
            self._discard()
            if self.up:
                self.sock.close()
            self._owner.closed(self)
            self.watch = self._dispatch = self._frame = None  # they refer to this connection

    def half_close(self) -> None:
        """Close this side's direction once everything is written; the other direction stays open."""
        if self.reason is None:
            if self.tls is not None:
                self._last_words(self.tls)
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._run_callback(self._write_failed, error)

    def abandon(self) -> None:
        """Let go of the socket without sending a byte, in a child of `fork`: it is the parent's."""
        if self.reason is None:
            self.reason = CloseReason.NODE_CLOSED
            self._deadline.close()
            self._reader.close()
            self._discard()  # or the end of its turn, which the child's loop has too, would for ever wait for a write
            self._let_go(self.sock.detach())

    def _last_words(self, tls: Tls) -> None:
        """Send TLS's own alert or closing message, if the socket takes it."""
        data = tls.end()
        if data and not self._front:
            try:
                self.sock.send(data)
            except OSError:
                pass  # the end of the connection tells the other side the same

    def __str__(self) -> str:
        return f"{self.node_id or 'unknown node'} at {self.address}"
