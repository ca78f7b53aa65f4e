"""What the event loop hands over to the node's thread: a send, something that is asked, or the end of that.

A job is made in the loop, and run once in the node's thread, in the order of the hand-over. `Line` is what is on its way to
one node: while more waits for that than the high mark, the jobs behind are held, and those for other nodes are not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from gmp.ports.workers import Task

Answered = Callable[[bool, Any], None]


class Line:
    """The way to one node.

    The loop alone writes `handed` and `wanted`, the node's thread alone `taken`, `held` and `busy`; each may read all of it.
    """

    __slots__ = ("busy", "handed", "held", "taken", "waiting", "wanted")

    def __init__(self) -> None:
        self.handed = 0  #: the size of all that was handed over, about, in bytes
        self.taken = 0  #: of that, the size of what the node has taken
        self.waiting: deque[asyncio.Future[None]] = deque()  #: senders in the loop that wait for room, in their order
        self.wanted = False  #: True while there are such
        self.held: deque[Job] = deque()  #: jobs behind a send that waits for room at the node
        self.busy = False  #: True while such a send waits

    @property
    def size(self) -> int:
        """The size of what the node has not taken yet, about, in bytes."""
        return self.handed - self.taken

    @property
    def idle(self) -> bool:
        """True if nothing is on its way."""
        return self.handed == self.taken and not self.waiting and not self.busy


class Job(Protocol):
    """Something to be run in the node's thread."""

    line: Line | None  #: what it must not overtake
    blocks: bool  #: True if it must be run in a greenlet of its own


class Send:
    """A message that surely can travel."""

    __slots__ = ("dest", "line", "message", "size")

    blocks = False

    def __init__(self, line: Line, dest: str, message: tuple[Any, ...], size: int) -> None:
        self.line: Line | None = line
        self.dest, self.message, self.size = dest, message, size


class Ask:
    """A function to be called in the node's thread. It has one outcome, whatever happens.

    `deadline`, in monotonic time, is when the function itself should have given up; `late` makes the error to be raised if
    the node's thread is too busy for that. `answered` is called in the loop with whatever the outcome is, even when nobody
    waits for it any more; without it such an outcome is dropped.
    """

    __slots__ = (
        "answered", "args", "blocks", "cancelled", "deadline", "function", "future", "late", "line", "sends", "task",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        line: Line | None = None,
        blocks: bool = False,
        sends: bool = False,
        deadline: float | None = None,
        late: Callable[[], Exception] | None = None,
        answered: Answered | None = None,
    ) -> None:
        self.function, self.args = function, args
        self.line, self.blocks = line, blocks
        self.sends = sends  #: True if what it sends must not be overtaken by what is handed over next
        self.deadline, self.late, self.answered = deadline, late, answered
        self.future: asyncio.Future[Any] | None = None  #: made when it is handed over
        self.cancelled = False  #: True when nobody waits for it any more
        self.task: Task | None = None  #: what it runs in, if it has begun in a greenlet of its own


class Cancel:
    """The end of an `Ask`, whose waiter was cancelled."""

    __slots__ = ("ask",)

    blocks = False
    line: Line | None = None

    def __init__(self, ask: Ask) -> None:
        self.ask = ask


class Order:
    """A function to be called in the node's thread, whose outcome nobody waits for."""

    __slots__ = ("args", "function", "line")

    blocks = False

    def __init__(self, function: Callable[..., Any], *args: Any, line: Line | None = None) -> None:
        self.function, self.args, self.line = function, args, line
