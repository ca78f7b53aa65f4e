"""Listen addresses as they travel in the directory: lists of ``host:port``. Pure.

Loopback addresses mean something on one machine only. They cross a connection only when that connection is on loopback
itself, so that whoever has one got it over a chain of neighbours on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from gmp.config import SRV_PREFIX, parse_seed
from gmp.errors import ConfigError
from gmp.mesh.directory import Family

ADDRESSES = "'l"
MOST_DIALLED = 32  #: addresses of one node that are dialled, whatever it says of itself


def is_loopback(address: str) -> bool:
    """Whether `address`, a ``host:port``, leads to loopback: in any spelling, and the address that means any."""
    host = address.rpartition(":")[0].strip("[]").lower()
    try:
        numeric = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.rstrip(".") == "localhost"
    mapped = numeric.ipv4_mapped if isinstance(numeric, ipaddress.IPv6Address) else None
    return (mapped or numeric).is_loopback or (mapped or numeric).is_unspecified


def dialable(value: object, *, near: bool) -> list[str]:
    """Those of the addresses at which a peer asks to be dialled that can be, not too many; `near`: see `for_others`."""
    found = dict.fromkeys(filter(_is_dialable, address_list(value) or ()))
    return [address for address in found if near or not is_loopback(address)][:MOST_DIALLED]


def _is_dialable(address: str) -> bool:
    try:
        return not parse_seed(address).host.startswith(SRV_PREFIX)
    except ConfigError:
        return False


def address_list(value: object) -> list[str] | None:
    """Addresses as a peer reported them; None when it knows none."""
    if not isinstance(value, list | tuple):
        return None
    return [item for item in value if isinstance(item, str)]


def for_others(family: str, entries: Mapping[str, Any], *, near: bool) -> Family:
    """The entries of a family as they may cross a connection; `near`: it is on loopback."""
    if near or family != ADDRESSES:
        return dict(entries)
    return {key: _without_loopback(value) for key, value in entries.items()}


def _without_loopback(value: Any) -> Any:
    addresses = address_list(value)
    return value if addresses is None else [address for address in addresses if not is_loopback(address)]
