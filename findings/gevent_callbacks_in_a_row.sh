#!/bin/sh
# gevent 26.9.0: callbacks that were given to `loop.run_callback` in a row are not run in a row.
#
# One would guess that whatever stands in the loop's list of callbacks runs before the loop looks at timers and sockets again.
# But after each 50 callbacks gevent looks at the time, and when more than `sys.getswitchinterval()` (5 ms) is over it leaves the
# rest of the list for the next pass: timers that are due, and sockets, have their turn in the middle. So "one batch of
# callbacks" is no way to do several things without other code in between; one callback that does them all is.
#
# Seen on Python 3.11, CPython, libev: 200 callbacks of about 0.5 ms each, and a timer that is due at once:
#   the timer came behind 50 of 200 callbacks
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gevent==26.9.0
"$folder/venv/bin/python" - <<'END'
import sys
import time

import gevent

loop = gevent.get_hub().loop
done = 0
behind = []


def callback():
    global done
    until = time.perf_counter() + 0.0005
    while time.perf_counter() < until:
        pass
    done += 1


timer = loop.timer(0.001)
timer.start(lambda: behind.append(done))
for _ in range(200):
    loop.run_callback(callback)
while done < 200 or not behind:
    gevent.sleep(0.01)
print(f"the timer came behind {behind[0]} of 200 callbacks")
sys.exit(0 if 0 < behind[0] < 200 else 1)
END
