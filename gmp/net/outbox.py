"""The half of a connection that sends: what waits to be written, in which order, and when. `Connection` is built on it.

The first message in a pass of the loop is written at once, and costs no callback; the second begins a turn: the rest is
written when the turn ends, or after 4, 16 and then each 64 KiB (so that the other side has work while a hundred callers
send one after the other); what the socket does not take waits for the write watcher. There is never a system call per
message. One pass of the loop writes at most `A_TURN` bytes, otherwise a stream of large messages would starve the rest.

Messages in a row for one port go out as a *batch* when the other side reads them (`gmp.wire.batches`): `batch` is the one
that is being collected (`gmp.net.batch`), also by `gmp.send` behind our back. It joins the outbox before all else, and
before the outbox is written.

The rule of joining: a message begins or joins a batch if its port is that of `_batch_name`, and if it has `_longest_row`
bytes at most, packed without the name. If it has more than `SHORT`, and is not flat (`Batch.is_flat`), its nesting is
checked first.
`join` holds to this rule whole; `send` and `gmp.send` add only what is certain to fit, and ask `join` about the rest.
So the first two messages of a turn are in no batch: the one is written at once, the other gives `_batch_name`.

What coded values mean (they save comparisons in `send`):

| attribute | value | meaning |
|---|---|---|
| `_flush_at` | 0 | at rest: the next message is written at once, or begins a turn |
| | bytes, not `_writing` | a turn is on: write when so many wait; from `FIRST_FLUSH`, four times as many each time |
| | bytes, `_writing` | the socket is full: when so many wait, join small pieces (`_tighten`) and look at the high mark |
| `_short` | `SHORT` | the slow lane is empty: only a message of more bytes must be checked |
| | -1 | somebody waits in the slow lane: each message must ask whether it may overtake |
| `_longest_row` | bytes | what a message in a batch may have, packed without the name |
| | -1 | no batches now: the other side reads none, or somebody waits in the slow lane |
| `_row_limit` | as `_longest_row` | what that returns to when the slow lane is empty again |
| `_batch_name` | a name | the port of the last message of this turn small enough for a batch; compared by identity |
| | None | the next message goes by itself: nothing was sent in this turn, or a large one for the same port |
| `_turn` | a count | the pass of the loop in which a message was last written at once, or a turn began |
| | `NO_TURN` | a turn has ended since: the next message is written at once |

The outbox consists of three things: `_front`, what goes over the wire next; `_outbox`; and, only while the socket is
full, the `SlowLane` of large messages, which small ones for other ports may overtake. race: a small message is
followed by a large one for the same port: what is in the outbox when one takes the slow lane is sealed, and sent first.

With TLS bytes are encrypted between outbox and `_front`: what waits stays plaintext until the socket has room.

race: Ctrl-C, or a signal handler that sends, runs wherever Python checks for signals (`gmp.ports.workers`). So each piece
moves on in one step that contains no call: a ``for`` over ``map(sock.send, …)`` writes and has the count before a signal is
handled. After an interrupt, and in a handler, each piece is either still where it was or already further on. Only TLS
cannot do that: an interrupt in the middle of it ends the connection. `mend` does what an interrupt left undone.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gmp.errors import ProtocolError
from gmp.net.batch import ROW, ROW_BITS, Batch
from gmp.net.lanes import LARGE, SlowLane
from gmp.net.records import CHUNK
from gmp.wire.admitting import AdmittingEncoder
from gmp.wire.batches import batch_head, longest_row
from gmp.wire.beside import WORTH, reads_frames
from gmp.wire.large import LargePacker, Pieces
from gmp.wire.nesting import CONTAINERS, SHORT

if TYPE_CHECKING:
    from gmp.net.reasons import CloseReason
    from gmp.net.tls import Tls
    from gmp.wire.framing import Encoder

FIRST_FLUSH, FLUSH_AT = 4 * 1024, 64 * 1024  # each flush of a turn waits for four times the bytes of the one before
PIECE = 32 * 1024  # bytes that are worth a system call
A_TURN = 512 * 1024  # bytes written per pass of the loop
NEVER = 1 << 62
NO_TURN = -2  # -1 is what loops say that do not count
WRITE = 2


class Outbox:
    """What is to be sent over one socket. `drained` is called when what waits has fallen to the low mark."""

    # slots: an instance's dict with so many attributes would be slow to look up
    __slots__ = (
        "_batch_name", "_budget", "_check", "_drained", "_encrypting", "_flush_at", "_front", "_large", "_longest_row",
        "_loop", "_max_message", "_outbox", "_pack_small", "_plain", "_queued", "_repack", "_row_limit", "_run_callback",
        "_sealed", "_short", "_slow", "_slow_next", "_tight", "_turn", "_writer", "_writing", "batch", "high_mark",
        "low_mark", "pack", "reason", "sent_bytes", "sent_messages", "sock", "tls", "up",
    )  # fmt: skip

    def __init__(self, sock: _socket.socket, loop: Any, drained: Callable[[Any], None]) -> None:
        self.sock = sock
        self.tls: Tls | None = None
        self.up = False
        self.reason: CloseReason | None = None  #: of the end of the connection
        self.high_mark = NEVER  #: `send` returns True when more bytes wait
        self.low_mark = 0  #: `drained` is called when the queued bytes fall to this
        self._queued = 0  # bytes that the socket has not taken, without those of the batch
        self.sent_messages = self.sent_bytes = 0
        self._drained = drained
        self._row_limit = -1  # bytes of a message that may go in a batch
        self._longest_row = -1  # the same, or -1 for now; for this and other coded values see the table above
        self.batch: Batch | None = None  #: the one that is being collected
        self._batch_name: str | None = None  # the port that it is for, or would be; compared by identity
        self._outbox: list[bytes] = []
        self._sealed: list[bytes] = []  # was in the outbox when a message took the slow lane
        self._tight = 0  # how many pieces at the front of the outbox need not be joined with others
        self._slow = SlowLane()
        self._slow_next = False
        self._short = SHORT  # a message of more bytes is looked at more closely
        self._plain: list[bytes | memoryview] = []  # taken from the outbox, not yet encrypted
        self._encrypting = False
        self._front: list[bytes | memoryview] = []  # as it goes over the wire
        self._flush_at = 0  # `send` pushes when so many bytes wait
        self._budget = A_TURN
        self._max_message = 0
        self.pack: Any = None  #: makes octets of a list
        self._repack: Any = None  # the same of what `pack` refuses; raises `MessageError`
        self._check: Any = None
        self._pack_small: Any = None  # what `pack` is while nothing large is sent
        self._large: LargePacker | None = None  # if the other side reads frames
        self._loop = loop
        self._turn = NO_TURN  # the pass of the loop in which the last first message was sent
        self._run_callback = loop.run_callback
        self._writer = loop.io(sock.fileno(), WRITE)
        self._writing = False

    def _write_failed(self, error: Exception) -> None:
        raise NotImplementedError

    def _torn(self, error: BaseException) -> None:
        raise NotImplementedError

    def _send_by(self, encoder: Encoder, keys: Mapping[str, str]) -> None:
        """Allow `send` from now on; `keys` are those of the other side's greeting."""
        self.sent_messages = -len(self._outbox)  # they are counted as they are written, and lines are no messages
        self.pack, self._repack, self._check = encoder.pack, encoder.repack, encoder.check
        self._pack_small = encoder.pack
        self._max_message = encoder.max_message
        in_batches = not isinstance(encoder, AdmittingEncoder)  # which has to see the name of the port with each message
        limit = longest_row(encoder.name, keys, encoder.max_message) if in_batches else -1
        self._row_limit = self._longest_row = limit
        if in_batches and reads_frames(encoder.name, keys):
            self._large = LargePacker(encoder.pack)
            self._repack = self._repack_large

    def _discard(self) -> None:
        """Drop everything: nothing is written any more."""
        self._writer.close()
        if self._large is not None:
            self.pack, self._repack = self._pack_small, self._large.repack  # which do not refer to this connection
        self._outbox.clear()
        self._tight = 0
        self._sealed.clear()
        self._slow.clear()
        if self.batch is not None:
            self.batch.end()
            self.batch = None
        self._plain.clear()
        self._front.clear()
        self._queued = 0

    @property
    def queued(self) -> int:
        """Bytes that the socket has not taken."""
        batch = self.batch
        return self._queued if batch is None else self._queued + batch.measure()

    @property
    def encrypting(self) -> bool:
        """Whether bytes are being encrypted: only a signal handler that interrupted the encryption sees this."""
        return self._encrypting

    def send(self, name: str, message: tuple[Any, ...]) -> bool:
        """Send `message` to the port `name` there; return whether more than the high mark waits now.

        *Raises:* `MessageError` before anything is queued.
        """
        pack = self.pack  # Python looks up methods fast, and attributes, but not an attribute that is called as a method
        if name is self._batch_name:
            try:
                data = pack([*message])
            except Exception:
                data = self._repack(name, [*message])
            batch = self.batch
            if batch is not None and batch.name is name and len(data) <= SHORT:
                rows = batch.rows
                rows.append(data)
                return False if len(rows) < batch.room else self.make_room(batch)
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
            self._wait_in_lane(name, data)
        else:
            if self.batch is not None:
                self._end_batch()
            self._outbox.append(data)
            if size <= self._longest_row:
                self._batch_name = name
        self._queued = queued = self._queued + size
        # one comparison for all states: first message, or the one that begins a turn (0); enough for the turn, or for a full
        # socket; high mark
        return False if queued < self._flush_at else self._push()

    def join(self, name: str, message: tuple[Any, ...], data: bytes) -> bool | None:
        """Let a message, as `pack` has made it, join the batch for `name`; None when it may not. Else as `send`.

        *Raises:* `MessageError`.
        """
        size = len(data)
        if size > self._longest_row:  # large ones go by themselves
            self.stop_batches()
            return None
        batch = self.batch
        if batch is None:
            if name is not self._batch_name:
                return None  # race: a signal handler or `__del__` has sent meanwhile
            batch = Batch(name, self._pack_small, (self._flush_at - self._queued) // ROW, self._longest_row)
            if self.batch is not None:
                return None  # race: as above
            self.batch = batch
        elif batch.name is not name:
            return None  # race: as above
        if size > SHORT:
            if not batch.is_flat(message, size):
                self._check_nesting(name, message, size)
            batch.room -= size >> ROW_BITS
        batch.rows.append(data)
        return False if len(batch.rows) < batch.room else self.make_room(batch)

    def make_room(self, batch: Batch) -> bool:
        """Find room, or write, after a message was added to `batch` without knowing of any. Returns as `send`."""
        if batch is not self.batch:  # race: the batch has ended while the message was packed
            self._put_rows(batch)
            return self._queued >= self._flush_at and self._push()
        if batch.room != batch.given:
            return self._push()  # with long messages room is counted closely enough
        left = self._flush_at - self._queued - batch.measure()
        if left <= self._flush_at >> 4:  # near enough: do not measure for each of the last ones
            return self._push()
        batch.room = batch.given = batch.measured + left // ROW
        return False

    def _check_nesting(self, name: str, message: tuple[Any, ...], size: int) -> None:
        for item in message:
            if item.__class__ in CONTAINERS:
                self._check(name, message, size)
                return

    def _repack_large(self, name: str, elements: list[Any]) -> bytes | Pieces:
        assert self._large is not None
        if self._large.is_done:
            self.pack = self._pack_small
        return self._large.repack(name, elements)

    def _end_batch(self) -> None:
        """Put the batch into the outbox, which must be done before the outbox is written or added to."""
        while (batch := self.batch) is not None:
            self._put_rows(batch)

    def _put_rows(self, batch: Batch) -> None:
        rows = batch.rows
        taken = [*rows]
        count = len(taken)
        data = b"".join([batch_head(batch.name, count), *taken])
        size = len(data)
        # race: Ctrl-C, or a signal handler that sends. No call follows, so they come before or after all of this
        if rows[count:] or (taken and not rows):
            return  # it has grown, or was put there already
        del rows[:]
        batch.room, batch.pack = 0, None  # as `Batch.end`
        if self.batch is batch:
            self.batch = None
        if taken:
            self._outbox += [data]
            self._queued += size
            self.sent_messages += count - 1  # as one piece it will count for one

    def stop_batches(self) -> None:
        """End the batch; the next message is sent by itself."""
        self._end_batch()
        self._batch_name = None

    def _may_go(self, name: str, message: tuple[Any, ...], data: bytes | Pieces) -> bool:
        """Check a message that is not short; return True if it may go into the outbox, False for the slow lane."""
        in_pieces = isinstance(data, Pieces)
        size = data.size if isinstance(data, Pieces) else len(data)
        if size >= WORTH and self._large is not None and (in_pieces or self._large.expect(message)):
            self.pack = self._large.pack
        if size > SHORT:
            if size > self._max_message:
                self._check(name, message, size)
            self._check_nesting(name, message, size)
        # race: a signal handler sends while the lane is being written
        waits = self._writing or self._short < 0
        return not in_pieces and not (waits and (self._slow or size >= LARGE) and self._slow.is_for(name, data))

    def _wait_in_lane(self, name: str, data: bytes | Pieces) -> None:
        self.stop_batches()
        self._short = self._longest_row = -1  # as long as a message waits there, each one must be checked
        outbox = self._outbox
        self._sealed += outbox  # what was sent before it stays before it
        del outbox[:]
        self._tight = 0
        self._slow.put(name, data)
        if self._short >= 0:  # race: a signal handler has sent meanwhile, and found nothing there when it wrote
            self.stop_batches()
            self._short = self._longest_row = -1

    def _push(self) -> bool:
        if self._flush_at == 0:
            turn = self._loop.iteration
            if turn != self._turn and self.low_mark:  # 0: a caller waits for the last byte, and is told when a turn ends
                self._turn = turn
                self._write_first()
                return self._queued > self.high_mark
            self._run_callback(self._turn_ends)  # race: Ctrl-C anywhere from here on, and the turn ends all the same
            self._flush_at = FIRST_FLUSH
            if self._queued < FIRST_FLUSH and turn == self._turn:
                return self._queued > self.high_mark
            self._turn = turn
        if self._writing:
            self._end_batch()
            self._tighten()
        else:
            self._flush_at = min(4 * self._flush_at, FLUSH_AT)
            self._flush()
        return self._queued > self.high_mark

    def _write_first(self) -> None:
        """Write the first message of a turn: round trips consist of such messages."""
        self._batch_name = None  # there is no batch of one
        outbox = self._outbox
        try:
            written = map(self.sock.send, outbox)
            if (
                self.tls is not None or self.batch is not None or self.reason is not None or self._queued > PIECE
                or self._front or self._sealed or self._writing
            ):  # fmt: skip
                self._flush()
                return
            for sent in written:  # race: see above; one is written, and the outbox may have become empty meanwhile
                rest = outbox[0][sent:]
                del outbox[0]
                self._queued -= sent
                self.sent_messages += 1
                self.sent_bytes += sent
                if rest:
                    self._front += [rest]
                break
        except OSError:
            self._flush()  # which knows what to do
            return
        if self._front:
            self._wait_writable()
        elif outbox:
            self._flush()

    def _tighten(self) -> None:
        """Join messages that wait for a full socket: a tiny one by itself takes five times its length."""
        outbox, start = self._outbox, self._tight
        end = len(outbox) - (1 if outbox and len(outbox[-1]) >= PIECE else 0)  # a piece that is long enough is not copied
        if end - start > 1:
            parts = outbox[start:end]
            joined = b"".join(parts)
            if outbox[start:end] == parts:  # race: a signal handler has sent, and done this, meanwhile
                outbox[start:end] = [joined]
                self.sent_messages += end - start - 1  # as one piece it will count for one
        self._tight = len(outbox)
        self._flush_at = min(self._queued + FLUSH_AT, self.high_mark)

    def write(self, data: bytes) -> None:
        """Put bytes into the outbox, as `send` does with a message."""
        if data and self.reason is None:
            self._end_batch()
            self._outbox.append(data)
            self._queued += len(data)
            if self._queued >= self._flush_at:
                self._push()

    def _turn_ends(self) -> None:
        if self._queued or self.batch is not None or self.tls is not None:
            self._flush()
        if not self._writing:
            if self.batch is not None:  # race: a signal handler has sent meanwhile
                self._run_callback(self._turn_ends)
                return
            self._flush_at, self._batch_name, self._turn = 0, None, NO_TURN
            if self.low_mark == 0:  # a caller waits for the last byte
                self._drained(self)

    def flush(self) -> None:
        """Write now what would be written at the end of the turn, as far as the socket takes it."""
        if self.up:
            self._flush()

    def _flush(self) -> None:
        """Write until the outbox is empty, the socket is full, or this pass of the loop has written enough."""
        if self._writing or self.reason is not None:
            return
        front = self._front
        try:
            while front or self._next_piece():
                rest: bytes | memoryview = b""
                for sent in map(self.sock.send, front):
                    rest = front[0][sent:]
                    if rest:
                        front[0] = rest
                    else:
                        del front[0]
                    self._queued -= sent
                    self.sent_bytes += sent
                    self._budget -= sent
                    break
                if rest or self._budget <= 0:
                    self._wait_writable()
                    return
                if self._queued == 0 and self.batch is None and self.tls is None:
                    return  # TLS may have something of its own to send
            if not self._encrypting and (self.tls is None or self.tls.ready):
                self._queued = 0  # race: Ctrl-C came before what was sent was counted
        except (BlockingIOError, InterruptedError):
            self._wait_writable()
        except (OSError, ProtocolError) as error:
            # race: the owner may be in the middle of a send: let the loop report the end
            self._run_callback(self._write_failed, error)

    def _next_piece(self) -> bool:
        """Put what is to be written next in front, as it goes over the wire; return False if there is nothing."""
        if self.tls is None:
            return self._take(self._front)
        if self._encrypting:  # race: this is a signal handler that sends; the code that it interrupted resumes afterwards
            return False
        if self.tls.ready and not self._plain:
            self._take(self._plain)
        self._encrypting = True
        try:
            self._encrypt(self.tls)
        except ProtocolError:
            self._encrypting = False
            raise
        except BaseException as error:  # race: a piece may be encrypted but not in front: nothing more may be written
            self._run_callback(self._torn, error)
            raise
        self._encrypting = False
        return bool(self._front)

    def _encrypt(self, tls: Tls) -> None:
        plain, size = self._plain, 0
        if tls.ready and plain:
            view = memoryview(plain[0])
            size = min(len(view), CHUNK)
            data = tls.encrypt(view[:CHUNK])
            if size < len(view):
                plain[0] = view[CHUNK:]
            else:
                del plain[0]
        else:
            data = tls.output()
        if data:
            self._front.append(data)
        self._queued += len(data) - size

    def _take(self, to: list[bytes | memoryview]) -> bool:
        """Move the small messages that wait to `to`, or one of the slow lane in turn, so that neither starves."""
        self._end_batch()
        while True:
            outbox = self._sealed or self._outbox
            if self._short < 0 and not self._sealed and (self._slow_next or not outbox):  # the slow lane is in use
                self._slow_next = False
                taken = self._slow.pop_into(to)
                if not self._slow:
                    self._short, self._longest_row = SHORT, self._row_limit
                if taken:
                    self.sent_messages += 1
                    return True
                continue  # race: Ctrl-C before the first one was put there
            if not outbox:
                return False
            tight = self._tight if outbox is self._outbox else 0
            parts = _for_a_call(outbox[:tight]) if tight else outbox[:]
            count, data = len(parts), b"".join(parts)  # which does not copy a single one
            if outbox[:count] == parts:  # race: a signal handler has sent, and taken them, meanwhile
                to += [data]
                del outbox[:count]
                if tight:
                    self._tight -= count
                self.sent_messages += count
                self._slow_next = True
                return True

    def _wait_writable(self) -> None:
        self._end_batch()  # otherwise it would grow whenever the socket takes a bit: a batch has a longest length
        if self._writing:  # race: a signal handler has sent meanwhile
            return
        self._writing = True
        front = self._front
        if front:
            front[0] = memoryview(front[0])  # what is left of it is not copied each time
        self._flush_at = min(self._queued + FLUSH_AT, self.high_mark)
        self._writer.start(self._writable)

    def _writable(self) -> None:
        self._writing = False
        self._writer.stop()
        self._budget = A_TURN
        self._flush_at = FLUSH_AT
        self._flush()
        if not self._writing:
            if self.batch is not None:  # race: as in `_turn_ends`
                self._run_callback(self._turn_ends)
            else:
                self._flush_at, self._batch_name = 0, None
        if self.queued <= self.low_mark:
            self._drained(self)

    def mend(self) -> None:
        """Resume after an interrupt of a callback of the loop, or of a send; in the hub."""
        if self._writing:
            if not self._writer.active:
                self._writable()
        elif self._flush_at or self._outbox or self._front or self._slow:
            self._turn_ends()


def _for_a_call(pieces: list[bytes]) -> list[bytes]:
    """Return the first of them, as many as are worth a system call: a Unix socket counts short ones twice, and is full."""
    size = 0
    for count, piece in enumerate(pieces, 1):
        size += len(piece)
        if size >= PIECE:
            return pieces[:count]
    return pieces
