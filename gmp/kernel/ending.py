"""How a node ends: the one place that decides it, for every cause.

A node is *open*, then *leaving*, then *closed*. Leaving happens in a greenlet of its own, so that it is not left half done
by what ends its caller: a kill, Ctrl-C, a second signal's `SystemExit`, or the end of the main greenlet. Whoever closes the
node waits for that greenlet; a signal handler that gevent runs in the hub must not wait, and need not, since the end of
the process does.

The end of a process closes every node that is open. Python announces it twice: `threading` before it joins the threads
that are no daemons, as in a child of `multiprocessing`, although that ends by `os._exit`; and `atexit` after that. The
first is the one that counts: a native thread may wait in `Node.from_thread`, and would be joined for ever. A node of another
native thread is closed by that thread's loop. Nothing can be done in a process that is killed, replaced by `os.exec`, or
ended by `os._exit` outside `multiprocessing`: `Node.flush` or `Node.close` before that.

`atexit` and `threading` have one list for the process, so this file has one list of nodes, and keeps none of them alive.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

import gevent
from greenlet import getcurrent

log = logging.getLogger("gmp")


class Endable(Protocol):
    """A node, as far as the end of its process is concerned."""

    id: str

    def close_at_exit(self) -> None:
        """Close it, or wait until it is closed. Called in any native thread."""


class Ending:
    """The end of one node. `leave` does it; `hub` is that of the node's thread."""

    def __init__(self, leave: Callable[[], None], hub: Any) -> None:
        self._leave = leave
        self._hub = hub
        self._closer: gevent.Greenlet[[], None] | None = None

    def close(self) -> None:
        """Begin to leave unless that has begun, and wait for its end. *Blocks:* until then, but never in the hub."""
        if self._closer is None:
            self._closer = gevent.spawn(self._leave)
        if getcurrent() not in (self._hub, self._closer):
            self._closer.get()

    def wait(self) -> None:
        """Wait until the node has left, when it does. What ends the program is no reason to wait no longer."""
        while self._closer is not None and not self._closer.dead:
            try:
                self._closer.join()
            except SystemExit:
                pass  # race: another greenlet ends the program, which is what happens already


_nodes: WeakSet[Endable] = WeakSet()
_registered = False


def close_at_exit(node: Endable, *, instead_of: Endable | None = None) -> None:
    """Close `node` at the end of this process; it sees to the end of `instead_of`, too."""
    global _registered
    _nodes.add(node)
    if instead_of is not None:
        _nodes.discard(instead_of)
    if not _registered:
        _registered = True
        atexit.register(_close_all)
        try:
            threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # as concurrent.futures does
        except RuntimeError:
            pass  # race: the threads are being joined already; `atexit` comes
        _tell_uwsgi()


def _tell_uwsgi() -> None:
    """uWSGI (2.0.31, in its gevent loop) runs none of Python's functions for the end of a process, but one of its own."""
    uwsgi: Any = sys.modules.get("uwsgi")  # it is there in its processes only
    if uwsgi is None:
        return
    before = getattr(uwsgi, "atexit", None)

    def end() -> None:
        _close_all()
        if before is not None:
            before()

    uwsgi.atexit = end


def forget_all() -> None:
    """In a child of `fork`: the nodes are the parent's."""
    _nodes.clear()


def _close_all() -> None:
    while nodes := list(_nodes):
        for node in nodes:
            _nodes.discard(node)
            try:
                node.close_at_exit()
            except KeyboardInterrupt:
                log.warning("node %s: interrupted while it left the network; its peers will see it as lost", node.id)
                _nodes.clear()
                return
            except Exception:
                log.exception("node %s could not leave the network", node.id)


__all__ = ["Ending", "close_at_exit", "forget_all"]
