"""The one door for other native threads: `from_thread` runs a function in the node's loop and waits for its result.

The calling thread reads from a socket of its own, natively in patched programs too; the loop is woken by an async watcher,
the one thing of it that may be touched from outside. race: the node closes while calls wait, or come: each of them
raises; the lock, held for moments, keeps the bell from being rung when it is gone, and a socket from being written when
its reader has given up.

A call waits for ever when the node's thread itself waits natively for the calling thread, or for its result: the loop does
not run then. So each look at the socket that finds nothing is followed by one at what the node's thread does: a wait that
only the caller could end raises at once, an event loop that has not run for long is warned of, once.
"""

from __future__ import annotations

import _socket
import _thread
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from gevent.hub import get_thread_ident  # type: ignore[attr-defined]  # the native thread's, also in patched programs

from gmp.errors import GmpError, WaitTimeout
from gmp.outside import clock
from gmp.showing import class_if_imported

log = logging.getLogger("gmp")
A_LOOK = 0.2  # seconds between two looks at what the node's thread does
LONG = 10.0  # seconds without an answer after which the caller's log says what the node's thread does


class ThreadCall:
    """One call from another thread."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], *, ends_node: bool = False) -> None:
        self.ends_node = ends_node
        self._function, self._args = function, args
        self._result: Any = None
        self._error: BaseException | None = None
        self._lock: Any = _thread.allocate_lock()
        self._done = False
        self._reader, self._writer = _socket.socketpair()

    def run(self) -> None:
        """Run in the loop; does nothing if the caller has given up."""
        if self._done:
            return
        try:
            result = self._function(*self._args)
        except BaseException as error:
            self.finish(None, error)
        else:
            self.finish(result, None)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """The first outcome counts. In the loop, or in the calling thread, which gives up."""
        with self._lock:
            if not self._done:
                self._done, self._result, self._error = True, result, error
                self._writer.send(b"!")

    def wait(self, timeout: float | None, look: Callable[[float], Exception | None]) -> Any:
        """In the calling thread. `look`, called with the seconds so far, returns a reason to give up."""
        began = clock.monotonic()
        try:
            while True:
                self._reader.settimeout(A_LOOK if timeout is None else min(A_LOOK, max(timeout, 0.001)))
                try:
                    self._reader.recv(1)
                    break
                except TimeoutError:
                    waited = clock.monotonic() - began
                    if timeout is not None and waited >= timeout:
                        self.finish(None, WaitTimeout(f"{self._function!r} has not returned within {timeout} s"))
                    elif (error := look(waited)) is not None:
                        self.finish(None, error)
        finally:
            self.finish(None, None)  # race: Ctrl-C: nothing must write to a closed socket
            self._reader.close()
            self._writer.close()
        if self._error is not None:
            raise self._error
        return self._result


class ThreadDoor:
    """The calls of other threads into one node. Made, opened and closed in the node's thread."""

    def __init__(self, hub: Any, run: Callable[..., Any], node_id: str, closed_because: Callable[[], str]) -> None:
        self._run = run
        self._closed_because = closed_because
        self._node_id = node_id
        self._waiting: deque[ThreadCall] = deque()
        self._running: set[ThreadCall] = set()
        self._open = True
        self._lock: Any = _thread.RLock()
        self._thread = get_thread_ident()
        self._warned = False
        self._bell = hub.loop.async_(ref=False)
        self._bell.start(self._rung)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None) -> Any:
        """In another thread: run `function(*args)` in the loop. *Raises:* what it does; `GmpError`; `WaitTimeout`."""
        return self._call(ThreadCall(function, args), timeout)

    def _call(self, call: ThreadCall, timeout: float | None) -> Any:
        with self._lock:
            if self._open:
                self._waiting.append(call)
                self._bell.send()
            else:
                call.finish(None, self._closed())
        return call.wait(timeout, self._look)

    def close_node(self, close: Callable[[], None], timeout: float) -> None:
        """In another thread, at the end of the process: close the node, when its own thread still runs.

        A thread that has served the node alone ends then; it is waited for, as a process ends badly under a running loop.
        *Blocks:* up to `timeout` seconds, and then up to 1 second.
        """
        thread = next((each for each in threading.enumerate() if each.ident == self._thread), None)
        if thread is None:
            return  # it has ended, and its loop with it
        try:
            self._call(ThreadCall(close, (), ends_node=True), timeout)
        except WaitTimeout:
            log.warning(
                "node %s could not leave the network: the loop of its native thread has not run for %g s",
                self._node_id,
                timeout,
            )
        except GmpError:
            pass  # it was closed already
        if not isinstance(thread, threading._DummyThread):  # one that `threading` has not started cannot be joined
            thread.join(1.0)

    def _look(self, waited: float) -> GmpError | None:
        """In the calling thread: is its call waited for by the thread that is to run it?"""
        frame = sys._current_frames().get(self._thread)
        if frame is None:
            return GmpError(f"node {self._node_id} is of no use any more: its native thread has ended without closing it")
        if _waits_for_me(frame):
            return GmpError(
                f"node {self._node_id} cannot run this: its native thread waits for this one, in {_place(frame)}, and its"
                " event loop does not run meanwhile; start the thread by gevent.get_hub().threadpool.spawn and wait for"
                " what that returns, or join with a timeout in a loop that calls gevent.sleep"
            )
        if waited > LONG and not self._warned:
            self._warned = True
            log.warning(
                "from_thread waits for node %s since %.0f s; what its native thread does: %s",
                self._node_id, waited, _place(frame),
            )  # fmt: skip
        return None

    def _rung(self) -> None:
        while self._waiting:
            call = self._waiting.popleft()
            self._running.add(call)
            self._run(self._run_call, call)

    def _run_call(self, call: ThreadCall) -> None:
        try:
            call.run()
        finally:
            self._running.discard(call)

    def _closed(self) -> GmpError:
        return GmpError(f"node {self._node_id} {self._closed_because()}")

    def abandon(self) -> None:
        """Forget all calls in a child of `fork`: threads are not inherited, so none waits here."""
        self._open = False
        self._bell.close()

    def close(self) -> None:
        """Raise in every waiting thread that the node is closed."""
        with self._lock:
            self._open = False
            self._bell.close()
        for call in (*self._waiting, *self._running):
            if not call.ends_node:
                call.finish(None, self._closed())
        self._waiting.clear()


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _waits_for_me(frame: FrameType) -> bool:
    """Whether the thread of `frame` waits, without a time limit, for the end of this thread or for what it is to return."""
    mine: list[object] = [threading.current_thread()]
    mine += [getattr(each.f_locals.get("self"), "future", None) for each in _frames(sys._getframe())]
    waits = {threading.Thread.join.__code__}
    if (future := class_if_imported("concurrent.futures", "Future")) is not None:
        waits.add(future.result.__code__)
    for each in _frames(frame):
        if each.f_code in waits:
            names = each.f_locals
            return names.get("timeout") is None and any(names.get("self") is one for one in mine)
    return False


def _place(frame: FrameType) -> str:
    """Where a thread is, in the words of a traceback: its innermost call."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
