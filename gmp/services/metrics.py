"""Figures of a node for Prometheus (extra ``metrics``): a collector that asks the node when it is asked.

`register` adds it to a registry, so that an application's own exposition has it; `application` is a WSGI application that
serves it by itself. Names and units are as Prometheus wants them: ``_total`` for what only grows, bytes and seconds.
One node tells of itself and of its ports in sum, not one by one: ports come and go by the thousand, and each would be a time
series of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gmp
from gmp.durations import MICROSECOND, added
from gmp.wire.requests import FAMILIES, STATS

try:
    from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("gmp.services.metrics needs prometheus_client: pip install 'gevent-mp[metrics]'") from error

ANSWER = 5.0  # seconds

# name, help, key in the figures of a peer
PEER_COUNTERS = (
    ("gmp_peer_sent_messages", "Messages sent to the peer over its present connection.", "sent_messages"),
    ("gmp_peer_received_messages", "Messages received from the peer over its present connection.", "received_messages"),
    ("gmp_peer_sent_bytes", "Bytes written to the present connection.", "sent_bytes"),
    ("gmp_peer_received_bytes", "Bytes read from the present connection.", "received_bytes"),
    ("gmp_peer_dropped_messages", "Messages to the peer that were lost with a connection.", "dropped"),
)
PEER_GAUGES = (
    ("gmp_peer_queued_bytes", "Bytes that wait for the peer.", "queued_bytes"),
    ("gmp_peer_round_trip_seconds", "Time the peer's program took for the last heartbeat.", "round_trip"),
    ("gmp_peer_busy", "1 while the peer's program does not answer, else 0.", "busy"),
)
SERVICE_GAUGES = (
    ("gmp_service_running_calls", "Calls of the service that run.", "running"),
    ("gmp_service_waiting_calls", "Calls of the service that wait for a place.", "waiting"),
    ("gmp_service_open_streams", "Streams of the service that are open.", "open_streams"),
)
SERVICE_COUNTERS = (
    ("gmp_service_calls", "Calls of the method that have ended.", "calls"),
    ("gmp_service_errors", "Calls of the method that raised.", "errors"),
    ("gmp_service_seconds", "Time that calls of the method took.", "seconds"),
)
NODE_GAUGES = (
    ("gmp_ports", "Ports that live on the node.", "ports"),
    ("gmp_mailbox_waiting_messages", "Messages that wait in all mailboxes.", "waiting"),
    ("gmp_mailbox_peak_messages", "The most messages that ever waited in one port that lives.", "mailbox_peak"),
    ("gmp_loop_lag_seconds", "By how much the event loop was late last.", "loop_lag"),
    ("gmp_loop_lag_peak_seconds", "The most by which the event loop was late so far.", "loop_lag_peak"),
)


class NodeCollector(Collector):
    """Collects the figures of one node. `node` is the default node, whichever that is then, unless given."""

    def __init__(self, node: gmp.Node | None = None) -> None:
        self._node = node

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask for figures, as there may be no node yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The figures now. *Blocks:* until the node has counted, a turn of the loop."""
        node = self._node or gmp.node()
        if node.closed:
            return
        (figures,) = node.call(node.id, STATS, timeout=ANSWER)
        (families,) = node.call(node.id, FAMILIES, timeout=ANSWER)
        info = GaugeMetricFamily("gmp_node_info", "1, with what the node is.", labels=["node", "version", "incarnation"])
        info.add_metric([node.id, gmp.__version__, node.incarnation], 1)
        yield info
        text = "Messages for dead or unknown ports."
        yield _family(CounterMetricFamily, "gmp_dropped_messages", text, node.id, figures["dropped"])
        members = GaugeMetricFamily("gmp_group_members", "Members of a group, as it is seen here.", labels=["node", "group"])
        for group, told in families.items():
            if told["group"]:
                members.add_metric([node.id, group], told["entries"])
        yield members
        for name, text, key in NODE_GAUGES:
            yield _family(GaugeMetricFamily, name, text, node.id, figures.get(key, 0))
        yield from _of_services(node.id, figures["services"])
        peers: dict[str, dict[str, Any]] = figures["peers"]
        up = GaugeMetricFamily("gmp_peer_up", "1 while the peer is connected, else 0.", labels=["node", "peer"])
        for peer, told in peers.items():
            up.add_metric([node.id, peer], told["state"] == "up")
        yield up
        for kind, table in ((CounterMetricFamily, PEER_COUNTERS), (GaugeMetricFamily, PEER_GAUGES)):
            for name, text, key in table:
                family = kind(name, text, labels=["node", "peer"])
                for peer, told in peers.items():
                    if told.get(key) is not None:
                        family.add_metric([node.id, peer], float(told[key]))
                yield family


def _of_services(node_id: str, services: list[dict[str, Any]]) -> Iterator[Metric]:
    """Each service by its name, so several of one name on a node are told of in sum."""
    for name, text, key in SERVICE_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["node", "service"])
        for service in {told["name"] for told in services}:
            gauge.add_metric([node_id, service], sum(told[key] for told in services if told["name"] == service))
        yield gauge
    for name, text, key in SERVICE_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=["node", "service", "method"])
        sums: dict[tuple[str, str], float] = {}
        for told in services:
            for method, figures in told["methods"].items():
                sums[told["name"], method] = sums.get((told["name"], method), 0) + figures[key]
        for (service, method), value in sums.items():
            counter.add_metric([node_id, service, method], value)
        yield counter
    yield _durations(node_id, services)


def _durations(node_id: str, services: list[dict[str, Any]]) -> Metric:
    """How long calls took: buckets that Prometheus makes quantiles of, over any time and any number of nodes."""
    text = "Time that a call of the method took."
    histogram = HistogramMetricFamily("gmp_service_call_seconds", text, labels=["node", "service", "method"])
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for told in services:
        for method, figures in told["methods"].items():
            found.setdefault((told["name"], method), []).append(figures)
    for (service, method), several in found.items():
        total, buckets = 0, []
        for number, count in enumerate(added(figures["buckets"] for figures in several)):
            total += count
            buckets.append((repr(MICROSECOND * 2.0**number), float(total)))
        buckets.append(("+Inf", float(total)))
        histogram.add_metric([node_id, service, method], buckets, sum(figures["seconds"] for figures in several))
    return histogram


def _family(kind: Callable[..., Metric], name: str, text: str, node_id: str, value: float) -> Metric:
    family: Any = kind(name, text, labels=["node"])
    family.add_metric([node_id], value)
    metric: Metric = family
    return metric


def register(registry: CollectorRegistry, node: gmp.Node | None = None) -> NodeCollector:
    """Add the figures of `node` (None: the default node) to a registry. Returns the collector, to unregister it.

    *Blocks:* never.
    """
    collector = NodeCollector(node)
    registry.register(collector)
    return collector


def application(node: gmp.Node | None = None) -> Callable[..., Any]:
    """A WSGI application that serves the figures of `node` (None: the default node) and of the process. *Blocks:* never."""
    registry = CollectorRegistry()
    register(registry, node)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    app: Callable[..., Any] = make_wsgi_app(registry)
    return app
