"""The floor: what gevent, msgpack and a socket allow with nothing on top, on this machine and at this moment.

No names, no checks, no monitors, no heartbeat, no high mark, no dead ports, one connection, never closed; a mailbox is a
deque and one greenlet that is woken through the loop, the first message of a turn is written at once and the rest when it
ends. What gmp misses to these figures is the price of its promises; what they miss to Erlang's, no Python code can mend.

The same with TLS, when ``GMP_BENCH_TLS`` names a folder with ``node.pem``: OpenSSL behind memory BIOs as gmp has it (with
the socket in its hands a system call would be made for each record of 16 KiB), and nothing else.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import msgpack
from gevent import get_hub
from greenlet import getcurrent

from benchmarks.programs.measure import (
    KIB,
    LARGE,
    MIB,
    PACE,
    Far,
    emit_rate,
    emit_round_trips,
    main,
    now,
    ready,
    scaled,
)

FLUSH_AT = 64 * KIB
MARK = MIB
READ, WRITE = 1, 2


class Mailbox:
    """Messages, and whoever waits for one."""

    __slots__ = ("_hub", "_queue", "_waiter")

    def __init__(self) -> None:
        self._hub, self._queue, self._waiter = get_hub(), deque[Any](), None

    def put(self, message: Any) -> None:
        """Append, and wake once."""
        self._queue.append(message)
        if self._waiter is not None:
            self._hub.loop.run_callback(self._waiter.switch)
            self._waiter = None

    def take(self) -> Any:
        """The next message."""
        while not self._queue:
            self._waiter = getcurrent()
            self._hub.switch()
        return self._queue.popleft()


class Link:
    """One socket; `mailboxes` has the destinations of what comes in by the first element."""

    def __init__(self, sock: socket.socket, mailboxes: dict[int, Any]) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._find, self._loop = sock, mailboxes.get, get_hub().loop
        self._pack, self._unpacker = msgpack.Packer().pack, msgpack.Unpacker(use_list=False, max_buffer_size=128 * MIB)
        self._outbox: list[bytes] = []
        self._queued, self._turn, self._blocked = 0, False, False
        self._waiting: list[Callable[[], None]] = []
        self._buffer = bytearray(256 * KIB)
        self._view = memoryview(self._buffer)
        self._writer = self._loop.io(sock.fileno(), WRITE)
        self._reader = self._loop.io(sock.fileno(), READ)
        self._reader.start(self._readable)

    def send(self, *message: Any) -> None:
        """Send; waits while more than the mark is queued."""
        data = self._pack(message)
        self._outbox.append(data)
        self._queued += len(data)
        if not self._turn:
            self._turn = True
            self._loop.run_callback(self._turn_ends)
            self._flush()
        elif self._queued >= FLUSH_AT and not self._blocked:
            self._flush()
        if self._queued > MARK:
            self._waiting.append(getcurrent().switch)
            get_hub().switch()

    def _turn_ends(self) -> None:
        self._turn = False
        if self._outbox and not self._blocked:
            self._flush()

    def _flush(self) -> None:
        data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
        self._outbox.clear()
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        self._queued -= sent
        if sent < len(data):
            self._outbox.append(data[sent:])
            self._blocked = True
            self._writer.start(self._writable)

    def _writable(self) -> None:
        self._blocked = False
        self._writer.stop()
        self._flush()
        if self._queued < MARK // 2:
            waiting, self._waiting = self._waiting, []
            for switch in waiting:
                self._loop.run_callback(switch)

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if not count:
            self._reader.stop()
            return
        self._take(self._view[:count])

    def _take(self, data: memoryview) -> None:
        """What was read."""
        self._unpacker.feed(data)
        find = self._find
        for message in self._unpacker:
            find(message[0]).put(message)


class TlsLink(Link):
    """The same over TLS, with mutual certificates. The handshake blocks."""

    def __init__(self, sock: socket.socket, mailboxes: dict[int, Any], folder: str, *, server: bool) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode, path = False, ssl.CERT_REQUIRED, f"{folder}/node.pem"
        context.load_cert_chain(path)
        context.load_verify_locations(path)
        if server:
            context.num_tickets = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self._plain = memoryview(bytearray(512 * KIB))
        self._left: memoryview | bytes = b""  # encrypted, and not taken by the socket
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                self._incoming.write(sock.recv(64 * KIB))
        sock.sendall(self._outgoing.read())
        super().__init__(sock, mailboxes)

    def _flush(self) -> None:
        send, write, encrypted = self._sock.send, self._tls.write, self._outgoing.read
        plain = memoryview(self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox))
        self._outbox.clear()
        while plain or self._left:
            if not self._left:
                count = write(plain[: 128 * KIB])
                plain, self._left = plain[count:], encrypted()
                self._queued -= count
            try:
                self._left = memoryview(self._left)[send(self._left) :]
            except BlockingIOError:
                if plain:
                    self._outbox.append(plain)  # type: ignore[arg-type]
                self._blocked = True
                self._writer.start(self._writable)
                return

    def _take(self, data: memoryview) -> None:
        self._incoming.write(data)
        plain, read, end = self._plain, self._tls.read, 0
        try:
            while self._incoming.pending:
                end += read(len(plain) - end, plain[end:])  # type: ignore[operator, arg-type]
        except ssl.SSLWantReadError:
            pass
        super()._take(plain[:end])


def make_link(sock: socket.socket, boxes: dict[int, Any], *, server: bool) -> Link:
    """A link, with TLS if that is wanted."""
    folder = os.environ.get("GMP_BENCH_TLS")
    return TlsLink(sock, boxes, folder, server=server) if folder else Link(sock, boxes)


SINK, ECHO, CALCULATOR, ME = 1, 2, 3, 4


def far() -> None:
    """Count, echo and calculate."""
    boxes = {number: Mailbox() for number in (SINK, ECHO, CALCULATOR)}
    server = socket.create_server(("127.0.0.1", 0))
    ready(server.getsockname()[1])
    link = make_link(server.accept()[0], boxes, server=True)

    def sink() -> None:
        count, take, send = 0, boxes[SINK].take, link.send
        while True:
            message = take()
            if message[1] == "tag":
                count += 1
            else:
                send(ME, "ack", count)
                count = 0

    def echo() -> None:
        while True:
            message = boxes[ECHO].take()
            link.send(ME, "pong", message[2])

    def calculator() -> None:
        while True:
            _, _, a, b, reply = boxes[CALCULATOR].take()
            link.send(reply, a + b)

    gevent.joinall([gevent.spawn(serve) for serve in (sink, echo, calculator)])


def connect(other: Far, boxes: dict[int, Any]) -> Link:
    """A link to the far process."""
    return make_link(socket.create_connection(("127.0.0.1", other.ready)), boxes, server=False)


def one_way_local() -> None:
    """W1."""
    count, box = scaled(1_000_000, PACE), Mailbox()

    def receive() -> None:
        take = box.take
        for _ in range(count):
            take()

    receiver = gevent.spawn(receive)
    gevent.sleep(0)
    start = now()
    for first in range(0, count, PACE):
        for value in range(first, first + PACE):
            box.put(("tag", value))
        gevent.sleep(0)
    receiver.join()
    emit_rate(count, now() - start)


def ping_pong_local() -> None:
    """W2."""
    count, left, right = scaled(200_000), Mailbox(), Mailbox()

    def pong() -> None:
        while True:
            _, who, value = right.take()
            who.put(("pong", value))

    def ping() -> None:
        for value in range(count):
            right.put(("ping", left, value))
            left.take()

    gevent.spawn(pong)
    gevent.sleep(0)
    start = now()
    gevent.spawn(ping).join()
    emit_rate(count, now() - start, unit="rtt/s")


def one_way(count: int, size: int) -> None:
    """W3, W4."""
    count, me = scaled(count), Mailbox()
    with Far("bare_peer", "far") as other:
        send = connect(other, {ME: me}).send
        payload = (b"x" * size,) if size else ()
        for value in range(min(count, 1000)):
            send(SINK, "tag", value, *payload)
        send(SINK, "done")
        me.take()
        start = now()
        if payload:
            (data,) = payload
            for value in range(count):
                send(SINK, "tag", value, data)
        else:
            for value in range(count):
                send(SINK, "tag", value)
        send(SINK, "done")
        assert me.take()[2] == count
        emit_rate(count, now() - start, size)


def round_trips() -> None:
    """W5."""
    count, warm_up, me, times = scaled(20_000), scaled(1_000), Mailbox(), []
    with Far("bare_peer", "far") as other:
        link = connect(other, {ME: me})
        for value in range(count + warm_up):
            start = now()
            link.send(ECHO, "ping", value)
            me.take()
            times.append(now() - start)
        emit_round_trips(times[warm_up:])


def calls() -> None:
    """W6."""
    each = scaled(1_000)
    with Far("bare_peer", "far") as other:
        boxes: dict[int, Any] = {100 + number: Mailbox() for number in range(100)}
        link = connect(other, boxes)

        def caller(number: int) -> None:
            for value in range(each):
                link.send(CALCULATOR, "add", value, 1, number)
                assert boxes[number].take()[1] == value + 1

        start = now()
        gevent.joinall([gevent.spawn(caller, number) for number in boxes], raise_error=True)
        emit_rate(100 * each, now() - start, unit="call/s")


if __name__ == "__main__":
    main(
        {
            "W1": one_way_local,
            "W2": ping_pong_local,
            "W3": lambda: one_way(1_000_000, 0),
            "W4": lambda: one_way(300_000, KIB),
            **{name: partial(one_way, *large) for name, large in LARGE.items()},
            "W5": round_trips,
            "W5@1core": round_trips,
            "W6": calls,
        },
        far,
    )
