"""A native thread that serves one node: it starts the node, lets its event loop run, and ends with it.

*New* → `begin` → *starting* → *serving* → *leaving* → *ended*. Whatever ends it (the node was closed, by whomever; `stop`;
an error, or `SystemExit` in a greenlet of the thread) takes the same steps: the node leaves, the owner has its last word,
the event loop is destroyed. At the end of the program the thread is told to end, and waited for. It is a daemon, as Python
must not wait for it before that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import gevent
import gevent.event
from gevent import monkey
from gevent._threading import Lock, start_new_thread  # type: ignore[attr-defined]  # native ones in patched programs too
from gevent.hub import get_thread_ident  # type: ignore[attr-defined]  # the native thread's, also in patched programs

from gmp.kernel.core import Core
from gmp.kernel.ending import close_at_exit
from gmp.kernel.leaving import GOODBYE
from gmp.ports.workers import ENDS_PROGRAM

log = logging.getLogger("gmp")
AT_END = 1.0  # seconds that the thread may take for its own end, beside the node's


class Served(Protocol):
    """A node, as far as its thread is concerned; see `gmp.Node`."""

    id: str
    _core: Core

    @property
    def ended(self) -> gevent.event.Event:
        """Set when it begins to leave."""

    def start(self) -> object:
        """Listen, and begin to join the network."""

    def close(self) -> None:
        """Leave, and wait for that."""


Some = TypeVar("Some", bound=Served)


class LoopThread(Generic[Some]):
    """All but `begin`, `stop`, `join` and `close_at_exit` happens in the thread.

    `start` makes and starts the node, and leaves none behind when it raises. `serve(node)` returns, or raises, when the
    node is to be closed. `ended(error)` is called when it is closed; `error` is what ended the thread, or None.
    `native`: the thread is a native one in a patched program too, where the threads of `threading` are greenlets.
    """

    def __init__(
        self,
        start: Callable[[], Some],
        serve: Callable[[Some], None],
        ended: Callable[[BaseException | None], None],
        *,
        native: bool = False,
    ) -> None:
        self.id = "of a thread that has not started it"
        self._start, self._serve, self._ended = start, serve, ended
        self._starter = get_thread_ident()
        self._leave_timeout = 0.0
        # race: a signal handler may stop it while it is held: so not a plain lock; a native one in patched programs too
        self._lock: Any = monkey.get_original("_thread", "RLock")()
        self._bell: Any = None
        self._is_to_stop = False
        self.stopping: gevent.event.Event  #: set after `stop`
        by_hand = native and monkey.is_module_patched("threading")
        self.thread: _BareThread | threading.Thread = (
            _BareThread(self._run) if by_hand else threading.Thread(target=self._run, name="gmp", daemon=True)
        )

    def begin(self) -> None:
        """Start the thread. *Raises:* `RuntimeError` when the system has none to give."""
        self.thread.start()

    def stop(self) -> None:
        """Let the node be closed, also one that is being started. In any thread. *Blocks:* never."""
        with self._lock:
            self._is_to_stop = True
            if self._bell is not None:
                self._bell.send()

    def join(self) -> None:
        """Wait for the end of the thread, or warn that it does not come. In any other thread.

        *Blocks:* at most the setting `leave_timeout` and 3 seconds.
        """
        if self.thread.is_alive():
            self.thread.join(self._leave_timeout + GOODBYE + AT_END)
        if self.thread.is_alive():
            log.warning("node %s could not leave the network: its native thread is busy", self.id)

    def close_at_exit(self) -> None:
        """`Endable.close_at_exit`."""
        self.stop()
        self.join()

    # ---- in the thread

    def _run(self) -> None:
        hub = gevent.get_hub()
        self.stopping = gevent.event.Event()
        bell = hub.loop.async_()  # the loop ends, with an error here, when a node neither listens nor connects
        bell.start(self._rung)
        error: BaseException | None = None
        try:
            with self._lock:
                self._bell = bell
            self._rung()
            self._live()
        except BaseException as raised:  # `SystemExit` in a greenlet of this thread ends it, and not the program
            error = raised
        finally:
            with self._lock:
                self._bell = None
            bell.close()
            try:
                self._ended(error)
            finally:
                if get_thread_ident() != self._starter:  # else this is a greenlet, in a patched program
                    hub.destroy(destroy_loop=True)  # which waits for threads that resolve names

    def _rung(self) -> None:
        if self._is_to_stop:
            self.stopping.set()

    def _live(self) -> None:
        node = self._start()
        try:
            self.id, self._leave_timeout = node.id, node._core.settings.leave_timeout
            if get_thread_ident() != self._starter:
                close_at_exit(self, instead_of=node._core.life)
            self._serve(node)
        except BaseException as error:
            why = f"{type(error).__name__}: {error}"
            log.error("node %s has ended, as its native thread ended with %s", self.id, why, exc_info=error)
            raise
        finally:
            _close(node)


def start_or_close(node: Some) -> Some:
    """Start a node and return it; when that raises, nothing is left of it."""
    try:
        node.start()
    except BaseException:
        node.close()
        raise
    return node


def _close(node: Served) -> None:
    last: BaseException | None = None
    while True:
        try:
            node.close()
            return
        except ENDS_PROGRAM as error:  # another greenlet ends this thread, which is what happens already
            if error is last:
                raise  # it was raised in leaving itself
            last = error


class _BareThread:
    """What `threading.Thread` is in a program that is not patched."""

    def __init__(self, target: Callable[[], None]) -> None:
        self._target = target
        self._runs = Lock()  # held until it has ended

    def start(self) -> None:
        """Start it."""
        self._runs.acquire()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._runs.release()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return bool(self._runs.locked())

    def join(self, timeout: float) -> None:
        """Wait for its end. *Blocks:* up to `timeout` seconds, natively."""
        if self._runs.acquire(timeout=timeout):
            self._runs.release()
