"""Calls that are under way while their caller does something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.event import AsyncResult
from greenlet import GreenletExit

from gmp.errors import PortDied
from gmp.objects.context import Current, begin, current
from gmp.ports.monitors import Monitor
from gmp.ports.port import current_port
from gmp.ports.workers import ENDS_PROGRAM

if TYPE_CHECKING:
    from gmp.kernel.core import Core


class Future(AsyncResult):  # type: ignore[type-arg]
    """The result of a call, or what it raised, once it is there: ``get(timeout=)``, ``ready()`` and the rest of gevent's
    `AsyncResult`. `cancel()` gives the call up.

    A future that a port's code has made is given up when that port dies.
    """

    def __init__(self, core: Core, function: Callable[[], Any], *, waits: bool) -> None:
        super().__init__()
        me = current()
        self._watch: Monitor | None = None
        # only who waits can wait in a circle: a method that has made a future may return before that is there
        self._task = core.defer(self._run, me if waits else Current(me.until), function)
        port = current_port()
        if port is not None and port.reason is None and port.ports is core.ports:
            port_id = port.id
            self._watch = core.watch(port, lambda reason: self._give_up(PortDied(port_id, reason)))

    def _run(self, call: Current, function: Callable[[], Any]) -> None:
        begin(call)
        try:
            self.set(function())
        except (GreenletExit, *ENDS_PROGRAM):
            if not self.ready():  # whoever waits must not wait for ever
                self.set_exception(GreenletExit("the call was ended"))
            raise
        except BaseException as error:
            self.set_exception(error)
        finally:
            if self._watch is not None:
                self._watch.cancel()

    def cancel(self) -> bool:  # type: ignore[override]  # gevent's cannot be cancelled
        """Give the call up: it is stopped, and whoever waits for it gets `GreenletExit`; return False if it has ended.

        *Blocks:* never.
        """
        if self.ready():
            return False
        if self._watch is not None:
            self._watch.cancel()
        self._give_up(GreenletExit("the call was cancelled"))
        return True

    def _give_up(self, error: BaseException) -> None:
        if not self.ready():
            self.set_exception(error)
            self._task.kill()
