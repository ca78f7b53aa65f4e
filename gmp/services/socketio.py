"""python-socketio and Flask-SocketIO over a gmp group, in the place of a Redis or Kombu client manager (extra ``socketio``).

An application that runs in one worker spreads over many workers and hosts by changing one line::

    socketio = SocketIO(app, client_manager=GmpManager())            # was: message_queue="redis://"

Each server's manager has a port in the group ``socketio:CHANNEL``; what one publishes is sent to all others. Messages
are plain data, so binary attachments, rooms, acknowledgements and disconnections from another worker travel as they are.
A plain script that only emits makes a ``GmpManager(write_only=True)`` and calls its `emit`.

race: a server that starts while another emits joins the group a moment later: like a client that connects then, its
clients do not get what was emitted before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import gmp
from gmp.face import wait_for_another
from gmp.outside import clock

try:
    from socketio.pubsub_manager import PubSubManager
except ImportError as error:
    raise ImportError("gmp.services.socketio needs python-socketio: pip install 'gevent-mp[socketio]'") from error

MESSAGE = "socketio"
log = logging.getLogger("gmp.services.socketio")


class GmpManager(PubSubManager):  # type: ignore[misc]  # python-socketio has no type information
    """A client manager for `socketio.Server` and Flask-SocketIO's ``client_manager=``.

    `channel` names the group: applications that share a network take different ones. `write_only` makes one that emits
    and does not listen: each emit returns when it was written to the servers' sockets, so that the program may wait
    natively, or end, at once. Its first emit waits up to `timeout` seconds for a seed and for a server of the channel; each
    one raises `gmp.WaitTimeout` when no seed can be reached, or what it has sent could not be written in that time; without
    a server there is nobody to tell, which is logged once. `settings` are those of `gmp.configure`; with any given, the
    first use configures the default node, which is right for programs that do not use gmp otherwise.

    *Blocks:* never; a write-only one up to `timeout` seconds for each emit.
    """

    name = "gmp"

    def __init__(
        self, channel: str = "socketio", write_only: bool = False, logger: Any = None, timeout: float = 10.0, **settings: Any
    ) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger)
        self._settings = settings
        self._timeout = timeout
        self._node: gmp.Node | None = None  # that of `_members`
        self._members: gmp.Group | None = None

    def _group(self) -> gmp.Group:
        """The group on the default node.

        A pre-forking server makes the manager before the fork, and the node is the worker's; a program may close its node
        and configure another one.
        """
        node = gmp.node()
        if self._settings and not node.started and not node.closed:
            node = gmp.configure(**self._settings)
        if self._members is None or node is not self._node:
            members = node.group(f"socketio:{self.channel}")
            if self.write_only:
                self._look_for_servers(node, members)
            self._node, self._members = node, members
        return self._members

    def _look_for_servers(self, node: gmp.Node, members: gmp.Group) -> None:
        deadline = clock.monotonic() + self._timeout
        node.wait_up(timeout=self._timeout)
        try:
            members.wait(timeout=max(0.0, deadline - clock.monotonic()))
        except gmp.WaitTimeout:
            log.warning("nobody is told: no server of channel %r was found within %g s", self.channel, self._timeout)

    def _publish(self, data: dict[str, Any]) -> None:
        self._group().send(MESSAGE, data)
        if self.write_only and not gmp.flush(self._timeout):
            raise gmp.WaitTimeout(
                f"channel {self.channel!r}: an event could not be sent to each server within {self._timeout} s"
            )

    def _listen(self) -> Iterator[dict[str, Any]]:
        while True:
            members = self._group()
            node = self._node
            assert node is not None
            port = node.port()
            members.join(port)
            for message in port:
                match message:
                    case ("socketio", dict() as data):
                        yield data
            wait_for_another(node)  # it was closed; the program may configure another one
