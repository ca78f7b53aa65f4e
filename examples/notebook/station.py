"""A weather station: it sends what it measures to the notebook twice a second, and answers when it is asked."""

import random
import sys

import gevent

import gmp


def measure() -> float:
    return round(random.gauss(20, 2), 1)


def station(port: gmp.Port, name: str) -> None:
    @port.on("now")
    def now(reply: str) -> None:
        gmp.send(reply, measure())

    (reader, *_) = gmp.group("readings").wait(timeout=30)
    gmp.monitor(reader)  # when the notebook is gone, so is this port
    gmp.group("stations").join(port, name)
    while True:
        gmp.send(reader, name, measure())
        gevent.sleep(0.5)


name, *seeds = sys.argv[1:]
gmp.configure(node_id=f"{name}/", seeds=seeds, binds=[])
gmp.port(station, name).join()
