"""A child of `fork` does not inherit its parent's nodes; it configures its own (pre-forking web servers do so).

In the child, before `fork` returns: sockets are closed without a byte, so that the peers notice nothing; no greenlet of a
port runs any more, not even its ``finally``; whatever is called on the node raises `GmpError`. The parent notices nothing.

race: the event loop's epoll set is shared with the parent until the loop has been told of the fork: watchers are stopped and
sockets closed first, then the loop makes a set of its own.

`os.register_at_fork` cannot be taken back, so it is used once, for all nodes there will ever be; `_nodes` is the one list
of them, and keeps none alive.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

import gevent
from gevent._hub_local import get_hub_if_exists

from gmp.kernel import ending

#: what the child's own default node logs when it is used for the network
LEFT_BY_FORK = (
    "%s: %s is used in a process (pid %d) that was forked after node %s was configured in its parent: a child does not have"
    " its parent's node, so this is a local one that sees nobody else. Call gmp.configure in each child, after the fork"
    " (gunicorn: gmp.services.gunicorn does)"
)


class Forkable(Protocol):
    """What must know that it is in a child now."""

    def forked(self) -> None:
        """Let go of everything, without a byte. Called in the child, must not switch greenlets."""


_nodes: WeakSet[Forkable] = WeakSet()


def let_go_in_children(node: Forkable) -> None:
    """Call `node.forked()` in every child of this process."""
    _nodes.add(node)


def _in_child() -> None:
    nodes = list(_nodes)
    _nodes.clear()
    ending.forget_all()
    for node in nodes:
        node.forked()
    if nodes:
        _begin_anew()


def _begin_anew() -> None:
    """Let gevent's hub of this thread know of the fork. Does not switch greenlets.

    The pool of threads is made anew before `gevent.reinit`, which would take leave of each thread that is not here: for one
    that has used a pool of its own, as it does in a patched program that looks up a name, it would wait for that pool's
    threads for ever, and so would gevent's `Popen` in the parent.
    """
    hub = get_hub_if_exists()
    if hub is not None:
        pool = hub.threadpool
        type(pool).__init__(pool, pool.maxsize, hub)  # the same object, as in gevent: the resolver has it
        gevent.reinit(hub)


os.register_at_fork(after_in_child=_in_child)
