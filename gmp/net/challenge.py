"""Asking the other kernel whether a connection that is believed up still lives, when a newer incarnation wants its place.

Nothing acknowledges for a process that died: its kernel answers the no-op by a RST, and a host that is gone does not
answer. An acknowledgement means that the process lives, so the newcomer is another one of the same name.
"""

from __future__ import annotations

import gevent

from gmp.net import tcp
from gmp.net.connection import Connection
from gmp.outside import clock

PATIENCE = 1.0  # seconds for an answer
STEP = 0.01  # seconds between two looks; no event tells of an acknowledgement


def answered_for(connection: Connection) -> bool:
    """Send a no-op and return whether it is acknowledged. *Blocks:* up to a second."""
    try:
        if connection.way.unix:  # the kernel has closed it if the process is dead: one look tells
            connection.probe()
            gevent.sleep(STEP)
            return connection.reason is None
        before = tcp.read_figures(connection.sock)
        connection.probe()
        deadline = clock.monotonic() + PATIENCE
        while before is not None and connection.reason is None and clock.monotonic() < deadline:
            gevent.sleep(STEP)
            figures = None if connection.reason is not None else tcp.read_figures(connection.sock)
            if figures is not None and figures.established and figures.segments_in != before.segments_in:
                return connection.reason is None
    except OSError:
        pass  # broken: its own watcher reports its end
    return False
