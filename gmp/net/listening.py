"""Where a node listens: its binds made into listening sockets, and what of them is announced to others.

``*`` as host is every address, IPv4 and, where the machine has it, IPv6 at the same port, with a socket for each so that
addresses of peers stay what they are. A name is each of its addresses. Either all binds can be had or none is kept.

Announced are the numeric addresses; for ``*`` those of the machine's interfaces, loopback last (only nodes on this machine
are told it: `gmp.mesh.border`). The setting `advertise` replaces all of it: behind NAT or in a container only
the user knows.
"""

from __future__ import annotations

import array
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import gevent.socket
from gevent.server import StreamServer

from gmp.config import Address
from gmp.errors import ConfigError, GmpError
from gmp.net.names import family_of, resolve

BACKLOG = 1024
ACCEPTS_A_TURN = 4  # few, so that those who log in are heard before a flood of others has pushed them out
ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
PORT_TRIES = 20  # for a free port that IPv4 and IPv6 both have
SIOCGIFCONF, IFREQ_SIZE = 0x8912, 40
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class Listeners:
    """The listening sockets of one node; `accepted(sock, address)` is called for each connection."""

    def __init__(self, accepted: Callable[[Any, tuple[Any, ...]], None]) -> None:
        self.binds: list[str] = []
        self._accepted = accepted
        self._servers: list[StreamServer] = []

    def listen(self, binds: Sequence[Address]) -> None:
        """Listen on each of `binds`. *Blocks:* while names are resolved.

        *Raises:* `ConfigError` naming the bind that failed, and why; then none is open.
        """
        listeners: list[Any] = []
        try:
            for bind in binds:
                try:
                    listeners += _open(bind)
                except (OSError, GmpError) as error:
                    raise ConfigError(f"cannot listen on {format_address(bind.host, bind.port)}: {error}") from error
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        for listener in listeners:
            server = StreamServer(listener, self._accepted, spawn=None)
            server.max_accept = ACCEPTS_A_TURN
            server.start()
            self._servers.append(server)
            self.binds.append(format_address(*server.address[:2]))

    def stop(self) -> None:
        """Close the listening sockets."""
        for server in self._servers:
            server.stop()
        self._servers.clear()

    def mend(self) -> None:
        """Resume accepting after an interrupt, which makes gevent stop the watcher of a socket."""
        servers: list[Any] = self._servers
        for server in servers:
            if server.started and server._timer is None and not server._watcher.active:
                server.stop_accepting()
                server.start_accepting()

    def abandon(self) -> None:
        """Let go of the sockets without closing them, in a child of `fork`: they are the parent's."""
        for server in self._servers:
            server.stop_accepting()
            os.close(server.socket.detach())
        self._servers.clear()

    def announced(self, advertise: Sequence[Address] | None) -> list[str]:
        """Return the addresses to announce; `advertise`: the setting, in which port 0 means the port of the first bind."""
        ports = [int(bind.rpartition(":")[2]) for bind in self.binds]
        if advertise is not None:
            if not ports and any(not address.port for address in advertise):
                raise ConfigError("advertise has an address without a port, but this node listens on none")
            return [format_address(address.host, address.port or ports[0]) for address in advertise]
        found: list[str] = []
        for bind in self.binds:
            host, _, port = bind.rpartition(":")
            hosts = {"0.0.0.0": interface_addresses_4, "[::]": interface_addresses_6}.get(host)
            found += [bind] if hosts is None else [format_address(each, int(port)) for each in hosts()]
        return sorted(dict.fromkeys(found), key=_is_loopback)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0]).is_loopback


def _open(bind: Address) -> list[Any]:
    """Open and return the listening sockets of one bind."""
    if bind.host == "*":
        return _open_everywhere(bind.port)
    addresses = resolve(bind)
    listeners: list[Any] = []
    missing: OSError | None = None
    try:
        for host, port in addresses:
            try:
                listeners.append(_listen(host, port))
            except OSError as error:
                if len(addresses) == 1 or error.errno not in _NOT_HERE:
                    raise
                missing = error  # a name may have an IPv6 address though the machine has no IPv6
        if missing is not None and not listeners:
            raise missing
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _open_everywhere(port: int) -> list[Any]:
    for attempt in range(PORT_TRIES):
        four = _listen(ANY[socket.AF_INET], port)
        try:
            return [four, _listen(ANY[socket.AF_INET6], four.getsockname()[1])]
        except OSError as error:
            if error.errno in _NOT_HERE or not socket.has_ipv6:
                return [four]
            # race: another program has this very port on IPv6; if any port will do, try another
            four.close()
            if port or attempt == PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _listen(host: str, port: int) -> Any:
    family = family_of(host)
    assert family is not None
    listener = gevent.socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


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
        with open("/proc/net/if_inet6", encoding="ascii") as file:
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


def format_address(host: str, port: int) -> str:
    """Return ``host:port``, with IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
