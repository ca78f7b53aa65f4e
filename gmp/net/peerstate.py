"""Which of two connections between two nodes is kept: the pure rule.

Both nodes may dial each other at once, one may have restarted, an old connection may be half dead. The node with
the smaller node ID is the *arbiter*: it sends its authentication line last, on one connection only; the other node
sends its line at once on each and takes a connection as up only when the arbiter's line has arrived on it. Towards a
peer that is no gmp node (Perl always sends at once) this node is the arbiter whatever the names.

Nothing is decided at the greeting, for nothing that a greeting says is believed before the authentication line.
"""

from __future__ import annotations

import enum


class PeerState(enum.Enum):
    """What a node knows of its way to another one."""

    IDLE = "idle"  #: no connection and none wanted
    CONNECTING = "connecting"  #: messages wait in the queue, a way is looked for
    UP = "up"  #: connected; messages go out
    CLOSED = "closed"  #: the own node is closed


class Verdict(enum.Enum):
    """What becomes of a connection whose other side has just proved itself."""

    ACCEPT = "accept"  #: it is up
    REPLACE = "replace"  #: the one believed up is dead: fire its monitors, then this one is up
    REFUSE_OLD = "refuse_old"  #: it comes from an incarnation that is gone: close it
    REFUSE_DUPLICATE = "refuse_duplicate"  #: close it and probe the one that is up


def is_arbiter(own_id: str, peer_id: str, *, peer_is_gmp: bool) -> bool:
    """Whether this node decides which connection with `peer_id` is kept."""
    return not peer_is_gmp or own_id.encode() < peer_id.encode()


def judge(*, arbiter: bool, up: str | None, newest: str, incarnation: str) -> Verdict:
    """Decide on a verified connection from `incarnation` of a peer.

    `up` is the incarnation of the connection that is up, None without one; `newest` the highest that ever
    authenticated. race: the old incarnation's queued line arrives after the new one's: `newest` refuses it.
    """
    if incarnation < newest:
        return Verdict.REFUSE_OLD
    if up is None:
        return Verdict.ACCEPT
    if not arbiter or incarnation > up:
        return Verdict.REPLACE
    return Verdict.REFUSE_DUPLICATE
