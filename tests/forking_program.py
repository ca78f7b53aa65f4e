"""A program that forks, for tests: ``python -m tests.forking_program SEED``. Prints what parent and child saw as JSON."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

import gevent
import gevent.lock

import gmp

ran_in: list[int] = []
ticks = gevent.lock.Semaphore(0)


def ticking(port: gmp.Port) -> None:
    try:
        while True:
            ran_in.append(os.getpid())
            ticks.release()
            try:
                port.receive(timeout=0.01)
            except gmp.ReceiveTimeout:
                gevent.sleep(0.01)
    finally:
        ran_in.append(os.getpid())


def raises(function: Any, *args: Any) -> str:
    try:
        function(*args)
    except gmp.GmpError as error:
        return str(error)
    return "nothing"


def in_child(parent: gmp.Node, port: gmp.Port, seed: str) -> dict[str, Any]:
    ran_in.clear()
    gmp.after(0.01, ran_in.append, os.getpid())
    gevent.sleep(0.3)
    seen: dict[str, Any] = {
        "ran": len([pid for pid in ran_in if pid == os.getpid()]),
        "send": raises(parent.send, "seed", "x"),
        "receive": raises(port.receive),
        "kill": raises(port.kill),
        "call": raises(parent.call, "seed", "time"),
        "port": raises(parent.port),
        "default": gmp.node() is parent,
        "closed": parent.closed,
    }
    parent.close()
    sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    seen["sockets"] = len([name for name in sockets if name.startswith("socket:")])
    own = gmp.configure(node_id="child", binds=["127.0.0.1:0"], seeds=[seed])
    own.wait_up("seed", timeout=20)
    seen["talks"] = own.call("seed", "time", timeout=20)[0] > 0
    own.close()
    return seen


def _is_link(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


def main(seed: str) -> None:
    node = gmp.configure(node_id="parent", binds=["127.0.0.1:0"], seeds=[seed])
    node.wait_up("seed", timeout=20)
    port = gmp.port(ticking)
    ticks.acquire()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, json.dumps(in_child(node, port, seed)).encode())
        except BaseException:
            os.write(write_end, json.dumps(traceback.format_exc()).encode())
        finally:
            os._exit(0)
    for _ in range(20):
        ticks.acquire()
    answer = node.call("seed", "time", timeout=20)[0] > 0
    child = json.loads(gevent.get_hub().threadpool.apply(os.read, (read_end, 65536)))
    os.waitpid(pid, 0)
    print(json.dumps({"child": child, "parent talks": answer, "parent ran": ran_in.count(os.getpid()) > 10}), flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    node.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
