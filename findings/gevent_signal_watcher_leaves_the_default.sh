#!/usr/bin/env bash
# gevent 26.9.0 (Python 3.11): when the last watcher that `gevent.signal_handler` made for a signal is cancelled, the system's
# default has the signal, and not the handler of Python's that had it before. `signal.getsignal` does not notice: it names
# Python's handler all the time. So after a cancelled watcher for SIGINT Ctrl-C does not raise KeyboardInterrupt: it kills the
# process, without `finally` and without the functions of `atexit`. `signal.signal` with the same handler puts it back.
#
# Seen (how each process ended; 130 is what a shell shows for a process that SIGINT has killed):
#   never watched: KeyboardInterrupt atexit 0
#   watched: 130
#   watched, put back: KeyboardInterrupt atexit 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gevent==26.9.0
cat > "$folder/program.py" << 'PYTHON'
import atexit
import signal
import sys

import gevent

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(print, "atexit", end=" ", flush=True)
if "watched" in sys.argv:
    gevent.signal_handler(signal.SIGINT, print).cancel()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
if "back" in sys.argv:
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("KeyboardInterrupt", end=" ", flush=True)
PYTHON
play() {  # play NAME ARGUMENT …
    local name=$1 code=0
    shift
    printf '%s: ' "$name"
    "$folder/venv/bin/python" "$folder/program.py" "$@" || code=$?
    echo "$code"
}
seen="$(play "never watched"; play watched watched; play "watched, put back" watched back)"
echo "$seen"
[ "$seen" = "never watched: KeyboardInterrupt atexit 0
watched: 130
watched, put back: KeyboardInterrupt atexit 0" ]
