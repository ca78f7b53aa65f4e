#!/bin/sh
# msgpack 1.1.2 for Python: when the limits of an Unpacker on lengths take effect.
#
# max_array_len and max_map_len refuse a head that claims too much as soon as it is read, before a single item has come.
# max_str_len and max_bin_len look alike but do not: the Unpacker goes on collecting a string whose head claims far too much,
# and refuses it only when all of its bytes are there. So these two bound what is made of bytes, not what waits in the buffer;
# only max_buffer_size does that, by BufferFull out of feed().
#
# Seen with Python 3.11.7, msgpack 1.1.2 (the C extension):
#   array: refused at its head
#   map: refused at its head
#   str: not refused at its head; nor with 999 of 1000 bytes; refused when whole
#   bin: not refused at its head; nor with 999 of 1000 bytes; refused when whole
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet msgpack==1.1.2
"$folder/venv/bin/python" - <<'PYTHON'
import msgpack


def refused(*pieces: bytes) -> bool:
    unpacker = msgpack.Unpacker(max_array_len=10, max_map_len=10, max_str_len=10, max_bin_len=10)
    try:
        for piece in pieces:
            unpacker.feed(piece)
            list(unpacker)
    except ValueError:
        return True
    return False


size = (1000).to_bytes(4, "big")
for name, head in (("array", b"\xdd"), ("map", b"\xdf")):
    assert refused(head + size), f"{name}: no longer refused at its head"
    print(f"{name}: refused at its head")
for name, head in (("str", b"\xdb"), ("bin", b"\xc6")):
    assert not refused(head + size), f"{name}: refused at its head now"
    assert not refused(head + size, b"x" * 999), f"{name}: refused before it is whole now"
    assert refused(head + size, b"x" * 1000), f"{name}: no longer refused"
    print(f"{name}: not refused at its head; nor with 999 of 1000 bytes; refused when whole")
PYTHON
