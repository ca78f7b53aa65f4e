"""Perl nodes that have no master, and do not notice.

AnyEvent::MP 2.02 stays attached to its master until that is lost, and then goes to another of its seeds at once. But each
watch on a master has the same key, and the guard of the watch before removes it too: from then on the node does not notice
when its master is lost, nor that it was restarted and knows nothing of it. Its groups and families vanish everywhere.

What can be seen is that no seed reports such a node. So each seed looks after the Perl nodes that take it for a seed (they
say so, by ``g_slave``): one that no seed has reported for `PATIENCE` seconds is asked to attach again: to its master if it
is connected with that, else to another seed. It is asked by ``eval``, by which Perl nodes ask each other for what has no
request; nodes that are `secure` refuse, with a line in their log. A node that is properly attached, but to a seed that
this one cannot see, loses nothing: it tells its master again what that knows.

A node may lose its master though no seed is lost, when only their connection ends: so those that are reported are looked at
again and again. race: the node has not noticed the end of its connection with the master yet: it is asked again, less and
less often.
"""

from __future__ import annotations

from collections.abc import Callable

from gmp.mesh.claims import GRACE
from gmp.mesh.ground import Cancellable, Ground
from gmp.wire.requests import EVAL

PATIENCE = GRACE + 1.0  #: seconds: what a lost seed reported is forgotten by then
MOST_PATIENCE = 60.0  #: seconds between two looks at a node, at most
ATTACH_AGAIN = """{
   package AnyEvent::MP::Kernel;
   our ($MASTER, $MASTER_MON);
   my $up = defined $MASTER && node_is_up ($MASTER);
   undef $MASTER_MON;
   if ($up) { master_set ($MASTER) } else { undef $MASTER; master_search () }
}"""


class _Watched:
    """One node: when to look at it, and how long it has been let alone then; 0: it was attached."""

    __slots__ = ("due", "patience")

    def __init__(self, due: float, patience: float) -> None:
        self.due, self.patience = due, patience


class Unattached:
    """The Perl nodes that have this node among their seeds; `is_attached` returns whether any seed reports one."""

    def __init__(self, ground: Ground, is_attached: Callable[[str], bool]) -> None:
        self._ground = ground
        self._is_attached = is_attached
        self._nodes: dict[str, _Watched] = {}
        self._timer: Cancellable | None = None
        self._stopped = False

    def node_up(self, node_id: str) -> None:
        """Add a Perl node that takes this node for a seed."""
        self._nodes[node_id] = self._watched()
        self._look_later()

    def node_down(self, node_id: str) -> None:
        """Remove a node that is not connected any more."""
        self._nodes.pop(node_id, None)

    def seed_lost(self) -> None:
        """Look sooner, as a seed is lost which may have been the master of some."""
        self._nodes = {node_id: self._watched() for node_id in self._nodes}
        self._look_later()

    def _watched(self) -> _Watched:
        return _Watched(self._ground.now() + PATIENCE, PATIENCE)

    def _look_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._nodes and not self._stopped:
            due = min(watched.due for watched in self._nodes.values())
            self._timer = self._ground.later(max(0.0, due - self._ground.now()), self._look)

    def _look(self) -> None:
        self._timer, now = None, self._ground.now()
        for node_id, watched in list(self._nodes.items()):
            if watched.due <= now:
                self._look_at(node_id, watched, now)
        self._look_later()

    def _look_at(self, node_id: str, watched: _Watched, now: float) -> None:
        if self._is_attached(node_id):
            watched.patience, watched.due = 0.0, now + MOST_PATIENCE
            return
        if watched.patience:
            self._ground.request(node_id, EVAL, ATTACH_AGAIN)
        watched.patience = min(2 * watched.patience, MOST_PATIENCE) or PATIENCE
        watched.due = now + watched.patience

    def stop(self) -> None:
        """Stop looking, as this node ends."""
        self._stopped = True
        self._look_later()
