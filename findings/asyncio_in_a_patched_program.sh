#!/usr/bin/env bash
# gevent 26.9.0 (Python 3.11): in a program that gevent has patched, `asyncio.to_thread` and `threading.Thread` give greenlets of the
# same native thread, and asyncio keeps its running loop per native thread. So code in such a "thread" finds the loop of the
# main one running: `asyncio.get_running_loop()` returns it there, where it raises in an unpatched program, and `asyncio.run`
# raises RuntimeError, where it works. Checks that compare the running loop to tell threads apart do not notice. In a thread of
# gevent's own pool, which is a native one in both, it is as in an unpatched program.
#
# Seen:
#   unpatched: to_thread: RuntimeError, run: 42; pool: RuntimeError, run: 42
#   patched: to_thread: the main loop, run: RuntimeError; pool: RuntimeError, run: 42
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

import asyncio

import gevent


async def answer():
    return 42


def look(main):
    try:
        loop = "the main loop" if asyncio.get_running_loop() is main else "another loop"
    except RuntimeError as error:
        loop = type(error).__name__
    coroutine = answer()
    try:
        result = asyncio.run(coroutine)
    except RuntimeError as error:
        coroutine.close()
        result = type(error).__name__
    return f"{loop}, run: {result}"


async def main():
    loop = asyncio.get_running_loop()
    in_thread = await asyncio.to_thread(look, loop)
    in_pool = gevent.get_hub().threadpool.apply(look, (loop,))
    print(f"to_thread: {in_thread}; pool: {in_pool}")


asyncio.run(main())
PYTHON
seen="unpatched: $("$folder/venv/bin/python" "$folder/program.py")
patched: $("$folder/venv/bin/python" "$folder/program.py" patched)"
echo "$seen"
[ "$seen" = "unpatched: to_thread: RuntimeError, run: 42; pool: RuntimeError, run: 42
patched: to_thread: the main loop, run: RuntimeError; pool: RuntimeError, run: 42" ]
