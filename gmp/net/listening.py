"""Where a node listens: its binds made into listening sockets, and what of them is announced to others.

``*`` as host is every address, IPv4 and, where the machine has it, IPv6 at the same port, with a socket for each so that
addresses of peers stay what they are. A name is each of its addresses. Either all binds can be had or none is kept.

Announced are the numeric addresses; for ``*`` those of the machine's interfaces, loopback last (only nodes on this machine
are told it: `gmp.mesh.border`). The setting `advertise` replaces all of it: behind NAT or in a container only
the user knows.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gmp.config import Address
from gmp.errors import ConfigError, GmpError
from gmp.later import later
from gmp.net.machine import Machine, Server
from gmp.net.names import family_of, resolve

if TYPE_CHECKING:
    import ipaddress
else:
    ipaddress = later("ipaddress")

BACKLOG = 1024
ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
PORT_TRIES = 20  # for a free port that IPv4 and IPv6 both have
_FAMILY_OF_ANY = {"0.0.0.0": socket.AF_INET, "[::]": socket.AF_INET6}
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class Listeners:
    """The listening sockets of one node on `machine`; `accepted(sock, address)` is called for each connection.

    `accepted_near(sock, host, port)` is called for each that came by the Unix socket beside that TCP address; None: no such
    sockets are opened.
    """

    def __init__(
        self,
        machine: Machine,
        accepted: Callable[[Any, tuple[Any, ...]], None],
        accepted_near: Callable[[Any, str, int], None] | None,
    ) -> None:
        self.binds: list[str] = []
        self._machine = machine
        self._accepted = accepted
        self._accepted_near = accepted_near
        self._servers: list[Server] = []

    def listen(self, binds: Sequence[Address]) -> None:
        """Listen on each of `binds`. *Blocks:* while names are resolved.

        *Raises:* `ConfigError` naming the bind that failed, and why; then none is open.
        """
        self.binds.clear()  # of a time that failed
        listeners: list[Any] = []
        try:
            for bind in binds:
                try:
                    listeners += _open(self._machine, bind)
                except (OSError, GmpError) as error:
                    raise ConfigError(f"cannot listen on {format_address(bind.host, bind.port)}: {error}") from error
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        for listener in listeners:
            self._servers.append(self._machine.serve(listener, self._accepted))
            host, port = listener.getsockname()[:2]
            self.binds.append(format_address(host, port))
            self._listen_near(host, port)

    def _listen_near(self, host: str, port: int) -> None:
        """Listen beside that TCP address for the nodes of this user on this host."""
        accepted = self._accepted_near
        listener = None if accepted is None else self._machine.unix_listener(host, port)
        if accepted is not None and listener is not None:
            self._servers.append(self._machine.serve(listener, lambda sock, _: accepted(sock, host, port)))

    def stop(self) -> None:
        """Close the listening sockets."""
        for server in self._servers:
            server.stop()
        self._servers.clear()

    def mend(self) -> None:
        """Resume accepting after an interrupt."""
        for server in self._servers:
            server.mend()

    def abandon(self) -> None:
        """Let go of the sockets without closing them, in a child of `fork`: they are the parent's."""
        for server in self._servers:
            server.abandon()
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
            family = _FAMILY_OF_ANY.get(host)
            hosts = [] if family is None else self._machine.addresses(family)
            found += [bind] if family is None else [format_address(each, int(port)) for each in hosts]
        return sorted(dict.fromkeys(found), key=_is_loopback)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0]).is_loopback


def _open(machine: Machine, bind: Address) -> list[Any]:
    """Open and return the listening sockets of one bind."""
    if bind.host == "*":
        return _open_everywhere(machine, bind.port)
    addresses = resolve(bind, machine.look_up)
    listeners: list[Any] = []
    missing: OSError | None = None
    try:
        for host, port in addresses:
            try:
                listeners.append(_listen(machine, host, port))
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


def _open_everywhere(machine: Machine, port: int) -> list[Any]:
    for attempt in range(PORT_TRIES):
        four = _listen(machine, ANY[socket.AF_INET], port)
        try:
            return [four, _listen(machine, ANY[socket.AF_INET6], four.getsockname()[1])]
        except OSError as error:
            if error.errno in _NOT_HERE or not socket.has_ipv6:
                return [four]
            # race: another program has this very port on IPv6; if any port will do, try another
            four.close()
            if port or attempt == PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _listen(machine: Machine, host: str, port: int) -> Any:
    family = family_of(host)
    assert family is not None
    listener = machine.tcp_socket(family)
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


def format_address(host: str, port: int) -> str:
    """Return ``host:port``, with IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
