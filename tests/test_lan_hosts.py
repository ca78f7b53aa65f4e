"""Two hosts on one cable, in network namespaces: they pair, and their nodes find each other. As root and on Linux only."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

from .gmp_command import GMP, PATIENCE, wait_for

NODE = """
import gevent, sys, gmp
gmp.configure(node_id=sys.argv[1], lan="lab")
group = gmp.group("all")
group.join(gmp.port())
print(len(group.wait(2, timeout=40)), flush=True)
gevent.get_hub().threadpool.apply(sys.stdin.readline)
"""


def _run(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *args], capture_output=True, check=False)


def _why_not() -> str:
    if os.getuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs `ip` of the Debian package iproute2"
    made = _run("netns", "add", "gmp-lan-try")
    _run("netns", "del", "gmp-lan-try")
    return f"no network namespaces here: {made.stderr.decode().strip()}" if made.returncode else ""


class Host:
    """A host with a home of its own."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace, self._folder = namespace, folder
        self._started: list[Any] = []

    def start(self, *command: str) -> Any:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GMP_")}
        environ.update(GMP_CONFIG=str(self._folder / "config.toml"), PYTHONPATH=str(Path(__file__).parent.parent))
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, cwd=self._folder,
        )  # fmt: skip
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    why_not = _why_not()
    if why_not:
        pytest.skip(why_not)
    made = []
    try:
        for name in "ab":
            namespace = f"gmp-lan-{os.getpid()}-{name}"
            subprocess.run(["ip", "netns", "add", namespace], check=True)
            (tmp_path / name).mkdir()
            made.append(Host(namespace, tmp_path / name))
        one, two = (host.namespace for host in made)
        subprocess.run(
            ["ip", "-n", one, "link", "add", "eth", "type", "veth", "peer", "name", "eth", "netns", two], check=True
        )
        for number, namespace in enumerate((one, two), 1):
            subprocess.run(["ip", "-n", namespace, "addr", "add", f"10.78.0.{number}/24", "dev", "eth"], check=True)
            for device in ("lo", "eth"):
                subprocess.run(["ip", "-n", namespace, "link", "set", device, "up"], check=True)
        yield made
    finally:
        for host in made:
            host.close()
            _run("netns", "del", host.namespace)


@pytest.mark.slow
def test_two_hosts_pair_and_find_each_other(hosts: list[Host]) -> None:
    one, two = hosts
    shows = one.start(GMP, "pair", "lab", "--json")
    words = json.loads(wait_for(shows, b"words", stdout=True))["words"]
    types = two.start(GMP, "pair", "lab", *words)
    with gevent.Timeout(PATIENCE, AssertionError("they do not pair")):
        out, err = types.communicate()
    assert types.returncode == 0, err
    assert b"paired; the secret of 'lab' has the fingerprint" in out
    assert "10.78.0.2" in wait_for(shows, b"paired with", stdout=True)
    nodes = [host.start(sys.executable, "-c", NODE, name) for host, name in zip(hosts, ("a", "b"), strict=True)]
    for node in nodes:
        assert wait_for(node, b"2", stdout=True) == "2\n"
    for node in nodes:
        node.stdin.write(b"\n")
        node.stdin.flush()
        assert node.wait(timeout=PATIENCE) == 0
