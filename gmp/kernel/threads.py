"""The one door for other native threads: `from_thread` runs a function in the node's loop and waits for its result.

The calling thread blocks in a read of a pipe of its own, which is native in patched programs too; the loop is woken by an
async watcher, the one thing of it that may be touched from outside. race: the node closes while calls wait, or come: each is
told so; the lock, held for moments, keeps the bell from being rung when it is gone.
"""

from __future__ import annotations

import _thread
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from gmp.errors import GmpError


class ThreadCall:
    """One call from another thread."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function, self._args = function, args
        self._result: Any = None
        self._error: BaseException | None = None
        self._done = False
        self._read_end, self._write_end = os.pipe()

    def run(self) -> None:
        """In the loop."""
        try:
            result = self._function(*self._args)
        except BaseException as error:
            self.finish(None, error)
        else:
            self.finish(result, None)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """In the loop: the first outcome counts."""
        if not self._done:
            self._done, self._result, self._error = True, result, error
            os.write(self._write_end, b"!")

    def wait(self) -> Any:
        """In the calling thread."""
        os.read(self._read_end, 1)
        os.close(self._read_end)
        os.close(self._write_end)
        if self._error is not None:
            raise self._error
        return self._result


class ThreadDoor:
    """The calls of other threads into one node. Made, opened and closed in the node's thread."""

    def __init__(self, hub: Any, run: Callable[..., Any], node_id: str) -> None:
        self._run = run
        self._node_id = node_id
        self._waiting: deque[ThreadCall] = deque()
        self._running: set[ThreadCall] = set()
        self._open = True
        self._lock: Any = _thread.RLock()
        self._bell = hub.loop.async_(ref=False)
        self._bell.start(self._rung)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """In another thread: run `function(*args)` in the loop."""
        call = ThreadCall(function, args)
        with self._lock:
            if self._open:
                self._waiting.append(call)
                self._bell.send()
            else:
                call.finish(None, self._closed())
        return call.wait()

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
        return GmpError(f"node {self._node_id} is closed")

    def abandon(self) -> None:
        """In a child of `fork`: nobody waits here, threads are not inherited."""
        self._open = False
        self._bell.close()

    def close(self) -> None:
        """Whoever waits is told that the node is closed."""
        with self._lock:
            self._open = False
            self._bell.close()
        for call in (*self._waiting, *self._running):
            call.finish(None, self._closed())
        self._waiting.clear()
