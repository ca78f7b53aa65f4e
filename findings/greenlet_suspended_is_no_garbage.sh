#!/bin/sh
# greenlet 3.5.6: a suspended greenlet whose own frame refers to something that refers to it is never garbage. The collector does not
# see what the frames of a suspended greenlet hold, so the circle is kept for good, with all that hangs on it, though nothing else
# refers to it. A suspended generator in the same place is collected. So whoever gives up greenlets (as a simulation does that
# has "crashed" what they belong to) has to end each of them by a throw.
#
# Seen with 3.5.6: generator: collected; greenlet: kept; greenlet, ended by a throw: collected
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "greenlet==3.5.6"
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import weakref

import greenlet


class Owner:
    task = None


def by_generator():
    owner = Owner()

    def body(owner):
        yield
        print(owner)

    owner.task = body(owner)
    next(owner.task)
    return weakref.ref(owner)


def by_greenlet(end):
    owner = Owner()

    def body(owner):
        greenlet.getcurrent().parent.switch()
        print(owner)

    owner.task = greenlet.greenlet(body)
    owner.task.switch(owner)
    if end:
        owner.task.throw(greenlet.GreenletExit)
    return weakref.ref(owner)


def fate(seen):
    gc.collect()
    return "collected" if seen() is None else "kept"


seen = {
    "generator": fate(by_generator()),
    "greenlet": fate(by_greenlet(end=False)),
    "greenlet, ended by a throw": fate(by_greenlet(end=True)),
}
print(seen)
assert list(seen.values()) == ["collected", "kept", "collected"], "changed"
PYTHON
