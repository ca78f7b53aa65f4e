"""A process that works: a port in the group `primes`, in blocking code on gevent."""

from __future__ import annotations

import gmp


def count_primes(below: int) -> int:
    """How many primes there are below that number."""
    sieve = bytearray([1]) * max(below, 2)
    sieve[0:2] = b"\0\0"
    for factor in range(2, int(below**0.5) + 1):
        if sieve[factor]:
            sieve[factor * factor :: factor] = bytes(len(range(factor * factor, len(sieve), factor)))
    return sum(sieve)


def work(port: gmp.Port) -> None:
    """The body of a worker. An error kills this port, and nothing else; whoever has asked is told."""
    gmp.group("primes").join(port)
    for message in port:
        match message:
            case ("count", below, reply):
                gmp.send(reply, count_primes(below))


if __name__ == "__main__":
    node = gmp.configure(node_id="worker/")
    gmp.supervise([work])
    print(f"gmp node {node.id} works", flush=True)
    gmp.serve_forever()
