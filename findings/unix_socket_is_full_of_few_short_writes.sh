#!/bin/sh
# Linux 6.18, gevent 26.9.0 (CPython 3.11.7): a Unix stream socket counts each write with what the kernel needs to hold it, 768 bytes
# at least, against SO_SNDBUF (212,992 here), and never joins two. So a greenlet that writes rows of 10 bytes waits after 278 of
# them, 3 kB, when nobody reads; over TCP on loopback, whose kernel joins what waits, more than a megabyte goes. Pieces of 5 and
# 10 KiB fill it with less, too, than pieces of 32 KiB. What writes over both joins rows itself, up to 32 KiB or more.
#
# Seen:
#     Unix: rows of 10 bytes 278, pieces of 1 KiB 95 kB, 5 KiB 174 kB, 32 KiB 229 kB; TCP: rows of 10 bytes 100001
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gevent==26.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket as native

import gevent
from gevent import socket


def tcp():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return socket.create_connection(listener.getsockname()), listener.accept()[0]


def written(pair, size, most=100_001):
    """How many pieces of `size` bytes a greenlet writes before it waits, as nobody reads."""
    writer, reader = pair
    count = 0

    def write():
        nonlocal count
        while count < most:
            writer.sendall(b"x" * size)
            count += 1

    writing = gevent.spawn(write)
    writing.join(1.0)
    writing.kill()
    writer.close(), reader.close()
    return count


def unix():
    pair = socket.socketpair()
    assert pair[0].family == native.AF_UNIX
    return pair


rows, over_tcp = written(unix(), 10), written(tcp(), 10)
filled = {size: written(unix(), size) * size for size in (1024, 5 * 1024, 32 * 1024)}
shown = ", ".join(f"{size // 1024} KiB {count // 1000} kB" for size, count in filled.items())
print(f"Unix: rows of 10 bytes {rows}, pieces of {shown}; TCP: rows of 10 bytes {over_tcp}")
assert rows < 1000 and over_tcp > 100_000, "changed"
assert filled[1024] < filled[5 * 1024] < filled[32 * 1024], "changed"
PYTHON
