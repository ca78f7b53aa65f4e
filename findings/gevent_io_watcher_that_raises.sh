#!/bin/sh
# gevent 26.9.0 (libev): when the callback of an io watcher raises, gevent stops that watcher for good, and so nothing is
# ever read from the socket again. A repeating timer whose callback raises goes on, and so does the loop. That hits programs
# in which a signal handler raises (Ctrl-C): the exception comes out of whatever callback happens to run.
#
# Seen: "io: called 1 time, active afterwards: False" and "timer: called 3 times, active afterwards: True".
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install gevent==26.9.0
"$folder/venv/bin/python" - <<'PROGRAM'
import socket
import sys

import gevent

hub = gevent.get_hub()
hub.exception_stream = None  # the tracebacks are expected
calls = {"io": 0, "timer": 0}
near, far = socket.socketpair()


def fails(what):
    calls[what] += 1
    raise ValueError(what)


reader = hub.loop.io(near.fileno(), 1)
reader.start(fails, "io")
far.send(b"x")  # it stays readable
timer = hub.loop.timer(0.01, 0.01)
timer.start(fails, "timer")
while calls["timer"] < 3:
    gevent.sleep(0.005)
print("io: called", calls["io"], "time, active afterwards:", reader.active)
print("timer: called", calls["timer"], "times, active afterwards:", timer.active)
same = gevent.__version__ == "26.9.0" and calls["io"] == 1 and not reader.active and timer.active
timer.close()
reader.close()
sys.exit(0 if same else 1)
PROGRAM
