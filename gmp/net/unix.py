"""Unix sockets, in the place of TCP between the nodes of one user on one host. They have abstract names (Linux only).

A node that listens on a TCP address also listens at the name that is made of it. Who dials an address of its own machine
tries that name first: the kernel keeps abstract names apart by network namespace, as it does TCP ports, so that the name
leads to the node that listens at the port, or nowhere; a proxy at another port is not passed by. Nobody is told the name.
Nothing has to be removed: the name ends with its socket.

Any user may take a name and dial one, so both ends ask the kernel who is at the other, and go on only with their own user.
Then the handshake is the same as over TCP. Who listened or dialled counts: a process that has become another user since
closes what it accepts without a byte, and the dialler turns to TCP. Process IDs are compared in the handshake
(`gmp.net.between`), so nodes that number processes differently, by being in other PID namespaces, have other names.
"""

from __future__ import annotations

import _socket
import os
import socket
import struct
from functools import cache
from typing import Any

import gevent.socket

from gmp.net.names import family_of

BACKLOG = 1024
_PEERCRED = getattr(socket, "SO_PEERCRED", None)
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_EVERYWHERE = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
_NAMESPACE = "/proc/self/ns/pid"
IS_SUPPORTED = hasattr(socket, "AF_UNIX") and _PEERCRED is not None and os.path.exists(_NAMESPACE)


def name_of(machine: str, host: str, port: int) -> bytes:
    """Return the name that belongs to a TCP address of the machine with that name."""
    return f"\0gmp/{machine}/{_process_namespace()}/{os.geteuid()}/{host.partition('%')[0]}:{port}".encode()


@cache
def _process_namespace() -> int:
    return os.stat(_NAMESPACE).st_ino


def listen(machine: str, host: str, port: int) -> Any:
    """Return a socket that listens at the name of that address; None when another program has the name."""
    listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(name_of(machine, host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        return None
    return listener


def connect(machine: str, host: str, port: int) -> _socket.socket | None:
    """Return a connection with the node of this user that listens at that address of this machine; None without one.

    It never waits: a node that does not accept, as its queue is full, is dialled by TCP.
    """
    family = family_of(host)
    assert family is not None
    for bound in (host, _EVERYWHERE[family]):
        sock = _socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(name_of(machine, bound, port))
            if is_own_user(sock):
                return sock
        except OSError:
            pass  # nobody listens there: TCP finds out what is
        sock.close()
    return None


def is_own_user(sock: Any) -> bool:
    """Return whether the process at the other end was of this process's user when it dialled or began to listen.

    The number that stands for all users of other user namespaces is nobody's: who has it cannot tell them from himself.
    """
    user = _credentials(sock)[1]
    return user == os.geteuid() and user != _unmapped_user()


@cache
def _unmapped_user() -> int:
    try:
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return int(file.read())
    except OSError:
        return 65534


def process_of(sock: Any) -> int:
    """Return the number of that process; 0 when it is in a namespace that this one does not see."""
    return _credentials(sock)[0]


def _credentials(sock: Any) -> tuple[int, int, int]:
    assert _PEERCRED is not None
    pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, _PEERCRED, _CREDENTIALS.size))
    return pid, uid, gid
