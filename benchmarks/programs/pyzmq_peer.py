"""pyzmq with msgpack: a transport, no actors. One way by PUSH and PULL, calls by DEALER and ROUTER; ZeroMQ batches in
threads of its own, which use the second processor too."""

from __future__ import annotations

from typing import Any

import msgpack
import zmq

from benchmarks.programs.measure import (
    KIB,
    MIB,
    Far,
    emit,
    emit_rate,
    emit_round_trips,
    free_port,
    main,
    now,
    ready,
    scaled,
)

context = zmq.Context()
pack, unpack = msgpack.Packer().pack, msgpack.unpackb


def bound(kind: int) -> tuple[Any, str]:
    """A socket that listens, and where."""
    sock, address = context.socket(kind), f"tcp://127.0.0.1:{free_port()}"
    sock.bind(address)
    return sock, address


def connected(kind: int, address: str) -> Any:
    """A socket that is connected."""
    sock = context.socket(kind)
    sock.connect(address)
    return sock


def far(kind: str) -> None:
    """Count, or calculate."""
    sock, address = bound(zmq.PULL if kind == "sink" else zmq.ROUTER)
    ready(address)
    if kind == "sink":
        count, back = 0, None
        while True:
            message = unpack(sock.recv())
            if message[0] == "tag":
                count += 1
            else:
                back = back or connected(zmq.PUSH, message[1])
                back.send(pack(("ack", count)))
                count = 0
    while True:
        who, body = sock.recv_multipart()
        number, a, b = unpack(body)
        sock.send_multipart((who, pack((number, a + b))))


def one_way(count: int, size: int) -> None:
    """W3, W4."""
    count = scaled(count)
    with Far("pyzmq_peer", "far", "sink") as other:
        acks, address = bound(zmq.PULL)
        sock = connected(zmq.PUSH, other.ready)
        sock.send(pack(("done", address)))
        acks.recv()
        payload = (b"x" * size,) if size else ()
        start = now()
        for value in range(count):
            sock.send(pack(("tag", value, *payload)))
        sock.send(pack(("done", address)))
        assert unpack(acks.recv()) == ["ack", count]
        emit_rate(count, now() - start, size)


def round_trips() -> None:
    """W5."""
    times = []
    with Far("pyzmq_peer", "far", "calculator") as other:
        sock = connected(zmq.DEALER, other.ready)
        for value in range(scaled(10_000) + 300):
            start = now()
            sock.send(pack((0, value, 1)))
            unpack(sock.recv())
            times.append(now() - start)
    emit_round_trips(times[300:])


def calls() -> None:
    """W6: a hundred outstanding calls, told apart by a number; without greenlets or threads for the callers."""
    each, callers = scaled(500), 100
    with Far("pyzmq_peer", "far", "calculator") as other:
        sock = connected(zmq.DEALER, other.ready)
        left = [each] * callers
        start = now()
        for number in range(callers):
            sock.send(pack((number, left[number], 1)))
        waiting = callers
        while waiting:
            number, value = unpack(sock.recv())
            assert value == left[number] + 1
            left[number] -= 1
            if left[number]:
                sock.send(pack((number, left[number], 1)))
            else:
                waiting -= 1
        emit_rate(each * callers, now() - start, unit="call/s")


def start_to_reply() -> None:
    """W8."""
    with Far("pyzmq_peer", "far", "calculator") as other:
        start = now()
        sock = connected(zmq.DEALER, other.ready)
        sock.send(pack((0, 2, 3)))
        assert unpack(sock.recv()) == [0, 5]
        emit("ms", 1e3 * (now() - start))


if __name__ == "__main__":
    main(
        {
            "W3": lambda: one_way(300_000, 0),
            "W4": lambda: one_way(150_000, KIB),
            "W4b": lambda: one_way(400, MIB),
            "W5": round_trips,
            "W5@1core": round_trips,
            "W6": calls,
            "W8": start_to_reply,
        },
        far,
    )
