"""Perl nodes that have no master, and do not notice.

AnyEvent::MP 2.02 stays attached to its master until that is lost, and then goes to another of its seeds at once. But each
watch on a master has the same key, and the guard of the watch before removes it too: from then on the node does not notice
when its master is lost, nor that it was restarted and knows nothing of it. Its groups and families vanish everywhere.

What can be seen is that no seed reports such a node. So each seed looks after the Perl nodes that take it for a seed (they
say so, by ``g_slave``): one that no seed has reported for `PATIENCE` seconds is asked to attach again: to its master if it
is connected with that, else to another seed. It is asked by ``eval``, by which Perl nodes ask each other for what has no
request; nodes that are `secure` refuse, with a line in their log. A node that is properly attached, but to a seed that
this one cannot see, loses nothing: it tells its master again what that knows.

race: the node has not noticed the end of its connection with the master yet: it is asked again, less and less often.
"""

from __future__ import annotations

from collections.abc import Callable

from gmp.mesh.claims import GRACE
from gmp.mesh.ground import Cancellable, Ground
from gmp.wire.requests import EVAL

PATIENCE = GRACE + 1.0  #: seconds: what a lost seed reported is forgotten by then
MOST_PATIENCE = 60.0  #: seconds between two times that the same nodes are asked, at most
ATTACH_AGAIN = """{
   package AnyEvent::MP::Kernel;
   our ($MASTER, $MASTER_MON);
   my $up = defined $MASTER && node_is_up ($MASTER);
   undef $MASTER_MON;
   if ($up) { master_set ($MASTER) } else { undef $MASTER; master_search () }
}"""


class Unattached:
    """The Perl nodes that have this node among their seeds; `is_attached` returns whether any seed reports one."""

    def __init__(self, ground: Ground, is_attached: Callable[[str], bool]) -> None:
        self._ground = ground
        self._is_attached = is_attached
        self._nodes: set[str] = set()
        self._timer: Cancellable | None = None
        self._patience = PATIENCE

    def node_up(self, node_id: str) -> None:
        """Add a Perl node that takes this node for a seed."""
        self._nodes.add(node_id)
        self._look_later()

    def node_down(self, node_id: str) -> None:
        """Remove a node that is not connected any more."""
        self._nodes.discard(node_id)

    def seed_lost(self) -> None:
        """Look sooner, as a seed is lost which may have been the master of some."""
        self._patience = PATIENCE
        self._look_later()

    def _look_later(self) -> None:
        if self._timer is None and self._nodes:
            self._timer = self._ground.later(self._patience, self._look)

    def _look(self) -> None:
        self._timer = None
        unattached = [node_id for node_id in self._nodes if not self._is_attached(node_id)]
        for node_id in unattached:
            self._ground.request(node_id, EVAL, ATTACH_AGAIN)
        if unattached:
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            self._look_later()
        else:
            self._patience = PATIENCE

    def stop(self) -> None:
        """Stop looking, as this node ends."""
        if self._timer is not None:
            self._timer.cancel()
