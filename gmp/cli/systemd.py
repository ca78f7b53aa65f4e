"""What systemd wants to know of a service (sd_notify): that it is ready, that it stops, and that it still lives.

One datagram each to the socket named in ``NOTIFY_SOCKET``; without one, nothing. The watchdog is fed from the main loop, so
a program that hangs is started again. The variables are taken out of the environment: they are not for our children.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Any

import gevent


class Systemd:
    """The connection to systemd, if it started this process."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        interval = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "") or str(os.getpid())
        self._socket: socket.socket | None = None
        self._timer: Any = None
        if not address:
            return
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        if interval.isdigit() and int(interval) and pid == str(os.getpid()):
            seconds = int(interval) / 2e6  # twice as often as it must be
            self._timer = gevent.get_hub().loop.timer(seconds, seconds, ref=False)
            self._timer.start(self._tell, "WATCHDOG=1")

    def ready(self, status: str) -> None:
        """The node listens and its services were started."""
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def stopping(self) -> None:
        """The node leaves."""
        self._tell("STOPPING=1\nSTATUS=leaving the network")

    def _tell(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode(), self._address)
            except OSError:
                pass  # systemd went away or is not to be told: the node must not die of that

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.close()
        if self._socket is not None:
            self._socket.close()
