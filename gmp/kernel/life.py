"""The life of one node: new → started → closing → closed; *forked* in a child of the process that it belongs to.

`gmp.kernel.ending` decides when a node ends, `gmp.kernel.leaving` takes leave of its peers; this has the order of all steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import gevent.event

from gmp.config import parse_bind, parse_seed
from gmp.errors import ConfigError, GmpError
from gmp.kernel.ending import Ending, close_at_exit
from gmp.kernel.ground import ON_LAN
from gmp.kernel.leaving import GOODBYE
from gmp.kernel.services import start_services
from gmp.net import names
from gmp.net.dialling import SelfDial
from gmp.outside import clock

if TYPE_CHECKING:
    from gmp.kernel.host import Parts


class Life:
    """What `gmp.Node` says of `start` and `close` is done here."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.id = parts.id
        self.state = "new"
        self.ended = gevent.event.Event()  #: set when the node begins to leave
        self.was_started = False  #: whether it ever was
        self._at_exit = False
        self._drains = False  # whether there is work to finish before the ports are killed
        self._to_leave = False  # whether it was part of the network when it was closed
        self._ending = Ending(self._leave, parts.ports.hub)

    @property
    def started(self) -> bool:
        """Whether it was started and not closed."""
        return self.state == "started"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.state in ("closing", "closed", "forked")

    @property
    def inherited(self) -> bool:
        """Whether this process is a child of the one that the node belongs to."""
        return self.state == "forked"

    @property
    def networked(self) -> bool:
        """Whether it still talks to others: started, or about to leave."""
        return self.state in ("started", "closing")

    def start(self) -> None:
        """Listen and begin to join the network. *Raises:* `ConfigError`, `GmpError`."""
        parts, settings = self._parts, self._parts.settings
        if self.state != "new":
            raise GmpError(f"node {self.id} cannot be started: it is {self.state}")
        binds = settings.binds
        if binds is None:
            binds = ("*:0",) if settings.credentials_given else ("127.0.0.1:0",)
        seeds = [parse_seed(seed) for seed in settings.seeds]
        for seed in seeds:
            names.check_seed(seed)
        if parts.lan is not None:
            parts.lan.check()
            seeds.append(ON_LAN)
        if seeds:
            parts.network.first_other.appears()  # now, and not when somebody waits for the first of them
        try:
            parts.network.listen([parse_bind(bind) for bind in binds])
            parts.network.announced()
        except BaseException:  # race: Ctrl-C, in an import too: it is not started then, and may be
            parts.network.stop_listening()
            raise
        self.state, self.was_started = "started", True
        close_at_exit(self)
        parts.network.housekeeper.start()
        parts.mesh.start(seeds, SelfDial)
        try:
            parts.services = start_services(parts, settings.services)
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """Leave the network; see `gmp.Node.close`."""
        if self.inherited or self.state == "closed":
            return  # a `with` block may end in a child of `fork`; the thread of a closed node may have ended
        parts = self._parts
        parts.ports.check_thread()
        if self.state in ("new", "started"):
            self._to_leave, self.state = self.state == "started", "closing"
            self.ended.set()
            parts.changed.set()
            parts.network.stop_listening()
            self._drains = parts.draining.begin() and self._to_leave
            if not self._drains:
                self._kill_ports()
            if parts.successor is None and not self._at_exit:
                parts.ground.go_on_at(None)
        self._ending.close()

    def _kill_ports(self) -> None:
        self._parts.draining.end()
        self._parts.ports.leave(("leaving", self.id))

    def close_at_exit(self) -> None:
        """`Endable.close_at_exit`: the process ends."""
        parts = self._parts
        if self.inherited:
            return
        if not parts.ports.is_own_thread():
            parts.threads.close_node(self.close, parts.settings.leave_timeout + GOODBYE)
            return
        if self.started:
            parts.ports.closed_because = "has left the network, as the program ends"
            self._at_exit = True  # whoever waits ends with the program, without a traceback
            self.close()
        self._ending.wait()

    def _leave(self) -> None:
        parts = self._parts
        deadline = clock.monotonic() + parts.settings.leave_timeout
        if self._drains:
            parts.draining.wait(deadline, parts.settings.leave_timeout)
            self._kill_ports()
        parts.ports.close(deadline)
        if self._to_leave:
            parts.leaving.flush(max(0.0, deadline - clock.monotonic()))  # a way may have to be found first, even to a seed
            parts.network.finish_streams(max(0.0, deadline - clock.monotonic()))
        parts.mesh.stop()
        if parts.lan is not None:
            parts.lan.close()
        if self._to_leave:
            parts.leaving.part(GOODBYE)
        parts.reactions.stop_searching()
        parts.calls.close()
        parts.threads.close()
        parts.network.close()
        parts.peer_log.sum_up()
        self.state = "closed"
        parts.changed.set()
        gevent.sleep(0)
        parts.ports.workers.close()
        gevent.sleep(0)

    def forked(self) -> None:
        """`Forkable.forked`."""
        parts, was_closed = self._parts, self.state == "closed"
        self.state = "forked"
        if was_closed:
            return  # nothing is left to let go of, and its event loop may be gone
        parts.ports.forked()
        parts.calls.close()
        parts.threads.abandon()
        parts.mesh.forked()
        if parts.lan is not None:
            parts.lan.abandon()
        parts.reactions.stop_searching(block=False)
        parts.network.abandon()
        parts.ground.go_on_at(None)
