#!/usr/bin/env bash
# gunicorn 27.0.1: each gunicorn makes a control socket (since 25.1), by default one path for each user ($XDG_RUNTIME_DIR/gunicorn.ctl,
# else ~/.gunicorn/gunicorn.ctl). A second gunicorn of the same user removes the first one's socket without a word and puts its own
# there; when the second ends it removes that, and the first, which still serves, cannot be controlled any more.
#
# Seen:
#   two sockets at one path, the second in the place of the first: inode differs, nothing is logged
#   after the second has ended: no socket, though the first runs
#   with control_socket_disable: no socket at all
#
# Exits with 0 while it is so, with 1 when it has changed.
set -u
work=$(mktemp -d)
export HOME="$work"
unset XDG_RUNTIME_DIR
first=""
second=""
trap 'kill $first $second 2> /dev/null; wait; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1 > "$work/pip.log" 2>&1 || { cat "$work/pip.log"; exit 2; }
printf 'def app(environ, start_response):\n    start_response("200 OK", [])\n    return [b"ok"]\n' > "$work/app.py"
cd "$work" || exit 2
socket="$work/.gunicorn/gunicorn.ctl"
inode() { stat -c %i "$socket" 2> /dev/null || echo none; }
logged() { for _ in $(seq 200); do grep -q "$2" "$1" && return; sleep 0.1; done; cat "$1"; exit 2; }

"$work/venv/bin/gunicorn" -b 127.0.0.1:0 app:app > first.log 2>&1 &
first=$!
logged first.log "Control socket listening"
before=$(inode)
"$work/venv/bin/gunicorn" -b 127.0.0.1:0 app:app > second.log 2>&1 &
second=$!
logged second.log "Control socket listening"
between=$(inode)
kill "$second"
wait "$second"
second=""
after=$(inode)
running=no
kill -0 "$first" && running=yes
complaints=$(grep -ciE "warn|error|in use" first.log second.log | awk -F: '{sum += $2} END {print sum}')
echo "the first's socket $before, with the second $between, after the second $after; the first runs: $running; complaints: $complaints"

"$work/venv/bin/gunicorn" -b 127.0.0.1:0 --no-control-socket app:app > third.log 2>&1 &
second=$!
logged third.log "Booting worker"
disabled=$(inode)
echo "with --no-control-socket: $disabled"

[ "$before" != none ] && [ "$between" != none ] && [ "$before" != "$between" ] && [ "$after" = none ] && [ "$running" = yes ] \
    && [ "$complaints" = 0 ] && [ "$disabled" = none ]
