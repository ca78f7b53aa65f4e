#!/usr/bin/env bash
# uWSGI 2.0.31 with its gevent loop engine (gevent 26.9.0, Python 3.11): a worker that ends in order (SIGTERM with
# --die-on-term) runs none of Python's functions for the end of a process: neither those of `atexit`, nor those that
# `threading._register_atexit` has (which concurrent.futures uses). Without the gevent engine the same worker runs them.
# Only the function that the application has assigned to `uwsgi.atexit` runs in both.
#
# Seen:
#   plain: atexit threading uwsgi.atexit
#   gevent: uwsgi.atexit
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uWSGI==2.0.31 gevent==26.9.0
cat > "$folder/app.py" << 'PYTHON'
import atexit
import os
import threading

import uwsgi
from uwsgidecorators import postfork


def note(what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(what + "\n")


@postfork
def start():
    atexit.register(note, "atexit")
    threading._register_atexit(note, "threading")
    uwsgi.atexit = lambda: note("uwsgi.atexit")
    open(os.environ["NOTES"] + ".ready", "w").close()


def application(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
PYTHON
cd "$folder"
play() {  # play NAME OPTION …: what a worker notes at its end
    local name=$1
    shift
    export NOTES="$folder/$name"
    touch "$NOTES"
    "$folder/venv/bin/uwsgi" --master --processes 1 --die-on-term --enable-threads --need-app --wsgi-file app.py \
        --http-socket 127.0.0.1:0 "$@" > "$folder/$name.log" 2>&1 &
    local server=$!
    for _ in $(seq 100); do [ -e "$NOTES.ready" ] && break; sleep 0.1; done
    sleep 1
    kill -TERM "$server"
    wait "$server" || true
    echo "$name: $(sort "$NOTES" | tr '\n' ' ' | sed 's/ $//')"
}
seen="$(play plain)
$(play gevent --gevent 10)"
echo "$seen"
[ "$seen" = "plain: atexit threading uwsgi.atexit
gevent: uwsgi.atexit" ]
