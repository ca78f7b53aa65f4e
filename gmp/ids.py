"""Names: node IDs, port IDs, incarnations, and those of networks on a LAN.

A port ID is ``nodeid#name``, split at the first ``#``. Names are never reused, also not by a restarted node with
the same node ID, because each begins with the *incarnation* of the node that made the name: twelve base-62
characters, the start time in microseconds and three random ones. ASCII sorts that alphabet, so a plain string
comparison finds the newer of two incarnations of one node, as far as its clock was right.
"""

from __future__ import annotations

import re
from typing import Any

from gmp.errors import ConfigError
from gmp.outside import chance
from gmp.showing import show_typed

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
INCARNATION_LENGTH = 12
_TIME_LENGTH = 9
_RANDOM_LENGTH = INCARNATION_LENGTH - _TIME_LENGTH
_OWN_NODE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-.:/]*\Z")
_mro_of: Any = type.__dict__["__mro__"].__get__  # asks no metaclass
_namespace_of: Any = type.__dict__["__dict__"].__get__
USED_ONCE = "."  #: how the name of a reply port ends: one message comes to it, so nobody need remember the way there
_LAN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")
_NOT_IN_PEER_ID = re.compile(r"[#;\r\n]")


def base62(number: int, length: int = 1) -> str:
    """Return `number` in base 62, with at least `length` characters."""
    digits: list[str] = []
    while number or len(digits) < length:
        number, rest = divmod(number, 62)
        digits.append(ALPHABET[rest])
    return "".join(reversed(digits))


def make_incarnation(now_ns: int, random_bits: int) -> str:
    """Make the incarnation of a node that starts at `now_ns` (nanoseconds since 1970)."""
    return base62(now_ns // 1000, _TIME_LENGTH) + base62(random_bits % 62**_RANDOM_LENGTH, _RANDOM_LENGTH)


def random_suffix() -> str:
    """Return ten random characters, for node IDs that end in ``/``."""
    return chance.characters(ALPHABET, 10)


def check_node_id(text: object) -> str:
    """Return `text` when this node may call itself so. *Raises:* `ConfigError`."""
    if not isinstance(text, str) or not _OWN_NODE_ID.match(text) or len(text.encode()) > 255:
        raise ConfigError(
            f"node ID {text!r}: expected 1 to 255 letters, digits and _ - . : /, beginning with a letter, a digit or _"
        )
    return text


def check_lan(text: object) -> str:
    """Return `text` when a network on a LAN may have that name. *Raises:* `ConfigError`."""
    if not isinstance(text, str) or not _LAN.match(text):
        raise ConfigError(f"{text!r}: expected 1 to 32 letters, digits, _ and -, beginning with a letter or a digit")
    return text


def is_peer_node_id(text: str) -> bool:
    """Whether another node may call itself so: 1 to 255 bytes without ``#``, ``;``, CR and LF."""
    return bool(text) and not _NOT_IN_PEER_ID.search(text) and len(text.encode("utf-8", "surrogatepass")) <= 255


class SentAsId:
    """The base of what travels as a port ID. `sent_as` is not there before that has been asked for.

    A slot, as the packer can look into one without executing any Python (`gmp.wire.msgpack_framing`).
    """

    __slots__ = ("sent_as",)

    sent_as: str


def port_id_of(value: object) -> str | None:
    """Return the ID of the port that `value` stands for; None if it stands for none.

    Its *type* says so, by a `__gmp_port_id__` of its own: an object that answers whatever it is asked for is not a port.
    """
    for base in _mro_of(type(value)):
        if "__gmp_port_id__" in _namespace_of(base):
            port_id = object.__getattribute__(value, "__gmp_port_id__")
            return port_id if type(port_id) is str else None
    return None


def is_encodable(text: str) -> bool:
    """Whether `text` can travel: it has no lone surrogate."""
    try:
        return text.isascii() or text.encode() is not None
    except UnicodeEncodeError:
        return False


def is_port_id(text: str) -> bool:
    """Whether a message can be sent to `text` as a port, which a node port is not."""
    node_id, _, name = text.partition("#")
    return bool(name) and is_encodable(text) and is_peer_node_id(node_id)


def split_port_id(port_id: object) -> tuple[str, str]:
    """Split a port ID into node ID and local name; a bare node ID has the empty name.

    Octets are taken as text: so cbor carries what Perl sends. *Raises:* `ConfigError` if it is not a port ID.
    """
    if isinstance(port_id, bytes):
        port_id = port_id.decode("latin-1")
    text = port_id if issubclass(type(port_id), str) else port_id_of(port_id)
    if not isinstance(text, str):
        raise ConfigError(f"{show_typed(port_id)} is not a port: expected a Port or a port ID such as 'node#name'")
    node_id, _, name = text.partition("#")
    if not is_peer_node_id(node_id) or not is_encodable(text):
        raise ConfigError(f"{text!r} is not a port ID: expected 'node#name' or a node ID")
    return node_id, name
