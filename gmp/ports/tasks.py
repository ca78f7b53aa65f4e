"""Tasks that run as a port: its body, and what `Port.spawn` starts."""

from __future__ import annotations

from gmp.ports.workers import Task


class PortTask(Task):
    """Runs a function as a port; an exception that escapes from it kills the port."""

    __slots__ = ()

    def start(self) -> None:
        """Let it run as its port, which is alive, and end when that dies."""
        self.port._tied().tasks[self] = None
        self._pool.add(self)

    def failed(self, error: BaseException) -> None:
        """`Job.failed`."""
        self.port.failed(error)

    def finish(self) -> None:
        """`Job.finish`."""
        ties = self.port._ties
        if ties is not None:
            ties.tasks.pop(self, None)
        Task.finish(self)


class Body(PortTask):
    """Runs a port's body; when that returns the port dies, unless it has handlers."""

    __slots__ = ()

    def finish(self) -> None:
        """`Job.finish`."""
        port = self.port
        if port.reason is None:
            port._body_ended()
        PortTask.finish(self)
