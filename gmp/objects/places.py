"""The places of a service: greenlets that run one call after the other, each call as if in a greenlet of its own.

A call *waits* → a place takes it, when it has its turn → it runs → the place takes the next one, or ends if none waits. So
calls begin in the order in which they came. A place is a job of the node's pool of greenlets, as the handlers of a port are
(`gmp.ports.handlers`). While calls wait one place stands by: it has its turn when the call that runs now blocks.

race: the end of a method and its stop come in the same turn: a place is thrown at only while it still runs that call.
race: Ctrl-C in a place kills the port, as in any of its greenlets, so the calls that wait end with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from gmp.objects.work import Work
from gmp.ports.handlers import A_TURN
from gmp.ports.port import Port
from gmp.ports.tasks import PortTask
from gmp.ports.workers import NOTHING, Worker

Run = Callable[[Work], None]


class Place(PortTask):
    """Runs the calls that wait. `ended` is called when there are none."""

    __slots__ = ("_places", "work")

    def __init__(self, places: Places) -> None:
        super().__init__(self._begin, (), places.port.ports.workers, places.port)
        self._places = places
        self.work: Work | None = None  #: that runs, or ran last

    def _begin(self) -> None:
        """Its turn has come; what it does follows in `go_on`."""
        self._places.pending -= 1

    def go_on(self, worker: Worker, turn: Iterator[Any]) -> None:
        """`Job.go_on`: run the calls that wait, at most `A_TURN`."""
        places = self._places
        self.next, waiting, run, port = NOTHING, places.waiting, places.run, places.port
        for _ in islice(turn, A_TURN - 1):
            if not waiting or port.reason is not None:  # at a dead port none begins
                break
            self.work = work = waiting.popleft()
            work.place = self
            if waiting and not places.pending:
                places.stand_by()
            if worker.context:
                worker.refresh()
            run(work)
        self.finish()

    def finish(self) -> None:
        """`Job.finish`: queue in the pool again if more wait."""
        pool, places = self._pool, self._places
        if places.waiting and self.port.reason is None:
            places.pending += 1
            self.worker, self.next = None, (self._begin, (None,))
            try:
                pool.jobs.append(self)
            finally:  # as `Workers.add`
                if not pool.scheduled:
                    pool.scheduled = True
                    pool.run_callback(pool.begin)
            return
        places.ended(self)
        super().finish()

    def stop(self, work: Work) -> None:
        """End `work` by `GreenletExit` in the next turn of the loop, if it still runs then. *Blocks:* never."""
        self._pool.run_callback(self._throw_at, work)

    def _throw_at(self, work: Work) -> None:
        if work.place is self:
            self.throw()


class Places:
    """At most `most` places, and the calls that wait for one. `run` runs a call; `changed` is called when a place ends."""

    def __init__(self, port: Port, run: Run, most: int, changed: Callable[[], None]) -> None:
        self.port = port
        self.run = run
        self.free = most  #: how many more places there may be
        self.pending = 0  #: how many will take a call as soon as they have their turn
        self.waiting: deque[Work] = deque()
        self._places: set[Place] = set()
        self._changed = changed

    def __len__(self) -> int:
        return len(self._places)

    def running(self) -> list[Work]:
        """Return the calls that have begun and not ended."""
        works = [place.work for place in self._places]
        return [work for work in works if work is not None and work.begun and work.place is not None]

    def has_room(self, most: int) -> bool:
        """Return True if a call may come when at most so many may wait."""
        return len(self.waiting) - self.pending - self.free < most

    def add(self, work: Work) -> None:
        """Let `work` run when its turn has come."""
        self.waiting.append(work)
        if not self.pending:
            self.stand_by()

    def stand_by(self) -> None:
        """Let another place take the next call, if the one that runs now blocks, and there may be one more."""
        if self.free:
            self.free -= 1
            self.pending += 1
            place = Place(self)
            self._places.add(place)
            place.start()

    def ended(self, place: Place) -> None:
        """A place has nothing more to run."""
        if place in self._places:  # or this goes on after an interrupt
            self._places.remove(place)
            self.free += 1
            self._changed()
