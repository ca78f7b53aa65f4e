"""A simulated host: the machine that a simulated node runs on (`gmp.net.machine.Machine`), with an address in 10.0.0.0/8."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

from gmp.net.machine import Machine
from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulated.paths import Network
from gmp.testing.simulated.sockets import Attempt, CooperativeSocket, PlainSocket, Server
from gmp.testing.simulated.tcp import End, connect
from gmp.testing.simulated.watchers import Pollable

FIRST_PORT, FIRST_FREE_PORT = 40_000, 30_000
SYN_RETRIES = 1.0, 2.0, 4.0, 8.0, 16.0, 32.0  # seconds, as Linux does
LOOPBACK = "127.0.0.1"


class Host(Machine):
    """One host of a simulation."""

    def __init__(self, network: Network, pollables: dict[int, Pollable], name: str, address: str) -> None:
        self.host_name, self.address = name, address
        self.servers: dict[tuple[str, int], Server | None] = {}
        self.is_down = False
        self.clock_is_ahead = 0.0  #: seconds by which its wall clock is wrong
        self._network, self._loop = network, network.loop
        self._pollables = pollables
        self._ports = cycle(range(FIRST_PORT, 65_536))
        self._free = cycle(range(FIRST_FREE_PORT, FIRST_PORT))
        self._descriptors: dict[int, End] = {}
        network.hosts[name] = network.hosts[address] = self

    def remove(self) -> None:
        """Take it out of the network: nothing ever ran on it."""
        for name in (self.host_name, self.address):
            del self._network.hosts[name]

    # ---- `Machine`

    def tcp_socket(self, family: int) -> CooperativeSocket:
        """As `Machine.tcp_socket`; there is no IPv6 here."""
        if family != socket.AF_INET:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return CooperativeSocket(self)

    def unix_listener(self, host: str, port: int) -> None:
        """As `Machine.unix_listener`: no host of a simulation has Unix sockets."""

    def unix_socket(self, host: str, port: int) -> None:
        """As `Machine.unix_socket`."""

    def socket_of(self, descriptor: int) -> CooperativeSocket:
        """As `Machine.socket_of`."""
        return CooperativeSocket(self, PlainSocket(self, descriptor))

    def plain_socket_of(self, descriptor: int) -> Any:
        """As `Machine.plain_socket_of`."""
        return PlainSocket(self, descriptor)

    def socket_pair(self) -> tuple[CooperativeSocket, CooperativeSocket]:
        """As `Machine.socket_pair`."""
        here, there = self._connect(self, LOOPBACK, (LOOPBACK, next(self._ports)))
        return self.socket_of(here), self.socket_of(there)

    def let_go(self, descriptor: int) -> None:
        """As `Machine.let_go`: here no other process has it, so the kernel closes the connection."""
        self.close(descriptor)

    def serve(self, listener: Any, accepted: Callable[[Any, tuple[Any, ...]], None]) -> Server:
        """As `Machine.serve`."""
        bound = listener.getsockname()
        server = self.servers[bound] = Server(self, bound, accepted)
        return server

    def look_up(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """As `Machine.look_up`: the names of hosts are their names, at once and everywhere."""
        found = self if host == "localhost" else self._network.hosts.get(host)
        if found is None:
            raise OSError(socket.EAI_NONAME, f"no host of this simulation has the name {host!r}")
        return [(LOOPBACK if host == "localhost" else found.address, port)]

    def addresses(self, family: int) -> list[str]:
        """As `Machine.addresses`."""
        return [self.address, LOOPBACK] if family == socket.AF_INET else []

    def is_own(self, host: str) -> bool:
        """As `Machine.is_own`."""
        return host in (self.address, LOOPBACK)

    def name(self) -> str:
        """As `Machine.name`."""
        return hashlib.sha3_256(self.host_name.encode()).hexdigest()[:32]

    # ---- its kernel

    def end_of(self, descriptor: int) -> End:
        """Return the connection that a descriptor stands for. *Raises:* `OSError`."""
        end = self._descriptors.get(descriptor)
        if end is None:  # race: the host has crashed before the program took it
            raise OSError(errno.EBADF, "Bad file descriptor")
        return end

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        end = self._descriptors.pop(descriptor, None)
        if end is not None:
            del self._pollables[descriptor]
            end.close()

    def close_all(self) -> None:
        """End every connection, as a kernel does for a process that died."""
        for server in list(self.servers.values()):
            if server is not None:
                server.stop()
        self.servers.clear()
        for descriptor in list(self._descriptors):
            self.close(descriptor)

    def vanish(self) -> None:
        """Forget every connection without a word, as a host does that has lost its power."""
        for end in self._descriptors.values():
            end.vanish()
        self.close_all()

    def ends(self) -> list[End]:
        """Return its ends of connections."""
        return list(self._descriptors.values())

    def bind(self, host: str, port: int) -> tuple[str, int]:
        """Return the address to listen at. *Raises:* `OSError`."""
        if host not in ("0.0.0.0", LOOPBACK, self.address):
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        bound = host, port or next(self._free)
        if any(bound[1] == taken[1] for taken in self.servers):
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bound

    def listen(self, bound: tuple[str, int]) -> None:
        """Note that somebody listens there."""
        self.servers[bound] = None

    def stop_listening(self, bound: tuple[str, int]) -> None:
        """Nobody listens there any more."""
        self.servers.pop(bound, None)

    def dial(self, host: str, port: int, done: Callable[[Any], None]) -> Attempt:
        """Begin to connect; `done` gets a descriptor, or an `OSError`."""
        own = host in (LOOPBACK, self.address)
        target = self if own else self._network.hosts.get(host)
        attempt = Attempt()
        self._network.note(f"{self.host_name} dials {host}:{port}")
        wake = partial(self._loop.run_callback_of, self, done)
        self._try(attempt, target, (host, port), wake, 0)
        return attempt

    def _try(
        self, attempt: Attempt, target: Host | None, where: tuple[str, int], done: Callable[[Any], None], tried: int
    ) -> None:
        if attempt.given_up or attempt.answered:
            return
        if tried == len(SYN_RETRIES):
            done(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
            return
        now = self._loop.time
        self._loop.call_at(now + SYN_RETRIES[tried], self._try, attempt, target, where, done, tried + 1)
        if target is not None:
            there = self._network.path(self.host_name, target.host_name)
            self._loop.call_at(now + there.takes(), self._knock, attempt, target, where, done)

    def _knock(self, attempt: Attempt, target: Host, where: tuple[str, int], done: Callable[[Any], None]) -> None:
        """The first packet has arrived there, unless the path is blocked."""
        there = self._network.path(self.host_name, target.host_name)
        back = self._network.path(target.host_name, self.host_name)
        if attempt.given_up or attempt.answered or there.blocked or back.blocked or target.is_down:
            return
        attempt.answered = True
        server = target.servers.get(where) or target.servers.get(("0.0.0.0", where[1]))
        due = self._loop.time + back.takes()
        if server is None:
            self._network.note(f"{target.host_name} refuses {self.host_name} at port {where[1]}")
            self._loop.call_at(due, done, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
        else:
            here, theirs = self._connect(target, where[0], where)
            self._loop.call_at(due, self._connected, attempt, here, done)
            server.arrived(theirs)

    def _connected(self, attempt: Attempt, descriptor: int, done: Callable[[Any], None]) -> None:
        if attempt.given_up:  # race: whoever dials has lost its patience, or has died
            self.close(descriptor)
        else:
            done(descriptor)

    def _connect(self, target: Host, host: str, where: tuple[str, int]) -> tuple[int, int]:
        """Return the descriptors of the two ends of a new connection to `where` on `target`."""
        own = LOOPBACK if host == LOOPBACK else self.address
        client = own, next(self._ports)
        ends = connect(self._network, self.host_name, target.host_name, client, where)
        self._network.note(f"{self.host_name} {client[0]}:{client[1]} connects {target.host_name} {where[0]}:{where[1]}")
        return self._open(ends[0]), target._open(ends[1])

    def _open(self, end: End) -> int:
        if self.is_down:
            raise SimulationError(f"host {self.host_name} is down: nothing runs on it")
        descriptor = next(self._network.descriptors)
        self._descriptors[descriptor] = self._pollables[descriptor] = end
        return descriptor
