"""The shell at IPython's prompt. Greenlets run while it waits; their output appears above the prompt."""

from __future__ import annotations

from typing import Any

from IPython.core.completer import SimpleCompletion
from IPython.terminal.ipapp import TerminalIPythonApp
from IPython.terminal.prompts import Prompts, Token
from traitlets.config import Config

import gmp.repl
from gmp.cli.shell.session import Session

NAME = "IPython"
TAKE = "__gmp_take__"


class NodePrompts(Prompts):  # type: ignore[misc]  # types of IPython are not needed
    """IPython's prompts, after the name of the node that evaluates."""

    session: Session

    def in_prompt_tokens(self) -> Any:
        """Return the first prompt."""
        tokens = super().in_prompt_tokens()
        return [(Token.Prompt, f"{self.session.at} "), *tokens] if self.session.at else tokens


class Matcher:
    """Completes names of the network in strings."""

    matcher_api_version = 2
    matcher_priority = 200.0
    matcher_identifier = "gmp"

    def __init__(self, session: Session) -> None:
        self._session = session
        self.__qualname__ = self.__name__ = "gmp"

    def __call__(self, context: Any) -> dict[str, Any]:
        """Return what the text before the cursor can become; IPython replaces its `token`, the last word."""
        before = context.full_text[: context.cursor_position].rpartition("\n")[2]
        found = self._session.completion.matching(before)
        if found is None:
            return {"completions": [], "suppress": False}
        typed, names = found
        rest = [name[len(typed) - len(context.token) :] for name in names]
        return {"completions": [SimpleCompletion(text=text, type="gmp") for text in rest], "suppress": True}


def run(session: Session, banner: str) -> None:
    """Run lines until the end of the input or `exit`."""
    config = Config()
    config.TerminalInteractiveShell.banner1 = banner + "\n"
    config.TerminalInteractiveShell.confirm_exit = False
    app = TerminalIPythonApp.instance(config=config)
    app.initialize([])
    shell = app.shell
    shell.push({**session.namespace(), TAKE: session.take}, interactive=False)
    shell.prompts = NodePrompts(shell)
    shell.prompts.session = session
    shell.Completer.custom_matchers.append(Matcher(session))

    def transform(lines: list[str]) -> list[str]:
        source = "".join(lines)
        ours = session.is_ours(source) and session.is_complete(source)
        return [f"{TAKE}({source!r})\n"] if ours else lines

    shell.input_transformers_cleanup.append(transform)
    gmp.repl.install()
    session.show = print
    try:
        app.start()
    except SystemExit:
        pass
