"""The deployment examples: units that systemd accepts, manifests that Kubernetes accepts, and nodes that really find each
other by the names in those manifests, asked of a DNS server.

Needs systemd-analyze, kubernetes-validate (extra ``test``), and, as root, network namespaces and Debian's dnsmasq-base.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MANIFESTS = (EXAMPLES / "k8s" / "gmp.yaml").read_text()
SERVICE = "gmp-seeds.default.svc.cluster.local"
POD_ADDRESSES = ["127.0.1.1", "127.0.1.2", "127.0.1.3"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", ["gmp-seed.service", "gmp-worker@.service"])
def test_systemd_accepts_the_units(unit: str, tmp_path: Path) -> None:
    text = (EXAMPLES / "systemd" / unit).read_text()
    assert "/opt/gmp/bin/gmp run" in text
    copy = tmp_path / unit
    copy.write_text(text.replace("/opt/gmp/bin/gmp", sys.executable))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, timeout=60)
    complaints = [line for line in checked.stderr.decode().splitlines() if unit.partition("@")[0].partition(".")[0] in line]
    assert not complaints


def test_the_configuration_of_the_units_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gmp.config import load_settings

    path = EXAMPLES / "systemd" / "config.toml"
    assert set(tomllib.loads(path.read_text())["profile"]) == {"seed", "worker"}
    environ = {"GMP_CONFIG": str(path), "GMP_SECRET": "x"}
    assert load_settings("seed", {}, environ).binds == ("*:4040",)
    assert load_settings("worker", {}, environ).allow == ("myapp.*",)


def documents() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(MANIFESTS))


def test_kubernetes_accepts_the_manifests() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for document in documents():
        validate.validate(document, "1.27", strict=True)


def environment_of(kind: str) -> dict[str, str]:
    """What the containers of that kind get, as the manifests say."""
    (document,) = [each for each in documents() if each["kind"] == kind]
    (container,) = document["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[str]:
    """A host whose DNS server answers as a cluster's does for the headless service."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("dnsmasq") is None:
        pytest.skip("needs root for a network namespace, and Debian's iproute2 and dnsmasq-base")
    name = f"gmp-dns-{os.getpid()}"
    folder = Path("/etc/netns") / name
    hosts = tmp_path / "hosts"
    pods = [f"gmp-seed-{number}.{SERVICE}" for number in range(len(POD_ADDRESSES))]
    hosts.write_text(
        "".join(f"{address} {pod}\n{address} {SERVICE}\n" for address, pod in zip(POD_ADDRESSES, pods, strict=True))
    )
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        records = [f"--srv-host=_gmp._tcp.{SERVICE},{pod},4040" for pod in pods]
        dnsmasq = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--log-facility=-"]
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, *dnsmasq, f"--addn-hosts={hosts}", *records], stderr=subprocess.PIPE
        )
        try:
            with gevent.Timeout(20):
                while b"read" not in server.stderr.readline():
                    pass
            yield name
        finally:
            server.terminate()
            server.wait(timeout=20)
            server.stderr.close()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
        shutil.rmtree(folder, ignore_errors=True)


NODE = """
import sys, gmp
node = gmp.configure(node_id=sys.argv[1])
gmp.group("pods").join(gmp.port())
members = gmp.group("pods").wait(int(sys.argv[2]), timeout=60)
print(sorted(gmp.node_of(port) for port in members), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_nodes_find_each_other_by_the_names_of_the_manifests(namespace: str) -> None:
    pytest.importorskip("dns", reason="needs dnspython (extra dns) for SRV names")
    names = [f"gmp-seed-{number}" for number in range(3)] + ["gmp-worker-0", "gmp-worker-1"]
    processes = []
    for number, name in enumerate(names):
        kind = "StatefulSet" if "seed" in name else "Deployment"
        address = POD_ADDRESSES[number] if kind == "StatefulSet" else f"127.0.2.{number}"
        environ = environment_of(kind)
        environ["GMP_BINDS"] = environ["GMP_BINDS"].replace("*", address)  # pods share one host here
        environ["GMP_ADVERTISE"] = environ["GMP_ADVERTISE"].replace("$(POD_IP)", address)
        command = ["ip", "netns", "exec", namespace, sys.executable, "-c", NODE, name, str(len(names))]
        environ = {**os.environ, **environ, "GMP_SECRET": "a secret of this test"}
        processes.append(subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    try:
        with gevent.Timeout(90, AssertionError("not all nodes found each other")):
            assert {process.stdout.readline().decode().strip() for process in processes} == {str(sorted(names))}
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
