#!/usr/bin/env bash
# gunicorn 27.0.1 (with gevent 26.9.0): `pip install gunicorn gevent` is not enough for `gunicorn -k gevent`. The gevent worker imports
# `packaging`, which is a requirement of the extra `gunicorn[gevent]` alone; gunicorn itself does not require it (older releases
# did, so that installing the two side by side used to work). `gunicorn --check-config -k gevent` does not notice.
#
# Seen:
#   without the extra: gunicorn ends with exit code 1 and "No module named 'packaging'"; --check-config says 0
#   with the extra:    the worker boots
#
# Exits with 0 while it is so, with 1 when it has changed.
set -u
work=$(mktemp -d)
server=""
trap 'kill $server 2> /dev/null; wait; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip() { "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$@" > "$work/pip.log" 2>&1 || { cat "$work/pip.log"; exit 2; }; }
printf 'def app(environ, start_response):\n    start_response("200 OK", [])\n    return [b"ok"]\n' > "$work/app.py"
cd "$work" || exit 2
start=("$work/venv/bin/gunicorn" -k gevent -b 127.0.0.1:0 --no-control-socket app:app)

pip gunicorn==27.0.1 gevent==26.9.0
"${start[@]}" --check-config > out 2>&1
checked=$?
timeout 60 "${start[@]}" > out 2>&1
without=$?
missing=$(grep -c "No module named 'packaging'" out)
echo "without the extra: exit code $without, $missing line(s) name packaging; --check-config: exit code $checked"

pip 'gunicorn[gevent]==27.0.1' gevent==26.9.0
"${start[@]}" > out 2>&1 &
server=$!
booted=no
for _ in $(seq 300); do grep -q "Booting worker" out && booted=yes && break; sleep 0.1; done
echo "with the extra: the worker boots: $booted"

[ "$without" -eq 1 ] && [ "$missing" -gt 0 ] && [ "$checked" -eq 0 ] && [ "$booted" = yes ]
