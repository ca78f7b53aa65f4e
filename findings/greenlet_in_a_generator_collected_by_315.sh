#!/bin/sh
# greenlet 3.5.6 on Python 3.15.2: garbage greenlets that wait within a generator make the collector complain.
#
# A greenlet that nobody can switch to any more is garbage, and ended when it is collected. Where it was suspended while it ran
# a generator (a `for` over one that waits), Python 3.15's collector tries to close the generator first, which runs still, and tells
# sys.unraisablehook of a ValueError for each; pytest makes a warning of that. Python 3.14 and earlier say nothing. The greenlets
# are ended all the same.
#
# Seen, with Debian's Pythons (it needs root and debootstrap, which makes a folder with them):
#   3.14.10: nothing told for 10 greenlets
#   3.15.2: told for each of 10 greenlets: ValueError: generator already executing
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3.14-venv,python3.15-venv,ca-certificates unstable "$folder/root" > "$folder/log"
cp /etc/resolv.conf /etc/hosts "$folder/root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$folder/root/etc/ssl/certs/"
cat > "$folder/root/program.py" <<'PYTHON'
import gc
import sys

import greenlet


def waits():
    while True:
        greenlet.getcurrent().parent.switch()
        yield


def body():
    kept = [greenlet.getcurrent()]  # a cycle, so that it is the collector's
    for _ in waits():
        assert kept


told = []
sys.unraisablehook = lambda unraisable: told.append(f"{type(unraisable.exc_value).__name__}: {unraisable.exc_value}")
for _ in range(10):
    greenlet.greenlet(body).switch()
gc.collect()
version = ".".join(map(str, sys.version_info[:3]))
if sys.version_info < (3, 15):
    assert not told, f"{version} tells {told[0]} now"
    print(f"{version}: nothing told for 10 greenlets")
else:
    assert told == ["ValueError: generator already executing"] * 10, f"{version} tells {told}"
    print(f"{version}: told for each of 10 greenlets: {told[0]}")
PYTHON
for version in 3.14 3.15; do
    chroot "$folder/root" "python$version" -m venv "/$version"
    env -u PIP_FIND_LINKS chroot "$folder/root" "/$version/bin/pip" install --quiet greenlet==3.5.6
    chroot "$folder/root" "/$version/bin/python" /program.py
done
