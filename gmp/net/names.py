"""Resolving a ``host:port`` to numeric addresses, by the system's resolver or a DNS SRV look-up.

A numeric address is returned as it is, without the resolver, whose thread pool costs 10 to 20 ms to start. SRV names,
``srv+_gmp._tcp.example.org``, need dnspython (extra ``dns``); it runs in the hub's thread pool, as it blocks.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterable
from typing import Any

import gevent

from gmp.config import SRV_PREFIX, Address
from gmp.errors import ConfigError, GmpError

LookUp = Callable[[str, int], Iterable[tuple[Any, ...]]]


def family_of(host: str) -> socket.AddressFamily | None:
    """Return the address family of a numeric host; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except OSError:
            continue
        return family
    return None


def resolve(address: Address, look_up: LookUp) -> list[Address]:
    """Return the numeric addresses that `address` stands for, each once; `look_up`: as `Machine.look_up`.

    *Blocks:* while it looks names up. *Raises:* `OSError` or `GmpError` that names it.
    """
    if address.host.startswith(SRV_PREFIX):
        return [found for target in _look_up_srv(address.host) for found in resolve(target, look_up)]
    if family_of(address.host) is not None:
        return [address]
    try:
        found = look_up(address.host, address.port)
    except OSError as error:
        raise GmpError(f"host name {address.host!r} cannot be resolved: {error}") from error
    return list(dict.fromkeys(Address(str(where[0]), int(where[1])) for where in found))


def check_seed(address: Address) -> None:
    """Check that `address` can be looked up. *Raises:* `ConfigError` if a package for it is not installed."""
    if address.host.startswith(SRV_PREFIX):
        _dns()


def _dns() -> Any:
    try:
        return importlib.import_module("dns.resolver")
    except ImportError:
        raise ConfigError("seeds by DNS SRV need dnspython: pip install 'gevent-mp[dns]'") from None


def _ask(dns: Any, question: str) -> Any:
    """Return the answer or the error: the thread pool, in which this runs, would print what is raised."""
    try:
        return dns.resolve(question, "SRV")
    except Exception as error:
        return error


def _look_up_srv(name: str) -> list[Address]:
    """Return the targets of an SRV name, best first."""
    dns = _dns()
    question = name.removeprefix(SRV_PREFIX)
    answer = gevent.get_hub().threadpool.apply(_ask, (dns, question))
    if isinstance(answer, Exception):
        raise GmpError(f"DNS SRV name {question!r} cannot be resolved: {answer}") from answer
    records = sorted(answer, key=lambda record: (record.priority, -record.weight))
    return [Address(str(record.target).rstrip("."), record.port) for record in records]
