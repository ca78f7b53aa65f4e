"""Addresses on loopback where nobody listens."""

from __future__ import annotations

import socket


def free_addresses(count: int) -> list[str]:
    """So many different ones, as ``127.0.0.1:port``."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_address() -> str:
    """One."""
    return free_addresses(1)[0]
