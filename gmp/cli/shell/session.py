"""What all shells have in common, whatever their prompt: names, the port `me`, and evaluation on another node.

A line that begins with ``=`` is for the shell: ``=`` lists the nodes, ``=NODE`` evaluates on NODE from now on, ``=NODE
SOURCE`` only SOURCE, ``=.`` returns to this node. Perl nodes evaluate Perl.
"""

from __future__ import annotations

import ast
import codeop
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent

import gmp
from gmp.cli.common.output import as_text
from gmp.cli.common.show import safe
from gmp.cli.shell.names import Names
from gmp.showing import show
from gmp.wire.requests import CAN, EVAL, INFO

KEPT = 1000  # messages to `me`
SHOWN = 2000  # characters of one
REFUSED = "eval is not allowed on this node"


class Session:
    """One shell on one node. `show` prints text above the prompt; the prompt replaces it with its own function."""

    def __init__(self, node: gmp.Node, timeout: float) -> None:
        self.node = node
        self.timeout = timeout
        self.at: str | None = None  #: the node that evaluates, None: this one
        self.show: Callable[[str], None] = print
        self.received: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self.me = node.port()
        self.me.on(None, self._arrived)
        self.completion = Names(node)
        self._is_gmp: dict[str, bool] = {}

    def namespace(self) -> dict[str, Any]:
        """Return the names that are defined from the start."""
        names = {name: getattr(gmp, name) for name in gmp.__all__}
        return {**names, "gmp": gmp, "node": self.node, "me": self.me, "received": self.received, "gevent": gevent}

    def banner(self, prompt: str) -> str:
        """Return the text to print before the first prompt."""
        up = ", ".join(sorted(self.node.up_nodes())) or "no other node yet"
        versions = f"gmp {gmp.__version__}, Python {sys.version.split()[0]}, {prompt}"
        return (
            f"{versions}. This is node {self.node.id}, connected with {up}.\n"
            "The names of gmp are loaded; node is this node, me a port: what is sent to it is shown, and kept in received.\n"
            "=NODE evaluates on another node, = lists the nodes, =. comes back."
        )

    def _arrived(self, *message: Any) -> None:
        self.received.append(message)
        self.show(f"{time.strftime('%H:%M:%S')} me: {safe(show(message, SHOWN))}")

    # ---- lines

    def is_ours(self, source: str) -> bool:
        """True if the shell handles these lines itself: they are for another node, or begin with ``=``."""
        return source.startswith("=") or (self.at is not None and not source.startswith(("%", "!", "exit", "quit")))

    def is_complete(self, source: str) -> bool:
        """True if these lines are complete: a block of Python for another node may continue, as it may here."""
        if source.startswith("=") or not self._is_gmp.get(self.at or self.node.id, False):
            return True
        try:
            return codeop.compile_command(source, symbol="single") is not None
        except (SyntaxError, ValueError, OverflowError):
            return True

    def take(self, source: str) -> None:
        """Handle such lines, and print the result. *Blocks:* up to `timeout` seconds."""
        source = source.strip()
        if not source.startswith("="):
            if source:
                self._print(self.evaluate(self.at or self.node.id, source))
            return
        node_id, _, rest = source[1:].strip().partition(" ")
        if not node_id:
            self._print("\n".join(self._nodes()))
        elif rest.strip():
            self._print(self.evaluate(node_id, rest.strip()))
        elif node_id in (".", self.node.id):
            self.at = None
        else:
            self._print(self.go(node_id))

    def go(self, node_id: str) -> str:
        """Evaluate on that node from now on. If that is impossible, stay here and return why.

        *Blocks:* up to `timeout` seconds.
        """
        problem = self.problem(node_id)
        if not problem:
            self.at = node_id
        return problem

    def problem(self, node_id: str) -> str:
        """Return why nothing can be evaluated on that node; empty if it can. *Blocks:* up to `timeout` seconds."""
        try:
            self._asks_gmp(node_id)
            error = self.node.call(node_id, EVAL, "1", timeout=self.timeout)[:1]
        except gmp.GmpError as failure:
            return f"nothing can be evaluated on {safe(node_id)}: {failure}"
        if error == (REFUSED,):
            return f"{node_id} does not allow it: set allow_eval = true in its profile, or GMP_ALLOW_EVAL=1"
        return ""

    def evaluate(self, node_id: str, source: str) -> str:
        """Evaluate `source` on that node, and return the value as text. *Blocks:* up to `timeout` seconds."""
        try:
            if self._asks_gmp(node_id) and _is_expression(source):
                source = f"repr(\n{source}\n)"
            reply = self.node.call(node_id, EVAL, source, timeout=self.timeout)
        except gmp.GmpError as failure:
            return f"{node_id}: {safe(failure)}"
        error, *results = reply or ("it sent an empty answer",)
        if error == REFUSED:
            return self.problem(node_id)
        if error:
            return f"{node_id}: {as_text(error)}"
        return "\n".join(as_text(result) for result in results if result not in (None, "None"))

    def _asks_gmp(self, node_id: str) -> bool:
        """True if it is a gmp node, which evaluates Python."""
        if node_id not in self._is_gmp:
            self._is_gmp[node_id] = bool(self.node.call(node_id, CAN, INFO, timeout=self.timeout)[0])
        return self._is_gmp[node_id]

    def _nodes(self) -> list[str]:
        marks = {self.node.id: "this node"} | dict.fromkeys(self.node.up_nodes(), "connected")
        here = self.at or self.node.id
        known = self.node.known_nodes()
        return [f"{'*' if node_id == here else ' '} {node_id}  {marks.get(node_id, '')}".rstrip() for node_id in known]

    def _print(self, text: str) -> None:
        if text:
            print("\n".join(safe(line) for line in text.splitlines()))


def _is_expression(source: str) -> bool:
    try:
        ast.parse(source, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True
