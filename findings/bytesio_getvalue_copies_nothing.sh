#!/bin/sh
# Python 3.11 (CPython): what was written into `io.BytesIO(bytes(size)).getbuffer()` comes out of `getvalue()` without a copy, as long
# as the views are released first: it is the object that was given, which is thus filled in place. So octets can be received by
# `recv_into` straight into a `bytes`, for which there is no other way: `bytes(bytearray)` and `bytes(view)` copy all of it.
# While a view is still there, `getvalue()` copies.
#
# Seen with 3.11.7, for 64 MiB (peak of the memory that is traced beyond the first 64 MiB):
#     view released: 0 MiB more; view still there: 64 MiB more; bytes(bytearray): 64 MiB more
set -eu
python3 - <<'PYTHON'
import io
import tracemalloc

SIZE = 64 << 20


def filled(release):
    file = io.BytesIO(bytes(SIZE))
    view = file.getbuffer()
    view[:5] = b"begin"
    if release:
        view.release()
    return file.getvalue()


def copied():
    array = bytearray(SIZE)
    array[:5] = b"begin"
    return bytes(array)


def more(function, *args):
    tracemalloc.start()
    value = function(*args)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert value[:5] == b"begin" and len(value) == SIZE
    return (peak - SIZE) >> 20


seen = more(filled, True), more(filled, False), more(copied)
print("view released: {} MiB more; view still there: {} MiB more; bytes(bytearray): {} MiB more".format(*seen))
assert seen == (0, 64, 64), "changed"
PYTHON
