"""AnyEvent::MP::Kernel: requests to nodes, and which nodes there are; the service modules LogCatcher and DataConn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gmp
from gmp import Port
from gmp.compat.guards import Guard
from gmp.compat.ports import current
from gmp.services.logcatcher import LogCatcher, relog

Callback = Callable[..., Any]
_LEVELS = {  # AnyEvent::Log's, by number and name
    level: python
    for python, names in (
        (logging.CRITICAL, (1, "fatal", 2, "alert", 3, "crit", "critical")),
        (logging.ERROR, (4, "error")),
        (logging.WARNING, (5, "warn", "warning")),
        (25, (6, "note")),
        (logging.INFO, (7, "info")),
        (logging.DEBUG, (8, "debug")),
        (5, (9, "trace")),
    )
    for level in names
}
_catcher: LogCatcher | None = None


def snd_to_func(node: Port | str, function: str | Callback, *args: Any) -> None:
    """Let a node call a function, ``"package.module:name"`` or Perl's name; see `Node.send_to_function`."""
    gmp.node().send_to_function(gmp.node_of(node), function, *args)


def snd_on(node: Port | str, dest: Port | str, *message: Any) -> None:
    """Let a node send a message; see `Node.send_on`."""
    gmp.node().send_on(gmp.node_of(node), dest, *message)


def eval_on(node: Port | str, source: str, *reply: Any) -> None:
    """Let a node evaluate `source`, Perl or Python as it understands; see `Node.eval_on`."""
    gmp.node().eval_on(gmp.node_of(node), source, *reply)


def up_nodes() -> list[str]:
    """The IDs of the nodes that are connected, without the own. *Blocks:* never."""
    return gmp.node().up_nodes()


def known_nodes() -> list[str]:
    """The IDs of all nodes that the directory lists or that are connected, with the own; see `Node.known_nodes`."""
    return gmp.node().known_nodes()


def node_is_up(node_id: str) -> int | None:
    """1 when that node is connected, and for the own; 0 when it is known; None when nothing is known of it.

    *Blocks:* never.
    """
    node = gmp.node()
    if node.is_up(node_id):
        return 1
    return 0 if node_id in node.stats()["peers"] or node_id in node.known_nodes() else None


def mon_nodes(callback: Callback) -> Guard:
    """Call ``callback(node_id, is_up, *reason)`` whenever a node is connected or lost. Returns a guard. *Blocks:* never."""
    return Guard(gmp.node().monitor_nodes(callback))


def SEED_NODE() -> dict[str, str | None]:  # noqa: N802
    """The seeds: address → ID of the node that answered there last, or None. *Blocks:* never."""
    return {seed["address"]: seed["node_id"] or None for seed in gmp.node().stats()["seeds"]}


def NODE_SEED() -> dict[str, str]:  # noqa: N802
    """The seeds the other way round: node ID → address. *Blocks:* never."""
    return {name: address for address, names in SEED_NODE().items() if names for name in names.split(", ")}


def BINDS() -> list[str]:  # noqa: N802
    """What this node listens on. *Blocks:* never."""
    return gmp.node().binds


def MASTER() -> str | None:  # noqa: N802
    """The node that this one asks for what the database holds: itself on a seed; None while there is none."""
    return gmp.node().master


def catch(level: int | str | None = None) -> None:
    """AnyEvent::MP::LogCatcher::catch: log here what all nodes log, from that level on; None ends it.

    `level` is one of AnyEvent::Log: 1 to 9, or a name such as ``"warn"``. *Raises:* `ConfigError`. *Blocks:* never.
    """
    global _catcher
    if level is not None and level not in _LEVELS:
        raise gmp.ConfigError(f"catch: there is no level {level!r}, expected 1 to 9, or a name such as 'warn'")
    former, _catcher = _catcher, None
    if former is not None and not former.node.closed:
        former.close()
    if level is not None:
        _catcher = LogCatcher(relog, level=_LEVELS[level])


def connect_to(node: Port | str, timeout: float, function: str | Callback, *data_and_callback: Any) -> None:
    """AnyEvent::MP::DataConn::connect_to: ``connect_to(node, timeout, function, *data, callback)``.

    The node calls ``function(*data, stream)``, and ``callback(stream)`` is called here as the current port, with the two
    ends of a stream of bytes; see `Node.open_stream`. When it comes to nothing within `timeout` seconds the current port
    dies with ``("AnyEvent::MP::DataConn", text)``. *Raises:* `GmpError` without a current port or callback. *Blocks:* never.
    """
    own = current("connect_to")
    if not data_and_callback or not callable(data_and_callback[-1]):
        raise gmp.GmpError("connect_to: expected a node, seconds, a function, its data, and a callback")
    *data, callback = data_and_callback
    opener, node_id = gmp.node(), gmp.node_of(node)

    def connect() -> None:
        try:
            stream = opener.open_stream(node_id, function, *data, timeout=timeout)
        except gmp.GmpError as error:
            own.kill("AnyEvent::MP::DataConn", str(error))
        else:
            callback(stream)

    own.spawn(connect)
