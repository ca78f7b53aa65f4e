"""`gmp run`: runs a node until a signal arrives or a service ends.

States: starting → running → draining (`Node.close`: leave groups, end ports, write what is queued) → ended. The first
SIGTERM or SIGINT ends *running*; one that arrives while draining ends the process at once, by its default action. race: a
signal while starting raises in the main greenlet, as in every command; then nothing is drained.
"""

from __future__ import annotations

import logging
import os
import signal
from types import FrameType
from typing import Any

import gevent.event

import gmp
from gmp.cli.systemd import Systemd

log = logging.getLogger("gmp.run")


class Runner:
    """One run."""

    def __init__(self, *, keep_going: bool) -> None:
        self._keep_going = keep_going
        self._over = gevent.event.Event()
        self._code = 0

    def run(self, profile: str | None, settings: dict[str, Any]) -> int:
        """Run the node until it ends; return the exit code. *Raises:* `ConfigError`. *Blocks:* until then."""
        systemd = Systemd(os.environ)
        try:
            node = gmp.configure(profile, **settings)
            try:
                self._watch_services(node)
                self._take_signals()
                where = ", ".join(node.binds) or "nowhere (private)"
                log.info("node %s listens on %s; %d services; pid %d", node.id, where, len(node.services), os.getpid())
                systemd.ready(f"node {node.id} listens on {where}")
                self._over.wait()
                systemd.stopping()
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                node.close()
                log.info("node %s has left", node.id)
        finally:
            systemd.close()
        return self._code

    def _watch_services(self, node: gmp.Node) -> None:
        for name, port in node.services:
            node.monitor(port, lambda *reason, name=name: self._service_ended(name, reason))

    def _service_ended(self, name: str, reason: tuple[Any, ...]) -> None:
        if self._keep_going or self._over.is_set():
            return
        self._code = 1 if reason else self._code
        log.info("the node ends because service %s did; --keep-going lets it go on", name)
        self._over.set()

    def _take_signals(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            log.info("%s: leaving the network; once more ends the process at once", signal.Signals(number).name)
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_DFL)
            self._over.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
