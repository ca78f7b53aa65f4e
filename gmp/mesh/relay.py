"""A seed's side of relaying: passing on what two nodes that cannot dial each other send to each other.

All of it is one request, ``gmp.relay kind token to origin …``. A way goes origin → its seed → the other seed → the other, so
over two seeds at most, one when it is shared: what comes from another global node goes to a neighbour or nowhere.

Only a global node speaks for others, for those that the directory says are attached to it; which nodes are taken for
global ones `gmp.mesh.registry` decides. With `cert_names` these are the configured seeds and those whose certificate
says so, so that no other node can write in another's name.

``open`` makes a *pair*, named by its token, and everything else with that token follows it; so a pair keeps its order. For
each direction the seed counts the bytes that are under way and not acknowledged, and those that the next hop has not taken,
as an end may acknowledge what it has not read. Over the high mark the pair is lost, and when the connection with one of its
hops ends as well: both ends are told. Two nodes have one pair at most, and one node not too many.

``ask`` and ``dial`` go by the directory, without a pair.

Nothing can be relayed to a node that is no gmp node: a node that tries is told so at once. Such a node can be made to
dial, though, by asking it to send something. Nor is anything relayed over a connection that carries no bytes, as one by
json: whoever would have to send pieces over it refuses when the way is opened.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from gmp.mesh.backlog import Share
from gmp.mesh.border import Border
from gmp.mesh.ground import Ground
from gmp.mesh.registry import Registry
from gmp.wire.requests import DEVNULL, RELAY, SND

ASK, DIAL, OPEN, ACCEPT, REFUSE, CLOSE, LOST = "ask", "dial", "open", "accept", "refuse", "close", "lost"
DATA, ACK = "data", "ack"
MOST_PAIRS = 10_000
MOST_PAIRS_OF_ONE = 1000  #: that one neighbour, which is no seed, may open
PIECE = 64 * 1024  #: bytes of data that fit in whatever the high mark is
LONGEST_SIGN, MOST_ADDRESSES = 1000, 100


class Pair:
    """Two ends, the next hop to each, and the bytes sent and acknowledged from each."""

    __slots__ = ("acknowledged", "ends", "hops", "sent", "shares")

    def __init__(self, ends: tuple[str, str], hops: tuple[str, str]) -> None:
        self.ends, self.hops = ends, hops
        self.sent, self.acknowledged = [0, 0], [0, 0]
        self.shares = (Share(), Share())  #: of what waits for the hops

    def side(self, origin: str) -> int:
        """Return 0 or 1 for an end. *Raises:* `ValueError`."""
        return self.ends.index(origin)


class Router:
    """Carries the pairs of one seed."""

    def __init__(self, ground: Ground, registry: Registry, border: Border, *, high_mark: int) -> None:
        self._ground = ground
        self._registry = registry
        self._border = border
        self._high_mark = high_mark
        self._pairs: dict[str, Pair] = {}
        self._tokens: dict[tuple[str, str], str] = {}  # of each pair, by its ends
        self._opened: Counter[str] = Counter()  # pairs by the first end

    def __len__(self) -> int:
        return len(self._pairs)

    def next_hop(self, to: str, *, from_seed: bool) -> str | None:
        """Return the neighbour that leads to `to`; None if none does."""
        if self._ground.is_linked(to):
            return to
        claimant = self._registry.claims.claimant(to)
        if from_seed or claimant is None or not self._is_seed(claimant):
            return None
        return claimant

    def _is_seed(self, node_id: str) -> bool:
        return node_id in self._registry.globals and self._ground.is_linked(node_id) and self._ground.admits(node_id, RELAY)

    def speaks_for(self, sender: str, origin: str) -> bool:
        """Return whether the global node `sender` may begin a way for `origin`: itself, or a node attached to it."""
        return origin == sender or self._registry.claims.claimant(origin) == sender

    def route(self, sender: str, kind: str, token: str, to: str, origin: str, args: tuple[Any, ...]) -> None:
        """Pass on what the neighbour `sender` sent."""
        from_seed = sender in self._registry.globals
        if not from_seed and origin != sender:
            return  # only a seed speaks for others, and only for those that are attached to it:
        if kind in (ASK, DIAL, OPEN) and not self.speaks_for(sender, origin):
            problem = f"seed {self._ground.id} does not know {origin} to be at {sender}"
            self._back(sender, "" if kind == ASK else token, to, origin, problem)
            return
        if not _is_sound(kind, args):
            raise ValueError(f"relay request {kind!r:.80} of {origin!r} with {args!r:.80}")
        if kind in (ASK, DIAL, OPEN) or (kind == LOST and not token):
            hop = self.next_hop(to, from_seed=from_seed)
            asked = "" if kind == ASK else token  # an ask has the token of the way before, and its asker none
            mute = "" if hop is None or kind not in (ASK, OPEN) else self._carries_no_bytes(sender, hop)
            if hop is not None and not self._ground.admits(hop, RELAY):
                self._no_gmp_node(sender, hop, kind, asked, origin)
            elif mute:
                self._back(sender, asked, to, origin, no_bytes(f"seed {self._ground.id}", mute))
            elif hop is None and kind != LOST:
                self._back(sender, asked, to, origin, f"seed {self._ground.id} knows no way to it")
            elif hop is None:
                return  # the asker is gone
            elif kind == OPEN and self._is_others(token, origin, to):
                self._back(sender, token, to, origin, "that way is another pair's")
            elif kind != OPEN or self._enter(token, Pair((origin, to), (sender, hop)), from_seed=from_seed):
                self._pass(sender, hop, kind, token, to, origin, args)
            else:
                self._back(sender, token, to, origin, f"seed {self._ground.id} relays too much already")
            return
        pair = self._pairs.get(token)
        if pair is None or {to, origin} != set(pair.ends) or pair.hops[pair.side(origin)] != sender:
            if kind not in (CLOSE, LOST):
                self._back(sender, token, to, origin, f"seed {self._ground.id} no longer knows that way")
            return
        if kind in (REFUSE, CLOSE, LOST):
            self._remove(token)
        elif kind == DATA and not self._count(token, pair, pair.side(origin), args):
            return
        elif kind == ACK:
            other = 1 - pair.side(origin)
            pair.acknowledged[other] = min(max(args[0], pair.acknowledged[other]), pair.sent[other])
        hop = pair.hops[pair.side(to)]
        before = self._ground.backlog(hop)
        self._ground.request(hop, RELAY, kind, token, to, origin, *args)
        if pair.shares[pair.side(to)].add(before, self._ground.backlog(hop)) > self._high_mark and token in self._pairs:
            self._lose(token, pair, self._too_much())

    def _no_gmp_node(self, sender: str, to: str, kind: str, token: str, origin: str) -> None:
        """Answer for a neighbour that knows no relaying: make it connect with `origin` if it is to dial; else refuse."""
        if kind == DIAL:
            self._hand_on(sender, to, SND, origin, DEVNULL)
        elif kind != LOST:
            self._back(sender, token, to, origin, f"{to} is no gmp node, and nothing can be relayed to it")

    def _carries_no_bytes(self, *hops: str) -> str:
        """Return the first of these neighbours to which no bytes can be sent; empty if they can be sent to all."""
        return next((hop for hop in hops if not self._ground.carries_bytes(hop)), "")

    def _is_others(self, token: str, origin: str, to: str) -> bool:
        pair = self._pairs.get(token)
        return pair is not None and pair.ends != (origin, to)

    def _enter(self, token: str, pair: Pair, *, from_seed: bool) -> bool:
        """Carry a pair from now on, instead of a former one of these ends; return False if there are too many."""
        origin = pair.ends[0]
        before = self._tokens.get(pair.ends)
        if before is not None:
            self._remove(before)
        elif len(self._pairs) >= MOST_PAIRS or (not from_seed and self._opened[origin] >= MOST_PAIRS_OF_ONE):
            return False
        self._pairs[token] = pair
        self._tokens[pair.ends] = token
        self._opened[origin] += 1
        return True

    def _remove(self, token: str) -> None:
        pair = self._pairs.get(token)
        if pair is None:
            return
        self._tokens.pop(pair.ends, None)
        origin = pair.ends[0]
        del self._pairs[token]  # race: Ctrl-C cannot strike between this and the count
        self._opened[origin] -= 1
        if not self._opened[origin]:
            del self._opened[origin]

    def _too_much(self) -> str:
        return f"over {self._high_mark} bytes wait at seed {self._ground.id}"

    def _count(self, token: str, pair: Pair, side: int, args: tuple[Any, ...]) -> bool:
        size = len(args[0])
        if pair.sent[side] - pair.acknowledged[side] > self._high_mark or size > max(self._high_mark, PIECE):
            self._lose(token, pair, self._too_much())
            return False
        pair.sent[side] += size
        return True

    def _pass(self, sender: str, hop: str, kind: str, token: str, to: str, origin: str, args: tuple[Any, ...]) -> None:
        if kind == DIAL:
            args = tuple(self._border.shown_addresses(hop, addresses) for addresses in args)
        self._hand_on(sender, hop, RELAY, kind, token, to, origin, *args)

    def _hand_on(self, sender: str, hop: str, *request: Any) -> None:
        if sender in self._registry.globals:
            self._ground.request(hop, *request)  # the seed before has counted it
        else:
            self._ground.pass_on(sender, hop, *request)

    def _back(self, sender: str, token: str, to: str, origin: str, why: str) -> None:
        self._ground.request(sender, RELAY, LOST, token, origin, to, why)

    def _lose(self, token: str, pair: Pair, why: str) -> None:
        for side in (0, 1):
            self._ground.request(pair.hops[side], RELAY, LOST, token, pair.ends[side], pair.ends[1 - side], why)
        self._remove(token)  # at last: interrupted, both are told again

    def node_down(self, node_id: str) -> None:
        """End the pairs over a neighbour whose connection has ended."""
        for token, pair in list(self._pairs.items()):
            if node_id in pair.hops and token in self._pairs:
                self._lose(token, pair, f"seed {self._ground.id} has lost {node_id}")


def no_bytes(sender: str, receiver: str) -> str:
    """Return why `sender` can pass on no pieces of a way to `receiver`, in words."""
    return f"{sender} can send {receiver} json only, which carries no bytes"


def _is_sound(kind: str, args: tuple[Any, ...]) -> bool:
    """Return whether a request is of the form in which nodes send it: that bounds its size where bytes are not counted."""
    if kind == DATA:
        return len(args) == 1 and isinstance(args[0], bytes)
    if kind == ACK:
        return len(args) == 1 and isinstance(args[0], int) and 0 <= args[0] < 1 << 63
    if kind == DIAL:
        addresses = args[0] if args else ()
        if len(args) > 1 or not isinstance(addresses, list | tuple) or len(addresses) > MOST_ADDRESSES:
            return False
        args = tuple(addresses)
    return len(kind) <= LONGEST_SIGN and len(args) <= MOST_ADDRESSES and all(
        isinstance(arg, str) and len(arg) <= LONGEST_SIGN for arg in args
    )
