"""TCP between simulated hosts, as programs see it: what was sent arrives in order, or not at all; ends are told or not.

A `Half` carries one direction. Its segments lie in `flying` until they have arrived, however long the path is blocked;
an `End` is a kernel's end of a connection. What was delivered is acknowledged over the other direction, and makes room for
more. Acknowledgements need no events of their own: whoever asks for room, or for figures, settles those that are due.

race: a program closes its end while bytes come in: the kernel answers them by a reset, as it does for a host that has been
started anew and knows nothing of the connection. A reset can be lost: the next bytes are answered by another.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from gmp.testing.simulated.watchers import READ, WRITE, Io

if TYPE_CHECKING:
    from gmp.testing.simulated.paths import Network, Path

SEND_BUFFER, RECEIVE_BUFFER = 256 * 1024, 256 * 1024
SLICE = 0.1  # seconds of a slow line that a segment takes
FIN, RST = b"", None  # what a segment without bytes means
INFO = struct.Struct("=B2xB20xI16xI8xI80xII84x")  # Linux' tcp_info, as far as anybody here reads it
ESTABLISHED, CLOSED = 1, 7


class Half:
    """One direction of a connection: from the end `source` to `target`, over `path`; `back` carries acknowledgements."""

    def __init__(self, network: Network, path: Path, back: Path) -> None:
        self.path, self.back = path, back
        self.source: End
        self.target: End
        self.flying: deque[tuple[float, bytes | None]] = deque()  #: when each segment arrives, and what it is
        self.unacknowledged = 0  #: segments
        self.waiting = 0  #: bytes that take room in the send buffer
        self.stalled = False  #: the other program does not read
        self.last_sent = self.last_acknowledged = 0.0
        self._network, self._loop = network, network.loop
        self._last = 0.0  # when the last segment arrives
        self._scheduled = False
        self._acks: deque[tuple[float, int]] = deque()  # when each arrives, and for how many bytes
        self._is_cut_short = False
        self._unsaid = [0, 0]  # segments and bytes whose acknowledgement cannot get through

    def push(self, segment: bytes | None) -> None:
        """Send a segment."""
        if segment is RST and (self.path.blocked or self.stalled):
            self.flying.clear()  # what an abort gives up is never sent again,
            self.stalled = False
            if self.path.blocked:
                return  # and neither is the reset
        now = self._loop.time
        if self._is_cut_short and segment is not RST:
            self.last_sent = self.last_acknowledged = now  # something between takes it, and drops it
            self.source.segments_in += 1
            return
        if segment and self.path.rate:
            size = max(1, int(self.path.rate * SLICE))
            self.path.slowed[self._hurry] = None
            for start in range(0, len(segment), size):
                self._put(segment[start : start + size], now)
        else:
            self._put(segment, now)

    def cut_short(self) -> None:
        """Let the receiver see the end, while the sender is told nothing and goes on."""
        if not self._is_cut_short:
            self.push(FIN)
            self._is_cut_short = True

    def _put(self, segment: bytes | None, now: float) -> None:
        self._last = max(self._last, now + self.path.takes())
        if segment and self.path.rate:
            self._last += len(segment) / self.path.rate
        self.last_sent = now
        self.flying.append((self._last, segment))
        if segment:
            self.unacknowledged += 1
            self.waiting += len(segment)
        if not self._scheduled:
            self._schedule(self._last)

    def _hurry(self) -> None:
        """What is under way was slow, and is no longer."""
        self._last = soon = self._loop.time + self.path.takes()
        self.flying = deque((min(due, soon), segment) for due, segment in self.flying)
        self._loop.call_at(soon, self._arrive)

    def _schedule(self, due: float) -> None:
        self._scheduled = True
        self._loop.call_at(due, self._arrive)

    def _arrive(self) -> None:
        self._scheduled = False
        now, flying = self._loop.time, self.flying
        while flying:
            due, segment = flying[0]
            if due > now:
                self._schedule(due)
                return
            if self.path.blocked:
                if flying[-1][1] is RST:
                    flying.clear()  # as above
                else:
                    self.path.when_free(self._arrive)
                return
            if segment and self.target.is_full:
                self.stalled = True
                return
            flying.popleft()
            self._hand_over(segment)

    def _hand_over(self, segment: bytes | None) -> None:
        what = "reset" if segment is RST else f"{len(segment)} bytes" if segment else "end"
        self._network.note(f"{self.path.where} {self.target.where} {what}")
        if self.target.arrived(segment) and segment:
            self._acknowledge(len(segment))

    def _acknowledge(self, count: int) -> None:
        if self.back.blocked:
            if not self._unsaid[0]:
                self.back.when_free(self._say)
            self._unsaid[0] += 1
            self._unsaid[1] += count
            return
        self._confirm(1, count)

    def _say(self) -> None:
        """Acknowledge what could not be acknowledged while the way back was blocked."""
        if self.back.blocked:
            self.back.when_free(self._say)
            return
        (segments, count), self._unsaid = self._unsaid, [0, 0]
        self._confirm(segments, count)

    def _confirm(self, segments: int, count: int) -> None:
        due = self._loop.time + self.back.base + self.back.delay
        self._acks.append((due, count))
        self.unacknowledged -= segments - 1
        if self.source.is_starved:
            self._loop.call_at(due, self.source.look)

    def settle(self) -> None:
        """Take the acknowledgements that have arrived by now."""
        now, acks = self._loop.time, self._acks
        while acks and acks[0][0] <= now:
            self.last_acknowledged, count = acks.popleft()
            self.waiting -= count
            self.unacknowledged -= 1
            self.source.segments_in += 1

    def resume(self) -> None:
        """Go on: the other program has read."""
        if self.stalled:
            self.stalled = False
            self._arrive()

    def await_room(self) -> None:
        """The sender has no room: it is to look again when an acknowledgement arrives."""
        if self._acks:
            self._loop.call_at(self._acks[0][0], self.source.look)


class End:
    """A kernel's end of a connection: what has arrived, and a program's descriptor as long as it has one."""

    def __init__(self, host: str, local: tuple[str, int], remote: tuple[str, int], out: Half) -> None:
        self.local, self.remote = local, remote
        self.where = f"{local[0]}:{local[1]}"
        self.host = host
        self.out = out
        out.source = self
        self.back: Half  # by which it receives
        self.watchers: dict[Io, None] = {}
        self.segments_in = 0
        self.keepalive: list[int] = [0, 0, 0]  # first, interval, count; 0: off
        self.send_buffer = SEND_BUFFER
        self.resets = False  #: whether closing it is an abort
        self._received: deque[memoryview] = deque()
        self._waiting = 0  # bytes
        self._ended = self._shut = self._closed = self._dead = False
        self._error = 0

    # ---- the kernel

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the program that no more is taken."""
        return self._waiting >= RECEIVE_BUFFER and not self._closed

    @property
    def is_starved(self) -> bool:
        """Whether the program waits for room."""
        return any(watcher.wants & WRITE for watcher in self.watchers)

    def arrived(self, segment: bytes | None) -> bool:
        """Take a segment; return whether a program may still get it."""
        self.segments_in += 1
        if segment is RST:
            if not self._dead:
                self._fail(errno.EPIPE if self._ended else errno.ECONNRESET)  # as Linux does
        elif self._closed or self._dead:
            if segment:
                self._reset()
            return False
        elif segment:
            self._received.append(memoryview(segment))
            self._waiting += len(segment)
            self.look()
        else:
            self._ended = True
            self.look()
        return True

    def _fail(self, error: int) -> None:
        self._dead = True
        self._error = error
        self.look()

    def _reset(self) -> None:
        self._dead = True
        self.out.push(RST)

    def cut(self) -> None:
        """Reset it at both ends, in this moment."""
        for end in (self, self.out.target):
            end.out.flying.clear()
            end.arrived(RST)

    def expect_keepalive(self) -> None:
        """A fault begins: where its packets cannot pass, the kernel gives up once its probes went unanswered for long."""
        first, interval, count = self.keepalive
        if first and (self.out.path.blocked or self.out.back.blocked):
            out = self.out
            due = out.path.since + first + interval * count, out.back.since + first + interval * count
            out._loop.call_at(max(due), self._keepalive_due, out.path.since, out.back.since)

    def _keepalive_due(self, there: float, back: float) -> None:
        out = self.out
        still = (out.path.blocked and out.path.since == there) or (out.back.blocked and out.back.since == back)
        if still and not self._closed and not self._dead and not out.flying:
            self._fail(errno.ETIMEDOUT)

    def look(self) -> None:
        """Tell those who watch that something may have changed."""
        for watcher in list(self.watchers):
            watcher.look()

    def is_ready(self, events: int) -> int:
        """As `Pollable`."""
        found = 0
        if events & READ and (self._received or self._ended or self._dead):
            found = READ
        if events & WRITE and (self._dead or self._shut or self._room()):
            found |= WRITE
        return found

    def _room(self) -> int:
        out = self.out
        room = self.send_buffer - out.waiting
        if room <= 0:
            out.settle()
            room = self.send_buffer - out.waiting
            if room <= 0:
                out.await_room()
        return max(room, 0)

    # ---- for the program

    def receive_into(self, buffer: memoryview) -> int:
        """Return how many bytes were moved into `buffer`. *Raises:* `OSError`, as a socket that does not block."""
        received, count = self._received, 0
        while received and count < len(buffer):
            piece = received[0]
            taken = min(len(piece), len(buffer) - count)
            buffer[count : count + taken] = piece[:taken]
            count += taken
            if taken == len(piece):
                received.popleft()
            else:
                received[0] = piece[taken:]
        if count:
            full = self._waiting >= RECEIVE_BUFFER
            self._waiting -= count
            if full and not self.is_full:
                self.back.resume()
            return count
        if self._ended:
            return 0  # also when it is dead by now: whoever writes is told
        self.raise_error()
        if self._dead:
            return 0
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def raise_error(self) -> None:
        """*Raises:* the error that is pending, once."""
        error, self._error = self._error, 0
        if error == errno.ECONNRESET:
            raise ConnectionResetError(error, "Connection reset by peer")
        if error == errno.EPIPE:
            raise BrokenPipeError(error, "Broken pipe")
        if error:
            raise TimeoutError(error, "Connection timed out")

    def send(self, data: Any) -> int:
        """Send as much as there is room for. *Raises:* `OSError`, as a socket that does not block."""
        self.raise_error()
        if self._shut or self._dead:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        room = self._room()
        view = memoryview(data).cast("B")
        if not room:
            if len(view):
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return 0
        piece = bytes(view[:room])
        if piece:
            self.out.push(piece)
        return len(piece)

    def shut(self) -> None:
        """Send the end."""
        if not self._shut:
            self._shut = True
            if not self._dead:
                self.out.push(FIN)

    def close(self) -> None:
        """The program has closed it, or has died."""
        if self._closed:
            return
        self._closed = True
        if self._dead:
            pass
        elif self.resets or self._received:
            self._reset()
        else:
            self.shut()
        self._received.clear()
        self._waiting = 0
        self.back.resume()

    def vanish(self) -> None:
        """The host has no power any more: not a packet goes out, and whatever comes in later is answered by a reset."""
        self._closed = self._shut = True
        self._received.clear()
        self.out.flying.clear()
        self.back.path.when_free(self.back.resume)  # what had no room here is answered too

    def info(self) -> bytes:
        """Return what the kernel tells of the connection."""
        out = self.out
        out.settle()
        now = out._loop.time
        if out.stalled and not (out.path.blocked or out.back.blocked):
            self.segments_in += 1  # it asks for room all the time, and is answered
        sent, acknowledged = (round((now - since) * 1000) for since in (out.last_sent, out.last_acknowledged))
        waiting = out.waiting if out.stalled else 0
        unacknowledged = 0 if out.stalled else out.unacknowledged
        state = CLOSED if self._dead else ESTABLISHED
        return INFO.pack(state, 0, unacknowledged, sent, acknowledged, self.segments_in, waiting)


def connect(
    network: Network, near: str, far: str, client: tuple[str, int], server: tuple[str, int]
) -> tuple[End, End]:
    """Return the two ends of a new connection, from the host `near` to the host `far`."""
    there, back = network.path(near, far), network.path(far, near)
    out, home = Half(network, there, back), Half(network, back, there)
    first, second = End(near, client, server, out), End(far, server, client, home)
    out.target, home.target = second, first
    first.back, second.back = home, out
    return first, second
