"""Notifies systemd (sd_notify) that a service is ready, that it is stopping, and that it is still alive.

Each notification is one datagram to the socket named in ``NOTIFY_SOCKET``; without that, nothing is sent. The main loop
feeds the watchdog, so a program that hangs is restarted. The variables are removed from the environment: they are not for
child processes.
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
        """Report that the node listens and its services have started."""
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def stopping(self) -> None:
        """Report that the node is leaving."""
        self._tell("STOPPING=1\nSTATUS=leaving the network")

    def _tell(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode(), self._address)
            except OSError:
                pass  # systemd went away or is not to be told: the node must not die of that

    def close(self) -> None:
        """Stop notifying."""
        if self._timer is not None:
            self._timer.close()
        if self._socket is not None:
            self._socket.close()
