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

from collections.abc import Iterator
from typing import Any

import gmp

try:
    from socketio.pubsub_manager import PubSubManager
except ImportError as error:
    raise ImportError("gmp.services.socketio needs python-socketio: pip install 'gmp[socketio]'") from error

MESSAGE = "socketio"


class GmpManager(PubSubManager):  # type: ignore[misc]  # python-socketio has no type information
    """A client manager for `socketio.Server` and Flask-SocketIO's ``client_manager=``.

    `channel` names the group: applications that share a network take different ones. `write_only` makes one that emits
    and does not listen. `settings` are those of `gmp.configure`; with any given, the first use configures the default
    node, which is right for programs that do not use gmp otherwise. *Blocks:* never.
    """

    name = "gmp"

    def __init__(self, channel: str = "socketio", write_only: bool = False, logger: Any = None, **settings: Any) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger)
        self._settings = settings
        self._members: gmp.Group | None = None

    def _group(self) -> gmp.Group:
        """Made at the first use: a pre-forking server makes the manager before the fork, and the node is the worker's."""
        if self._members is None:
            if self._settings:
                gmp.configure(**self._settings)
            self._members = gmp.group(f"socketio:{self.channel}")
            if self.write_only:
                self._members.wait()
        return self._members

    def _publish(self, data: dict[str, Any]) -> None:
        self._group().send(MESSAGE, data)

    def _listen(self) -> Iterator[dict[str, Any]]:
        port = gmp.port()
        self._group().join(port)
        for message in port:
            match message:
                case ("socketio", dict() as data):
                    yield data
