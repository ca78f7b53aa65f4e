"""Addresses on loopback where nobody listens, and whether nodes there are connected by Unix sockets."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from gmp.net import unix

BY_UNIX = unix.IS_SUPPORTED and os.environ.get("GMP_UNIX_SOCKETS") != "no"
# the kernel takes the ports of connections that are dialled from this range, so one from there is free for a moment only
FIRST_DIALLED = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def free_addresses(count: int) -> list[str]:
    """So many different ones, as ``127.0.0.1:port``."""
    probes: list[socket.socket] = []
    try:
        while len(probes) < count:
            probe = socket.socket()
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().randrange(max(FIRST_DIALLED - 20_000, 1024), FIRST_DIALLED)))
            except OSError:
                probe.close()  # somebody listens there
            else:
                probes.append(probe)
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_address() -> str:
    """One."""
    return free_addresses(1)[0]
