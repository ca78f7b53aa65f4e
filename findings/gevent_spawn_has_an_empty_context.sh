#!/bin/sh
# gevent 26.9.0 with greenlet 3.5.6: `gevent.spawn` starts a greenlet with an *empty* contextvars context, where asyncio's
# `create_task` starts a task with a copy of the spawner's. So a context variable that was set before a `gevent.spawn` has its default
# in the greenlet. `spawn_later`, a pool's `spawn` and the thread pool are the same. Whoever sets a variable for all that follows (a
# deadline, a trace, a request's ID) has to spawn `contextvars.copy_context().run`.
#
# Seen:
#     gevent.spawn: default
#     gevent.spawn_later: default
#     Pool.spawn: default
#     threadpool.apply: default
#     gevent.spawn of copy_context().run: set
#     asyncio.create_task: set
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gevent==26.9.0" "greenlet==3.5.6"
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import contextvars
import sys

import gevent
import gevent.pool

variable = contextvars.ContextVar("variable", default="default")
variable.set("set")


async def in_a_task():
    async def look():
        return variable.get()

    return await asyncio.create_task(look())


seen = {
    "gevent.spawn": gevent.spawn(variable.get).get(),
    "gevent.spawn_later": gevent.spawn_later(0, variable.get).get(),
    "Pool.spawn": gevent.pool.Pool(1).spawn(variable.get).get(),
    "threadpool.apply": gevent.get_hub().threadpool.apply(variable.get),
    "gevent.spawn of copy_context().run": gevent.spawn(contextvars.copy_context().run, variable.get).get(),
    "asyncio.create_task": asyncio.run(in_a_task()),
}
for name, value in seen.items():
    print(f"{name}: {value}")
expected = ["default"] * 4 + ["set"] * 2
sys.exit(0 if list(seen.values()) == expected else 1)
PYTHON
