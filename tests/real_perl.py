"""Nodes of Perl's own AnyEvent::MP 2.02, each in a process, for tests.

The environment variable ``GMP_PERL_LIB`` names the folder that has ``AnyEvent/MP.pm`` and what belongs to it; what that
builds on is in Debian's ``libanyevent-perl``, ``libcbor-xs-perl``, ``libjson-xs-perl``, ``libguard-perl``,
``libdigest-hmac-perl``, ``libdigest-sha3-perl``, ``libcommon-sense-perl`` and ``libnet-ssleay-perl``. Where something is
missing, `missing` says what.

The program is ``tests/real_perl.pl``: it evaluates the Perl code that a test gives it, and reports.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.subprocess as subprocess

PROGRAM = Path(__file__).with_name("real_perl.pl")
#: what a Kernel logs about a request that it does not have, or that failed
REQUEST_FAILED = re.compile(r".*error processing node message.*")


@functools.cache
def missing() -> str:
    """Why there are no Perl nodes here; nothing when there are."""
    folder = os.environ.get("GMP_PERL_LIB", "")
    if not folder:
        return "GMP_PERL_LIB names no folder with AnyEvent/MP.pm, version 2.02"
    command = ["perl", "-I", folder, "-MAnyEvent::MP", "-MCBOR::XS", "-MNet::SSLeay", "-e", "print $AnyEvent::MP::VERSION"]
    try:
        found = subprocess.run(command, capture_output=True, timeout=60)
    except OSError as error:
        return f"perl does not run: {error}"
    if found.returncode:
        return f"AnyEvent::MP does not load: {found.stderr.decode(errors='replace').strip():.300}"
    if found.stdout.decode() != "2.02":
        return f"AnyEvent::MP in {folder} is {found.stdout.decode()!r}, expected 2.02"
    return ""


class RealPerl:
    """One node of AnyEvent::MP 2.02. What it reports is in `heard`; what it logs, in `log()`.

    `framing`: json or cbor, for both directions; nothing: Perl's own order. `code` is evaluated before `configure`.
    """

    def __init__(
        self,
        log: Path,
        node_id: str = "PerlA",
        *,
        binds: tuple[str, ...] = ("127.0.0.1:0",),
        seeds: tuple[str, ...] = (),
        secret: str | None = "geheim",
        cert: str | None = None,
        framing: str = "",
        code: str = "",
        **settings: Any,
    ) -> None:
        self.node_id = node_id
        self.heard: list[list[Any]] = []
        self._changed = gevent.event.Event()
        self._count = 0
        self._log = log
        options: dict[str, Any] = {"nodeid": node_id, "binds": list(binds), "seeds": list(seeds), **settings}
        options.update({"secret": secret} if secret is not None else {})
        options.update({"cert": cert} if cert is not None else {})
        options.update({"framing_format": [framing]} if framing else {})
        arguments = [part for item in options.items() for part in item]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                ["perl", "-I", os.environ["GMP_PERL_LIB"], str(PROGRAM), json.dumps(arguments), code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PERL_ANYEVENT_VERBOSE": "8", "PERL_ANYEVENT_MP_RC": str(log.with_suffix(".rc"))},
            )
        self._reader = gevent.spawn(self._read)
        self.binds = self.expect("ready", node_id)
        self.pid = self._process.pid

    def _read(self) -> None:
        for line in self._process.stdout:
            self.heard.append(json.loads(line))
            self._changed.set()

    def run(self, code: str, timeout: float = 20.0) -> list[Any]:
        """Evaluate Perl code there; returns what it gives, in list context."""
        self._count += 1
        number = self._count
        self._process.stdin.write(json.dumps([number, code]).encode() + b"\n")
        self._process.stdin.flush()
        error, *results = self.expect("answer", number, timeout=timeout)
        assert not error, f"{code}: {error}"
        return results

    def expect(self, *prefix: Any, timeout: float = 20.0) -> list[Any]:
        """Take the first report that begins so; return the rest of it."""
        with gevent.Timeout(timeout, AssertionError(f"nothing like {prefix} was reported, but {self.heard}; {self.log()}")):
            while True:
                for report in self.heard:
                    if report[: len(prefix)] == list(prefix):
                        self.heard.remove(report)
                        return report[len(prefix) :]
                self._changed.clear()
                self._changed.wait()

    def wait_up(self, node_id: str, timeout: float = 20.0) -> None:
        """Wait until it is connected with that node."""
        with gevent.Timeout(timeout, AssertionError(f"{self.node_id} is not connected with {node_id}; {self.log()}")):
            while self.run(f'node_is_up "{node_id}" ? 1 : 0') != [1]:
                gevent.sleep(0.02)

    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text(errors="replace")

    def failed_requests(self) -> list[str]:
        """What its Kernel logged of requests that it does not have, or that failed."""
        return REQUEST_FAILED.findall(self.log())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; end it at once, as by ``kill -9``, unless another one is given."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it, however it stands."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(timeout=20)
        self._process.stdin.close()
        self._process.stdout.close()
