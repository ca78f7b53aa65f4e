"""A program that only serves: it waits for the signals that end it, and its node leaves.

While a watcher of the event loop has a signal, no handler of Python's is called for it; when the last watcher of a signal
ends, libev leaves it to the system's default, also where Python has a handler. So what the program does afterwards could not
be interrupted in order, unless Python's handler is put in its place again.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

import gevent
import gevent.event

from gmp.kernel.node import Node

STATUS = "/proc/self/status"


def serve(node: Node) -> None:
    """Wait for SIGINT or SIGTERM, in the main thread, or the end of `node`; then close it. *Blocks:* until it has left."""
    stop, loop = gevent.event.Event(), gevent.get_hub().loop
    numbers = (signal.SIGINT, signal.SIGTERM) if loop.default else ()  # else it is no main thread
    watchers = [gevent.signal_handler(number, stop.set) for number in numbers]
    keeps_alive = loop.async_()  # the loop ends, with an error here, when a node neither listens nor connects
    keeps_alive.start(int)
    try:
        gevent.wait([stop, node.ended], count=1)
    finally:
        keeps_alive.stop()
        keeps_alive.close()
        for watcher in watchers:
            watcher.cancel()  # the system's default takes its place: a second signal ends the process at once
        try:
            node.close()
        finally:
            _give_back(numbers)


def _give_back(numbers: Iterable[signal.Signals]) -> None:
    """Let Python's handlers have those signals again that no other watcher of the event loop has."""
    caught = _caught() if numbers else 0
    for number in numbers:
        handler = signal.getsignal(number)
        if callable(handler) and not caught >> (number - 1) & 1:
            signal.signal(number, handler)


def _caught() -> int:
    """The set of signals for which this process has a handler, as Linux tells it; 0 elsewhere."""
    try:
        with open(STATUS, encoding="utf-8") as file:
            found = re.search(r"^SigCgt:\s*(\w+)$", file.read(), re.MULTILINE)
    except FileNotFoundError:
        return 0
    return int(found[1], 16) if found else 0
