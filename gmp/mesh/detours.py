"""The ends of relayed ways: opening one, and what its pieces and signs mean here. The seeds between are `gmp.mesh.relay`.

Of two nodes the one with the smaller ID *opens*, so that both at once cannot open two; the other *asks* it to. Each way has
a token, made by the opener of its incarnation and a counter, so that a newer one compares greater: a way that is opened
anew ends the one before, and what is late of that is known by its token.

    smaller: open(token, incarnation, nonce) →      ← accept(token, incarnation), or refuse(token, why)
    greater: ask(last token, incarnation, nonce) →  ← open(…)

States of a way, at the opener: *opening*, *up*; at the other: *asking*, *up*; without an entry there is none.
race: ask and open cross: an ask that does not name the way that is up here was sent before its open arrived there.
race: a request is lost on the way, and no node reports that: the node that gives up waiting forgets it, and asks anew
(`give_up`). race: a direct connection comes up while a way is opened: the node that is asked refuses; the one that opened
joins the way behind the connection, as the other side may have sent something that way.
race: an open of a former incarnation is late. It has no nonce that was asked with, so start times tell it from those of the
living one, unless that has its clock set back: an open that looks late is answered by an ask, whose answer cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.ids import base62
from gmp.mesh.backbone import Backbone
from gmp.mesh.ground import Ground, RelayedWay
from gmp.mesh.relay import ACCEPT, ASK, CLOSE, DIAL, LOST, OPEN, REFUSE, Router, no_bytes
from gmp.wire.requests import RELAY

TOKEN_DIGITS = 8
FORMER = "of a former incarnation"
_SIGNS = {ACCEPT, REFUSE, ASK, OPEN, DIAL}


class Detour:
    """A relayed way to one node, as this end sees it."""

    def __init__(self, token: str, via: str, failed: Callable[[str], None]) -> None:
        self.token = token  #: empty while asking
        self.via = via  #: the neighbour that everything for it is handed to
        self.way: RelayedWay | None = None  #: there when it is up
        self.opened = 0  #: the number with which it was
        self.failed = failed  #: told why, when it does not come up


class Detours:
    """The relayed ways of one node. `dial_back(node_id, addresses)` dials a node that cannot dial us."""

    def __init__(
        self, ground: Ground, backbone: Backbone, router: Router, dial_back: Callable[[str, list[str]], None]
    ) -> None:
        self._ground = ground
        self._backbone = backbone
        self._router = router
        self._dial_back = dial_back
        self._id = ground.id
        self._count = 0
        self._ways: dict[str, Detour] = {}
        self._asked_to_dial: dict[str, Callable[[str], None]] = {}  # and what to call if it will not
        self._last: dict[str, tuple[str, str]] = {}  # the newest token seen of each node, and the incarnation it is of
        self._asked: dict[str, tuple[str, int]] = {}  # the last nonce sent to each node, and the request's number

    def first_hop(self, node_id: str) -> str | None:
        """Return the neighbour through which `node_id` may be reached: the master, or for a seed the seed that has it."""
        if self._backbone.is_global:
            return self._router.next_hop(node_id, from_seed=False)
        master = self._backbone.master
        return master if master is not None and self._ground.admits(master, RELAY) else None

    def open(self, node_id: str, failed: Callable[[str], None]) -> bool:
        """Begin to open a way; `failed(why)` is called if that fails. Return whether there is a seed for it."""
        via = self.first_hop(node_id)
        if via is None or via == node_id:
            return False
        if node_id in self._ways:
            self._ways[node_id].failed = failed
        elif not self._ground.carries_bytes(via):
            failed(no_bytes("this node", via))
        elif self._is_opener(node_id):
            self._begin(node_id, via, failed)
        else:
            self._ways[node_id] = Detour("", via, failed)
            self._ask(node_id, via, self._last.get(node_id, ("", ""))[1])
        return True

    def give_up(self, node_id: str, *, found: bool) -> None:
        """Stop waiting for the way to `node_id` to come up; `found`: the node is connected in another way.

        race: the request, or its answer, is lost with the connection of a node on the way, and no seed reports that: an
        entry that stayed would keep every later search from asking again. A way that was opened to a node that is found
        stays: the other side may have sent something that way.
        """
        detour = self._ways.get(node_id)
        if detour is None or detour.way is not None:
            return
        if not detour.token:
            del self._ways[node_id]
        elif not found:
            del self._ways[node_id]
            self._send(detour.via, LOST, detour.token, node_id, "no answer")

    def ask_to_dial(self, node_id: str, addresses: list[str], declined: Callable[[str], None]) -> bool:
        """Ask a node, through a seed, to dial us; return whether there is a seed for that.

        `declined(why)` is called if the seed knows no way to that node, until `dialled_no_more`.
        """
        via = self.first_hop(node_id)
        if via is None or via == node_id:
            return False
        self._asked_to_dial[node_id] = declined
        self._send(via, DIAL, "", node_id, addresses)
        return True

    def dialled_no_more(self, node_id: str) -> None:
        """Stop waiting for a node to dial us."""
        self._asked_to_dial.pop(node_id, None)

    def _is_opener(self, node_id: str) -> bool:
        return self._id.encode() < node_id.encode("utf-8", "surrogatepass")

    def _begin(self, node_id: str, via: str, failed: Callable[[str], None], nonce: str = "") -> None:
        token = self._next() + "-" + self._id
        detour = self._ways[node_id] = Detour(token, via, failed)
        detour.opened = self._ground.next_number()
        self._send(via, OPEN, token, node_id, self._ground.incarnation, *filter(None, [nonce]))

    def _ask(self, node_id: str, via: str, last: str) -> None:
        nonce = self._next()
        self._asked[node_id] = nonce, self._ground.next_number()
        self._send(via, ASK, last, node_id, self._ground.incarnation, nonce)

    def _next(self) -> str:
        """Return a text that compares greater than those before, and that no other incarnation makes."""
        self._count += 1
        return self._ground.incarnation + base62(self._count, TOKEN_DIGITS)

    def _send(self, via: str, kind: str, token: str, to: str, *args: Any) -> None:
        self._ground.request(via, RELAY, kind, token, to, self._id, *args)

    def _up(self, node_id: str, detour: Detour, incarnation: str, asked: int | None) -> None:
        token, via = detour.token, detour.via

        def carry(kind: str, *args: Any) -> None:
            if kind in (CLOSE, LOST):
                self._forget(node_id, token)
            self._send(via, kind, token, node_id, *args)

        detour.way = self._ground.relayed(node_id, incarnation, token, via, carry, asked)
        if detour.way is None:
            self._send(via, LOST, token, node_id, FORMER)
            self._end(node_id, detour, FORMER)

    def _forget(self, node_id: str, token: str) -> Detour | None:
        detour = self._ways.get(node_id)
        return self._ways.pop(node_id) if detour is not None and detour.token == token else None

    def node_down(self, node_id: str) -> None:
        """End the ways over a neighbour whose connection has ended."""
        for other, detour in list(self._ways.items()):
            if detour.via == node_id:
                self._end(other, detour, f"seed {node_id} is lost")

    def forget(self, node_ids: set[str]) -> None:
        """Forget nodes of which nothing is on its way any more."""
        for node_id in node_ids:
            self._last.pop(node_id, None)
            self._asked.pop(node_id, None)

    def _end(self, node_id: str, detour: Detour, why: str) -> None:
        if detour.way is not None:
            detour.way.arrived(LOST, (why,))
        else:
            detour.failed(why)
        self._forget(node_id, detour.token)  # at last: interrupted, it is told again

    # ---- what arrives

    def handle(self, sender: str, *request: Any) -> None:
        """Handle a ``gmp.relay`` request of the neighbour `sender`: it is for this node, or is passed on."""
        kind, token, to, origin, *args = request
        if not (isinstance(kind, str) and isinstance(token, str) and isinstance(to, str) and isinstance(origin, str)):
            raise ValueError(f"relay request {request!r:.80}: expected kind, token, to and origin")
        if to != self._id:
            if self._backbone.is_global:
                self._router.route(sender, kind, token, to, origin, tuple(args))
        elif sender in self._backbone.registry.globals and origin != self._id:
            if self._backbone.is_global and kind in (ASK, DIAL, OPEN) and not self._router.speaks_for(sender, origin):
                self._send(sender, LOST, token, origin, f"seed {self._id} does not know {origin} to be at {sender}")
                return
            self._arrived(sender, kind, token, origin, tuple(args))

    def _arrived(self, sender: str, kind: str, token: str, origin: str, args: tuple[Any, ...]) -> None:
        text, nonce = [arg if isinstance(arg, str) else "" for arg in (*args, "", "")[:2]]
        if kind == DIAL:
            addresses = self._backbone.border.dialable(sender, args[0] if args else ())
            if addresses and not self._ground.is_linked(origin):
                self._dial_back(origin, addresses)
        elif kind == ASK:
            self._is_asked(sender, token, origin, nonce)
        elif kind == OPEN:
            self._opened(sender, token, origin, text, nonce)
        else:
            self._of_a_way(sender, kind, token, origin, args)

    def _is_asked(self, sender: str, last: str, origin: str, nonce: str) -> None:
        if not self._is_opener(origin):
            return
        detour = self._ways.get(origin)
        if self._ground.is_linked(origin):
            self._ground.probe(origin)  # the asker has lost the connection that we believe to be up: the kernels decide
            self._send(sender, LOST, "", origin, "a direct connection is believed to be up")
        elif detour is None and not self._ground.carries_bytes(sender):
            self._send(sender, LOST, "", origin, no_bytes(self._id, sender))
        elif detour is None:
            self._begin(origin, sender, _ignore, nonce)
        elif detour.token == last:
            if detour.way is not None:
                self._end(origin, detour, "lost at the other end")
            self._begin(origin, sender, _ignore if detour.way else detour.failed, nonce)

    def _opened(self, sender: str, token: str, origin: str, incarnation: str, nonce: str) -> None:
        last_incarnation, last = self._last.get(origin, ("", ""))
        asked, number = self._asked.get(origin, ("", 0))
        answers = number if nonce and nonce == asked else None
        if self._is_opener(origin) or (incarnation == last_incarnation and token <= last):
            return
        if self._ground.is_former(origin, incarnation, answers):
            if not nonce:
                self._ask(origin, sender, token)
            self._send(sender, LOST, token, origin, FORMER)
            return
        self._last[origin] = incarnation, token
        if self._ground.is_linked(origin):
            self._ground.probe(origin)
            self._send(sender, REFUSE, token, origin, "a direct connection is up")
            return
        if not self._ground.carries_bytes(sender):
            self._send(sender, REFUSE, token, origin, no_bytes(self._id, sender))
            return
        before = self._ways.pop(origin, None)
        if before is not None and before.way is not None:
            before.way.arrived(LOST, ("opened anew",))
        detour = self._ways[origin] = Detour(token, sender, _ignore)
        self._send(sender, ACCEPT, token, origin, self._ground.incarnation)
        self._up(origin, detour, incarnation, answers)

    def _of_a_way(self, sender: str, kind: str, token: str, origin: str, args: tuple[Any, ...]) -> None:
        detour = self._ways.get(origin)
        if detour is None or detour.token != token or detour.via != sender:
            if kind == LOST and not token and origin in self._asked_to_dial:
                self._asked_to_dial.pop(origin)(str(args[0]) if args else "")
            elif kind not in _SIGNS and kind not in (CLOSE, LOST):
                self._send(sender, LOST, token, origin, "no such way")
        elif detour.way is not None:
            if kind in (CLOSE, LOST):
                self._forget(origin, token)
            detour.way.arrived(kind, args)
        elif kind == ACCEPT and args and isinstance(args[0], str):
            self._up(origin, detour, args[0], detour.opened)
        elif kind in (REFUSE, LOST):
            self._end(origin, detour, str(args[0]) if args else "refused")


def _ignore(why: str) -> None:
    """Nobody waits for the way."""
