#!/bin/sh
# glibc 2.36 (Debian 12) with CPython 3.11, 3.12, 3.13 and msgpack 1.2.4: a program that packs messages of 64 KiB gets new pages
# from the system for each, for as long as it runs, though it frees as much as it makes: free memory at the end of the heap is
# given back when it is more than 128 KiB (M_TRIM_THRESHOLD). It ends by chance, when any larger block is freed: one that had a
# mapping of its own raises the threshold to twice its size (and that of what gets such a mapping to its size). So one
# `bytes(1 << 20)` that is dropped untouched, which takes two system calls and no memory, ends it for good.
#
# Seen with Python 3.11.7, 3.12.1 and 3.13.0 alike:
#     page faults a message of 64 KiB: 16.1; once bytes(1 << 20) was dropped: 0.0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet msgpack==1.2.4
env -u MALLOC_TRIM_THRESHOLD_ -u MALLOC_MMAP_THRESHOLD_ "$folder/venv/bin/python" - <<'PYTHON'
import resource

import msgpack

OCTETS = bytes(64 * 1024)


def faults():
    """Page faults for each message, of 600 in bursts of twelve."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [msgpack.packb([number, OCTETS]) for number in range(12)]
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 600


faults()
first = faults()
bytes(1 << 20)
faults()
then = faults()
print(f"page faults a message of 64 KiB: {first:.1f}; once bytes(1 << 20) was dropped: {then:.1f}")
assert first > 4 and then < 0.5, "changed"
PYTHON
