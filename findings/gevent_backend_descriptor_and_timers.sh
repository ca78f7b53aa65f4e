#!/bin/sh
# gevent 26.9.0: the event loop's descriptor tells another loop nothing of timers.
#
# `gevent.get_hub().loop.fileno()` may be polled by another loop, such as asyncio's by `add_reader`, and one would guess that it
# becomes readable whenever gevent's loop has something to do. It does for sockets and the like alone: a timer that is due does not
# show there, and nothing tells when the next one is. So a guest has to look now and then as well.
#
# Seen on Python 3.11, libev, epoll:
#   a timer is due: readable False
#   a socket has data: readable True
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gevent==26.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import select, socket, sys, time
import gevent

hub = gevent.get_hub()
ran = []
gevent.spawn_later(0.1, ran.append, "timer")
here, there = socket.socketpair()
watcher = hub.loop.io(here.fileno(), 1)
watcher.start(ran.append, "socket")
gevent.sleep(0.01)  # the loop knows of both now; behind sleep(0) epoll would not have the socket yet

def readable():
    return bool(select.select([hub.loop.fileno()], [], [], 0)[0])

time.sleep(0.5)
timer = readable()
there.send(b"x")
data = readable()
print("a timer is due: readable", timer)
print("a socket has data: readable", data)
sys.exit((timer, data) != (False, True))
PYTHON
