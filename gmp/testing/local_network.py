"""Nodes in one process that talk over loopback, closed at the end with a check that nothing is left.

Everything between them is real: sockets, handshakes, heartbeats. Node IDs are given or counted, never random, so that
a failing test reads the same each time; the secret is made for this network alone.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import gevent

import gmp
from gmp.outside import chance
from gmp.testing.leaks import Inventory

SETTLE = 5.0  # seconds that what was closed gets to end


class LeakError(AssertionError):
    """Something that began inside a `LocalNetwork` was still there after its end; the text names each."""


class LocalNetwork:
    """`count` nodes in this process, the first `seeds` of them seeds that know each other; used in ``with``.

    `names` gives their node IDs, in place of ``node0``, ``node1``, … . Further settings are those of `gmp.configure`, for
    every node; `reached_at` is ``["*"]`` unless given, so that a `FaultProxy` may stand anywhere. `network[0]` and
    `network["node0"]` are a `gmp.Node`; iteration gives all.

    `check`: at the end, look for sockets, running greenlets and nodes that began inside the block and are still there, the
    test's own included. *Raises:* `LeakError` then, unless an exception is under way already.

    >>> with LocalNetwork(2) as network:
    ...     here, there = network
    ...     echo = there.port(lambda port: [there.send(reply, "you said", text) for text, reply in port])
    ...     here.call(echo.id, "hello")
    ('you said', 'hello')
    """

    def __init__(
        self, count: int = 2, *, seeds: int = 1, names: list[str] | None = None, check: bool = True, **settings: Any
    ) -> None:
        names = [f"node{number}" for number in range(count)] if names is None else list(names)
        if not 0 <= seeds <= len(names):
            raise gmp.ConfigError(f"seeds={seeds}: expected 0 to {len(names)}, the number of nodes")
        self.secret = chance.token_hex(16)
        self.seeds: list[str] = []  #: where the seeds listen; a `FaultProxy`'s address may be put in place of one
        self._settings = {"binds": ["127.0.0.1:0"], "secret": self.secret, "reached_at": ["*"], **settings}
        self._names = names
        self._seed_count = seeds
        self._check = check
        self._nodes: dict[str, gmp.Node] = {}
        self._own: dict[str, dict[str, Any]] = {}
        self._before: Inventory | None = None

    # ---- the nodes

    def start(self) -> LocalNetwork:
        """Start the nodes; what ``with`` does. *Blocks:* until they are bound; they join underneath (`settle`)."""
        self._before = Inventory() if self._check else None
        try:
            for number, name in enumerate(self._names):
                node = self.add(name)
                if number < self._seed_count:
                    self.seeds.append(node.binds[0])
        except BaseException:
            self._close_nodes()
            raise
        return self

    def add(self, node_id: str, **settings: Any) -> gmp.Node:
        """Start one more node; `settings` go before those of the network. *Blocks:* until it is bound."""
        if node_id in self._nodes and not self._nodes[node_id].closed:
            raise gmp.ConfigError(f"node {node_id!r} is in this network already")
        own = {"seeds": list(self.seeds), **self._settings, **settings}
        node = gmp.Node(node_id, **own).start()
        # a restart listens where it listened before
        self._own[node_id] = {**own, "binds": node.binds}
        self._nodes[node_id] = node
        return node

    def restart(self, node_id: str) -> gmp.Node:
        """Close that node and start it again: same node ID, same addresses, a new incarnation. *Blocks:* as `close`."""
        node = self._nodes[node_id]
        node.close()
        return self.add(node_id, **self._own[node_id])

    def __getitem__(self, which: str | int) -> gmp.Node:
        return self._nodes[which] if isinstance(which, str) else list(self._nodes.values())[which]

    def __iter__(self) -> Iterator[gmp.Node]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def settle(self, timeout: float = 20.0) -> None:
        """Wait until every node has a seed, and every seed knows every open node.

        *Blocks:* up to `timeout` seconds. *Raises:* `gmp.WaitTimeout`.
        """
        alive = [node for node in self if not node.closed]
        with gevent.Timeout(timeout, gmp.WaitTimeout(f"the network did not settle within {timeout} s")):
            for node in alive:
                node.wait_up()
            for seed in alive[: self._seed_count]:
                for node in alive:
                    if node is not seed:
                        seed.wait_up(node.id)

    # ---- the end

    def close(self) -> None:
        """Close every node, then look for what is left. Idempotent. *Blocks:* as `Node.close`. *Raises:* `LeakError`."""
        self._close_nodes()
        before, self._before = self._before, None
        if before is None:
            return
        left = before.new()
        with gevent.Timeout(SETTLE, False):  # type: ignore[arg-type]  # False: end the block in silence
            while left:
                gevent.sleep(0.01)  # ends come in turns of the loop; nothing tells of the last one
                gc.collect()
                left = before.new()
        if left:
            raise LeakError("left behind:\n" + "\n".join(left))

    def _close_nodes(self) -> None:
        for node in reversed(list(self._nodes.values())):
            node.close()

    def __enter__(self) -> LocalNetwork:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._before = None  # what the exception left behind is not the news
        self.close()
