#!/usr/bin/env bash
# gevent 26.9.0 (Python 3.11): `gevent.socket` has `create_server`, as `socket` has, but it is the very function of the standard
# library: unlike `gevent.socket.create_connection` beside it, it makes a native socket, whose `accept` blocks the whole
# thread, so that no other greenlet runs and no `gevent.Timeout` fires. In a patched program it makes one of gevent's.
#
# Seen:
#   create_server is the standard library's: True
#   unpatched: create_server gives socket.socket; create_connection gives gevent._socket3.socket; ticks while it waits: 0
#   patched: create_server gives gevent._socket3.socket; create_connection gives gevent._socket3.socket; ticks while it waits: 5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gevent==26.9.0
cat > "$folder/program.py" << 'PYTHON'
import sys

if "patched" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import socket

import gevent
import gevent.socket

name = "patched" if "patched" in sys.argv else "unpatched"
server = gevent.socket.create_server(("127.0.0.1", 0))
client = gevent.socket.create_connection(server.getsockname())
server.accept()
ticks = 0


def tick():
    global ticks
    for _ in range(5):
        gevent.sleep(0.02)
        ticks += 1


ticking = gevent.spawn(tick)
gevent.sleep(0)
server.settimeout(0.5)
try:
    server.accept()  # nobody comes
except (TimeoutError, socket.timeout):
    pass
kinds = [f"{type(each).__module__}.{type(each).__name__}" for each in (server, client)]
if name == "unpatched":
    print(f"create_server is the standard library's: {gevent.socket.create_server is socket.create_server}")
print(f"{name}: create_server gives {kinds[0]}; create_connection gives {kinds[1]}; ticks while it waits: {ticks}")
sys.exit(ticks != {"unpatched": 0, "patched": 5}[name])
PYTHON
"$folder/venv/bin/python" "$folder/program.py"
"$folder/venv/bin/python" "$folder/program.py" patched
