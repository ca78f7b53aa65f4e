"""The machine that a node runs on: its sockets, names and addresses, and whether another one is the same.

Each node asks `here`, when it is made, for its machine, and nothing in gmp opens a socket or looks up a name but by that
one. So a test's machine can stand in the place of this one, with sockets of its own on descriptors that the node's event
loop knows; what a node does with them is the same.
"""

from __future__ import annotations

import _socket
import array
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import gevent.socket
from gevent.server import StreamServer

from gmp.later import later
from gmp.net import unix
from gmp.net.between import UNIX, End, Way, make_end
from gmp.net.names import family_of

if TYPE_CHECKING:
    import hashlib
    import ipaddress
else:
    hashlib, ipaddress = later("hashlib"), later("ipaddress")

ACCEPTS_A_TURN = 4  # few, so that those who log in are heard before a flood of others has pushed them out
SIOCGIFCONF, IFREQ_SIZE = 0x8912, 40
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
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip()
        namespace = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return ""
    return hashlib.sha3_256(f"gmp {boot} {namespace}".encode()).hexdigest()[:32]


def interface_addresses_4() -> list[str]:
    """Return the IPv4 addresses of this machine's interfaces that are up."""
    space = array.array("B", bytes(IFREQ_SIZE * 256))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock.fileno(), SIOCGIFCONF, struct.pack("iL", len(space), space.buffer_info()[0]))
        except OSError:
            return _addresses_of_own_name(socket.AF_INET)
    size = struct.unpack("iL", answer)[0]
    # struct ifreq: 16 octets of name, then struct sockaddr_in, whose address begins at its octet 4
    return [socket.inet_ntoa(space[at + 20 : at + 24].tobytes()) for at in range(0, size, IFREQ_SIZE)]


def interface_addresses_6() -> list[str]:
    """Return the IPv6 addresses of this machine's interfaces, without link-local ones: they need an interface's name."""
    try:
        with open("/proc/net/if_inet6", encoding="utf-8") as file:
            found = [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in file]
    except OSError:
        return _addresses_of_own_name(socket.AF_INET6)
    return [str(address) for address in found if not address.is_link_local]


def _addresses_of_own_name(family: socket.AddressFamily) -> list[str]:
    try:
        found = gevent.socket.getaddrinfo(socket.gethostname(), 0, family, socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Server(Protocol):
    """A listening socket from which connections are accepted."""

    def stop(self) -> None:
        """Close it."""

    def mend(self) -> None:
        """Resume accepting after an interrupt."""

    def abandon(self) -> None:
        """Let go of the socket without closing it, in a child of `fork`: it is the parent's."""


class _Server(StreamServer):
    """As `Server`."""

    max_accept = ACCEPTS_A_TURN
    _timer: Any
    _watcher: Any

    def mend(self) -> None:
        # an interrupt makes gevent stop the watcher of a socket
        if self.started and self._timer is None and not self._watcher.active:
            self.stop_accepting()
            self.start_accepting()

    def abandon(self) -> None:
        self.stop_accepting()
        os.close(self.socket.detach())


class Machine:
    """This machine, as the operating system has it."""

    def tcp_socket(self, family: int) -> Any:
        """Return a new TCP socket whose methods wait cooperatively."""
        return gevent.socket.socket(family, socket.SOCK_STREAM)

    def unix_listener(self, host: str, port: int) -> Any:
        """Return a Unix socket that listens beside the TCP address, which is listened on; None where there can be none."""
        return unix.listen(self.name(), host, port) if unix.IS_SUPPORTED and self.name() else None

    def unix_socket(self, host: str, port: int) -> Any:
        """Return a Unix socket connected with this user's node at that TCP address; None if that is not here."""
        if not (unix.IS_SUPPORTED and self.name() and (make_end(host, port).is_loopback or self.is_own(host))):
            return None
        return unix.connect(self.name(), host, port)

    def socket_of(self, descriptor: int) -> Any:
        """Return the connected socket with that descriptor; its methods wait cooperatively."""
        return gevent.socket.socket(fileno=descriptor)

    def plain_socket_of(self, descriptor: int) -> _socket.socket:
        """Return the connected socket with that descriptor, for use with watchers of the event loop."""
        return _socket.socket(fileno=descriptor)

    def socket_pair(self) -> tuple[Any, Any]:
        """Return two sockets that are connected with each other; their methods wait cooperatively."""
        ours, theirs = gevent.socket.socketpair()
        return ours, theirs

    def let_go(self, descriptor: int) -> None:
        """Close a descriptor of a socket without a word to the other side, as another process has it too."""
        os.close(descriptor)

    def serve(self, listener: Any, accepted: Callable[[Any, tuple[Any, ...]], None]) -> Server:
        """Call `accepted(sock, address)`, in the hub, for each connection that `listener`, which it takes over, gets."""
        server = _Server(listener, accepted, spawn=None)
        server.start()
        return server

    def look_up(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """Return the addresses that a name stands for. *Blocks:* for the resolver. *Raises:* `OSError`."""
        return [where for *_, where in gevent.socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)]

    def addresses(self, family: int) -> list[str]:
        """Return its own addresses."""
        return interface_addresses_4() if family == socket.AF_INET else interface_addresses_6()

    def is_own(self, host: str) -> bool:
        """Return whether the numeric address `host` is one of its own."""
        return is_own(host)

    def name(self) -> str:
        """Return a name that no other machine has; empty if the system does not say."""
        return machine_name()


_THIS = Machine()
here: Callable[[], Machine] = lambda: _THIS  # noqa: E731  #: the machine that a node made now runs on


def way_between(machine: Machine, own: tuple[Any, ...], other: tuple[Any, ...], *, dialled: bool) -> Way:
    """Return a TCP connection of `machine` as described by the names of its two sockets."""
    ends = make_end(*own[:2]), make_end(*other[:2])
    near = ends[1].is_loopback or machine.is_own(ends[1].host)
    return Way(dialled, *ends, near, machine.name())


def unix_way_to(machine: Machine, host: str, port: int) -> Way:
    """Return a Unix socket that was dialled in the place of that TCP address."""
    return Way(True, End(UNIX, os.getpid()), make_end(host, port), True, machine.name(), unix=True)


def unix_way_from(machine: Machine, host: str, port: int, process: int) -> Way:
    """Return a Unix socket that `process` has dialled, and that was accepted beside that TCP address."""
    return Way(False, make_end(host, port), End(UNIX, process), True, machine.name(), unix=True)
