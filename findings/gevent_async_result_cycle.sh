#!/bin/sh
# gevent 26.9.0: AsyncResult.get() that raises leaves a reference cycle behind, so that everything in the frames that waited
# stays until a full collection.
#
# concurrent.futures.Future.result() takes care of that ("Break a reference cycle with the exception"), and one expects the same
# of gevent. There the frames of get() and of what it calls keep `self`, which has the exception, whose traceback has the frames,
# and behind them the frame of whoever waited, with all its local variables: a socket, a connection with its buffers.
#
# Seen (with the collector off; True: what the waiting function had is gone when it has ended):
#   concurrent.futures: True
#   gevent: False
#   gevent, waiting first and raising by oneself: True
# Exits with 1 when that changes.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gevent==26.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import sys
import weakref
from concurrent.futures import Future

from gevent.event import AsyncResult


class Connection:
    """What a waiting function has in a local variable."""


def wait_future(results):
    connection = Connection()
    seen.append(weakref.ref(connection))
    results.pop().result()


def wait_gevent(results):
    connection = Connection()
    seen.append(weakref.ref(connection))
    results.pop().get()


def wait_and_raise(results):
    connection = Connection()
    seen.append(weakref.ref(connection))
    results[0].wait()
    error = results.pop().exception
    try:
        raise error
    finally:
        del error


def is_gone(result, wait):
    result.set_exception(ValueError("it has failed"))
    results = [result]
    del result
    try:
        wait(results)
    except ValueError:
        pass
    return seen[-1]() is None


seen = []
gc.disable()
found = [
    is_gone(Future(), wait_future),
    is_gone(AsyncResult(), wait_gevent),
    is_gone(AsyncResult(), wait_and_raise),
]
print("concurrent.futures:", found[0])
print("gevent:", found[1])
print("gevent, waiting first and raising by oneself:", found[2])
gc.collect()
assert seen[1]() is None, "a full collection frees it"
sys.exit(found != [True, False, True])
PYTHON
