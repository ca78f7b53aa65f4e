"""A greeting's first line: ``aemp;VERSION;NODEID;AUTH,…;FRAMING,…[;KEY=VALUE]…`` (PROTOCOL.md section 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from gmp.errors import ProtocolError

VERSION = 1
MAX_LINE = 4096  #: octets with the terminator


class Greeting(NamedTuple):
    """A greeting: who the sender claims to be, what it accepts, and its nonce."""

    protocol: str
    node_id: str
    auth: tuple[str, ...]
    framings: tuple[str, ...]
    keys: Mapping[str, str] = MappingProxyType({})
    line: bytes = b""  #: as on the wire, without the terminator: what is hashed
    nonce: bytes = b""

    @property
    def offers_tls(self) -> bool:
        """Whether there is a key ``tls`` whose integer part is 1, as Perl tests it: ``1.7`` is, ``2.0`` is not."""
        return re.match(r"0*1(?![0-9])", self.keys.get("tls", "")) is not None


def format_greeting(
    node_id: str, auth: Sequence[str], framings: Sequence[str], keys: Mapping[str, str], *, protocol: str = "aemp"
) -> bytes:
    """The greeting line, without its terminator."""
    fields = [protocol, str(VERSION), node_id, ",".join(auth), ",".join(framings)]
    fields += [f"{key}={value}" for key, value in keys.items()]
    return ";".join(fields).encode()


def parse_greeting(line: bytes) -> Greeting:
    """Take a greeting line apart. *Raises:* `ProtocolError` naming what is wrong."""
    try:
        fields = line.decode().split(";")
    except UnicodeDecodeError:
        raise ProtocolError(f"greeting is no UTF-8 text: {line[:40]!r}") from None
    protocol = fields[0]
    if protocol not in ("aemp", "aemp-dataconn"):
        raise ProtocolError(f"unknown protocol {protocol[:40]!r}, expected 'aemp'")
    if len(fields) < 5:
        raise ProtocolError(f"greeting has {len(fields)} fields, expected at least 5: {line[:80]!r}")
    if not _is_version(fields[1]):
        raise ProtocolError(f"protocol version {fields[1][:40]!r}, expected {VERSION}")
    keys: dict[str, str] = {}
    for part in fields[5:]:
        key, _, value = part.partition("=")
        keys[key] = value
    return Greeting(
        protocol, fields[2], tuple(_words(fields[3])), tuple(_words(fields[4])), keys, line
    )


def _is_version(text: str) -> bool:
    """Compared as a number, as Perl does: ``01`` and ``1.0`` pass."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    return digits.isascii() and digits.isdigit() and bool(whole) and float(text) == VERSION


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]
