"""A node in a native thread of its own, for programs that wait natively: its event loop runs while they do.

The thread (`gmp.kernel.loop_thread`) makes the node, which so belongs to it. All other threads, the one that has begun it
too, come in by `from_thread`. In a program that gevent has patched a thread is a greenlet, and such a node is one of the
main thread, as without this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import gevent

from gmp.errors import GmpError
from gmp.later import later
from gmp.ports.port import Port

if TYPE_CHECKING:
    import concurrent.futures as futures
    from typing import Protocol

    from gmp.kernel import loop_thread

    class Threaded(loop_thread.Served, Protocol):
        """A node, as other threads use it; see `gmp.Node`."""

        def send(self, dest: Port | str, *message: Any) -> None:
            """Send a message."""

        def call(self, dest: Port | str, *message: Any, timeout: float | None = 30.0) -> tuple[Any, ...]:
            """Send a message, and wait for the reply."""

        def flush(self, timeout: float | None = None) -> bool:
            """Write what was sent."""

        def from_thread(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
            """Run a function in the node's loop."""

else:
    futures, loop_thread = later("concurrent.futures"), later("gmp.kernel.loop_thread")


ANode = TypeVar("ANode", bound="Threaded")


class NodeThread(Generic[ANode]):
    """A node that runs in a native thread of its own: what `gmp.run_in_thread` and `Node.run_in_thread` return.

    Its methods may be called in every native thread, and in many at once; they block the calling thread natively. Usable in
    ``with``, which closes it. `id` is the node's ID; `node` is the node itself, for functions that run in its thread.
    """

    def __init__(self, start: Callable[[], ANode]) -> None:
        """`start` makes and starts the node, and leaves none behind when it raises; that is raised here."""
        started: futures.Future[ANode] = futures.Future()

        def serve(node: ANode) -> None:
            started.set_result(node)
            gevent.wait([node.ended, self._loop_thread.stopping], count=1)

        def ended(error: BaseException | None) -> None:
            if not started.done():
                started.set_exception(error or GmpError("it has ended before it has started"))

        self._loop_thread = loop_thread.LoopThread(start, serve, ended)
        self._thread = self._loop_thread.thread
        try:
            self._loop_thread.begin()
            self.node = started.result()  #: the node
        except BaseException:  # race: Ctrl-C: a node that nobody will ever have is not to live on
            self._loop_thread.stop()
            self._loop_thread.join()
            raise
        self.id = self.node.id  #: its ID

    def __repr__(self) -> str:
        return f"<gmp.NodeThread of {self.node!r}>"

    def run(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Run `function(*args)` in the node's thread, in a greenlet of its own; return or raise what it does.

        Whatever a node can do is done by this: make ports, join groups, receive.
        *Blocks:* until it has run, at most `timeout` seconds (None: without end).
        *Raises:* `WaitTimeout`: the function goes on then; `GmpError` when the node is closed.
        """
        return self.node.from_thread(function, *args, timeout=timeout)

    def send(self, dest: Port | str, *message: Any) -> None:
        """Send a message; see `gmp.send`. It leaves at once, whatever this thread does next. *Blocks:* for a moment."""
        self.run(self.node.send, dest, *message)

    def call(self, dest: Port | str, *message: Any, timeout: float | None = 30.0) -> tuple[Any, ...]:
        """Send a message and wait for the reply; see `gmp.call`. *Blocks:* until then, at most `timeout` seconds."""
        reply: tuple[Any, ...] = self.run(partial(self.node.call, dest, *message, timeout=timeout))
        return reply

    def flush(self, timeout: float | None = None) -> bool:
        """Write what was sent so far; see `gmp.flush`. For a process that ends by `os._exit` or the like.

        *Blocks:* until then, at most `timeout` seconds (None: without end).
        """
        return bool(self.run(self.node.flush, timeout))

    def close(self) -> None:
        """Leave the network, and end the thread; see `Node.close`. Idempotent. The end of the program does it too.

        *Blocks:* at most the setting `leave_timeout` and 3 seconds; in the node's own thread never: it only begins there.
        """
        if not self._thread.is_alive():
            return  # it has left; or this is a child of `fork`, which has no such thread
        self._loop_thread.stop()
        if threading.current_thread() is not self._thread:
            self._loop_thread.join()

    def __enter__(self) -> NodeThread[ANode]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
