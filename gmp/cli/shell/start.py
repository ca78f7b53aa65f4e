"""From the options of `gmp shell` to a prompt, and back to a clean terminal.

Signals: the prompt handles Ctrl-C, so Python's own handler is restored. SIGTERM restores the terminal, and then ends the
process as if it were not handled; its peers see that at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gmp
from gmp.cli.common.access import Access
from gmp.cli.common.failures import USAGE, Failure
from gmp.cli.shell.session import Session
from gmp.config import load_settings, own_name

JOINING = 3.0  # seconds to wait for a seed before the prompt comes
MODULES = {"ptpython": "gmp.cli.shell.with_ptpython", "ipython": "gmp.cli.shell.with_ipython"}
PACKAGES = {"ptpython": "ptpython", "ipython": "IPython"}


class Shell:
    """One run of the command."""

    def __init__(self, access: Access, prompt: str | None, node_id: str | None, binds: list[str]) -> None:
        self._access = access
        self._prompt = choose(prompt)
        self._node_id = node_id or f"shell/{own_name(os.environ)}/"
        self._binds = binds

    def run(self, at: str | None) -> str:
        """Prompt until the user leaves; evaluate on `at` first. Return why that was impossible; empty if it was not."""
        access = self._access
        seeds = list(access.seeds) or list(load_settings(access.profile, {}, os.environ).seeds)
        binds = self._binds or ([] if seeds else None)
        node = gmp.configure(access.profile, node_id=self._node_id, binds=binds, seeds=seeds, services=[])
        try:
            if seeds:
                try:
                    node.wait_up(timeout=min(JOINING, access.timeout))
                except gmp.WaitTimeout:
                    told = "; ".join(f"{seed['address']}: {seed['error']}" for seed in node.stats()["seeds"])
                    print(f"gmp shell: not connected yet, going on with that: {told}", file=sys.stderr)
            session = Session(node, access.timeout)
            problem = session.go(at) if at else ""
            if not problem:
                with signals():
                    self._start(session)
            return problem
        finally:
            node.close()

    def _start(self, session: Session) -> None:
        if self._prompt == "python":
            console: Any = importlib.import_module("gmp.cli.shell.console")
            console.Console(session).run(session.banner(console.NAME))
            return
        prompt: Any = importlib.import_module(MODULES[self._prompt])
        prompt.run(session, session.banner(prompt.NAME))


def choose(wanted: str | None) -> str:
    """Return the prompt to use. *Raises:* `Failure` if the wanted one is not installed."""
    found = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)] + ["python"]
    if wanted is not None and wanted not in found:
        raise Failure(f"{wanted} is not installed: pip install 'gevent-mp[repl]', in a clone: pip install '.[repl]'", USAGE)
    if wanted is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "python"
    return wanted or found[0]


@contextmanager
def signals() -> Iterator[None]:
    """Handle signals within the block as described above."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    terminal = termios.tcgetattr(0) if os.isatty(0) else None

    def terminate(number: int, _: object) -> None:
        if terminal is not None:
            termios.tcsetattr(0, termios.TCSANOW, terminal)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
