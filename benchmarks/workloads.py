"""The workloads, their figures, and what gmp is meant to reach.

A figure is told from others by workload and metric. Targets compare medians of one run, nearly all of them with
Erlang's; where they name a peer that is not in the run, `published` has its figure relative to Erlang's.
"""

from __future__ import annotations

from typing import NamedTuple

WORKLOADS = {
    "W1": "local one way: tiny messages to a port with a body, until the last is counted",
    "W1 handlers": "the same to a port with a handler",
    "W2": "local ping-pong between two bodies with receive",
    "W2 handlers": "the same between two ports with handlers",
    "W3": "remote one way, tiny messages: from the first send to the receiver's acknowledgement of the last",
    "W3 handlers": "the same to a port with a handler",
    "W4": "remote one way, 1 KiB of payload",
    "W4b": "remote one way, 1 MiB of payload",
    "W4b 64 KiB": "the same, 64 KiB of payload",
    "W4b 256 KiB": "the same, 256 KiB of payload",
    "W4b 4 MiB": "the same, 4 MiB of payload",
    "W4b 16 MiB": "the same, 16 MiB of payload",
    "W4b 64 MiB": "the same, 64 MiB of payload",
    "W5": "remote round trip, one outstanding, both cores",
    "W5@1core": "the same with both processes on one core",
    "W5 handlers": "remote round trip between ports with handlers, both cores",
    "W5@1core handlers": "the same with both processes on one core",
    "W6": "calls by 100 callers at once to one server with a body",
    "W6 handlers": "the same to a server with handlers",
    "W6 asyncio": "the same by 100 tasks through gmp.aio",
    "W7": "ports without a body made and killed, and memory of an idle one",
    "W7 bodies": "the same with a body that waits in receive",
    "W8": "a node configured, connected, and its first reply",
    "W9": "broadcast to a group of 1,000 members on 10 nodes: deliveries",
    "W10": "a producer that never yields, over a connection that takes 16 MB/s (64 KiB messages)",
    "W10 tiny": "the same with tiny messages",
    "W11": "round trips while 1 MiB messages go the same way",
    "W12": "local ping-pong by selective receive while 1,000 other messages wait",
    "W13": "from the death of a port to the last message of its 1,000 monitors",
    "W13 remote": "the same over the network",
    "W14": "calls of a service's method by 100 callers at once",
    "W15": "a stream of 1 KiB rows, and what a reader that has stopped costs in memory (64 KiB rows)",
    "W16": "calls of 100 callers that are killed, until the work over there is stopped",
    "W17": "processor time behind gevent's of `import gmp`, alone, to a first port and to a first reply, and of `gmp --help`"
    "; memory of an idle node beyond gevent's",
}
ONE_CORE = "@1core"
# A way of writing a workload that only gmp has, and the workload of the others that it is compared with.
VARIANTS = {name: name.partition(" ")[0] for name in WORKLOADS if " " in name}
SIZES = ("W4b 64 KiB", "W4b 256 KiB", "W4b 4 MiB", "W4b 16 MiB", "W4b 64 MiB")
for _alone in ("W10 tiny", "W13 remote", *SIZES):
    del VARIANTS[_alone]
LOWER_IS_BETTER = (
    *("p50 us", "p99 us", "bytes/port", "ms", "first ms", "p50 ms", "p99 ms"),
    *("memory / mark", "queued / mark", "memory / credit"),
    *("import ms", "first port ms", "first reply ms", "help ms", "idle MB"),
)
SECONDS = 120.0  # the longest that one run of a workload may take


class Target(NamedTuple):
    """What a figure of gmp's is meant to reach: `factor` times a peer's figure, or `factor` itself when `peer` is ""."""

    workload: str
    metric: str
    factor: float
    peer: str = "erlang"
    of: str = ""  #: the workload of the peer, when it is another one
    contender: str = "gmp"


TARGETS = (
    Target("W1", "msg/s", 0.6),
    Target("W1", "msg/s", 4.0, "AnyEvent::MP"),
    Target("W2", "rtt/s", 0.25),
    Target("W2", "rtt/s", 2.0, "Coro::MP"),
    Target("W2 handlers", "rtt/s", 0.6, of="W2"),
    Target("W3", "msg/s", 2.5),
    Target("W3", "msg/s", 1.6, "AnyEvent::MP autocork"),
    Target("W4", "msg/s", 3.0),
    Target("W4b", "MB/s", 1.0),
    Target("W5", "p50 us", 1.1),
    Target("W5@1core", "p50 us", 1.3),
    Target("W6", "call/s", 2.5),
    Target("W7", "create+kill/s", 1.0),
    Target("W7", "bytes/port", 400.0, ""),
    Target("W7 bodies", "create+kill/s", 0.12, of="W7"),
    Target("W7 bodies", "create+kill/s", 2.0, "Coro::MP"),
    Target("W7 bodies", "bytes/port", 11_000.0, ""),
    Target("W8", "ms", 1.0),
    Target("W10", "memory / mark", 2.0, ""),
    Target("W10 tiny", "memory / mark", 2.0, ""),
    Target("W11", "p99 ms", 2.0, ""),
    Target("W11", "share of flat-out", 0.8, ""),
    Target("W14", "call/s", 0.8, "gmp", of="W6"),
    Target("W14", "call/s", 20.0, "zerorpc"),
    Target("W15", "msg/s", 0.6, "gmp", of="W4"),
    Target("W15", "memory / credit", 2.0, ""),
    Target("W3", "msg/s", 0.85, "gmp", contender="gmp TLS"),
    Target("W4", "msg/s", 0.5, "gmp", contender="gmp TLS"),
    Target("W4b", "MB/s", 0.4, "gmp", contender="gmp TLS"),
)

# Measured once beside Erlang/OTP 25 on one machine (AnyEvent::MP 1.30, Coro::MP 0.1): their figure divided by Erlang's.
# (peer, workload, metric) -> ratio. Coro::MP's W7 is for threads that have not run yet.
PUBLISHED = {
    ("AnyEvent::MP", "W1", "msg/s"): 837 / 5820,
    ("AnyEvent::MP", "W2", "rtt/s"): 426 / 1890,
    ("AnyEvent::MP", "W3", "msg/s"): 194 / 876,
    ("AnyEvent::MP", "W4", "msg/s"): 157 / 355,
    ("AnyEvent::MP", "W4b", "MB/s"): 725 / 1900,
    ("AnyEvent::MP", "W5@1core", "p50 us"): 18.6 / 11.5,
    ("AnyEvent::MP", "W6", "call/s"): 79 / 92,
    ("AnyEvent::MP", "W7", "create+kill/s"): 466 / 865,
    ("AnyEvent::MP", "W8", "ms"): 4.10 / 3.30,
    ("AnyEvent::MP autocork", "W3", "msg/s"): 1260 / 876,
    ("AnyEvent::MP autocork", "W4", "msg/s"): 561 / 355,
    ("AnyEvent::MP autocork", "W4b", "MB/s"): 703 / 1900,
    ("AnyEvent::MP autocork", "W5@1core", "p50 us"): 21.5 / 11.5,
    ("AnyEvent::MP autocork", "W6", "call/s"): 98 / 92,
    ("AnyEvent::MP autocork", "W8", "ms"): 4.89 / 3.30,
    ("Coro::MP", "W1", "msg/s"): 607 / 5820,
    ("Coro::MP", "W2", "rtt/s"): 258 / 1890,
    ("Coro::MP", "W6", "call/s"): 81 / 92,
    ("Coro::MP", "W7", "create+kill/s"): 75 / 865,
}


def lower_is_better(metric: str) -> bool:
    """Whether less of it is better."""
    return metric in LOWER_IS_BETTER
