"""The rule that refuses a handshake which a third party relays between two nodes. Pure.

A digest covers both greetings, so nobody without the secret can alter what they say; but an attacker can relay the lines of
two honest nodes to one another and own the connection that they take for theirs. So each greeting says what its sender
sees of the connection, and the receiver compares (`docs/handshake.md` has who can pass what to whom):

- ``role``: whether the sender dialled or was dialled. Two of one kind have a third party between them.
- ``peeraddr``: the address of the other end. What one node has dialled must be where it came in at the other.
- ``machine`` and ``ownaddr``, when the dialler has dialled an address of its own machine: both ends must then be on that
  machine, and hold both ends of one connection. There an address alone proves little: any user may take a free port.

The node that was dialled compares the addresses, as it is the one that knows under which others it may be reached. It does
so before its authentication line, without which the dialler does nothing. A peer that does not say ``gmp`` is Perl: it has
no roles and compares nothing, so that a dialler, too, compares what Perl says.

NAT, port mappings, proxies and tunnels forward connections because the user wants it. On a network they cannot be told
from an attacker's, so there the rule is strict only when the setting `reached_at` is given; on one machine, and towards
Perl nodes that were not dialled, it is strict always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gmp.config import ANYWHERE, split_reached
from gmp.errors import AuthenticationError
from gmp.later import later

if TYPE_CHECKING:
    import ipaddress
else:
    ipaddress = later("ipaddress")

ROLE, PEER_ADDRESS, OWN_ADDRESS, MACHINE = "role", "peeraddr", "ownaddr", "machine"
DIALLED, ACCEPTED = "dialled", "accepted"
UNIX = "unix"  # in the place of a host: the other end of a Unix socket, with the number of its process as port
UNKNOWN_MACHINE = "unknown"  # the value of `machine` where the system does not tell


class End(NamedTuple):
    """One end of a connection: a numeric address in its shortest form, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is a loopback address."""
        return self.host == UNIX or ipaddress.ip_address(self.host).is_loopback


def make_end(host: str, port: int) -> End:
    """Return the end at `host`, without an IPv6 zone and with mapped IPv4 as IPv4. *Raises:* `ValueError`."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return End(str(mapped or address), port)


def parse_end(text: str) -> End | None:
    """Return the end that a greeting names as ``host:port``; None if it is not one, or its port is 0."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < len(port) <= 5 and int(port) > 0):
        return None
    try:
        return make_end(host.removeprefix("[").removesuffix("]"), int(port))
    except ValueError:
        return None


class Way(NamedTuple):
    """A connection as one end of it sees it; `near`: the other end has an address of this machine."""

    dialled: bool
    own: End
    other: End
    near: bool
    machine: str  #: `gmp.net.machine.machine_name`
    unix: bool = False  #: a Unix socket; the kernel has said that this node's user is at its other end

    @property
    def on_this_host(self) -> bool:
        """Whether the other end is certainly in this node's network namespace: a Unix socket, or on loopback."""
        return self.unix or self.other.is_loopback

    def keys(self) -> dict[str, str]:
        """Return the keys by which a greeting describes it."""
        keys = {ROLE: DIALLED if self.dialled else ACCEPTED, PEER_ADDRESS: str(self.other)}
        if self.dialled and self.near:  # nobody on another machine learns of these
            keys[OWN_ADDRESS] = str(self.own)
            if not self.unix:
                keys[MACHINE] = self.machine or UNKNOWN_MACHINE
        return keys


class Policy:
    """The rule under a node's settings `reached_at`, `advertise` and `require_roles`."""

    def __init__(
        self, node_id: str, reached_at: Iterable[str] | None, advertise: Iterable[str], *, require_roles: bool
    ) -> None:
        self._node_id = node_id
        self._strict = reached_at is not None
        self._anywhere = ANYWHERE in (reached_at or ())
        admitted = [split_reached(text) for text in reached_at or () if text != ANYWHERE]
        self._reached_at = {(make_end(host, 0).host, port) for host, port in admitted}
        self._announced = {parse_end(text) for text in advertise}
        self._require_roles = require_roles

    def check(self, way: Way, node_id: str, keys: Mapping[str, str], *, tls: bool) -> None:
        """Check that no third party relays between us and the node whose greeting has the name `node_id` and these `keys`.

        `tls`: the connection will be TLS from end to end, so that a third party can do nothing but cut it.
        *Raises:* `AuthenticationError`, whose text names what was dialled, what was reached, and the setting for it.
        """
        if "gmp" in keys:
            self._check_role(way, node_id, keys.get(ROLE, ""), tls=tls)
        elif self._require_roles:
            raise AuthenticationError(f"node {node_id!r} is no gmp node, and require_roles refuses nodes that have no roles")
        if tls or self._anywhere:
            return
        if way.unix:
            self._check_process(way, node_id, keys)
        elif "gmp" not in keys:
            self._check_perl(way, node_id, keys)
        elif not way.dialled:
            self._check_dialler(way, node_id, keys)

    def _check_role(self, way: Way, node_id: str, role: str, *, tls: bool) -> None:
        if role == (ACCEPTED if way.dialled else DIALLED):
            return
        if role == DIALLED:
            raise AuthenticationError(f"node {node_id!r} has dialled, and so have we: somebody passes the lines on")
        if role == ACCEPTED:
            raise AuthenticationError(
                f"node {node_id!r} was dialled, and so were we: somebody passes lines between two listeners"
            )
        if role or not tls:  # under TLS a node of an older release does no harm
            raise AuthenticationError(
                f"node {node_id!r} says {role[:40]!r} of its role, expected {DIALLED!r} or {ACCEPTED!r}:"
                " nodes of older releases say nothing"
            )

    def _admits(self, target: End, way: Way) -> bool:
        """Return whether the user has declared that connections dialled at `target` are forwarded to this node."""
        if target in self._announced and target != way.own:
            return True
        return (target.host, target.port) in self._reached_at or (target.host, 0) in self._reached_at

    def _check_dialler(self, way: Way, node_id: str, keys: Mapping[str, str]) -> None:
        """Check what a gmp node says that it has dialled."""
        said = keys.get(PEER_ADDRESS, "")
        target = parse_end(said)
        if target is None:
            raise AuthenticationError(f"node {node_id!r} says {said[:60]!r} of where it has dialled, expected host:port")
        if self._admits(target, way):
            return
        near = way.near or MACHINE in keys
        if target == way.own:
            if near:
                self._check_near(way, node_id, keys, target)
        elif self._strict or near or target.is_loopback or way.own.is_loopback:
            raise self._passed_on(node_id, target, way, "")

    def _check_near(self, way: Way, node_id: str, keys: Mapping[str, str], target: End) -> None:
        """Check both ends: the right address was dialled, and one end says that the other is on its machine."""
        machine = keys.get(MACHINE, "")
        unknown = machine == UNKNOWN_MACHINE or (machine and not way.machine)
        if not way.near or (machine != way.machine and not unknown):
            raise self._passed_on(node_id, target, way, " on another machine")
        if parse_end(keys.get(OWN_ADDRESS, "")) != way.other:
            raise self._passed_on(node_id, target, way, " by another socket than the one that came here")

    def _check_process(self, way: Way, node_id: str, keys: Mapping[str, str]) -> None:
        """Check that the node is the very process that has dialled: one of this user may be locked in a container."""
        if "gmp" not in keys:
            raise AuthenticationError(
                f"node {node_id!r} is no gmp node, and only those use Unix sockets: somebody passes the lines on"
            )
        said = keys.get(OWN_ADDRESS, "")
        if not way.dialled and said != str(way.other):
            raise AuthenticationError(
                f"node {node_id!r} says {said[:60]!r} of where it has dialled from, but {way.other} has: somebody passes the"
                " lines on"
            )

    def _check_perl(self, way: Way, node_id: str, keys: Mapping[str, str]) -> None:
        """Check a node without roles, which says at most the address of the other end as it sees it.

        Real ones always do, but one that has dialled a host name (from the directory, seeds are numeric) says that name.
        """
        seen = parse_end(keys.get(PEER_ADDRESS, ""))
        if seen is None or seen == way.own:
            return
        if not way.dialled:
            if not self._admits(seen, way):
                raise self._passed_on(node_id, seen, way, "")
        elif way.near or way.own.is_loopback or seen.is_loopback:  # elsewhere it is source NAT, as likely as not
            raise AuthenticationError(
                f"we have dialled {way.other}, but node {node_id!r} sees another socket than ours, at {seen.host}: somebody"
                f" passes the lines on; where that is your own tunnel or proxy, set reached_at=['*'] on node {self._node_id}"
            )

    def _passed_on(self, node_id: str, target: End, way: Way, how: str) -> AuthenticationError:
        """Return the error, whose text is the same for each try: the dialler's port, which changes, is not in it."""
        return AuthenticationError(
            f"node {node_id!r} has dialled {target}{how}, but reached {way.own} from {way.other.host}: somebody passes the"
            f" lines on; where that is your own tunnel, proxy or port mapping, set reached_at=['{target}']"
            f" on node {self._node_id}"
        )
