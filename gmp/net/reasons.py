"""Why connections end: one name for each, as logs, `stats()` and monitors show them."""

from __future__ import annotations

import enum
import errno
from typing import Protocol


class CloseReason(enum.Enum):
    """The named reason for the end of a connection."""

    EOF = "connection closed by the other side"
    RESET = "connection broken"
    PROTOCOL_ERROR = "protocol error"
    AUTHENTICATION_FAILED = "authentication failed"
    HANDSHAKE_TIMEOUT = "handshake timeout"
    TOO_MANY = "too many connections in handshake"
    OLD_INCARNATION = "connection of an older incarnation"
    SELF = "it is this node itself"
    DUPLICATE = "second connection of the same node"
    TAKEN = "the other side has another connection with this node"
    REPLACED = "replaced by a newer connection"
    RESTARTED = "the node was restarted"
    REFUSED = "refused by the other side"
    TOO_MUCH = "it asks for too much"
    LEAVING = "the other node is leaving"
    NODE_CLOSED = "node closed"
    INTERNAL_ERROR = "internal error"
    HANDED_OVER = "became a stream"
    RELAY_LOST = "the way through the seeds is gone"
    DIRECT = "replaced by a direct connection"
    LOST = "lost"
    HUNG = "hung"
    INTERRUPTED = "interrupted in the middle of a message"


_UNREACHABLE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


def reason_of(error: Exception) -> CloseReason:
    """Return the reason for what the kernel reports of a connection."""
    return CloseReason.LOST if isinstance(error, OSError) and error.errno in _UNREACHABLE else CloseReason.RESET


class Ended(Protocol):
    """A connection that has ended."""

    reason: CloseReason | None
    detail: str


def describe(connection: Ended) -> str:
    """Return the reason for a connection's end in words."""
    reason = connection.reason
    text = "" if reason is None else reason.value
    return f"{text}: {connection.detail}" if connection.detail else text
