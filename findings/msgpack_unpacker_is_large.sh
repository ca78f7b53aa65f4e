#!/bin/sh
# msgpack 1.1.2 and 1.2.4 for Python: an Unpacker that was fed nothing takes 40 KiB of memory, beside its buffer.
#
# The C extension keeps the stack of a nested object within the Unpacker: 1024 levels of 40 bytes. So a program that keeps an
# Unpacker for each connection, or two, pays more for them than for the sockets: 10,000 connections with two take 800 MB.
# The buffer comes on top; its size is that of read_size=, 1 MiB unless said otherwise, and it is touched from end to end.
#
# Seen with Python 3.11.7 (the C extension):
#   msgpack 1.1.2: sys.getsizeof(Unpacker()) is 41232
#   msgpack 1.2.4: sys.getsizeof(Unpacker()) is 41256
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 1.1.2 1.2.4; do
    "$folder/venv/bin/pip" install --quiet "msgpack==$version"
    "$folder/venv/bin/python" - <<'PYTHON'
import sys

import msgpack

version = ".".join(map(str, msgpack.version))
size = sys.getsizeof(msgpack.Unpacker())
assert size > 40_000, f"msgpack {version}: an Unpacker takes {size} bytes now"
print(f"msgpack {version}: sys.getsizeof(Unpacker()) is {size}")
PYTHON
done
