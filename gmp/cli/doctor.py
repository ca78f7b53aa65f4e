"""`gmp doctor`: checks configuration, seeds and network, and names a cure for each fault.

A separate node dials each seed, so that their results do not mix. Without a certificate, that node's ID begins with a
digit: the node with the smaller ID shows its proof last, so it sees that the other's proof is wrong, instead of a
connection that closes without a word.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass

import gevent
import gevent.socket

import gmp
from gmp.cli.common.access import COMMANDS, EAGER_COMMANDS, LEAVE, Access, seed_nodes, why_not_up
from gmp.cli.common.failures import Failure
from gmp.cli.common.survey import NOT_GMP, Answer, ask, ask_all, known_nodes
from gmp.config import Settings, load_settings, own_name, parse_bind, parse_seed
from gmp.secretfile import fingerprint
from gmp.wire.requests import INFO, STATS

CLOCK = 5.0  # seconds by which clocks may differ
LAG = 1.0  # seconds that an event loop may be late
DAYS = 30  # before a certificate's end that is told
LOOPBACK = ("127.", "localhost", "[::1]", "::1")
CURES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("nobody listens",), "start the seed (gmp run --bind ...), or correct the address"),
    (("timed out", "No route", "unreachable"), "host down, firewall, or wrong address: try 'ping' and 'nc -vz HOST PORT'"),
    (("in use by",), "another node has that node ID: give this one another (node_id, GMP_NODE_ID)"),
    (("have our secret",), "the secrets differ: compare 'gmp secret' on both hosts; copy the file, or set GMP_SECRET alike"),
    (("no authentication method",), "one side uses TLS and the other does not: give both a cert (gmp cert), or none"),
    (("in the handshake",), "the seed refused us, mostly because the secrets differ: its log tells; compare 'gmp secret'"),
    (("certificate", "TLS"), "both certificates must be valid and signed by the same authority: look at 'gmp cert show'"),
    (("unknown protocol", "no UTF-8"), "something else than a gmp node listens there: correct the address"),
    (("version",), "the two nodes speak different protocols: install the same version of gmp on both"),
    (("this node itself",), "that is the address of this node itself: no fault for a seed"),
    (("closed",), "the seed closed the connection: its log tells why"),
)


@dataclass
class Finding:
    """One line."""

    level: str  #: ok, note or FAULT
    text: str
    cure: str = ""


class Doctor:
    """One run of all checks."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._findings: list[Finding] = []
        self._versions: dict[str, str] = {}

    def _say(self, level: str, text: str, cure: str = "") -> None:
        self._findings.append(Finding(level, text, cure))

    def examine(self) -> list[Finding]:
        """Run all checks. *Blocks:* at most a few times the timeout."""
        self._look_at_installation()
        try:
            settings = load_settings(self._access.profile, {}, os.environ)
        except gmp.ConfigError as error:
            self._say("FAULT", str(error), "mend it ('gmp config show'); nothing else was looked at")
            return self._findings
        self._look_at_credentials(settings)
        self._look_at_binds(settings)
        try:
            seeds = self._access.seed_addresses()
        except Failure as error:
            self._say("FAULT", "no seed is known", error.message)
            return self._findings
        with ExitStack() as stack:
            nodes = {seed: stack.enter_context(self._node(settings, seed)) for seed in seeds}
            self._access.restart_clock()
            up = [seed for seed, node in nodes.items() if self._look_at_seed(seed, node)]
            if up:
                self._look_at_network(nodes, up)
        return self._findings

    def _node(self, settings: Settings, seed: str) -> gmp.Node:
        prefix = COMMANDS if settings.cert is not None else EAGER_COMMANDS
        name = f"{prefix}{own_name(os.environ)}/"
        profile = self._access.profile
        return gmp.Node(name, profile=profile, binds=[], seeds=[seed], services=[], leave_timeout=LEAVE)

    # ---- this host

    def _look_at_installation(self) -> None:
        """Check for PyPI's gmp, another project, whose files would lie among ours: removing them breaks this gmp."""
        try:
            other = importlib.metadata.distribution("gmp")
        except importlib.metadata.PackageNotFoundError:
            return
        if not any(entry.value == "gmp_command:main" for entry in other.entry_points):  # else gmp, before it had its name
            self._say(
                "note", f"the project gmp {other.version} is installed too, in the folder of this one, which is gevent-mp",
                "pip uninstall gmp, then install gevent-mp again (pip install --force-reinstall)",
            )

    def _look_at_credentials(self, settings: Settings) -> None:
        if settings.secret is not None:
            source = "given" if settings.secret_given else "this user's file"
            self._say("ok", f"secret: {source}, fingerprint {fingerprint(settings.secret)} (must be the same on every host)")
        if settings.cert is not None:
            try:
                from gmp.cli.certificates import read_certificates

                for seen in read_certificates(settings.cert.encode()):
                    self._say_days(f"certificate of {', '.join(seen.names)}", seen.days_left)
            except (Failure, ValueError) as error:
                self._say("note", f"the certificate's dates were not looked at: {error}")

    def _say_days(self, what: str, days: float) -> None:
        cure = "make a new one (gmp cert new NODE --force) and start the node again"
        if days < 0:
            self._say("FAULT", f"{what} ended {-days:.0f} days ago", cure)
        elif days < DAYS:
            self._say("note", f"{what} ends in {days:.0f} days", cure)
        else:
            self._say("ok", f"{what} is valid for {days:.0f} days")

    def _look_at_binds(self, settings: Settings) -> None:
        binds = settings.binds
        if binds is None and not settings.secret_given and settings.cert is None:
            binds = ("127.0.0.1:0",)
        if binds and all(parse_bind(bind).host.startswith(LOOPBACK) for bind in binds):
            self._say(
                "note", f"a node of this configuration listens on loopback only ({', '.join(binds)})",
                "for other hosts: gmp config set binds '[\"*\"]'",
            )

    # ---- seeds

    def _look_at_seed(self, seed: str, node: gmp.Node) -> bool:
        """Report on one seed; return True if it let us in."""
        address = parse_seed(seed)
        if address.port:
            try:
                found = gevent.socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM)
            except OSError as error:
                self._say("FAULT", f"seed {seed}: its name does not resolve: {error}", "correct the name, or the DNS")
                return False
            addresses = sorted({str(entry[4][0]) for entry in found})
            if addresses != [address.host.strip("[]")]:
                self._say("ok", f"seed {seed} resolves to {', '.join(addresses)}")
        problem = self._wait(node)
        if problem is not None:
            cure = next((cure for words, cure in CURES if any(word in problem for word in words)), "its log may tell more")
            self._say("FAULT", f"seed {seed}: {problem}", cure)
            return False
        node_id = (seed_nodes(node) or [""])[0]
        answer = ask(node, node_id, INFO, self._access.timeout)
        if answer.problem:
            level = "ok" if answer.problem == NOT_GMP else "FAULT"
            self._say(level, f"seed {seed} is {node_id}, which {_words(answer)}", "" if level == "ok" else "start it again")
        else:
            self._say("ok", f"seed {seed} is {node_id}: gmp {answer.data.get('version')}, {answer.round_trip * 1000:.1f} ms")
            self._look_at_info(seed, node, answer)
        self._look_at_connection(node, node_id)
        return True

    def _wait(self, node: gmp.Node) -> str | None:
        """Wait until the seed is up; return what is wrong, or None."""
        until = time.monotonic() + self._access.timeout
        while True:
            try:
                node.wait_up(timeout=0.1)
                return None
            except gmp.WaitTimeout:
                told = why_not_up(node)
                if told or time.monotonic() > until:
                    return told or f"timed out after {self._access.timeout:g} s"

    def _look_at_info(self, seed: str, node: gmp.Node, answer: Answer) -> None:
        data, node_id = answer.data, answer.node_id
        version = str(data.get("version"))
        if version != gmp.__version__:
            self._say("note", f"{node_id} runs gmp {version}, this is {gmp.__version__}", "install the same version on both")
        clock = data.get("time")
        if isinstance(clock, int | float):
            ahead = clock - (time.time() - answer.round_trip / 2)
            if abs(ahead) > CLOCK:
                self._say("FAULT", f"the clock of {node_id} is {ahead:+.0f} s off ours", "set both clocks (NTP)")
        told = data.get("binds")
        binds = [str(bind) for bind in told] if isinstance(told, list | tuple) else []
        if binds and seed not in binds and not seed.startswith("srv+"):
            remote = not seed.startswith(LOOPBACK)
            useless = remote and all(bind.startswith(LOOPBACK) for bind in binds)
            self._say(
                "FAULT" if useless else "note",
                f"{node_id} is dialled as {seed}, but tells others {', '.join(binds)}",
                "if they cannot reach it there, give it the setting advertise = ['" + seed + "']",
            )
        stats = ask(node, node_id, STATS, self._access.timeout).data
        lag = stats.get("loop_lag_peak")
        if isinstance(lag, int | float) and lag > LAG:
            self._say("note", f"the event loop of {node_id} came {lag:.1f} s late", "see what computes there so long")

    def _look_at_connection(self, node: gmp.Node, node_id: str) -> None:
        figures = node.stats()["peers"].get(node_id, {})
        until = figures.get("cert_until")
        if until:
            self._say_days(f"the certificate of {node_id}", (until - time.time()) / 86400)
        seen, _, _ = str(figures.get("seen_as", "")).rpartition(":")
        address = str(figures.get("address", ""))
        own = _own_address(address)
        if figures.get("transport") != "unix" and seen and own and seen.strip("[]") != own:
            self._say(
                "note", f"{node_id} sees us as {seen}, while we are {own}: there is address translation between us",
                "others cannot dial us: set advertise to an address they reach, or binds = [] to go through the seed",
            )

    # ---- the network

    def _look_at_network(self, nodes: dict[str, gmp.Node], up: list[str]) -> None:
        views = {seed: set(known_nodes(self._access, nodes[seed])) for seed in up}
        everyone = sorted(set().union(*views.values()))
        for seed, view in views.items():
            missing = sorted(set(everyone) - view)
            if missing:
                self._say(
                    "FAULT", f"seed {seed} does not know {_few(missing)}, which other seeds know",
                    "seeds must know each other: list all of them in the setting seeds of each",
                )
        answers = ask_all(nodes[up[0]], everyone, INFO, self._access.timeout)
        silent = [answer for answer in answers.values() if answer.problem not in ("", NOT_GMP)]
        for answer in silent:
            self._say(
                "FAULT", f"node {answer.node_id} {_words(answer)}",
                "it hangs, is gone, or cannot be reached at the address it tells: look at its log, and at advertise",
            )
        if not silent:
            self._say("ok", f"all {len(everyone)} nodes of the network answer")
        others = {name: answer.data["version"] for name, answer in answers.items() if "version" in answer.data}
        if len(set(others.values())) > 1:
            told = ", ".join(f"{name} {version}" for name, version in others.items())
            self._say("note", f"different versions of gmp: {told}", "they work together; install one when you can")


def _words(answer: Answer) -> str:
    return answer.problem if answer.problem == NOT_GMP else f"does not answer: {answer.problem}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _own_address(peer: str) -> str:
    """Return the address from which this host reaches `peer`, without sending anything."""
    try:
        where = parse_seed(peer)
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((where.host, where.port))
            return str(probe.getsockname()[0])
    except (OSError, gmp.GmpError):
        return ""
