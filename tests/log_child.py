"""A process that lets others see its log: ``python -m tests.log_child NODE_ID [SEED …]``.

Prints its bind. Its port in the group ``loggers`` takes ``("log", logger, level, text)`` and ``("flood", count)``, and
answers ``("done", reply)``. Ends when its standard input does.
"""

from __future__ import annotations

import logging
import sys

from gevent.os import make_nonblocking, nb_read

import gmp
from gmp.services.logcatcher import LogSender


def main(node_id: str, *seeds: str) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("gmp").setLevel(logging.ERROR)
    node = gmp.configure(node_id=node_id, binds=["127.0.0.1:0"], seeds=seeds)
    LogSender()
    port = gmp.port()
    port.on("log", lambda logger, level, text: logging.getLogger(logger).log(level, "%s", text))
    port.on("flood", lambda count: [logging.getLogger("flood").info("line %d", number) for number in range(count)])
    port.on("done", lambda reply: gmp.send(reply, "done"))
    gmp.group("loggers").join(port)
    print(node.binds[0], flush=True)
    make_nonblocking(0)
    while nb_read(0, 4096):
        pass
    node.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
