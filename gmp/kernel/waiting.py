"""`Node.wait_up`: wait for another node, or for the network, and say why it does not come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import gevent.event

from gmp.errors import GmpError, WaitTimeout
from gmp.mesh.failures import Wait, in_words
from gmp.outside import clock
from gmp.ports.monitors import Monitor, Reason

if TYPE_CHECKING:
    from gmp.kernel.host import Host

DIAL_AGAIN = 1.0  # seconds before a node is dialled again


def wait_up(host: Host, changed: gevent.event.Event, node_id: str | None, timeout: float | None) -> None:
    """Wait until `node_id` (None: any seed) is connected. `changed` is set whenever a node comes or goes.

    *Blocks:* up to `timeout` seconds (None: without end). *Raises:* `WaitTimeout`; what `Host.check_open` raises.
    """
    problem, again = "", 0.0  # why it was not connected last, and when to dial it again
    watch: Monitor | None = None

    def failed(reason: Reason) -> None:
        nonlocal problem, again
        problem = in_words(reason)
        again = clock.monotonic() + DIAL_AGAIN
        changed.set()

    def why() -> str:
        return problem or host.mesh.trouble()

    def has_come() -> bool:
        host.check_open()
        if host.closed:
            raise GmpError(f"node {host.id} {host.ports.closed_because}: nothing comes up any more")
        return host.mesh.joined if node_id is None else host.is_up(node_id)

    wait = Wait(host.mesh.complaints, lambda: f"node {node_id}" if node_id else "a seed", why)
    try:
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # False: end the block in silence
            while not has_come():
                if node_id is not None and (watch is None or not watch.active) and clock.monotonic() >= again:
                    watch = host.watch(node_id, failed)  # which dials
                changed.clear()
                wait.pause(changed, DIAL_AGAIN)
    finally:
        if watch is not None:
            watch.cancel()
    if not has_come():
        text = f"{node_id} is not connected" if node_id else "no seed is connected"
        text += f" after {timeout} s"
        raise WaitTimeout(f"{text}: {why()}" if why() else text)
