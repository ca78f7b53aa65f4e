#!/bin/sh
# msgpack 1.2.4 (C extension, CPython 3.11): a Packer whose `default` hook packs something with the same Packer does not
# raise and does not nest. It has one buffer: the inner call returns what the outer one has packed so far with its own bytes
# behind it, and empties the buffer; the outer call returns what is left. Anything that runs in the hook may be the one
# that packs: a `__repr__`, a signal handler, a greenlet that was switched to. (Unpacker raises RuntimeError in the same place.)
#
# Seen, inner then outer:
#     a key behind the outer's own beginning: b'\x93\x01\xa5inner'
#     the outer's end alone, no array any more: b'\xc0\x02'
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check msgpack==1.2.4
"$folder/venv/bin/python" - <<'PYTHON'
import msgpack

assert msgpack.Packer.__module__ == "msgpack._cmsgpack", "the C extension is what this is about"
inner = []


def default(value):
    inner.append(packer.pack("inner"))
    return None


packer = msgpack.Packer(default=default)
outer = packer.pack([1, object(), 2])
print("a key behind the outer's own beginning:", inner[0])
print("the outer's end alone, no array any more:", outer)
assert inner[0] == b"\x93\x01\xa5inner", "changed"
assert outer == b"\xc0\x02", "changed"
PYTHON
