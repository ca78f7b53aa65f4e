"""What tells one machine from another: whether an address is our own, and a name for the network stack we are on."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from typing import Any

from gmp.net.between import Way, make_end
from gmp.net.names import family_of

_ANY_PORT = 9  # nothing is sent to it
_NOBODYS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # for documentation: no machine has them


def is_own(host: str) -> bool:
    """Whether the numeric address `host` is one of this machine's. Asks the kernel, without a packet."""
    family = family_of(host)
    if family is None:
        return False
    return _starts_at(family, host) or (_can_bind(family, host) and not _can_bind(family, _NOBODYS[family]))


def _starts_at(family: socket.AddressFamily, host: str) -> bool:
    """Whether the way to `host` starts from that very address, as it does to the first address of an interface."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, _ANY_PORT))
            return str(sock.getsockname()[0]).partition("%")[0] == host.partition("%")[0]
    except OSError:
        return False  # no way there at all


def _can_bind(family: socket.AddressFamily, host: str) -> bool:
    """Whether a socket can have that address; everywhere it can have any where ip_nonlocal_bind is on."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True


@cache
def machine_name() -> str:
    """A name that processes share which share a network stack, loopback included; empty where the system does not tell.

    Of the boot's ID and the network namespace's number, hashed: it says nothing else.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return ""
    return hashlib.sha3_256(f"gmp {boot} {namespace}".encode()).hexdigest()[:32]


def way_between(own: tuple[Any, ...], other: tuple[Any, ...], *, dialled: bool) -> Way:
    """A TCP connection by the names of its two sockets."""
    ends = make_end(*own[:2]), make_end(*other[:2])
    near = ends[1].is_loopback or is_own(ends[1].host)
    return Way(dialled, *ends, near, machine_name())
