"""Listen addresses as they travel in the directory: lists of ``host:port``. Pure.

Loopback addresses mean something on one machine only. They cross a connection only if that is on loopback itself, so that
a node that has one got it over a chain of neighbours on this machine. `gmp.mesh.border` applies these rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gmp.config import SRV_PREFIX, parse_seed
from gmp.errors import ConfigError
from gmp.later import later
from gmp.mesh.directory import Family

if TYPE_CHECKING:
    import ipaddress
else:
    ipaddress = later("ipaddress")

ADDRESSES = "'l"
MOST_DIALLED = 32  #: addresses of one node that are dialled at most, however many it reports


def is_loopback(address: str) -> bool:
    """Return whether `address`, a ``host:port``, is on loopback, in any spelling; the unspecified address is too."""
    host = address.rpartition(":")[0].strip("[]").lower()
    try:
        numeric = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.rstrip(".") == "localhost"
    mapped = numeric.ipv4_mapped if isinstance(numeric, ipaddress.IPv6Address) else None
    return (mapped or numeric).is_loopback or (mapped or numeric).is_unspecified


def dialable(value: object, *, near: bool) -> list[str]:
    """Return those addresses, not too many, that can be dialled as a peer asks; `near`: see `for_others`."""
    found = dict.fromkeys(filter(_is_dialable, address_list(value) or ()))
    return [address for address in found if near or not is_loopback(address)][:MOST_DIALLED]


def _is_dialable(address: str) -> bool:
    try:
        return not parse_seed(address).host.startswith(SRV_PREFIX)
    except ConfigError:
        return False


def address_list(value: object) -> list[str] | None:
    """Return addresses as a peer reported them; None if it reported none."""
    if not isinstance(value, list | tuple):
        return None
    return [item for item in value if isinstance(item, str)]


def for_others(family: str, entries: Mapping[str, Any], *, near: bool) -> Family:
    """Return the entries of a family as they may cross a connection; `near`: whether that is on loopback."""
    if near or family != ADDRESSES:
        return dict(entries)
    return {key: _without_loopback(value) for key, value in entries.items()}


def _without_loopback(value: Any) -> Any:
    addresses = address_list(value)
    return value if addresses is None else [address for address in addresses if not is_loopback(address)]
