"""What this node sends because another one has asked it to, bounded: messages by ``snd``, answers, signs of relays.

None of that blocks the sender, as a program's own `send` would, so a peer that asks faster than the receiver reads would
fill this node's memory. For each pair of nodes (who asked, who gets it) what waits is counted; over the high mark the one
who asked is lost. So nothing is left out in the middle: what was passed on before still goes, and the one who asked is told,
by the loss of this node, that of what it has asked since it knows nothing (promise 1).

Answers to the one who asked may be more: a node that comes to a seed asks for all families that it watches, in one breath.
"""

from __future__ import annotations

from collections.abc import Callable

from gmp.mesh.backlog import Backlog, Share

MOST_RECEIVERS = 1000  #: nodes for which something may wait that one node has asked for


class Passing:
    """The pairs of one node. `over(asker, text)` is called when one of `asker` has too much: more than `high_mark` bytes
    for another node, or more than `answers` for itself.
    """

    def __init__(
        self, high_mark: int, answers: int, backlog: Callable[[str], Backlog], over: Callable[[str, str], None]
    ) -> None:
        self._high_mark = high_mark
        self._answers = answers
        self._backlog = backlog
        self._over = over
        self._shares: dict[str, dict[str, Share]] = {}  # by who asked and who gets it

    def run(self, asker: str, receiver: str, send: Callable[[], object]) -> None:
        """Call `send`, and count what it adds to what waits for `receiver` as asked for by `asker`. *Raises:* as `send`."""
        before = self._backlog(receiver)
        try:
            send()
        finally:
            now = self._backlog(receiver)
            if now.waiting > before.waiting:
                self._count(asker, receiver, before, now)

    def _count(self, asker: str, receiver: str, before: Backlog, now: Backlog) -> None:
        shares = self._shares.setdefault(asker, {})
        waited = shares.setdefault(receiver, Share()).add(before, now)
        most = self._answers if asker == receiver else self._high_mark
        if waited > most:
            text = f"over {most} bytes wait for {receiver} that it has asked for"
        elif len(shares) > MOST_RECEIVERS and self._receivers(shares) > MOST_RECEIVERS:
            text = f"something waits for over {MOST_RECEIVERS} nodes that it has asked for"
        else:
            return
        del self._shares[asker]
        self._over(asker, text)

    def _receivers(self, shares: dict[str, Share]) -> int:
        """Forget the receivers for which nothing waits; return how many there are still."""
        for receiver, share in list(shares.items()):
            share.clear(self._backlog(receiver))
            if share.waiting == 0:
                del shares[receiver]
        return len(shares)

    def node_down(self, node_id: str) -> None:
        """That node is lost: drop what it has asked for, and what waited for it."""
        self._shares.pop(node_id, None)
        for asker, shares in list(self._shares.items()):
            shares.pop(node_id, None)
            if not shares:
                del self._shares[asker]
