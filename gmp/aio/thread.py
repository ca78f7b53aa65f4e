"""What a node of gmp.aio does in its native thread (`gmp.kernel.loop_thread`): it serves the event loop until either ends.

The thread is a native one in a patched program too. Whatever ends it, its last words end all waiting in the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

import gmp
from gmp.aio.desk import Desk
from gmp.aio.handover import Handover
from gmp.errors import GmpError
from gmp.kernel.forking import let_go_in_children
from gmp.kernel.loop_thread import LoopThread, start_or_close
from gmp.ports.table import LEFT_TO_PARENT

log = logging.getLogger("gmp")


class Serving:
    """Serves the node that `make` makes, not started. `started` or `failed` is called in the loop; the first call counts."""

    def __init__(
        self,
        make: Callable[[], gmp.Node],
        handover: Handover,
        started: Callable[[Desk], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._make, self._handover = make, handover
        self._started, self._failed = started, failed
        self._desk: Desk | None = None  # made in the thread
        self._thread = LoopThread(self._start, self._serve, self._ended, native=True)
        let_go_in_children(self)

    def start(self) -> None:
        """Start the thread. *Raises:* `RuntimeError` when the system has none to give."""
        try:
            self._thread.begin()
        except BaseException:
            self._handover.end(f"node {self._thread.id} has not started")
            raise

    def close(self) -> None:
        """Let the node be closed, behind all that was handed over before. In the loop's thread. *Blocks:* never."""
        self._thread.stop()

    def forked(self) -> None:
        """`Forkable.forked`: a child has no such thread, but may go on with the event loop, in which somebody may wait."""
        self._handover.abandon(f"node {self._thread.id} {LEFT_TO_PARENT}")

    # ---- in the thread

    def _start(self) -> gmp.Node:
        return start_or_close(self._make())

    def _serve(self, node: gmp.Node) -> None:
        handover, settings = self._handover, node.settings
        handover.high_mark, handover.max_message = settings.high_mark, settings.max_message
        desk = self._desk = Desk(node, handover)
        handover.say(self._started, desk)
        handover.wake_loop()
        desk.work()
        gevent.wait([desk.ended, node.ended, self._thread.stopping], count=1)
        if self._thread.stopping.is_set():
            self._handover.order(desk.end)  # behind all that was handed over before
            gevent.wait([desk.ended, node.ended], count=1)
        desk.settle(settings.leave_timeout)
        if desk.why_ended != "is closed":
            log.warning("node %s %s", node.id, desk.why_ended)

    def _ended(self, error: BaseException | None) -> None:
        desk, handover = self._desk, self._handover
        why = "has not started" if desk is None else desk.why_ended
        if error is not None and (desk is not None or not isinstance(error, Exception)):
            why = f"has ended, as its native thread ended with {type(error).__name__}: {error}"
        if desk is not None:
            desk.close()
        why = f"node {self._thread.id} {why}"
        # race: it ends before it has started
        handover.say(self._failed, error if isinstance(error, Exception) else GmpError(why))
        handover.say(handover.end, why)
        handover.wake_loop()
