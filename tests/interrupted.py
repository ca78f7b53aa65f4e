"""A program that is interrupted again and again while it sends, receives, calls and spawns, and then looks at the damage.

``python -m tests.interrupted raise|send WAY TRIALS SEED [FIRST]``. WAY: msgpack, json, tls, relay, local; msgpack and tls go
over Unix sockets where there are any, json and relay over TCP; large, large_tls: with octets beside their messages.
*raise*: Ctrl-C, by `tests.strikes`; *send*: a signal handler that sends. With FIRST the points are struck in their order,
from that one on, instead of at random. Prints a JSON object; ``bad`` must be empty.

After a strike every port here must answer or be dead. The connection must be whole (what was sent arrived once, in order;
only the message whose send was struck may be missing) or lost, with its monitors fired; and what is sent afterwards arrives.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent

import gmp
from tests.strikes import Striker

SECRET = "geheim"
PATIENCE = 8.0  # seconds until something that does not happen is taken for damage
BIG = "x" * 100_000
OCTETS = bytes(300_000)


def settings(way: str) -> dict[str, Any]:
    """What both nodes are configured with."""
    found: dict[str, Any] = {"secret": SECRET, "unix_sockets": way in ("msgpack", "tls")}
    if way == "json":
        found["framings"] = ["json"]
    if way in ("tls", "large_tls"):
        found["cert"] = os.environ["INTERRUPTED_CERT"]
    return found


@gmp.spawnable
def one_answer(port: gmp.Port, boss: str, number: int) -> None:
    """What is spawned over there."""
    gmp.send(boss, "spawned", number)


def recorder(node: gmp.Node) -> gmp.Port:
    """A port that keeps numbers, and tells and forgets them when it is asked."""
    port = node.port()
    got: list[tuple[str, int]] = []
    port.on("number", lambda stream, number, *rest: got.append((stream, number)))
    port.on("echo", lambda value, reply: node.send(reply, value))

    @port.on("report")
    def report(reply: str) -> None:
        node.send(reply, list(got))
        got.clear()

    return port


def far(way: str, seeds: list[str]) -> None:
    """The node that is not interrupted."""
    binds = [] if way == "relay" else ["127.0.0.1:0"]
    node = gmp.configure(node_id="far", binds=binds, seeds=seeds, **settings(way))
    if seeds:
        node.wait_up(timeout=20)
    print(*node.binds, recorder(node).id, flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    os._exit(0)


def seed() -> None:
    """A node that relays."""
    node = gmp.configure(node_id="seed", binds=["127.0.0.1:0"], seeds=[], secret=SECRET)
    print(*node.binds, flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    os._exit(0)


class Others:
    """The other processes."""

    def __init__(self, way: str) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        seeds = [self._start("seed")] if way == "relay" else []
        *binds, self.port = self._start("far", way, *seeds).split()
        self.seeds = seeds or binds

    def _start(self, *arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.interrupted", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()


class Trials:
    """The program, and what is found out about it."""

    def __init__(self, way: str, kind: str) -> None:
        self.seen: Counter[str] = Counter()
        self.bad: list[str] = []
        self.where: Counter[str] = Counter()
        self._local = way == "local"
        self._plain = way == "json"  # what can travel is little
        self._octets: tuple[bytes, ...] = (OCTETS,) if way in ("large", "large_tls") else ()
        self._recorder: gmp.Port | None = None
        self._others = None if self._local else Others(way)
        if self._others is None:
            self.node = gmp.configure(node_id="near", binds=[], seeds=[], secret=SECRET)
            self._new_recorder()
        else:
            self.node = gmp.configure(node_id="near", binds=[], seeds=self._others.seeds, **settings(way))
            self.node.wait_up(timeout=20)
            self._remote = self._others.port
        self._handler = self._new_handler()
        self._body = self._new_body()
        self._inbox = self.node.port()
        self._numbers = {"main": 0, "signal": 0}
        self._sent: list[tuple[str, int]] = []
        self._unsure: set[tuple[str, int]] = set()
        self._fired: list[tuple[Any, ...]] = []
        self._watch: gmp.Monitor | None = None
        self.striker = Striker(self._raise if kind == "raise" else self._send_from_handler)

    def close(self) -> None:
        """End the other processes."""
        if self._others is not None:
            self._others.close()

    def _new_recorder(self) -> gmp.Port:
        self._recorder = recorder(self.node)
        self._remote = self._recorder.id
        return self._recorder

    def _new_handler(self) -> gmp.Port:
        port = self.node.port()
        port.on("echo", lambda value, reply: self.node.send(reply, value))
        return port

    def _new_body(self) -> gmp.Port:
        def body(port: gmp.Port) -> None:
            while True:
                _tag, value, reply = port.receive()
                self.node.send(reply, value)

        return self.node.port(body)

    # ---- strikes

    @staticmethod
    def _raise() -> None:
        raise KeyboardInterrupt

    def _send_from_handler(self) -> None:
        for _ in range(2):
            self._send("signal")
        self._numbers["signal"] += 1
        number = ("signal", self._numbers["signal"])
        gmp.send(self._remote, "number", *number, BIG[:5000], *self._octets)
        self._sent.append(number)

    # ---- what is struck

    def _send(self, stream: str, *rest: object) -> None:
        self._numbers[stream] += 1
        number = (stream, self._numbers[stream])
        self._unsure.add(number)
        self._sent.append(number)
        gmp.send(self._remote, "number", *number, *rest)
        self._unsure.discard(number)

    def program(self) -> None:
        """Some of everything."""
        self._send("main")
        for size in (3, 30, 300, 3000):
            self._send("main", BIG[:size])
        for _ in range(5):
            self._send("main")
        self._expect(gmp.call(self._remote, "echo", 7, timeout=PATIENCE))
        self._send("main", BIG)
        self._send("main")
        self._send("main", {"a": [1, None]} if self._plain else {"a": (1, {2, 3})})
        self._expect(gmp.call(self._handler, "echo", 7, timeout=PATIENCE))
        self._expect(gmp.call(self._body, "echo", 7, timeout=PATIENCE))
        if not self._plain:
            self._expect(gmp.call(self._remote, "echo", [(7, "x")], timeout=PATIENCE), [(7, "x")])
        if self._octets:
            self._send("main", *self._octets)
            self._send("main", {"octets": self._octets})
            self._expect(gmp.call(self._remote, "echo", OCTETS, timeout=PATIENCE), OCTETS)
            self._send("main")
        if not self._local:
            gmp.spawn("far", one_answer, self._inbox, 1)
            self._inbox.receive("spawned", timeout=PATIENCE)
        try:
            self._inbox.receive("nothing", timeout=0.001)
        except gmp.ReceiveTimeout:
            pass

    def _expect(self, answer: object, value: object = 7) -> None:
        if answer != (value,):
            self.bad.append(f"answered {answer!r}")

    # ---- the trial

    def trial(self, at: int) -> None:
        """Run the program once, with a strike at that point."""
        self._watch = gmp.monitor(self._remote, self._on_loss)
        self._fired.clear()
        faulthandler.dump_traceback_later(5 * PATIENCE, exit=True)  # a trial that hangs tells where
        connection = self._connection()
        self.striker.arm(at)
        try:
            self.program()
        except KeyboardInterrupt:
            self.seen["interrupted"] += 1
        except gmp.PortDied:
            self.seen["port died"] += 1
        except gmp.GmpError as error:
            self.bad.append(f"{at} {self.striker.where}: {type(error).__name__}: {error}")
        self.striker.disarm()
        struck = self.striker.where
        if at > 0:
            self.where[struck or "nowhere"] += 1
        damage = self.bad[:]
        self.bad.clear()
        try:
            self._look(connection)
        except Exception as error:  # any of them is damage
            self.bad.append(repr(error))
        except KeyboardInterrupt:  # it reached the main greenlet by way of the hub
            self.seen["interrupted later"] += 1
            self._look(connection)
        self.bad = [*damage, *(f"{at} {struck}: {text}" for text in self.bad)]
        for text in self.bad[len(damage) :]:
            print(text, file=sys.stderr, flush=True)

    def _on_loss(self, *reason: object) -> None:
        self._fired.append(reason)

    def _connection(self) -> object:
        peer = self.node._core.network.peers.get("far")
        return None if peer is None else peer.connection

    def _look(self, before: object) -> None:
        deadline = time.monotonic() + PATIENCE
        self._handler = self._look_at(self._handler, "handler", self._new_handler)
        self._body = self._look_at(self._body, "body", self._new_body)
        if not self._inbox.alive:
            self._inbox = self.node.port()
        lost = False
        recorder_before = self._recorder
        while not self._local:  # the connection answers, or it is lost
            try:
                self._expect(gmp.call(self._remote, "echo", 7, timeout=PATIENCE))
            except gmp.PortDied:
                lost = True
                if time.monotonic() > deadline:
                    raise
                continue
            break
        if self._local and self._look_at(self._recorder, "recorder", self._new_recorder) is not recorder_before:
            lost = True
        gevent.sleep(0)
        changed = not self._local and before is not None and self._connection() is not before
        while changed and not self._fired and time.monotonic() < deadline:
            gevent.sleep(0.01)
        lost = lost or bool(self._fired)
        if changed and not self._fired:
            self.bad.append("the connection is another one, and no monitor has fired")
        self.seen["lost" if lost else "whole"] += 1
        self._send("main")
        self._send("main")
        last = self._sent[-2:]
        [got] = gmp.call(self._remote, "report", timeout=PATIENCE)
        self._compare([tuple(number) for number in got], lost, last)
        self._sent.clear()
        self._unsure.clear()
        if self._watch is not None:
            self._watch.cancel()

    def _look_at(self, port: gmp.Port | None, what: str, make: Callable[[], gmp.Port]) -> gmp.Port:
        if port is None or not port.alive:
            self.seen[f"{what} died"] += 1
            return make()
        try:
            self._expect(gmp.call(port, "echo", 7, timeout=PATIENCE))
        except gmp.PortDied:
            self.seen[f"{what} died"] += 1
            return make()
        except gmp.CallTimeout:
            self.bad.append(f"{what} is deaf")
            return make()
        return port

    def _compare(self, got: list[tuple[Any, ...]], lost: bool, last: list[tuple[str, int]]) -> None:
        for stream in self._numbers:
            numbers = [number for kind, number in got if kind == stream]
            expected = [number for kind, number in self._sent if kind == stream]
            sure = [number for kind, number in self._sent if kind == stream and (kind, number) not in self._unsure]
            if numbers != sorted(set(numbers)):
                self.bad.append(f"doubled or in disorder in {stream}: {numbers} of {expected}")
            elif not lost and not set(sure) <= set(numbers):
                missing = sorted(set(sure) - set(numbers))
                self.bad.append(f"missing from {stream}, though nothing was lost: {missing} of {expected}")
        if got[-2:] != last:
            self.bad.append(f"what was sent afterwards is missing: {last}, not {got[-2:]}")


def main(kind: str, way: str, count: int, seed_of_random: int, first: int | None) -> None:
    """Run trials and print what came of them."""
    logging.basicConfig(level="CRITICAL")
    gevent.get_hub().exception_stream = None
    trials = Trials(way, kind)
    chance = random.Random(seed_of_random)
    points = 1
    for _ in range(10):  # at first everything is made
        trials.trial(-1)
        points = trials.striker.passed
    started = time.monotonic()
    for number in range(count):
        trials.trial(chance.randint(1, points) if first is None else first + number)
        if len(trials.bad) > 20:
            break
    figures = {"points": points, "seconds": round(time.monotonic() - started, 1), **trials.seen}
    print(json.dumps({"bad": trials.bad, "seen": figures, "places": len(trials.where)}), flush=True)
    trials.close()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "far":
        far(sys.argv[2], sys.argv[3:])
    elif sys.argv[1] == "seed":
        seed()
    else:
        main(
            sys.argv[1],
            sys.argv[2],
            int(sys.argv[3]),
            int(sys.argv[4]),
            int(sys.argv[5]) if len(sys.argv) > 5 else None,
        )
