"""A relay that passes bytes on at so many MB/s: ``throttle HOST:PORT RATE``. What comes back is not slowed down."""

from __future__ import annotations

import socket
import sys
import threading
import time

from benchmarks.programs.measure import KIB, ready


def slow(source: socket.socket, target: socket.socket, rate: float) -> None:
    """Copy at `rate` bytes a second."""
    due = time.monotonic()
    while data := source.recv(64 * KIB):
        target.sendall(data)
        due = max(due, time.monotonic()) + len(data) / rate
        time.sleep(max(0.0, due - time.monotonic()))


def fast(source: socket.socket, target: socket.socket) -> None:
    """Copy."""
    while data := source.recv(64 * KIB):
        target.sendall(data)


def main() -> None:
    """Relay one connection."""
    host, _, port = sys.argv[1].rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        ready({"bind": f"127.0.0.1:{server.getsockname()[1]}"})
        near, _ = server.accept()
    far = socket.create_connection((host, int(port)))
    threading.Thread(target=fast, args=(far, near), daemon=True).start()
    slow(near, far, float(sys.argv[2]) * 1e6)


if __name__ == "__main__":
    main()
