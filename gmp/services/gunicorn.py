"""gunicorn: a node in each worker, configured after the fork and drained when the worker ends.

A child process does not inherit its parent's node, so each worker of ``gunicorn -k gevent`` needs one of its own. In
``gunicorn.conf.py``::

    from gmp.services.gunicorn import hooks

    worker_class = "gevent"
    post_worker_init, worker_exit = hooks(seeds=["10.0.0.1:4040"], start="myapp.room:start")

`post_worker_init` runs in the worker after it has loaded the application (and has patched the process). When gunicorn tells
a worker to end (SIGTERM, a reload, ``max_requests``), its node leaves after the requests under way have had `finish`
seconds, whether or not they have ended: a stream of server-sent events never does, and gunicorn kills the worker after
its ``graceful_timeout`` without calling `worker_exit`. That is called when the last request has been served, and after
SIGINT and SIGQUIT. race: a worker that dies before it is ready has no node to drain.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import gevent

import gmp
from gmp.later import import_now

A_LOOK = 0.1  # seconds between two looks at whether gunicorn has told the worker to end
Hook = Callable[..., None]


def hooks(
    profile: str | None = None,
    *,
    start: str | Callable[[], Any] | None = None,
    finish: float = 1.0,
    **settings: Any,
) -> tuple[Hook, Hook]:
    """The pair ``post_worker_init, worker_exit`` for a ``gunicorn.conf.py``.

    `profile` and `settings` are those of `gmp.configure`. `start`, a function or its name ``"package.module:function"``, is
    called once the node is there: the place to make the worker's ports. `finish` is how many seconds requests may go on
    using the node when gunicorn has told the worker to end.

    *Raises:* `gmp.ConfigError` for a `start` that names no function; in the worker what `gmp.configure` raises, which
    ends it.
    *Blocks:* never; the hooks until the listeners are bound, and until the node has left.
    """
    import_now("gmp.kernel.core")  # before the fork: once, and in memory that the workers share
    if isinstance(start, str) and not all(start.partition(":")):
        raise gmp.ConfigError(f"start {start!r} names no function: expected 'package.module:function'")

    def post_worker_init(worker: Any) -> None:
        node = gmp.configure(profile, **settings)
        worker.log.info("gmp node %s listens on %s", node.id, ", ".join(node.binds) or "nothing")
        if start is not None:
            _function(start)()
        gevent.spawn(_leave_with, worker, node, finish)

    def worker_exit(server: Any, worker: Any) -> None:
        gmp.node().close()

    return post_worker_init, worker_exit


def _leave_with(worker: Any, node: gmp.Node, finish: float) -> None:
    while worker.alive:  # gunicorn's signal handlers clear it, and tell nobody
        gevent.sleep(A_LOOK)
    gevent.wait([node.ended], timeout=finish)
    node.close()


def _function(start: str | Callable[[], Any]) -> Callable[[], Any]:
    if callable(start):
        return start
    module, _, name = start.partition(":")
    found: Callable[[], Any] = getattr(importlib.import_module(module), name)
    return found
