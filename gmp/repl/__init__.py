"""A prompt that stays alive: greenlets run while ``python`` or IPython waits for a key, or a notebook for its next cell.

``import gmp.repl`` is enough, at the prompt, in a cell, or in a startup file (``$PYTHONSTARTUP``, IPython's ``startup/``):
it calls `install`. Nothing is patched: Python and IPython each have a place for such a hook, and so has the asyncio loop of
a notebook's kernel.
"""

from __future__ import annotations

import sys

from gmp import whose as _whose  # noqa: F401  # first: another project's gmp in our place is told by it
from gmp.repl import inputhook, ipython, notebook


def install() -> None:
    """Let greenlets run while the prompt waits for a key. Call it again when something else has taken the place.

    In plain Python, its new prompt included, and wherever `input` is called in this thread; in IPython too. In a notebook's
    kernel (ipykernel), which has no prompt: while no cell runs, or one awaits.
    *Raises:* `GmpError` in any thread but the main one. *Blocks:* never.
    """
    inputhook.install()
    ipython.install(sys.modules)
    notebook.install(sys.modules)


def uninstall() -> None:
    """Take the hooks away again. *Blocks:* never."""
    inputhook.uninstall()
    ipython.uninstall(sys.modules)
    notebook.uninstall(sys.modules)


install()
__all__ = ["install", "uninstall"]
