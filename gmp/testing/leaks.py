"""What this process has open: sockets, greenlets and nodes; taken before and after, to find what was left behind."""

from __future__ import annotations

import gc
import os
import socket
import weakref

import gevent
import gevent.hub
from greenlet import getcurrent, greenlet

import gmp


class Inventory:
    """The sockets, running greenlets and started nodes that are there when it is made."""

    def __init__(self) -> None:
        self._sockets = open_sockets()
        self._greenlets = weakref.WeakSet(running_greenlets())
        self._nodes = weakref.WeakSet(started_nodes())

    def new(self) -> list[str]:
        """What is there now and was not there then, in words; the calling greenlet and its parents do not count."""
        sockets = open_sockets()
        new_sockets = sockets.items() - self._sockets.items()
        found = [f"node {node.id} is not closed" for node in started_nodes() if node not in self._nodes]
        found += [f"socket {_describe_socket(descriptor)} is open" for descriptor, _ in sorted(new_sockets)]
        mine = _with_parents(getcurrent())
        found += [f"{one!r} still runs" for one in running_greenlets() if one not in self._greenlets and one not in mine]
        return found


def open_sockets() -> dict[int, str]:
    """The sockets of this process: file descriptor -> the kernel's name for it."""
    sockets = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target.startswith("socket:"):
            sockets[int(entry)] = target
    return sockets


def _describe_socket(descriptor: int) -> str:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            try:
                return f"{sock.getsockname()} -> {sock.getpeername()}"
            except OSError:
                return f"{sock.getsockname()}"
    except OSError:
        return f"with descriptor {descriptor}"


def running_greenlets() -> list[greenlet]:
    """The greenlets of this native thread that were started, or will be, and have not ended."""
    root = _with_parents(getcurrent())[-1]
    return [
        one
        for one in gc.get_objects()
        if isinstance(one, greenlet) and _runs(one) and _with_parents(one)[-1] is root
    ]


def _runs(one: greenlet) -> bool:
    if isinstance(one, gevent.hub.Hub):
        return False  # it starts with the first switch of this thread, and stays
    if isinstance(one, gevent.Greenlet):
        return bool(one) and not one.ready()
    return bool(one)


def _with_parents(one: greenlet) -> list[greenlet]:
    chain = [one]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    return chain


def started_nodes() -> list[gmp.Node]:
    """The nodes of this process that were started and not closed."""
    return [one for one in gc.get_objects() if isinstance(one, gmp.Node) and one.started]
