"""IPython's place for work while it waits for a key: an input hook of its terminal, under the name ``gmp``.

IPython is not imported: where it runs, it has been. ``%gui gmp`` puts the hook back after another one was switched on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from gmp.repl.turns import run_turns

NAME = "gmp"


class Context(Protocol):
    """What prompt_toolkit hands to the hook."""

    def fileno(self) -> int:
        """Readable when the prompt wants to go on."""

    def input_is_ready(self) -> bool:
        """Whether it wants to already."""


def hook(context: Context) -> None:
    """Let greenlets run until the prompt wants to go on. *Blocks:* so long."""
    if not context.input_is_ready():
        run_turns(context.fileno(), None)


def running_shell(modules: Mapping[str, ModuleType]) -> Any:
    """The IPython shell of this process with a prompt of its own, or None."""
    ipython = modules.get("IPython")
    shell: Any = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "pt_app") else None


def install(modules: Mapping[str, ModuleType] = sys.modules) -> None:
    """Register the hook and switch it on, when this process is an IPython."""
    shell = running_shell(modules)
    if shell is None or shell.pt_app is None:  # the simple prompt calls `input`
        return
    import_module("IPython.terminal.pt_inputhooks").register(NAME, hook)
    if shell.active_eventloop != NAME:
        if shell.active_eventloop is not None:
            shell.enable_gui(None)
        shell.enable_gui(NAME)


def uninstall(modules: Mapping[str, ModuleType] = sys.modules) -> None:
    """Switch it off."""
    shell = running_shell(modules)
    if shell is not None and shell.active_eventloop == NAME:
        shell.enable_gui(None)
