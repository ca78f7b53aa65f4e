"""Which connection between two nodes is kept: the pure rule. `tests/test_one_connection.py` explores it exhaustively.

Both nodes may dial each other at once, one may have restarted, an old connection may be half dead. The node with the
smaller node ID is the *arbiter*: it sends its authentication line last, on one connection only; the other node
sends its line at once on each and takes a connection as up only when the arbiter's line has arrived on it. Towards a
peer that is no gmp node (Perl always sends at once) this node is the arbiter whatever the names.

Nothing is decided at the greeting, for nothing that a greeting says is believed before the authentication line. A doubtful
old connection is never decided by a time limit on the other program: the kernels tell whether it is dead.

Another incarnation means that the node was restarted, or that somebody else runs under its name. If the old connection is
answered for by a kernel, the old process still lives: the newcomer is *held* meanwhile (`CHALLENGE`), then refused.

Which of two incarnations is the newer no clock tells: a node may come back with its wall clock set back. The order in which
their connections *began* here tells. Each connection has a *number*, given before our nonce is sent; who answers a nonce
was alive after that, and a node that is restarted ends before its successor connects. So every connection of an older
incarnation has a smaller number than every one of a newer, and what began before one of the `newest` is refused.

Races, by name: *both dial at once* (the arbiter closes the second, silently: it was never up); *the old incarnation's line
comes late* (its number is smaller than the `newest`'s); *the end of the losing connection overtakes the arbiter's line on
the winning one* (`dial_again`).
"""

from __future__ import annotations

import enum
from typing import Generic, NamedTuple, TypeVar

C = TypeVar("C")  # what stands for a connection


class PeerState(enum.Enum):
    """What a node knows of its way to another one."""

    IDLE = "idle"  #: no connection and none wanted
    CONNECTING = "connecting"  #: messages wait in the queue, a way is looked for
    UP = "up"  #: connected; messages go out
    LOST = "lost"  #: the way is gone, and not everybody who watches has been told: what is sent is lost
    CLOSED = "closed"  #: the own node is closed


class Verdict(enum.Enum):
    """The decision on a connection whose other side has just proved itself."""

    ACCEPT = "accept"  #: it is up
    REPLACE = "replace"  #: the one believed up is dead: fire its monitors, then this one is up
    CHALLENGE = "challenge"  #: hold it until the kernel has told whether the one that is up lives
    REFUSE_OLD = "refuse_old"  #: it comes from an incarnation that is gone: close it
    REFUSE_DUPLICATE = "refuse_duplicate"  #: close it and probe the one that is up


class Act(enum.Enum):
    """What the holder of the sockets has to do, in the order given."""

    ACCEPT = "accept"  #: the connection is up; send our authentication line if that was not done
    CLOSE_OLD = "close_old"  #: close it, it comes from an older incarnation
    CLOSE_DUPLICATE = "close_duplicate"  #: close it silently
    CLOSE_REPLACED = "close_replaced"  #: abort it, the same incarnation has another one
    CLOSE_RESTARTED = "close_restarted"  #: abort it, a newer incarnation takes its place
    LOSE = "lose"  #: the way that was up is gone: drop what waits, fire the monitors
    PROBE = "probe"  #: send a no-op on it, so that the kernels find out whether it is dead
    CHALLENGE = "challenge"  #: probe it, and call `Link.challenged` with what the kernel says; idempotent
    REFUSE = "refuse"  #: tell the other side that its node ID is in use, then close


class Do(NamedTuple, Generic[C]):
    """One act on one connection."""

    act: Act
    connection: C


def is_arbiter(own_id: str, peer_id: str, *, peer_is_gmp: bool) -> bool:
    """Return whether this node decides which connection with `peer_id` is kept."""
    return not peer_is_gmp or own_id.encode() < peer_id.encode()


def judge(*, arbiter: bool, up: str | None, newest: str, incarnation: str, earlier: bool) -> Verdict:
    """Decide on a verified connection from `incarnation` of a peer; empty: it has none (Perl), so there is no order.

    `up` is the incarnation of the connection that is up, None without one; `newest` the last one that authenticated, and
    `earlier` whether this connection began before that one's. race: the old incarnation's queued line arrives after the new
    one's.
    """
    if incarnation and newest and incarnation != newest and earlier:
        return Verdict.REFUSE_OLD
    if up is None:
        return Verdict.ACCEPT
    if incarnation and incarnation != up:
        return Verdict.CHALLENGE
    return Verdict.REFUSE_DUPLICATE if arbiter else Verdict.REPLACE


class Link(Generic[C]):
    """The state of the rule for one peer: its methods are told what happens to connections, and return what to do."""

    __slots__ = ("former", "held", "known", "newest", "number", "pending", "up", "up_incarnation")

    def __init__(self) -> None:
        self.up: C | None = None
        self.up_incarnation = ""
        self.newest = ""  #: the incarnation that authenticated last
        self.former = ""  #: the one before, which is gone
        self.number = 0  #: of the connection that it did so by
        self.known = False  #: whether it ever authenticated
        self.pending: dict[C, str] = {}  #: our line went out, the arbiter's is awaited: the incarnation it claims
        self.held: dict[C, tuple[str, int, bool]] = {}  #: challengers: incarnation, number, whether we are the arbiter

    @property
    def is_idle(self) -> bool:
        """Whether no connection is up, held, or waits for the arbiter."""
        return self.up is None and not self.pending and not self.held

    def offered(self, connection: C, incarnation: str) -> None:
        """Note that this side has sent its authentication line first; `incarnation` is what the greeting claims."""
        self.pending[connection] = incarnation

    def authenticated(self, connection: C, incarnation: str, number: int, *, arbiter: bool) -> list[Do[C]]:
        """Judge a connection whose authentication line is right; `number` orders connections by when they began here."""
        self.pending.pop(connection, None)
        up = self.up
        verdict = judge(
            arbiter=arbiter,
            up=None if up is None else self.up_incarnation,
            newest=self.newest,
            incarnation=incarnation,
            earlier=number < self.number,
        )
        if verdict is Verdict.REFUSE_OLD:
            return [Do(Act.CLOSE_OLD, connection)]
        if up is None:
            return self._accept(connection, incarnation, number)
        if verdict is Verdict.REFUSE_DUPLICATE:
            return [Do(Act.CLOSE_DUPLICATE, connection), Do(Act.PROBE, up)]
        if verdict is Verdict.CHALLENGE:
            self.held[connection] = incarnation, number, arbiter
            return [Do(Act.CHALLENGE, up)]
        return [Do(Act.CLOSE_REPLACED, up), Do(Act.LOSE, up), *self._accept(connection, incarnation, number)]

    def _accept(self, connection: C, incarnation: str, number: int) -> list[Do[C]]:
        self.up, self.up_incarnation = connection, incarnation
        self.met(incarnation, number)
        return [Do(Act.ACCEPT, connection)]

    def met(self, incarnation: str, number: int) -> None:
        """Note that an incarnation has proved itself; others on connections that began before `number` are late."""
        if incarnation and incarnation != self.newest:
            self.former, self.newest, self.number = self.newest, incarnation, number
        self.known = True

    def closed(self, connection: C) -> list[Do[C]]:
        """Handle the end of a connection, whichever side ended it; one that was never up has no consequences."""
        self.pending.pop(connection, None)
        self.held.pop(connection, None)
        if connection != self.up:
            return []
        self.up = None
        return [Do(Act.LOSE, connection), *self._judge_held()]

    def challenged(self, connection: C, *, alive: bool) -> list[Do[C]]:
        """Go on with the challengers: the kernel has told whether `connection`, believed up, is `alive`."""
        if connection != self.up or not self.held:
            return []  # race: the connection ended meanwhile, or the challengers gave up
        if alive:
            refused = list(self.held)
            self.held.clear()
            return [Do(Act.REFUSE, challenger) for challenger in refused]
        self.up = None
        return [Do(Act.CLOSE_RESTARTED, connection), Do(Act.LOSE, connection), *self._judge_held()]

    def _judge_held(self) -> list[Do[C]]:
        held, self.held = self.held, {}
        todo: list[Do[C]] = []
        for connection, (incarnation, number, arbiter) in held.items():
            todo += self.authenticated(connection, incarnation, number, arbiter=arbiter)
        return todo

    def dial_again(self, incarnation: str) -> bool:
        """Return whether to dial again after the other side closed a connection that we dialled, before it was up.

        It may believe another connection to be up. race: its line on that one is still on the way; or that one is dead,
        which the no-op it has sent there will show. `incarnation` is what its greeting claimed.
        """
        return incarnation in self.pending.values() or (self.known and incarnation == self.newest)
