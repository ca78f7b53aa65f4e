"""gRPC's Python: methods without a generated stub, whose messages msgpack makes; the server has a thread for each call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgpack

from benchmarks.programs.measure import KIB, Far, emit, emit_rate, emit_round_trips, main, now, ready, scaled

CALLERS = 100
_running = 0
_lock = threading.Lock()


def add(request: tuple[int, int], _: grpc.ServicerContext) -> int:
    """Their sum."""
    return request[0] + request[1]


def rows(request: tuple[int, int], _: grpc.ServicerContext) -> Iterator[bytes]:
    """So many rows."""
    count, size = request
    row = b"x" * size
    return (row for _ in range(count))


def wait(_: int, context: grpc.ServicerContext) -> None:
    """Work that never ends, until nobody waits for it: gRPC does not stop a method, it has to ask."""
    global _running
    ended = threading.Event()
    with _lock:
        _running += 1
    if context.add_callback(ended.set):
        ended.wait()
    with _lock:
        _running -= 1


def running(_: int, __: grpc.ServicerContext) -> int:
    """How many of these run."""
    return _running


_CODING = {"request_deserializer": msgpack.unpackb, "response_serializer": msgpack.packb}
_METHODS = {
    "add": grpc.unary_unary_rpc_method_handler(add, **_CODING),
    "rows": grpc.unary_stream_rpc_method_handler(rows, **_CODING),
    "wait": grpc.unary_unary_rpc_method_handler(wait, **_CODING),
    "running": grpc.unary_unary_rpc_method_handler(running, **_CODING),
}


def far() -> None:
    """Serve."""
    server = grpc.server(ThreadPoolExecutor(2 * CALLERS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("measured", _METHODS),))
    number = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{number}")
    server.wait_for_termination()


def method(channel: grpc.Channel, name: str, *, streams: bool = False) -> Any:
    """A method of the server."""
    make = channel.unary_stream if streams else channel.unary_unary
    return make(f"/measured/{name}", request_serializer=msgpack.packb, response_deserializer=msgpack.unpackb)


def round_trips() -> None:
    """W5."""
    times = []
    with Far("grpc_peer", "far") as other, grpc.insecure_channel(other.ready) as channel:
        call = method(channel, "add")
        for value in range(scaled(3_000) + 300):
            start = now()
            call((value, 1))
            times.append(now() - start)
    emit_round_trips(times[300:])


def calls() -> None:
    """W6, W14: 100 threads share a channel."""
    each, begin = scaled(50), threading.Barrier(CALLERS + 1)
    with Far("grpc_peer", "far") as other, grpc.insecure_channel(other.ready) as channel:
        call = method(channel, "add")
        assert call((1, 2)) == 3

        def caller() -> None:
            begin.wait()
            for value in range(each):
                assert call((value, 1)) == value + 1

        threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        begin.wait()
        start = now()
        for thread in threads:
            thread.join()
        emit_rate(CALLERS * each, now() - start, unit="call/s")


def stream_of_rows() -> None:
    """W15."""
    count = scaled(20_000)
    with Far("grpc_peer", "far") as other, grpc.insecure_channel(other.ready) as channel:
        stream = method(channel, "rows", streams=True)
        assert sum(1 for _ in stream((1000, KIB))) == 1000
        start = now()
        got = sum(1 for _ in stream((count, KIB)))
        assert got == count, f"{got} of {count} rows arrived"
        emit_rate(count, now() - start, KIB)


def cancelled_work() -> None:
    """W16: 100 calls under way, and cancelled, until none of them runs."""
    rounds, seconds = scaled(20), 0.0
    with Far("grpc_peer", "far") as other, grpc.insecure_channel(other.ready) as channel:
        wait, running = method(channel, "wait"), method(channel, "running")
        for _ in range(rounds):
            under_way = [wait.future(0) for _ in range(CALLERS)]
            while running(0) < CALLERS:
                pass
            start = now()
            for call in under_way:
                call.cancel()
            while running(0):
                pass
            seconds += now() - start
        emit_rate(rounds * CALLERS, seconds, unit="stop/s")


def start_to_reply() -> None:
    """W8."""
    with Far("grpc_peer", "far") as other:
        start = now()
        with grpc.insecure_channel(other.ready) as channel:
            assert method(channel, "add")((2, 3)) == 5
        emit("ms", 1e3 * (now() - start))


if __name__ == "__main__":
    main(
        {
            "W5": round_trips,
            "W5@1core": round_trips,
            "W6": calls,
            "W8": start_to_reply,
            "W14": calls,
            "W15": stream_of_rows,
            "W16": cancelled_work,
        },
        far,
    )
