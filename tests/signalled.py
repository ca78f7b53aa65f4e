"""A program that sends all the time, and whose signal handler sends, too: ``python -m tests.signalled SIGNALS``.

Real signals come from another process, so they strike also where `tests.strikes` cannot. Prints a JSON object: how many
numbers were sent on each stream, the last one that arrived, and those that arrived out of turn.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import gevent

import gmp


def receiver() -> None:
    """The node that is sent to."""
    node = gmp.configure(node_id="receiver", binds=["127.0.0.1:0"], secret="geheim", seeds=[])
    last, wrong = {"main": 0, "handler": 0}, list[tuple[str, int, int]]()
    port = gmp.port()

    @port.on("number")
    def number(stream: str, value: int, _rest: str) -> None:
        if value != last[stream] + 1:
            wrong.append((stream, last[stream], value))
        last[stream] = value

    port.on("report", lambda reply: gmp.send(reply, dict(last), wrong[:10]))
    print(node.binds[0], port.id, flush=True)
    gmp.serve_forever()


def signaller(count: int, pid: int) -> None:
    """The process that strikes."""
    for _ in range(count):
        time.sleep(random.uniform(0.001, 0.008))
        os.kill(pid, signal.SIGUSR1)


def main(count: int) -> None:
    """Send until that many signals have come."""
    command = [sys.executable, "-m", "tests.signalled"]
    other = subprocess.Popen([*command, "receiver"], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    bind, port = other.stdout.readline().split()
    node = gmp.configure(node_id="sender", binds=[], secret="geheim", seeds=[bind])
    node.wait_up(timeout=20)
    sent = {"main": 0, "handler": 0}

    def send(stream: str, size: int) -> None:
        sent[stream] += 1
        gmp.send(port, "number", stream, sent[stream], "x" * size)

    def handle(*_: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # or the next one would number its own in between
        for size in (3, 3, 6000):
            send("handler", size)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

    signal.signal(signal.SIGUSR1, handle)
    strikes = subprocess.Popen([*command, "signaller", str(count), str(os.getpid())])
    while strikes.poll() is None:
        for _ in range(random.randint(1, 40)):
            send("main", random.choice((1, 10, 100, 1000, 40_000)))
        if random.random() < 0.3:
            gmp.call(port, "report")
        gevent.sleep(0)
    last, wrong = gmp.call(port, "report", timeout=60)
    print(json.dumps({"sent": sent, "last": last, "wrong": wrong}), flush=True)
    other.kill()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "receiver":
        receiver()
    elif sys.argv[1] == "signaller":
        signaller(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]))
