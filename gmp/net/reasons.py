"""Why connections end: one name for each, as logs, `stats()` and monitors show them."""

from __future__ import annotations

import enum


class CloseReason(enum.Enum):
    """The named reason of a connection's end."""

    EOF = "connection closed by the other side"
    RESET = "connection broken"
    PROTOCOL_ERROR = "protocol error"
    AUTHENTICATION_FAILED = "authentication failed"
    HANDSHAKE_TIMEOUT = "handshake timeout"
    TOO_MANY = "too many connections in handshake"
    OLD_INCARNATION = "connection of an older incarnation"
    DUPLICATE = "second connection of the same node"
    REPLACED = "replaced by a newer connection"
    WRONG_NODE = "another node answered"
    LEAVING = "the other node is leaving"
    NODE_CLOSED = "node closed"
    INTERNAL_ERROR = "internal error"
    LOST = "no sign of life"
