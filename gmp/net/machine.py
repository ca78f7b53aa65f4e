"""Telling one machine from another: whether an address is this machine's, and a name for its network stack."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from typing import Any

from gmp.net.between import Way, make_end
from gmp.net.names import family_of

_ANY_PORT = 9  # nothing is sent to it
_NOBODYS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # reserved for documentation: no machine has them


def is_own(host: str) -> bool:
    """Return whether the numeric address `host` is this machine's. Asks the kernel, without sending a packet."""
    family = family_of(host)
    if family is None:
        return False
    return _starts_at(family, host) or (_can_bind(family, host) and not _can_bind(family, _NOBODYS[family]))


def _starts_at(family: socket.AddressFamily, host: str) -> bool:
    """Return whether the route to `host` starts at that very address, as it does for the first address of an interface."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, _ANY_PORT))
            return str(sock.getsockname()[0]).partition("%")[0] == host.partition("%")[0]
    except OSError:
        return False  # no route there at all


def _can_bind(family: socket.AddressFamily, host: str) -> bool:
    """Return whether a socket can bind that address; where ip_nonlocal_bind is on, it can bind any."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True


@cache
def machine_name() -> str:
    """Return a name that all processes on this network stack share, loopback included; empty if the system does not say.

    It is a hash of the boot ID and the number of the network namespace, and reveals nothing else.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return ""
    return hashlib.sha3_256(f"gmp {boot} {namespace}".encode()).hexdigest()[:32]


def way_between(own: tuple[Any, ...], other: tuple[Any, ...], *, dialled: bool) -> Way:
    """Return a TCP connection as described by the names of its two sockets."""
    ends = make_end(*own[:2]), make_end(*other[:2])
    near = ends[1].is_loopback or is_own(ends[1].host)
    return Way(dialled, *ends, near, machine_name())
