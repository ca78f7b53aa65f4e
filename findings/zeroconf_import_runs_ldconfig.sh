#!/usr/bin/env bash
# zeroconf 0.154.0 with ifaddr 0.2.0 (Python 3.11): importing zeroconf starts another process, `/sbin/ldconfig -p`: ifaddr looks for
# the C library by `ctypes.util.find_library`. So the import forks (hooks of `os.register_at_fork` run in a program whose
# `subprocess` is gevent's, which forks in Python), takes longer than it looks, and differs where there is no ldconfig.
#
# Seen:
#   importing zeroconf starts: ['/sbin/ldconfig', '-p']
#   in a program patched by gevent 26.9.0: 1 child runs the hooks of os.register_at_fork
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zeroconf==0.154.0 ifaddr==0.2.0 gevent==26.9.0
cat > "$folder/plain.py" << 'PYTHON'
import subprocess
import sys

started = []
init = subprocess.Popen.__init__


def noting(self, args, *rest, **options):
    started.append(args)
    init(self, args, *rest, **options)


subprocess.Popen.__init__ = noting
import zeroconf

print("importing zeroconf starts:", *started)
sys.exit(started != [["/sbin/ldconfig", "-p"]])
PYTHON
cat > "$folder/patched.py" << 'PYTHON'
from gevent import monkey

monkey.patch_all()

import os
import sys
from multiprocessing import shared_memory

count = shared_memory.SharedMemory(create=True, size=1)
count.buf[0] = 0


def hook():
    count.buf[0] += 1


os.register_at_fork(after_in_child=hook)
import zeroconf

children = count.buf[0]
count.close()
count.unlink()
print(f"in a program patched by gevent 26.9.0: {children} child runs the hooks of os.register_at_fork")
sys.exit(children != 1)
PYTHON
"$folder/venv/bin/python" "$folder/plain.py"
"$folder/venv/bin/python" "$folder/patched.py"
