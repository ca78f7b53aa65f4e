"""A process of `gmp demo`: a seed or a worker. It ends when its standard input does, so it never outlives its parent.

Its first line of output is its own bind. A worker is a port in the group ``words`` that answers ``("count", number, text,
reply)`` with ``("counted", number, words)``; every node answers ``("who", reply)`` with the nodes it is connected to.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from typing import Any

from gevent.os import make_nonblocking, nb_read

import gmp
from gmp.cli.common.failures import hide_logs

WORD = re.compile(r"[^\W\d_]+")


def count_words(data: bytes) -> Counter[str]:
    """Count each word of a text, ignoring case."""
    return Counter(WORD.findall(data.decode("utf-8", "replace").lower()))


def work(port: gmp.Port) -> None:
    """Run as the body of a worker."""
    for message in port:
        match message:
            case ("count", number, data, reply):
                gmp.send(reply, "counted", number, port.id, dict(count_words(data)))
            case ("who", reply):
                gmp.send(reply, "who", gmp.node().id, gmp.node().up_nodes())


def seed(port: gmp.Port) -> None:
    """Run as the body of the seed's port, which only reports connections."""
    for message in port:
        match message:
            case ("who", reply):
                gmp.send(reply, "who", gmp.node().id, gmp.node().up_nodes())


def main(arguments: list[str]) -> None:
    """Run a process; its arguments are ``seed`` or ``worker SEED``, and the node ID."""
    hide_logs()  # the demonstration tells what happens
    role, node_id, *seeds = arguments
    node = gmp.configure(node_id=node_id, binds=["127.0.0.1:0"], seeds=seeds)
    group, body = ("seeds", seed) if role == "seed" else ("words", work)
    body_function: Any = body
    gmp.group(group).join(gmp.port(body_function))
    try:
        print(node.binds[0], flush=True)
        make_nonblocking(0)
        while nb_read(0, 4096):
            pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # race: the parent was interrupted; nobody listens any more
    node.close()


if __name__ == "__main__":
    main(sys.argv[1:])
