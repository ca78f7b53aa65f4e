"""The shell at ptpython's prompt. Greenlets run while it waits; their output appears above the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.validation import Validator
from ptpython.prompt_style import ClassicPrompt
from ptpython.repl import PythonRepl, run_config
from ptpython.utils import unindent_code
from ptpython.validator import PythonValidator

from gmp.cli.shell.session import Session
from gmp.repl.ipython import hook

NAME = "ptpython"


class Repl(PythonRepl):  # type: ignore[misc]  # types of ptpython are not needed
    """ptpython with an input hook, and with lines that the shell handles."""

    def __init__(self, session: Session, **settings: Any) -> None:
        self._session = session
        super().__init__(_validator=Complete(session), **settings)
        rest: Completer = self.completer
        self.completer: Completer = InStrings(session, rest)
        self.all_prompt_styles["gmp"] = Prompt(session)
        self.prompt_style = "gmp"
        self.confirm_exit = False

    def read(self) -> str:
        """Read the next input, while greenlets run. *Raises:* `EOFError`."""
        while True:
            try:
                text: str = unindent_code(self.app.run(inputhook=hook))
            except KeyboardInterrupt:
                self.default_buffer.document = Document()
                continue
            if text.strip():
                return text

    def eval(self, line: str) -> object:
        """Run the input, here or on another node."""
        if not self._session.is_ours(line):
            return super().eval(line)
        self._session.take(line)
        return None


class Complete(Validator):  # type: ignore[misc]
    """Decides whether the input can be run: the shell's own lines have another grammar."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._python = PythonValidator()

    def validate(self, document: Document) -> None:
        """Check that the input can be run. *Raises:* `ValidationError`."""
        if not self._session.is_ours(document.text):
            self._python.validate(document)


class InStrings(Completer):  # type: ignore[misc]
    """Completes names of the network in strings, and leaves the rest to ptpython."""

    def __init__(self, session: Session, rest: Completer) -> None:
        self._session = session
        self._rest = rest

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield the names that the text before the cursor can become."""
        found = self._session.completion.matching(document.current_line_before_cursor)
        if found is None:
            yield from self._rest.get_completions(document, complete_event)
            return
        typed, names = found
        for name in names:
            yield Completion(name, start_position=-len(typed))


class Prompt(ClassicPrompt):  # type: ignore[misc]
    """``>>>``, after the name of the node that evaluates."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def in_prompt(self) -> Any:
        """Return the first prompt."""
        return [("class:prompt", f"{self._session.at} >>> " if self._session.at else ">>> ")]


def run(session: Session, banner: str) -> None:
    """Run lines until the end of the input or `exit()`."""
    print(banner)
    names = session.namespace()
    repl = Repl(session, get_globals=lambda: names, get_locals=lambda: names)
    run_config(repl)
    with patch_stdout():
        session.show = print
        try:
            repl.run()
        except SystemExit:
            pass
