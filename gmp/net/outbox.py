"""The half of a connection that sends: what waits to be written, in which order, and when. `Connection` is built on it.

The first message in a pass of the loop is written at once, and costs no callback; with the second a turn begins: the rest is
written when it ends, or after 4, 16 and then each 64 KiB (the other side has something to do while a hundred callers send
one after the other); what the socket does not take waits for the write watcher. Never a system call per message. One
pass of the loop writes `A_TURN` bytes at most, or a stream of large messages would keep everybody else waiting.

Messages in a row for one port go out as a *run* when the other side reads them (`gmp.wire.runs`): `run` is the one that
is being collected (`gmp.net.run`), also by `gmp.send` behind our back. It joins the outbox before anything else does, and
before the outbox is written. The first two messages of a turn are in none.

The outbox is three things in a row: `_pending`, what the socket is in the middle of; `_outbox`; and, only while the
socket is full, the `SlowLane` of large messages, which small ones for other ports may overtake. race: a small message is
followed by a large one for the same port: what is in the outbox when one takes the slow lane is sealed, and goes first.

With TLS bytes are encrypted between outbox and `_pending`: what waits stays plaintext until the socket has room.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gmp.errors import ProtocolError
from gmp.net.lanes import LARGE, SlowLane
from gmp.net.run import ROW, ROW_BITS, Run
from gmp.net.tls import CHUNK, Tls
from gmp.wire.nesting import CONTAINERS, SHORT
from gmp.wire.runs import longest_row, run_head

if TYPE_CHECKING:
    from gmp.net.reasons import CloseReason
    from gmp.wire.framing import Encoder

FIRST_FLUSH, FLUSH_AT = 4 * 1024, 64 * 1024  # each flush of a turn waits for four times the bytes of the one before
PIECE = 32 * 1024  # bytes that are worth a system call
A_TURN = 512 * 1024  # bytes written per pass of the loop
NEVER = 1 << 62
NO_TURN = -2  # -1 is what loops say that do not count
WRITE = 2


class Outbox:
    """What is to be sent over one socket. `drained` is told when what waits has fallen to the low mark."""

    # slots, as so many attributes would not be looked up fast in an instance's dict
    __slots__ = (
        "_budget",
        "_check",
        "_drained",
        "_flush_at",
        "_longest_row",
        "_loop",
        "_max_message",
        "_outbox",
        "_pending",
        "_plain",
        "_queued",
        "_repack",
        "_row_limit",
        "_run_callback",
        "_run_name",
        "_sealed",
        "_short",
        "_slow",
        "_slow_next",
        "_tight",
        "_turn",
        "_writer",
        "_writing",
        "high_mark",
        "low_mark",
        "pack",
        "reason",
        "run",
        "sent_bytes",
        "sent_messages",
        "sock",
        "tls",
        "up",
    )

    def __init__(self, sock: _socket.socket, loop: Any, drained: Callable[[Any], None]) -> None:
        self.sock = sock
        self.tls: Tls | None = None
        self.up = False
        self.reason: CloseReason | None = None  #: of the end of the connection
        self.high_mark = NEVER  #: `send` returns True when more bytes wait
        self.low_mark = 0  #: `drained` is called when the queued bytes fall to this
        self._queued = 0  # bytes that the socket has not taken, without those of the run
        self.sent_messages = self.sent_bytes = 0
        self._drained = drained
        self._row_limit = -1  # bytes of a message that may go in a run
        self._longest_row = -1  # the same, while that is allowed
        self.run: Run | None = None  #: the one that is being collected
        self._run_name: str | None = None  # the port that it is for, or would be; the very text
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
        self._max_message = 0
        self.pack: Any = None  #: makes octets of a list
        self._repack: Any = None  # the same of what `pack` refuses; raises `MessageError`
        self._check: Any = None
        self._loop = loop
        self._turn = NO_TURN  # the pass of the loop in which the last first message was sent
        self._run_callback = loop.run_callback
        self._writer = loop.io(sock.fileno(), WRITE)
        self._writing = False

    def _write_failed(self, error: Exception) -> None:
        raise NotImplementedError

    def _send_by(self, encoder: Encoder, keys: Mapping[str, str]) -> None:
        """`send` is possible from now on; `keys` are those of the other side's greeting."""
        self.sent_messages = -len(self._outbox)  # they are counted as they are written, and lines are no messages
        self.pack, self._repack, self._check = encoder.pack, encoder.repack, encoder.check
        self._max_message = encoder.max_message
        self._row_limit = self._longest_row = longest_row(encoder.name, keys, encoder.max_message)

    def _discard(self) -> None:
        """Nothing is written any more."""
        self._writer.close()
        self._outbox.clear()
        self._tight = 0
        self._sealed.clear()
        self._slow.clear()
        if self.run is not None:
            self.run.end()
            self.run = None
        self._pending = self._plain = b""
        self._queued = 0

    @property
    def queued(self) -> int:
        """Bytes that the socket has not taken."""
        run = self.run
        return self._queued if run is None else self._queued + run.measure()

    def send(self, name: str, message: tuple[Any, ...]) -> bool:
        """Send `message` to the port `name` there; return whether more than the high mark waits now.

        *Raises:* `MessageError` before anything is queued.
        """
        pack = self.pack  # Python looks up methods fast, and attributes, but not an attribute that is called as a method
        if name is self._run_name:
            try:
                data = pack([*message])
            except Exception:
                data = self._repack(name, [*message])
            run = self.run
            if run is not None and run.name is name and len(data) <= SHORT:
                rows = run.rows
                rows.append(data)
                return False if len(rows) < run.room else self.make_room(run)
            over = self.join(name, message, data)
            if over is not None:
                return over
        try:
            data = pack([name, *message])
        except Exception:
            data = self._repack(name, [name, *message])
        size = len(data)
        # one comparison for two questions: must it be checked, and may it overtake what waits
        if size > self._short and not self._may_go(name, message, data):
            self._slow.put(name, data)
        else:
            if self.run is not None:
                self._end_run()
            self._outbox.append(data)
            if size <= self._longest_row:
                self._run_name = name
        self._queued = queued = self._queued + size
        # one comparison for all states: first message, or the one that begins a turn (0); enough for the turn, or for a full
        # socket; high mark
        return False if queued < self._flush_at else self._push()

    def join(self, name: str, message: tuple[Any, ...], data: bytes) -> bool | None:
        """Let a message, as `pack` has made it, join the run for `name`; None when it may not. Else as `send`.

        *Raises:* `MessageError`.
        """
        size = len(data)
        if size > self._longest_row:  # large ones go by themselves
            self.stop_runs()
            return None
        run = self.run
        if run is None and name is self._run_name:
            run = self.run = Run(name, self.pack, (self._flush_at - self._queued) // ROW, self._longest_row)
        if run is None or run.name is not name:
            return None  # race: a signal handler or `__del__` has sent meanwhile
        if size > SHORT:
            if not run.is_flat(message, size):
                self._check_nesting(name, message, size)
            run.room -= size >> ROW_BITS
        run.rows.append(data)
        return False if len(run.rows) < run.room else self.make_room(run)

    def make_room(self, run: Run) -> bool:
        """Go on behind a message that was added to `run` without knowing of room: find some, or write. Else as `send`."""
        if run is not self.run:  # race: it has ended while the message was packed
            self._put_rows(run)
            return self._queued >= self._flush_at and self._push()
        if run.room != run.given:
            return self._push()  # for long ones room is counted closely enough
        queued = self._queued + run.measure()
        if queued >= self._flush_at - (self._flush_at >> 4):  # near enough: no look for each of the last ones
            return self._push()
        run.room = run.given = len(run.rows) + (self._flush_at - queued) // ROW
        return False

    def _check_nesting(self, name: str, message: tuple[Any, ...], size: int) -> None:
        for item in message:
            if item.__class__ in CONTAINERS:
                self._check(name, message, size)
                return

    def _end_run(self) -> None:
        """Put the run into the outbox, which must not be written, or be added to, without that."""
        while (run := self.run) is not None:
            self._put_rows(run)

    def _put_rows(self, run: Run) -> None:
        rows = run.rows
        taken = [*rows]
        count = len(taken)
        data = b"".join((run_head(run.name, count), *taken))
        size = len(data)
        # race: Ctrl-C, or a signal handler that sends. No call follows, so they strike before or behind all of this
        if rows[count:] or (taken and not rows):
            return  # it has grown, or was put there
        del rows[:]
        run.room, run.pack = 0, None  # as `Run.end`
        if self.run is run:
            self.run = None
        if taken:
            self._outbox += [data]
            self._queued += size
            self.sent_messages += count - 1  # as one piece it will count for one

    def stop_runs(self) -> None:
        """Let the next message go by itself."""
        self._end_run()
        self._run_name = None

    def _may_go(self, name: str, message: tuple[Any, ...], data: bytes) -> bool:
        """Check a message that is not short; return whether it may go into the outbox, or must take the slow lane."""
        size = len(data)
        if size > SHORT:
            if size > self._max_message:
                self._check(name, message, size)
            self._check_nesting(name, message, size)
        if not self._writing or not ((self._slow or size >= LARGE) and self._slow.is_for(name, data)):
            return True
        self.stop_runs()
        self._short = self._longest_row = -1  # as long as somebody waits there, each message must ask
        self._sealed += self._outbox  # what was sent before it stays before it
        self._outbox.clear()
        self._tight = 0
        return False

    def _push(self) -> bool:
        if self._flush_at == 0:
            turn = self._loop.iteration
            if turn != self._turn and self.low_mark:  # 0: somebody waits for the last byte, and is told when a turn ends
                self._turn = turn
                self._write_first()
                return self._queued > self.high_mark
            self._run_callback(self._turn_ends)  # race: Ctrl-C anywhere from here on, and the turn ends all the same
            self._flush_at = FIRST_FLUSH
            if self._queued < FIRST_FLUSH and turn == self._turn:
                return self._queued > self.high_mark
            self._turn = turn
        self._end_run()
        if self._writing:
            self._tighten()
        else:
            self._flush_at = min(4 * self._flush_at, FLUSH_AT)
            self._flush()
        return self._queued > self.high_mark

    def _write_first(self) -> None:
        """Write the first message of a turn: a round trip is made of such messages."""
        self._run_name = None  # there is no run of one
        outbox = self._outbox
        usual = self.tls is None and len(outbox) == 1 and self.run is None and self.reason is None
        if not usual or self._pending or self._sealed:
            self._flush()
            return
        data = outbox[0]
        size = len(data)
        del outbox[0]
        self._queued -= size  # race: Ctrl-C behind the write: it counts as written
        self.sent_messages += 1
        try:
            sent = self.sock.send(data)
        except OSError:
            self._queued += size
            self._pending = data
            self._flush()  # which knows what to do
            return
        self.sent_bytes += sent
        if sent < size:
            self._queued += size - sent
            self._pending = memoryview(data)[sent:]
            self._wait_writable()

    def _tighten(self) -> None:
        """Join messages that wait for a full socket: a tiny one takes five times its length as long as it is by itself."""
        outbox, start = self._outbox, self._tight
        end = len(outbox) - (1 if outbox and len(outbox[-1]) >= PIECE else 0)  # what is long enough is not copied
        if end - start > 1:
            outbox[start:end] = [b"".join(outbox[start:end])]
            self.sent_messages += end - start - 1  # as one piece it will count for one
        self._tight = len(outbox)
        self._flush_at = min(self._queued + FLUSH_AT, self.high_mark)

    def write(self, data: bytes) -> None:
        """Put bytes into the outbox, as `send` does with a message."""
        if data and self.reason is None:
            self._end_run()
            self._outbox.append(data)
            self._queued += len(data)
            if self._queued >= self._flush_at:
                self._push()

    def _turn_ends(self) -> None:
        if self._queued or self.run is not None or self.tls is not None:
            self._flush()
        if not self._writing:
            if self.run is not None:  # race: a signal handler has sent meanwhile
                self._run_callback(self._turn_ends)
                return
            self._flush_at, self._run_name, self._turn = 0, None, NO_TURN
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
                self._queued -= sent
                self.sent_bytes += sent
                self._budget -= sent
                if sent < len(data):
                    self._pending = memoryview(data)[sent:]
                elif self._budget > 0:
                    # TLS may have something of its own to say
                    if self._queued == 0 and self.run is None and self.tls is None:
                        return
                    continue
                self._wait_writable()
                return
            if self.tls is None or self.tls.ready:
                self._queued = 0  # race: Ctrl-C between a write and its count
        except (OSError, ProtocolError) as error:
            # race: the owner may be in the middle of a send: let the loop tell of the end
            self._run_callback(self._write_failed, error)

    def _next_piece(self) -> bytes | memoryview:
        """What to write next, as it goes over the wire; nothing: empty."""
        tls = self.tls
        if tls is None:
            return self._take_plain()
        plain = memoryview(self._plain or self._take_plain()) if tls.ready else memoryview(b"")
        self._plain = plain[CHUNK:] if tls.ready else self._plain
        data = tls.encrypt(plain[:CHUNK]) if tls.ready else tls.output()
        self._queued += len(data) - len(plain[:CHUNK])
        return data

    def _take_plain(self) -> bytes:
        """The small messages that wait and one of the slow lane in turn, so that neither starves the other.

        race: Ctrl-C. Small ones leave the outbox and become what is written next in one step, without a call.
        """
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
        self._end_run()  # or it would grow by as much each time the socket takes a bit: none may be longer than is read
        self._writing = True
        self._flush_at = min(self._queued + FLUSH_AT, self.high_mark)
        self._writer.start(self._writable)

    def _writable(self) -> None:
        self._writing = False
        self._writer.stop()
        self._budget = A_TURN
        self._flush_at = FLUSH_AT
        self._flush()
        if not self._writing:
            if self.run is not None:  # race: as in `_turn_ends`
                self._run_callback(self._turn_ends)
            else:
                self._flush_at, self._run_name = 0, None
        if self.queued <= self.low_mark:
            self._drained(self)
