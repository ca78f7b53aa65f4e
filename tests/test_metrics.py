"""Figures for Prometheus: what is exposed, and a real Prometheus server from Debian's packages that scrapes three nodes."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.subprocess as subprocess
import pytest
from gevent.pywsgi import WSGIServer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import gmp
from gmp.durations import quantile
from gmp.objects.figures import Figures, MethodFigures
from gmp.services.metrics import application, register

from .addresses import free_address
from .conftest import eventually

MakeNode = Callable[..., gmp.Node]
GRAFANA = Path(__file__).parent.parent / "examples" / "grafana" / "gmp.json"


def get(address: tuple[str, int], path: str) -> tuple[int, str]:
    """One HTTP request, without the standard library's client: it would block the server in this process."""
    with gevent.socket.create_connection(address, timeout=20) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


@pytest.fixture
def serve() -> Iterator[Callable[[gmp.Node], tuple[str, int]]]:
    servers: list[WSGIServer] = []

    def start(node: gmp.Node) -> tuple[str, int]:
        servers.append(WSGIServer(("127.0.0.1", 0), application(node), log=None))
        servers[-1].start()
        return "127.0.0.1", servers[-1].server_port

    yield start
    for server in servers:
        server.stop(timeout=1)


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "node")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_a_node_does_is_exposed(make_node: MakeNode, serve: Callable[[gmp.Node], tuple[str, int]]) -> None:
    seed = make_node("seed")
    other = make_node("other", seeds=seed.binds)
    port = other.port()
    other.group("workers").join(port)
    seed.group("workers").wait(timeout=10)
    for number in range(10):
        seed.send(port.id, number)
    seed.call("other", "time")
    port.kill()
    other.send(port, "too late")
    address = serve(other)
    status, text = get(address, "/metrics")
    found = samples(text)
    assert status == 200
    assert found["gmp_peer_up", "seed"] == 1
    assert found["gmp_peer_received_messages_total", "seed"] >= 11
    assert found["gmp_peer_received_bytes_total", "seed"] > 50
    assert found["gmp_dropped_messages_total",] == 1 + 10
    assert found["gmp_ports",] <= 1  # the one that waits for these figures
    assert found["process_open_fds",] > 0
    assert samples(get(serve(seed), "/metrics")[1]).get(("gmp_group_members", "workers"), 0) == 0


def test_the_figures_join_the_registry_of_an_application(make_node: MakeNode) -> None:
    registry = CollectorRegistry()
    collector = register(registry, make_node("seed"))
    assert registry.get_sample_value("gmp_node_info", {"node": "seed", "version": gmp.__version__,
                                                       "incarnation": collector._node.incarnation}) == 1  # fmt: skip
    registry.unregister(collector)


def test_the_grafana_dashboard_asks_only_for_what_is_exposed(
    make_node: MakeNode, serve: Callable[[gmp.Node], tuple[str, int]]
) -> None:
    seed = make_node("seed")
    make_node("other", seeds=seed.binds).wait_up(timeout=10)
    seed.group("workers").join(seed.port())
    exposed = {name for name, *_ in samples(get(serve(seed), "/metrics")[1])}
    exposed.add("gmp_peer_round_trip_seconds")  # there from the first heartbeat on
    asked = set()
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"gmp_\w+", target["expr"]))
    assert len(asked) == 10
    assert asked <= exposed


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's prometheus, which the gate installs as root")
def test_a_prometheus_server_scrapes_a_network_of_three_nodes(
    make_node: MakeNode, serve: Callable[[gmp.Node], tuple[str, int]], tmp_path: Path
) -> None:
    seed = make_node("seed")
    nodes = [seed, *(make_node(f"node-{number}", seeds=seed.binds) for number in range(2))]
    for node in nodes[1:]:
        node.wait_up(timeout=10)
    targets = [f"{host}:{port}" for host, port in map(serve, nodes)]
    config = {"scrape_configs": [{"job_name": "gmp", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # which is YAML too
    address = free_address()
    host, port = address.split(":")
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log)

    def ask(question: str) -> dict[str, float]:
        try:
            _, text = get((host, int(port)), f"/api/v1/query?query={urllib.parse.quote(question)}")
        except OSError:
            return {}  # it has not started yet
        results: list[Any] = json.loads(text)["data"]["result"] if text.startswith("{") else []
        return {result["metric"].get("node", ""): float(result["value"][1]) for result in results}

    try:
        eventually(lambda: ask("sum by (node) (gmp_peer_up)") == {"seed": 2, "node-0": 1, "node-1": 1}, timeout=60)
        nodes[2].close()
        eventually(lambda: ask("sum by (node) (gmp_peer_up)").get("seed") == 1, timeout=30)
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_services_are_told_of_by_method(make_node: MakeNode, serve: Callable[[gmp.Node], tuple[str, int]]) -> None:
    class Jobs:
        def add(self, a: int, b: int) -> int:
            return a + b

        def fail(self) -> None:
            raise LookupError

    node = make_node("served")
    for _ in range(2):
        jobs = gmp.remote(gmp.expose(Jobs(), "jobs", node=node), node=node)
        jobs.add(1, 2)
        with pytest.raises(gmp.RemoteError):
            jobs.fail()
    told = samples(get(serve(node), "/metrics")[1])
    assert told["gmp_service_calls_total", "add", "jobs"] == 2
    assert told["gmp_service_errors_total", "add", "jobs"] == 0
    assert told["gmp_service_errors_total", "fail", "jobs"] == 2
    assert told["gmp_service_seconds_total", "add", "jobs"] >= 0
    assert told["gmp_service_running_calls", "jobs"] == 0
    assert told["gmp_service_call_seconds_count", "add", "jobs"] == 2
    assert told["gmp_service_call_seconds_sum", "add", "jobs"] == told["gmp_service_seconds_total", "add", "jobs"]
    (one, two) = node.stats()["services"]
    assert one["methods"]["fail"]["errors"] == two["methods"]["fail"]["errors"] == 1


def test_how_long_calls_take_is_told_within_a_factor_of_two(
    make_node: MakeNode, serve: Callable[[gmp.Node], tuple[str, int]]
) -> None:
    took = []

    class Jobs:
        def sleep(self, seconds: float) -> None:
            began = time.monotonic()
            gevent.sleep(seconds)
            took.append(time.monotonic() - began)

    node = make_node("served")
    jobs = gmp.remote(gmp.expose(Jobs(), "jobs", concurrency=100, node=node), node=node)
    (before,) = node.stats()["services"]
    assert before["p99"] is before["median"] is None
    gevent.joinall([gevent.spawn(jobs.sleep, 0.01) for _ in range(90)], raise_error=True)
    gevent.joinall([gevent.spawn(jobs.sleep, 0.4) for _ in range(10)], raise_error=True)
    (after,) = node.stats()["services"]
    took.sort()
    for told in (after, after["methods"]["sleep"]):
        assert took[49] / 2 <= told["median"] <= 2 * took[50] + 0.01  # the node itself measures a little more
        assert took[97] / 2 <= told["p99"] <= 2 * took[99] + 0.01
    exposed = get(serve(node), "/metrics")[1]
    found = {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.name == "gmp_service_call_seconds_bucket"
    }
    assert found[float("inf")] == 100
    assert sorted(found.values()) == [found[bound] for bound in sorted(found)]
    for bound, count in found.items():
        assert sum(each < bound - 0.01 for each in took) - count <= 1e-9 or bound < 0.02
        assert count <= sum(each <= bound for each in took)


@given(st.lists(st.floats(2e-6, 1e5), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_no_more_than_a_factor_of_two_off(durations: list[float], share: float) -> None:
    figures = MethodFigures()
    for seconds in durations:
        figures.count(False, seconds)
    found = quantile(Figures({"method": figures}).of_methods()["method"]["buckets"], share)
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    assert found is not None
    assert exact / 2 <= found <= exact * 2.0 + 2e-6
