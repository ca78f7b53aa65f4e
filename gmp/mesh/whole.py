"""Changes of the directory that Ctrl-C strikes: who was told of them nobody knows, nor whether they were made whole.

So all is put in order, and told again (`Backbone.again`): a slave attaches to its master anew, with all that it has; a
global node reports to the other global nodes as on meeting, and to its subscribers as when they subscribed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.mesh.ground import Ground


class Whole:
    """Does things whole: if one is struck, `again` is called in the next turn of the loop."""

    def __init__(self, ground: Ground, again: Callable[[], None]) -> None:
        self._ground = ground
        self._again = again

    def do(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function`. *Raises:* what it raises."""
        try:
            function(*args)
        except Exception:
            raise
        except BaseException:  # race: Ctrl-C
            self._ground.later(0.0, self._again)  # which does that whole, too
            raise

