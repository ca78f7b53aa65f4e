"""The native thread of a node of gmp.aio: it makes the node, serves it, and ends with it.

The thread is a native one in a patched program too. Whatever ends it (the node was closed, by whomever; the event
loop is closed; an error, or `SystemExit` in a greenlet of the thread), it closes the node and its hub, and its last
words end all waiting in the loop. The end of the process closes the node as well (`gmp.kernel.ending`): the thread is
told, and waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent._threading import Lock, start_new_thread  # type: ignore[attr-defined]  # native ones in patched programs too

import gmp
from gmp.aio.desk import Desk
from gmp.aio.handover import Handover
from gmp.errors import GmpError
from gmp.kernel.ending import close_at_exit
from gmp.kernel.leaving import GOODBYE

log = logging.getLogger("gmp")
AT_EXIT = 1.0  # seconds that the thread may take for its own end, beside the node's


class NodeThread:
    """Runs the node that `make` makes, not started. `started` or `failed` is called in the loop; the first call counts."""

    def __init__(
        self,
        make: Callable[[], gmp.Node],
        handover: Handover,
        started: Callable[[Desk], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.id = "of gmp.aio"
        self._make, self._handover = make, handover
        self._started, self._failed = started, failed
        self._desk: Desk | None = None  # made in the thread
        self._leave_timeout = 0.0
        self._running = Lock()
        self._running.acquire()  # released by the thread when it ends

    def start(self) -> None:
        """Start the thread. *Raises:* `RuntimeError` when the system has none to give."""
        start_new_thread(self._run, ())

    def close(self) -> None:
        """Let the node be closed, behind all that was handed over before. In any thread."""
        self._handover.order(self._close)

    def _close(self) -> None:
        if self._desk is not None:
            self._desk.end()

    def close_at_exit(self) -> None:
        """`Endable.close_at_exit`: close the node, and wait for the end of the thread."""
        self.close()
        if not self._running.acquire(timeout=self._leave_timeout + GOODBYE + AT_EXIT):
            log.warning("node %s could not leave the network: its native thread is busy", self.id)

    # ---- in the thread

    def _run(self) -> None:
        why = "has not started"
        try:
            why = self._live()
        except BaseException as error:  # `SystemExit` in a greenlet of this thread ends it, and not the program
            why = f"has ended, as its native thread ended with {type(error).__name__}: {error}"
            log.error("node %s %s", self.id, why, exc_info=error)
        finally:
            self._handover.say(self._failed, GmpError(f"node {self.id} {why}"))  # race: it ends before it has started
            self._handover.say(self._handover.end, f"node {self.id} {why}")
            self._handover.wake_loop()
            gevent.get_hub().destroy(destroy_loop=True)  # which waits for threads that resolve names
            self._running.release()

    def _live(self) -> str:
        try:
            node = self._make()
        except Exception as error:
            self._tell(self._failed, error)
            return "has not started"
        self.id, self._leave_timeout = node.id, node.settings.leave_timeout
        handover, settings = self._handover, node.settings
        handover.high_mark, handover.max_message = settings.high_mark, settings.max_message
        desk = self._desk = Desk(node, handover)
        try:
            try:
                node.start()
            except Exception as error:
                self._tell(self._failed, error)
                return "has not started"
            close_at_exit(self)
            self._tell(self._started, desk)
            desk.work()
            gevent.wait([desk.ended, node.ended], count=1)
            desk.settle(settings.leave_timeout)
        finally:
            node.close()
            desk.close()
        if desk.why_ended != "is closed":
            log.warning("node %s %s", self.id, desk.why_ended)
        return desk.why_ended

    def _tell(self, function: Callable[[Any], None], what: Any) -> None:
        self._handover.say(function, what)
        self._handover.wake_loop()
