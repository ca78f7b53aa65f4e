"""A ring of ports over several processes, and a number that goes round."""

from __future__ import annotations

import argparse
import sys
import time

from gevent import subprocess

import gmp


@gmp.spawnable
def link(port: gmp.Port, next_port: str) -> None:
    """One port of the ring: it adds one, passes the number on, and ends behind `stop`."""
    for message in port:
        match message:
            case ("number", number):
                gmp.send(next_port, "number", number + 1)
            case ("stop",):
                gmp.send(next_port, "stop")
                return


def serve(seed: str, node_id: str) -> None:
    """A process of the ring. It ends when its standard input does, so that it never outlives the first one."""
    import gevent

    node = gmp.configure(node_id=node_id, seeds=[seed])
    node.wait_up(timeout=30)
    gmp.group("ring").join(gmp.port())
    gevent.get_hub().threadpool.apply(sys.stdin.read)
    node.close()


def run(nodes: list[str], ports: int, rounds: int) -> None:
    """Build the ring backwards, from the last port to the first, let the number go round, and take the ring down."""
    me = gmp.port()
    first = me.id
    for index in reversed(range(ports)):
        first = gmp.spawn(nodes[index % len(nodes)], link, first)
    gmp.monitor(first, me, "died")
    gmp.send(first, "number", 0)
    (number,) = me.receive("number", timeout=60)  # the first time also waits until all are spawned
    began = time.monotonic()
    for _ in range(rounds - 1):
        gmp.send(first, "number", number)
        (number,) = me.receive("number", timeout=60)
    took = time.monotonic() - began
    gmp.send(first, "stop")
    me.receive("stop", timeout=60)
    reason = me.receive("died", timeout=60)
    print(f"the number is {number}: {rounds} rounds over {ports} ports on {len(nodes)} nodes")
    if rounds > 1:
        print(f"{took / (rounds - 1) / ports * 1e6:.0f} µs a hop")
    print("the ring is down" if reason == () else f"the first port died of {reason}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--ports", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", nargs=2, metavar=("SEED", "ID"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        sys.exit()
    with gmp.configure(node_id="ring", binds=["127.0.0.1:0"]) as node:
        names = [f"ring/{number}" for number in range(arguments.nodes)]
        command = [sys.executable, __file__, "--serve", node.binds[0]]
        processes = [subprocess.Popen([*command, name], stdin=subprocess.PIPE) for name in names]
        try:
            gmp.group("ring").wait(len(names), timeout=60)
            run(names, arguments.ports, arguments.rounds)
        finally:
            for process in processes:
                process.communicate()  # gevent's: this node lives on meanwhile, and the others take leave of it
