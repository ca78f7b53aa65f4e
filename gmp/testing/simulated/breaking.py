"""The faults of a simulation that are done by hand: to the network between hosts, to hosts, to the clocks of hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulated.faults import Fault
from gmp.testing.simulated.host import Host
from gmp.testing.simulated.loop import VirtualLoop
from gmp.testing.simulated.paths import Cut, Network
from gmp.testing.simulated.tcp import End


class Breakable:
    """What `gmp.testing.Simulation` is, as far as single faults go."""

    _loop: VirtualLoop
    _network: Network

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._lasting: dict[Fault, None] = {}
        self._stops: dict[str, list[Fault]] = {}  # of hosts that do nothing

    def note(self, text: str) -> None:
        """Write a line into the trace."""
        raise NotImplementedError

    # ---- faults: the network

    def partition(
        self, some: str | Iterable[str], others: str | Iterable[str] | None = None, *, one_way: bool = False
    ) -> Fault:
        """Let nothing through between `some` nodes and `others` (None: all the rest) until `Fault.end` or `heal`.

        `one_way`: packets from `some` to `others` are lost, those the other way arrive.
        """
        near = self._names(some)
        far = self._others(near) if others is None else self._names(others)
        self.note(f"partition {','.join(near)} | {','.join(far)}{' one way' if one_way else ''}")
        cut = Cut(near, far, one_way)
        self._block(cut)
        return self._fault(lambda: self._network.free(cut))

    def delay(self, some: str | Iterable[str], others: str | Iterable[str], seconds: float) -> Fault:
        """Let packets between two nodes, or groups, take so many seconds more, each way, until `Fault.end` or `heal`."""
        if seconds < 0:
            raise ValueError(f"seconds={seconds!r}: expected 0 or more")
        near, far = self._names(some), self._names(others)
        self.note(f"delay {','.join(near)} | {','.join(far)} by {seconds:g} s")
        pairs = [pair for one in near for other in far for pair in ((one, other), (other, one))]
        self._slow(pairs, seconds)
        return self._fault(lambda: self._slow(pairs, -seconds))

    def reset(self, one: str, other: str) -> None:
        """Reset every connection between two nodes, as a firewall does that has lost its memory; both sides are told."""
        ends = self._ends(one, other)
        self.note(f"reset {one} | {other}")
        for end in ends:
            end.cut()

    def half_close(self, one: str, other: str) -> None:
        """End what `one` sends on each connection to `other`, as something between them does that has lost one direction.

        `other` sees the end; `one` is told nothing, and goes on writing.
        """
        ends = self._ends(one, other)
        self.note(f"half-close {one} > {other}")
        for end in ends:
            end.out.cut_short()

    def throttle(self, some: str | Iterable[str], others: str | Iterable[str], bytes_per_second: float) -> Fault:
        """Let no more bytes a second go by on each connection between them, each way, until `Fault.end` or `heal`."""
        if bytes_per_second <= 0:
            raise ValueError(f"bytes_per_second={bytes_per_second!r}: expected a number above 0 (partition stops all)")
        near, far = self._names(some), self._names(others)
        self.note(f"throttle {','.join(near)} | {','.join(far)} to {bytes_per_second:g} bytes a second")
        paths = [self._network.path(*pair) for one in near for other in far for pair in ((one, other), (other, one))]
        for path in paths:
            path.throttle(bytes_per_second)

        def end() -> None:
            for path in paths:
                path.unthrottle(bytes_per_second)

        return self._fault(end)

    def stop(self, node_id: str) -> Fault:
        """Let a node do nothing until `Fault.end` or `heal`, as by SIGSTOP, or by a function that computes and never waits.

        Its kernel goes on: it acknowledges what arrives as long as there is room, and accepts connections. What the
        ``with`` block itself has begun on the node, a call for instance, is not held.
        """
        host, stops = self._host(node_id), self._stops.setdefault(node_id, [])
        self.note(f"{node_id} stops")
        self._loop.hold(host)

        def go_on() -> None:
            stops.remove(fault)
            if not stops:
                self.note(f"{node_id} goes on")
                self._loop.release(host)

        fault = self._fault(go_on)
        stops.append(fault)
        return fault

    def jump_clock(self, node_id: str, seconds: float) -> None:
        """Set the wall clock of a node's host forward, or back if `seconds` is negative. No time-out depends on that."""
        self._host(node_id).clock_is_ahead += seconds
        self.note(f"the clock of {node_id} jumps by {seconds:g} s")

    def _go_on(self, node_id: str) -> None:
        """End every stop of a node: it has died."""
        for fault in list(self._stops.get(node_id, ())):
            fault.end()

    def _fault(self, end: Callable[[], None]) -> Fault:
        fault = Fault(end, lambda fault: self._lasting.pop(fault, None))
        self._lasting[fault] = None
        return fault

    def _host(self, node_id: object) -> Host:
        """Return the host of a node. *Raises:* `SimulationError` if there is none of that name."""
        host = self._hosts.get(node_id) if isinstance(node_id, str) else None
        if host is None:
            nodes = ", ".join(map(repr, self._hosts)) or "none so far"
            raise SimulationError(f"{node_id!r} is no node of this simulation: expected the ID of one, which are {nodes}")
        return host

    def _names(self, names: str | Iterable[str]) -> list[str]:
        """Return them as a list. *Raises:* `SimulationError` when one is wrong."""
        several = isinstance(names, Iterable) and not isinstance(names, str)
        return [self._host(name).host_name for name in (names if several else [names])]

    def _ends(self, one: str, other: str) -> list[End]:
        """Return the ends at `one` of its connections with `other`."""
        near, far = self._host(one), self._host(other).address
        return [end for end in near.ends() if end.remote[0] == far]

    def _others(self, names: Iterable[str]) -> list[str]:
        """Return all hosts but these."""
        without = set(names)
        return [name for name in self._hosts if name not in without]

    def _block(self, cut: Cut) -> None:
        self._network.block(cut)
        for host in self._hosts.values():
            for end in host.ends():
                end.expect_keepalive()

    def _slow(self, pairs: list[tuple[str, str]], seconds: float) -> None:
        for pair in pairs:
            self._network.path(*pair).delay += seconds
